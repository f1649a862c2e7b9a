"""A TCP relay on loopback that simulates a network: it delays data and can end connections."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from types import TracebackType


class Relay:
    """Forwards every connection to ``target``, and each piece of data after ``delay`` seconds. A context manager.

    ``listener``: takes the connections, and is closed at the end. Without it, the relay has a port of its own.
    """

    def __init__(self, target: tuple[str, int], delay: float = 0.0, listener: socket.socket | None = None) -> None:
        self.delay = delay
        self._target = target
        self._listener = listener or socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._left: int | None = None
        self.connections = 0
        self.turns = 0  # how often the client sent after it had received

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Relay:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # shutdown() ends accept() in the other thread. close() alone does not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """End all connections. New ones are accepted."""
        with self._lock:
            for end in self._sockets:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
            self._sockets.clear()

    def cut_after(self, count: int) -> None:
        """End all connections once, after this number of further bytes from either side."""
        with self._lock:
            self._left = count

    def _count(self, size: int) -> None:
        with self._lock:
            if self._left is None:
                return
            self._left -= size
            if self._left > 0:
                return
            self._left = None
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._target)
            except OSError:  # no program listens on the target yet
                near.close()
                continue
            self.connections += 1
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets += [near, far]
            ours = [False]  # whether the client sent the last piece
            for source, sink in ((near, far), (far, near)):
                pieces: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
                threading.Thread(target=self._read, args=(source, pieces, source is near, ours), daemon=True).start()
                threading.Thread(target=self._write, args=(sink, pieces), daemon=True).start()

    def _read(
        self, source: socket.socket, pieces: queue.SimpleQueue[tuple[float, bytes]], near: bool, ours: list[bool]
    ) -> None:
        data = b"-"
        while data:
            try:
                data = source.recv(1 << 16)
            except OSError:
                data = b""
            self._count(len(data))
            if data and near and not ours[0]:
                self.turns += 1
            ours[0] = near
            pieces.put((time.monotonic() + self.delay, data))

    def _write(self, sink: socket.socket, pieces: queue.SimpleQueue[tuple[float, bytes]]) -> None:
        with contextlib.suppress(OSError):
            while True:
                due, data = pieces.get()
                time.sleep(max(0.0, due - time.monotonic()))
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)
