"""Shell code as a type of its own, so that a value can only get into it quoted.

``Script`` is code. ``sh("install -m @mode -- @path", mode="0644", path=anything)`` makes one: each ``@name`` is
replaced by its value, a string as one quoted word, a list as several, a Script as it is. Plain strings cannot be joined
with Scripts by accident: Script is no ``str``.

What operations compile to is ``Steps``. The rules for its code (POSIX sh: dash, busybox and bash agree on it):

* ``check`` runs in the program's own shell and changes nothing. Its status: 0 as asked already, 1 to be applied,
  anything above a failure. It may set ``detail`` (one line, what is different), and must not exit, nor leave variables
  other than those starting with ``_``.
* ``apply`` runs in a subshell under ``set -e`` with stdin from /dev/null; what it prints is shown live.
* ``verify`` follows an apply and must end with 0; by default it is the check again.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

_HOLE = re.compile(r"@([a-z_]+)")


@dataclass(frozen=True, slots=True)
class Script:
    """POSIX shell code. Made by ``sh`` and by joining."""

    text: str

    def __add__(self, other: Script) -> Script:
        return Script(self.text + other.text)

    def __bool__(self) -> bool:
        return bool(self.text)


Value = str | int | Script | Iterable[str]


def quote(value: str) -> Script:
    """One shell word. Raises ValueError for NUL, which no argument of a process can hold."""
    if "\0" in value:
        raise ValueError("a NUL character cannot be passed to a host")
    return Script(shlex.quote(value))


def _code(value: Value) -> str:
    if isinstance(value, Script):
        return value.text
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return quote(value).text
    return " ".join(quote(word).text for word in value)


def sh(code: str, /, **values: Value) -> Script:
    """Shell code with its holes filled; see the module. ``code`` is a literal of this program. Raises KeyError for a
    hole without a value.
    """
    return Script(_HOLE.sub(lambda hole: _code(values[hole.group(1)]), code))


def lines(*parts: Script) -> Script:
    """The parts one after the other; empty ones are left out."""
    return Script("\n".join(part.text for part in parts if part.text))


TRUE = Script(":")


@dataclass(frozen=True, slots=True)
class Steps:
    """One operation as code; see the module.

    ``once``: the operation has no check that can tell whether it was done; if the connection is lost while it runs and
    the host has forgotten about it, it is not repeated. ``packages``: names whose state in dpkg the code reads as
    ``$(v_...)``; see ``Compilation.package``.
    """

    check: Script
    apply: Script
    verify: Script | None = None
    once: bool = False


class Compilation(Protocol):
    """What an operation may ask for while it compiles."""

    def payload(self, field: str) -> Script:
        """A word: the path, on the host, of the contents of the bound operation's payload for this field. ValueError if
        there is none.
        """
        ...

    def place(self, data: bytes) -> Script:
        """A word: the path, on the host, of a file with these contents (readable by root alone)."""
        ...

    def digest(self, field: str) -> str:
        """The payload's sha256, in hex."""
        ...

    def package(self, name: str) -> Script:
        """A word: the variable that holds the installed version of this package, empty if it is not installed."""
        ...

    @property
    def index(self) -> int:
        """The operation's number in the program, from 0."""
        ...
