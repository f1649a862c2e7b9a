"""What a command prints, on its way to who asked for it."""

from __future__ import annotations

import threading
from collections.abc import Callable

_LINE_BYTES = 64 << 10  # longer lines are handed over in pieces
_END_SECONDS = 0.2  # the last of it arrives with the command's status, or right after


class Tail:
    """The last bytes of what is fed to it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()
        self._ended = threading.Event()

    def feed(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > 2 * self._limit:
            del self._data[: -self._limit]

    def end(self) -> None:
        self._ended.set()

    def so_far(self) -> bytes:
        return bytes(self._data[-self._limit :])

    def finish(self) -> bytes:
        self._ended.wait(_END_SECONDS)
        return self.so_far()


class Lines:
    """Cuts bytes into lines of text."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            self._give(line)
        while len(self._rest) > _LINE_BYTES:
            self._on_line(self._rest[:_LINE_BYTES].decode(errors="replace"))
            self._rest = self._rest[_LINE_BYTES:]

    def end(self) -> None:
        if self._rest:
            self._give(self._rest)
            self._rest = b""

    def _give(self, line: bytes) -> None:
        # In pieces of the same size however the bytes arrived: who reads the same output twice gets the same lines.
        while len(line) > _LINE_BYTES:
            self._on_line(line[:_LINE_BYTES].decode(errors="replace"))
            line = line[_LINE_BYTES:]
        self._on_line(line.removesuffix(b"\r").decode(errors="replace"))
