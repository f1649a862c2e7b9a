"""A terminal that understands as much as the live view sends to it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest


@dataclass
class Screen:
    """Lines, and the sequences to move up and to erase.

    ``seen``: every line that was ever visible. Anything it does not understand is an error.
    """

    lines: list[str] = field(default_factory=lambda: [""])
    row: int = 0
    column: int = 0
    cursor: bool = True
    colours: bool = False
    seen: set[str] = field(default_factory=set)

    def feed(self, text: str) -> None:
        for match in re.finditer(r"\x1b\[([?0-9;]*)([A-Za-z])|\r|\n|[^\x1b\r\n]+|\x1b", text):
            token = match.group()
            if token == "\n":
                self.row += 1
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif token == "\r":
                self.column = 0
            elif match.group(2):
                self._sequence(match.group(1), match.group(2))
            else:
                assert token != "\x1b", f"an escape sequence that is not known: {text[match.start() :][:20]!r}"
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + token + line[self.column + len(token) :]
                self.column += len(token)
                self.seen.add(self.lines[self.row])

    def _sequence(self, argument: str, letter: str) -> None:
        match letter:
            case "A":
                self.row -= int(argument or 1)
            case "K":
                assert argument in ("2", "")
                self.lines[self.row] = "" if argument == "2" else self.lines[self.row][: self.column]
            case "m":
                self.colours |= bool(re.search(r"(^|;)[349]\d", argument))
            case "h" | "l":
                assert argument == "?25"
                self.cursor = letter == "h"
            case _:
                pytest.fail(f"a sequence that is not known: {argument}{letter}")

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).rstrip()
