"""A terminal that understands as much as the live view sends to it."""

from __future__ import annotations

import os
import pty
import re
import struct
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from fcntl import ioctl
from termios import TIOCSWINSZ

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


class Terminal:
    """A process whose stderr is a terminal. ``start`` gets the file descriptor of it."""

    def __init__(self, start: Callable[[int], subprocess.Popen[bytes]], rows: int = 40, columns: int = 100) -> None:
        self._leader, inside = pty.openpty()
        ioctl(inside, TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._data = bytearray()
        self.process = start(inside)
        os.close(inside)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                chunk = os.read(self._leader, 65536)
            except OSError:  # the other side is closed
                return
            if not chunk:
                return
            self._data += chunk

    @property
    def text(self) -> str:
        """Everything that was written so far."""
        return self._data.decode(errors="replace")

    def end(self, timeout: float = 300) -> tuple[int, Screen]:
        """Wait for the end of the process. Return its exit status, and the screen."""
        try:
            status = self.process.wait(timeout)
            self._reader.join(60)
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self._leader)
        screen = Screen()
        screen.feed(self.text)
        return status, screen
