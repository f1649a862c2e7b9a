"""Shell code as a type of its own, so that a value can only get into it quoted.

``Script`` is code. ``sh("install -m @mode -- @path", mode="0644", path=anything)`` makes one: each ``@name`` is
replaced by its value, a string as one quoted word, a list as several, a Script as it is. Plain strings cannot be joined
with Scripts by accident: Script is no ``str``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass

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
