"""What operations compile to: ``Steps``, made of ``Script`` and ``sh`` (see ``goldenami.shell``).

The rules for the code (POSIX sh: dash, busybox and bash agree on it):

* ``check`` runs in the program's own shell and changes nothing. Its status: 0 as asked already, 1 to be applied,
  anything above a failure. It may set ``detail`` (one line, what is different), and must not exit, nor leave variables
  other than those starting with ``_``.
* ``apply`` runs in a subshell under ``set -e`` with stdin from /dev/null; what it prints is shown live.
* ``verify`` follows an apply and must end with 0; by default it is the check again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from goldenami.shell import Script, Value, lines, quote, sh

__all__ = ["Batch", "Compilation", "Script", "Steps", "Value", "lines", "quote", "sh"]


@dataclass(frozen=True, slots=True)
class Batch:
    """A package that may be installed by one call together with others that have the same ``options``."""

    spec: str  # as apt-get install takes it, one word without special characters
    options: str = ""


@dataclass(frozen=True, slots=True)
class Steps:
    """One operation as code; see the module.

    ``once``: nothing on the host tells whether it was done. If the connection is lost while it runs, and the host has
    forgotten about it, it is not repeated. ``reboot``: where it is not as asked, the host reboots after the handlers
    have run, and the stage goes on with the next operation.
    """

    check: Script
    apply: Script
    verify: Script | None = None
    once: bool = False
    reboot: bool = False
    batch: Batch | None = None


class Compilation(Protocol):
    """What an operation may ask for while it compiles."""

    @property
    def index(self) -> int:
        """The operation's number in the program, from 0."""
        ...

    def payload(self, name: str) -> Script:
        """A word: the path, on the host, of the contents for this field. ValueError if there is no payload for it."""
        ...

    def digest(self, name: str) -> str:
        """The SHA-256, in hex, of the contents for this field. ValueError if there is no payload for it."""
        ...

    def source_mode(self, name: str) -> int | None:
        """The permission bits of the file behind this field, if it has any."""
        ...

    def place(self, data: bytes) -> Script:
        """A word: the path, on the host, of a file with these contents, readable by root alone."""
        ...

    def package(self, name: str) -> int:
        """Number N of a package. After ``read_packages``, ``$version_N`` is its installed version, or empty;
        ``$wanted_N`` is what there is of it: "ii" installed, "hi" installed and on hold, "rc" only its configuration.
        """
        ...
