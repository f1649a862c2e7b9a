"""The shell code of a compiled operation: ``Steps``, made of ``Script`` and ``sh`` (see ``goldenami.shell``).

The rules for the code (POSIX sh, which dash, busybox and bash support):

* ``check`` runs in the program's own shell and changes nothing. Its status: 0 if the host is as required, 1 if the
  operation must be applied, more than 1 for a failure. It may set ``detail`` (one line, the difference). It must not
  exit. It may set only variables that start with ``_``.
* ``apply`` runs in a subshell under ``set -e`` with stdin from /dev/null. Its output is shown live.
* ``verify`` follows an apply and must end with 0. Default: the check again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from goldenami.shell import Script, Value, lines, quote, sh

if TYPE_CHECKING:
    from goldenami.provision.operation import Entry

__all__ = ["Batch", "Compilation", "Script", "Steps", "Value", "lines", "quote", "sh"]


@dataclass(frozen=True, slots=True)
class Batch:
    """A package that one call can install together with others that have the same ``options``."""

    spec: str  # for apt-get install: one word without special characters
    options: str = ""


@dataclass(frozen=True, slots=True)
class Steps:
    """One operation as code; see the module.

    ``once``: a check cannot show whether the operation was applied. It is not repeated if the host is lost while it
    runs. ``reboot``: if the check ends with 1, the host reboots after the handlers have run, and the stage continues
    with the next operation. ``own_code``: it runs code of the recipe, which may reboot the host; the program looks for
    that afterwards. ``may_reboot``: it counts as ended if the host reboots while it runs. ``here``: it runs on this
    machine (``Operation.run_here``): the program ends before it, and continues with the next operation.
    """

    check: Script
    apply: Script
    verify: Script | None = None
    once: bool = False
    reboot: bool = False
    batch: Batch | None = None
    own_code: bool = False
    may_reboot: bool = False
    here: bool = False


class Compilation(Protocol):
    """The services for an operation while it compiles."""

    @property
    def index(self) -> int:
        """The operation's number in the program, from 0."""
        ...

    def payload(self, name: str) -> Script:
        """Return a shell word: the path, on the host, of the contents of this field. Raises ValueError if it has no
        payload.
        """
        ...

    def digest(self, name: str) -> str:
        """Return the SHA-256, in hex, of the contents of this field. Raises ValueError if it has no payload."""
        ...

    def is_tree(self, name: str) -> bool:
        """Return whether the contents of this field are a directory."""
        ...

    def tree(self, name: str) -> tuple[Entry, ...]:
        """Return what the directory of this field contains. Its files are in ``$work``, by their SHA-256. Raises
        ValueError if it has no payload.
        """
        ...

    def source_mode(self, name: str) -> int | None:
        """Return the permission bits of the source file of this field, or None if they are unknown."""
        ...

    def place(self, data: bytes) -> Script:
        """Return a shell word: the path, on the host, of a file with these contents, which only root can read."""
        ...

    def package(self, name: str) -> int:
        """Return the number N of a package. After ``read_packages``, ``$version_N`` is its installed version, or empty.
        ``$wanted_N`` is its state: "ii" installed, "hi" installed and on hold, "rc" only its configuration.
        """
        ...
