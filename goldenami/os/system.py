"""The protocol ``System``: the properties of one operating system, and the data types of its values.

A module of this package implements it for one family of systems and lists them as ``SYSTEMS`` (see the package). A
subclass of ``System`` inherits the defaults that most systems share; members without a body must be implemented. All
values are data or shell text: no code here reads a file of the host or starts a process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from goldenami.os.managers.manager import Hint, PackageManager, Snapshots

Pam = Literal["pam-auth-update", "authselect"]


class UpgradePolicy(Protocol):
    """How instances of an image upgrade themselves, from ``patches.unattended`` in the recipe."""

    @property
    def level(self) -> Literal["security", "all"]:
        """The updates that an instance installs."""
        ...

    @property
    def exclude(self) -> tuple[str, ...]:
        """Packages that it does not upgrade: names, or patterns with ``*`` and ``?``."""
        ...

    @property
    def reboot(self) -> Literal["never", "if-needed"]:
        """Whether it reboots if an update needs a reboot."""
        ...


@dataclass(frozen=True, slots=True)
class SelfUpgrade:
    """The configuration that turns unattended upgrades on or off.

    ``timer``: the systemd timer that starts the upgrades. ``install`` and ``remove``: packages. ``recommends``: whether
    packages that ``install`` recommends are installed too. ``files``: contents by path; None for a file that must not
    exist. ``started``: whether the timer is enabled and started; False does not change it.
    """

    timer: str
    install: str | None = None
    remove: str | None = None
    recommends: bool = False
    files: Mapping[str, str | None] = field(default_factory=dict)
    started: bool = False


@dataclass(frozen=True, slots=True)
class Trace:
    """Files of one machine that must not be in an image. ``name`` and ``what`` are for the report of sealing.
    ``patterns``: shell patterns of absolute paths. ``before``: shell code that runs before their removal.
    """

    name: str
    what: str
    patterns: tuple[str, ...]
    before: str = ""


class System(Protocol):
    """One operating system. All of its releases share these properties."""

    @property
    def id(self) -> str:
        """The ID in /etc/os-release: the value of ``os`` in recipes, agents and controls. It is unique."""
        ...

    @property
    def name(self) -> str:
        """The name in messages: "Amazon Linux"."""
        ...

    @property
    def releases(self) -> Mapping[str, str]:
        """The supported releases: the VERSION_ID in /etc/os-release (only its start, if it has minor numbers), and the
        name of the release in messages.
        """
        ...

    @property
    def like(self) -> str | None:
        """The id of a system whose operations and defaults are used if a file has none for ``id``, as with ID_LIKE in
        /etc/os-release. The ``like`` of that system is not used. None: there is no such system.
        """
        return None

    @property
    def login_user(self) -> str:
        """The user to whom cloud-init gives the key in the vendor's images. A recipe can name another user."""
        ...

    @property
    def words(self) -> tuple[str, ...]:
        """Lower-case words in the vendor's AMI names and SSM parameters. A base with one of them in its name has this
        system, unless the name also has a word of a system that is ``like`` this one.
        """
        ...

    @property
    def manager(self) -> PackageManager:
        """The package manager."""
        ...

    @property
    def snapshots(self) -> Snapshots | None:
        """The vendor's public archive of past days, for ``patches.date``. None: the vendor has none."""
        return None

    @property
    def versioned(self) -> bool:
        """Whether ``patches.releasever`` pins the packages, because the repositories' URLs contain the release."""
        return False

    @property
    def follows_latest(self) -> bool:
        """Whether the repositories have a release that is named "latest", for ``patches.releasever``."""
        return False

    @property
    def pam(self) -> Pam:
        """The program that writes the files in /etc/pam.d. Operations for another program are refused."""
        ...

    @property
    def osv(self) -> str | None:
        """The name of its ecosystem in OSV's records, without the release: "Debian". None: OSV has none."""
        return None

    @property
    def has_tracker(self) -> bool:
        """Whether Debian's security tracker has its source packages, under the codename of the release."""
        return False

    @property
    def advisories_name(self) -> Literal["source", "binary"]:
        """Whether its advisories name source packages or installed packages."""
        return "source"

    def advisory_source(self, source: str, version: str) -> tuple[str, str]:
        """Return the source package that advisories name, and its version, for a source package on a host. They differ
        where signed files are in a source package of their own."""
        return source, version

    def locale_package(self, language: str) -> str:
        """Return the package with the locales of a language, such as "en" or "de"."""
        ...

    def self_upgrade(self, policy: UpgradePolicy | None) -> SelfUpgrade:
        """Return the configuration of unattended upgrades for this policy. None: no upgrades."""
        ...

    @property
    def traces(self) -> tuple[Trace, ...]:
        """Traces that sealing removes in addition to those of all systems. Every host uses the traces of all systems,
        so their patterns may match no file.
        """
        return ()

    @property
    def network_files(self) -> tuple[str, ...]:
        """Shell patterns of the files that cloud-init writes for the network card of the builder, and again on each
        instance. Sealing removes them.
        """
        return ()

    @property
    def hints(self) -> tuple[Hint, ...]:
        """Hints for failures, recognized by the output of this system's programs."""
        return ()
