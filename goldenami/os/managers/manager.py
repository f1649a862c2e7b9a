"""The protocol ``PackageManager``: the properties and shell code of one package manager, and its data types."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from goldenami.shell import Script

Place = Callable[[bytes], Script]
"""Returns a shell word: the path, on the host, of a file with these contents."""

Hint = tuple[str, str]
"""A regular expression for the output of a failing program, and the next step as a full sentence."""


@dataclass(frozen=True, slots=True)
class Code:
    """Shell code of one change. ``check`` ends with 0 (the host is as required), 1 (apply the change) or more (a
    failure), and may set ``detail``. ``apply`` runs under ``set -e``. The rules are those of ``provision.shell``.
    """

    check: Script
    apply: Script


@dataclass(frozen=True, slots=True)
class Snapshots:
    """An archive of past days. ``uri``, ``security_uri``: with {date} or {stamp} as a placeholder for the day.
    ``security_uri`` is None if the security updates are suites of ``uri``.
    """

    uri: str
    security_uri: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """The source of the packages of a build: the archive of a day, or a release of the distribution.

    ``uri``, ``security_uri``: with {date} or {stamp}; None for the system's snapshots. ``key``: armored.
    """

    day: datetime.date | None = None
    uri: str | None = None
    security_uri: str | None = None
    suites: tuple[str, ...] = ()
    components: tuple[str, ...] = ("main",)
    key: str | None = None
    releasever: str | None = None

    def dated(self, uri: str) -> str:
        """Return the URI with the day in it. ``day`` must not be None."""
        assert self.day is not None
        return uri.replace("{date}", self.day.isoformat()).replace("{stamp}", f"{self.day:%Y%m%d}T000000Z")


@dataclass(frozen=True, slots=True)
class RepositoryText:
    """The data for the files of a repository. ``key``: the path of the key on the host, "" for an unsigned repository.
    The other fields are those of the operation ``repository``.
    """

    name: str
    uris: tuple[str, ...]
    key: str
    suites: tuple[str, ...] = ()
    components: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    signed_metadata: bool = False
    priority: int | None = None
    only: tuple[str, ...] = ()
    pin: str = ""


@dataclass(frozen=True, slots=True)
class Proofs:
    """Shell code with which the suite ``base`` proves that packages can be installed. It does not change the host.

    ``plan``: simulates an installation, as root; ends with 0 if it is possible, and no dependency is broken.
    ``unpack_folder``: prints the directory in which the manager unpacks programs that it runs. ``audit``: prints the
    packages that are half installed. ``sources``: prints the URIs of the package sources, one per line. ``proxy``:
    prints text if the sources are used through a proxy.
    """

    plan: str
    unpack_folder: str
    audit: str
    sources: str
    proxy: str


class PackageManager(Protocol):
    """One package manager: shell functions for the program that provisions a host, and data.

    ``functions`` defines these functions, with ``name`` and an underscore as their prefix. SPEC is ``NAME`` or
    ``NAME=VERSION``. OPTION is an option of apt-get: --no-install-recommends, --allow-downgrades or
    --allow-change-held-packages.

    ==================================== ============================================================================
    ``list NAME...``                     prints lines "ii NAME VERSION": the wanted state (h: held), and the state
                                         (i: installed, c: only its configuration)
    ``compare A RELATION B``             returns 0 if it holds; RELATION is lt, le, eq, ge or gt
    ``offers NAME``                      prints the versions in the repositories, the best first
    ``refresh``                          fetches the lists, at most once a stage; it may do nothing
    ``install [OPTION]... [--] SPEC...`` installs
    ``upgrade NAME...``                  upgrades to the newest version; may do nothing if ``install`` did that
    ``remove remove|purge NAME...``      removes, with or without the configuration
    ``hold hold|unhold NAME...``         holds packages, or ends the hold
    ``newest NAME...``                   returns 0 if the repositories have nothing newer; sets detail
    ``group_is present|absent NAME``     returns 0 if the group is installed, or is not
    ``group install|remove NAME``        installs or removes the packages of a group
    ``package_in FILE``                  prints the name of the package that a file contains
    ``install_file [OPTION]... FILE``    installs a package from a file
    ``flavour RELEASE``                  prints the common suffix of the names of all kernels of the flavour of RELEASE
                                         (uname -r)
    ``reboot_due``                       returns 0 if this manager alone reports that a reboot is due; sets detail
    ==================================== ============================================================================
    """

    @property
    def name(self) -> str:
        """The value of ``$family`` on a host with this manager, and the prefix of its functions: "apt"."""
        ...

    @property
    def precedence(self) -> int:
        """The order of detection, the lowest number first. Managers that are detected by their database come first. A
        manager that is detected by its program comes later, since hosts of other systems can have that program too.
        """
        ...

    @property
    def detect(self) -> Script:
        """A shell condition: the host's system uses this manager."""
        ...

    @property
    def functions(self) -> str:
        """The shell functions of the table above, as the text of a file."""
        ...

    @property
    def at_boot(self) -> Script:
        """Shell code that a builder runs early at each boot. It starts to fetch the package lists, as a job of the
        boot: the boot ends after it. What it fetched counts only if a later fetch would give the same. It fails
        silently. Its files are in /run/goldenami/boot, which the program that provisions the builder removes at its
        end. Empty: nothing is fetched before it is needed.
        """
        return Script("")

    @property
    def inventory(self) -> Script:
        """Shell code that prints all packages as lines ``status|name|version|architecture``. The second letter of the
        status of an installed package is "i".
        """
        ...

    @property
    def details(self) -> Script:
        """Shell code that prints more about all packages, in lines of fields that are separated by tabs.

        First ``package``, then: status as in ``inventory``, name, version, architecture, the name and the version of
        the source package, the supplier, the licence, the home page. Fields can be empty. A line ``licence`` with the
        name of a package adds one more licence to it. It is the body of a function, which returns another status than 0
        if it could not print all.
        """
        ...

    @property
    def owned(self) -> Script:
        """Shell code that prints the paths of all files of all packages, one in a line. It is the body of a function,
        which returns another status than 0 if it could not print all."""
        ...

    @property
    def package_type(self) -> str:
        """The type of its packages in a package URL: "deb"."""
        ...

    @property
    def sources(self) -> Script:
        """Shell code that prints where the manager takes packages from: its name, then files, as ``updates.sources``
        reads them. It ends with 0, also if it prints nothing.
        """
        ...

    @property
    def source_files(self) -> tuple[str, ...]:
        """Shell patterns of the files that name where it takes packages from."""
        ...

    @property
    def is_installed(self) -> Script:
        """A shell condition: the package ``$1`` is installed. It does not use ``functions``."""
        ...

    @property
    def database(self) -> str:
        """The directory of its database. A recipe must not remove it."""
        ...

    @property
    def caches(self) -> tuple[str, ...]:
        """Shell patterns of lists and archives that it keeps. Sealing removes them."""
        ...

    @property
    def downloads(self) -> tuple[str, ...]:
        """The directories in which it keeps package files that it has downloaded."""
        ...

    @property
    def suffix(self) -> str:
        """The suffix of package files, with the dot."""
        ...

    @property
    def proofs(self) -> Proofs | None:
        """The shell code for the suite ``base``. None: the suite skips its tests of packages."""
        return None

    @property
    def hints(self) -> tuple[Hint, ...]:
        """Hints for failures, recognized by the output of the manager."""
        return ()

    @property
    def mirror_needs_key(self) -> bool:
        """Whether ``patches.mirror`` must give the key that signs the mirror, since the system's own keys do not."""
        ...

    # --- repositories -------------------------------------------------------------------------------------------------

    @property
    def binary_keys(self) -> bool:
        """Whether the manager reads binary keys. If not, a key must be armored."""
        ...

    def key_path(self, name: str, *, binary: bool) -> str:
        """Return the path of a repository's key on a host."""
        ...

    def repository_files(self, repository: RepositoryText) -> list[tuple[str, str]]:
        """Return path and contents of a repository's files. Empty contents mean that the file must not exist."""
        ...

    def repository_paths(self, name: str) -> list[str]:
        """Return the paths of all files that a repository of this name can have on a host, with its keys."""
        ...

    # --- patches ------------------------------------------------------------------------------------------------------

    def upgrades(self, level: str, exclude: tuple[str, ...]) -> Code:
        """Return code that upgrades packages. ``level``: all or security. ``exclude``: names or shell patterns."""
        ...

    def dated(self, source: Source, system: str, snapshots: Snapshots | None, place: Place) -> Code:
        """Return code that replaces the distribution's archive by the source. ``system``: the id of the system."""
        ...

    def undated(self) -> Code:
        """Return code that restores the distribution's archive. It does nothing if the archive was not replaced."""
        ...
