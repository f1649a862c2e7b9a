"""Buffers for the output of a command: the last bytes, and lines of text."""

from __future__ import annotations

import threading
from collections.abc import Callable

_LINE_BYTES = 64 << 10  # longer lines are passed on in pieces
_END_SECONDS = 0.2  # the end of stderr can arrive shortly after the command's status


class Tail:
    """Keeps the last ``limit`` bytes of a stream."""

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
    """Splits a stream of bytes into lines of text, and calls ``on_line`` with each."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            self._pass_on(line)
        while len(self._rest) > _LINE_BYTES:
            self._on_line(self._rest[:_LINE_BYTES].decode(errors="replace"))
            self._rest = self._rest[_LINE_BYTES:]

    def end(self) -> None:
        if self._rest:
            self._pass_on(self._rest)
            self._rest = b""

    def _pass_on(self, line: bytes) -> None:
        # The size of the pieces does not depend on how the bytes arrived, so the same output gives the same lines.
        while len(line) > _LINE_BYTES:
            self._on_line(line[:_LINE_BYTES].decode(errors="replace"))
            line = line[_LINE_BYTES:]
        self._on_line(line.removesuffix(b"\r").decode(errors="replace"))
