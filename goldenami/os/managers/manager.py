"""What a package manager tells the rest of the program: the protocol ``PackageManager``, and its data."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from goldenami.shell import Script

Place = Callable[[bytes], Script]
"""Gives the word that is the path, on the host, of a file with these contents."""

Hint = tuple[str, str]
"""A regular expression for the output of a failing program, and the next step as a sentence."""


@dataclass(frozen=True, slots=True)
class Code:
    """``check`` ends with 0 (as asked), 1 (to be applied) or more (a failure), and may set ``detail``; ``apply`` runs
    under ``set -e``. The rules are those of ``provision.shell``.
    """

    check: Script
    apply: Script


@dataclass(frozen=True, slots=True)
class Snapshots:
    """An archive of former days. ``uri``, ``security_uri``: with {date} or {stamp} where the day goes; the second one
    is None where security updates are suites of the first.
    """

    uri: str
    security_uri: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Where the packages of a build come from: the archive of a day, or a release of the distribution.

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
        """The address with the day in it. Only with a day."""
        assert self.day is not None
        return uri.replace("{date}", self.day.isoformat()).replace("{stamp}", f"{self.day:%Y%m%d}T000000Z")


@dataclass(frozen=True, slots=True)
class RepositoryText:
    """A repository as its files describe it. ``key``: the path of the key on the host, "" for an unsigned one. The
    other fields are those of the operation ``repository``.
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
    """Shell code with which the suite ``base`` proves that packages can be installed. None of it changes the host.

    ``plan``: plans an installation, as root; ends with 0 if it could be done. ``unpack_folder``: prints the folder in
    which the manager unpacks programs that it runs. ``audit``: prints the packages that are half installed. ``whole``:
    as root; ends with 0 if no dependency is broken. ``sources``: prints the URIs of the package sources, a line each.
    ``proxy``: prints something if the sources are reached by a proxy.
    """

    plan: str
    unpack_folder: str
    audit: str
    whole: str
    sources: str
    proxy: str


class PackageManager(Protocol):
    """One package manager: shell functions for the program that provisions a host, and data.

    ``functions`` defines these, each with ``name`` and an underscore before it. SPEC is ``NAME`` or ``NAME=VERSION``.
    OPTION is one of --no-install-recommends, --allow-downgrades and --allow-change-held-packages, in apt-get's words.

    ==================================== ============================================================================
    ``list NAME...``                     prints lines "ii NAME VERSION": the wanted state (h: held), and the state
                                         (i: installed, c: only its configuration)
    ``compare A RELATION B``             returns 0 if it holds; RELATION is lt, le, eq, ge or gt
    ``offers NAME``                      prints the versions in the repositories, the best first
    ``refresh``                          fetches the lists, at most once a stage; it may do nothing
    ``install [OPTION]... [--] SPEC...`` installs
    ``upgrade NAME...``                  to the newest version, where ``install`` leaves installed packages as they are
    ``remove remove|purge NAME...``      removes, with or without the configuration
    ``hold hold|unhold NAME...``         holds, or ends it
    ``newest NAME...``                   returns 0 if the repositories have nothing newer; sets detail
    ``group_is present|absent NAME``     returns 0 if the group is installed, or is not
    ``group install|remove NAME``        installs or removes the packages of a group
    ``package_in FILE``                  prints the name of the package that a file contains
    ``install_file [OPTION]... FILE``    installs a package from a file
    ``flavour RELEASE``                  prints the common end of the names of all kernels of the flavour of RELEASE
                                         (uname -r)
    ``reboot_due``                       returns 0 if a reboot is due that no other sign shows; sets detail
    ==================================== ============================================================================
    """

    @property
    def name(self) -> str:
        """The value of ``$family`` on a host that has it, and the prefix of its functions: "apt"."""
        ...

    @property
    def precedence(self) -> int:
        """Hosts are asked for managers in this order. A manager that is known by its database comes before one that is
        known by its program, which can be installed on a host of another system.
        """
        ...

    @property
    def detect(self) -> Script:
        """A shell condition: whether the host's system is made with it."""
        ...

    @property
    def functions(self) -> str:
        """The shell functions of the table above, as the text of a file."""
        ...

    @property
    def inventory(self) -> Script:
        """Prints all packages as lines ``status|name|version|architecture``; the second letter of the status of an
        installed one is "i".
        """
        ...

    @property
    def is_installed(self) -> Script:
        """A shell condition: whether the package ``$1`` is installed. It needs none of ``functions``."""
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
        """The ending of the name of a package file, with the dot."""
        ...

    @property
    def proofs(self) -> Proofs | None:
        """What the suite ``base`` runs; None skips its tests of packages."""
        return None

    @property
    def hints(self) -> tuple[Hint, ...]:
        """The next step for failures that are known by what it prints."""
        return ()

    @property
    def mirror_needs_key(self) -> bool:
        """Whether ``patches.mirror`` must give the key that signs the mirror, since the system's own keys do not."""
        ...

    # --- repositories -------------------------------------------------------------------------------------------------

    @property
    def binary_keys(self) -> bool:
        """Whether it reads binary keys; if not, a key must be armored."""
        ...

    def key_path(self, name: str, *, binary: bool) -> str:
        """Where the key of a repository is, on a host."""
        ...

    def repository_files(self, repository: RepositoryText) -> list[tuple[str, str]]:
        """The files of a repository: path and contents. Empty contents stand for a file that must not be there."""
        ...

    def repository_paths(self, name: str) -> list[str]:
        """All files that a repository of this name can have on a host, keys included."""
        ...

    # --- patches ------------------------------------------------------------------------------------------------------

    def upgrades(self, level: str, exclude: tuple[str, ...]) -> Code:
        """Upgrades installed packages. ``level``: all or security. ``exclude``: names or shell patterns."""
        ...

    def dated(self, source: Source, system: str, snapshots: Snapshots | None, place: Place) -> Code:
        """Puts the source in the place of the distribution's own archive. ``system``: its id."""
        ...

    def undated(self) -> Code:
        """Puts the distribution's own archive back. Where nothing was put aside there is nothing to do."""
        ...
