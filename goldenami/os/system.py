"""What an operating system tells the rest of the program: the protocol ``System``, and the data in its answers.

A module of this package implements it for one family of systems and lists them as ``SYSTEMS`` (see the package). A
class with ``System`` as its base inherits the answers that most systems share; what has no body here must be given.
Everything is data or shell text: nothing here reads a file of the host or starts a process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from goldenami.os.managers.manager import Hint, PackageManager, Snapshots

Pam = Literal["pam-auth-update", "authselect"]


class UpgradePolicy(Protocol):
    """How instances of an image upgrade themselves, as a recipe says in ``patches.unattended``."""

    @property
    def level(self) -> Literal["security", "all"]:
        """Which updates an instance installs."""
        ...

    @property
    def exclude(self) -> tuple[str, ...]:
        """Packages that it leaves alone: names, or patterns with ``*`` and ``?``."""
        ...

    @property
    def reboot(self) -> Literal["never", "if-needed"]:
        """Whether it reboots when an update needs that."""
        ...


@dataclass(frozen=True, slots=True)
class SelfUpgrade:
    """What makes a host upgrade itself, or stops it from doing so.

    ``timer``: the systemd timer that starts the upgrades. ``install`` and ``remove``: packages. ``recommends``: whether
    packages that ``install`` recommends come with it. ``files``: contents by path, and None for a file that must not be
    there. ``started``: whether the timer is enabled and started; False leaves it as it is.
    """

    timer: str
    install: str | None = None
    remove: str | None = None
    recommends: bool = False
    files: Mapping[str, str | None] = field(default_factory=dict)
    started: bool = False


@dataclass(frozen=True, slots=True)
class Trace:
    """Files of one machine that must not be in an image. ``name`` and ``what`` are for the report of sealing;
    ``patterns`` are shell patterns of absolute paths, and ``before`` is shell code that runs before their removal.
    """

    name: str
    what: str
    patterns: tuple[str, ...]
    before: str = ""


class System(Protocol):
    """One operating system. Its releases share everything that is said here."""

    @property
    def id(self) -> str:
        """The ID in /etc/os-release. Recipes, agents and controls write it as their ``os``; it is unique."""
        ...

    @property
    def name(self) -> str:
        """The name for people, as in messages: "Amazon Linux"."""
        ...

    @property
    def releases(self) -> Mapping[str, str]:
        """The supported releases: the VERSION_ID in /etc/os-release (its start, where it has minor numbers), and the
        release's name for people.
        """
        ...

    @property
    def like(self) -> str | None:
        """The id of a system whose operations and defaults serve here wherever a file has none for ``id``. As in
        ID_LIKE of /etc/os-release; only one step is taken. None: nothing else serves.
        """
        return None

    @property
    def login_user(self) -> str:
        """The user to whom cloud-init gives the key in the vendor's images, unless the recipe says another one."""
        ...

    @property
    def words(self) -> tuple[str, ...]:
        """Lower-case words of the vendor's AMI names and SSM parameters. A base whose name has one of them is of this
        system, unless a system that is ``like`` this one has a word in it, too.
        """
        ...

    @property
    def manager(self) -> PackageManager:
        """The package manager."""
        ...

    @property
    def snapshots(self) -> Snapshots | None:
        """The vendor's public archive of former days, for ``patches.date``. None: there is none."""
        return None

    @property
    def versioned(self) -> bool:
        """Whether ``patches.releasever`` pins the packages, because the repositories' addresses hold the release."""
        return False

    @property
    def pam(self) -> Pam:
        """The program that writes the files in /etc/pam.d. Operations for the other one are refused."""
        ...

    def locale_package(self, language: str) -> str:
        """The package that brings the locales of a language, such as "en" or "de"."""
        ...

    def self_upgrade(self, policy: UpgradePolicy | None) -> SelfUpgrade:
        """What makes instances upgrade themselves by this policy; None is for no upgrades at all."""
        ...

    @property
    def traces(self) -> tuple[Trace, ...]:
        """What sealing removes on this system beside what all systems have. Patterns that match nothing do no harm: one
        list of all systems is used on every host.
        """
        return ()

    @property
    def network_files(self) -> tuple[str, ...]:
        """Shell patterns of the files that cloud-init writes for the builder's network card, and anew on each
        instance. Sealing removes them.
        """
        return ()

    @property
    def hints(self) -> tuple[Hint, ...]:
        """The next step for failures that are known by what this system's programs print."""
        return ()
