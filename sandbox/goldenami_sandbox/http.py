"""An HTTP/1.1 server on loopback. It reads whole requests, writes whole responses, and keeps connections open.

AWS calls are small, and clients make many over one connection, so the cost per call matters. Each connection has a
thread, Nagle's algorithm is off, and a response is one write. Bodies are kept in memory; the largest are S3 objects and
EBS blocks.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, BinaryIO, cast

_MAX_LINE = 65536
_MAX_HEADERS = 200
_MAX_BODY = 1 << 30
_IDLE_SECONDS = 300.0


@dataclass(slots=True)
class Request:
    """An HTTP request. ``headers`` has lower-case names; values of a repeated name are joined with commas.

    ``raw_headers`` keeps the names as sent, because S3 metadata distinguishes them. ``path`` is still percent-encoded.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    raw_headers: list[tuple[str, str]]
    body: bytes
    peer: tuple[str, int] = ("127.0.0.1", 0)


@dataclass(slots=True)
class Response:
    """An HTTP response. ``drop``: the connection is closed without an answer. ``late``: seconds of delay, in real time.

    ``answer``: the answer as data instead of a body, for callers without HTTP (``direct``).
    """

    status: int
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    drop: bool = False
    late: float = 0.0
    answer: Mapping[str, Any] | None = None

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


App = Callable[[Request], Response]


class BadRequest(Exception):
    """The bytes on the connection are not HTTP that this server supports. The text is the reason."""


class Server(socketserver.ThreadingTCPServer):
    """Serves ``app`` on 127.0.0.1. Port 0 selects a free one; ``port`` is its number.

    ``close`` stops accepting connections, waits for running calls, and closes idle connections.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128
    disable_nagle_algorithm = True

    def __init__(self, app: App, port: int = 0) -> None:
        self.app = app
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__(("127.0.0.1", port), _Connection)
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        return self.server_address[1]

    def serve_in_thread(self) -> None:
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.05}, name="http", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop the server. A second call does nothing."""
        if self._thread is not None:
            self.shutdown()
            self._thread.join()
            self._thread = None
        self.server_close()
        with self._guard:
            idle = list(self._open)
        for connection in idle:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RD)

    def handle_error(self, request: object, client_address: object) -> None:
        """Log an error of a connection and end that connection. Errors of the app are answered before they get here."""

    def opened(self, connection: socket.socket) -> None:
        with self._guard:
            self._open.add(connection)

    def closed(self, connection: socket.socket) -> None:
        with self._guard:
            self._open.discard(connection)


class _Connection(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    timeout = _IDLE_SECONDS
    rbufsize = 65536

    def handle(self) -> None:
        server = cast(Server, self.server)
        server.opened(self.connection)
        try:
            while self._serve_one(server.app):
                pass
        except (OSError, TimeoutError):
            pass
        finally:
            server.closed(self.connection)

    def _serve_one(self, app: App) -> bool:
        """Serve one request. Returns False at the end of the connection."""
        try:
            request = read_request(cast(BinaryIO, self.rfile), self._continue)
        except BadRequest as error:
            self.connection.sendall(render(Response(400, str(error).encode()), keep=False, head=False))
            return False
        if request is None:
            return False
        request.peer = self.client_address
        response = app(request)
        if response.late:
            time.sleep(response.late)
        if response.drop:
            # Reset rather than close: the client must see a broken connection, not an empty reply.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            return False
        keep = request.headers.get("connection", "").lower() != "close"
        self.connection.sendall(render(response, keep=keep, head=request.method == "HEAD"))
        return keep

    def _continue(self) -> None:
        self.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def read_request(stream: BinaryIO, on_continue: Callable[[], None]) -> Request | None:
    """Read one request, or return None at the end of the stream.

    ``on_continue`` is called if the client waits for status 100. Raises BadRequest.
    """
    line = stream.readline(_MAX_LINE)
    while line in (b"\r\n", b"\n"):
        line = stream.readline(_MAX_LINE)
    if not line:
        return None
    parts = line.decode("latin-1").split()
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise BadRequest("not an HTTP/1 request line")
    method, target, version = parts
    raw = list(_read_headers(stream))
    headers: dict[str, str] = {}
    for name, value in raw:
        key = name.lower()
        headers[key] = f"{headers[key]},{value}" if key in headers else value
    if version == "HTTP/1.0":
        headers["connection"] = "close"
    if headers.get("expect", "").lower() == "100-continue":
        on_continue()
    body = _read_body(stream, headers)
    if target.startswith(("http://", "https://")):
        target = "/" + target.split("/", 3)[3] if target.count("/") >= 3 else "/"
    path, _, query = target.partition("?")
    return Request(method, path, query, headers, raw, body)


def _read_headers(stream: BinaryIO) -> Iterable[tuple[str, str]]:
    for _ in range(_MAX_HEADERS):
        line = stream.readline(_MAX_LINE)
        if line in (b"\r\n", b"\n", b""):
            return
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon or name != name.strip():
            raise BadRequest("malformed header line")
        yield name, value.strip()
    raise BadRequest("too many headers")


def _read_body(stream: BinaryIO, headers: dict[str, str]) -> bytes:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return b"".join(_read_chunks(stream))
    try:
        length = int(headers.get("content-length") or 0)
    except ValueError:
        raise BadRequest("Content-Length is not a number") from None
    if not 0 <= length <= _MAX_BODY:
        raise BadRequest("Content-Length out of bounds")
    return _exactly(stream, length)


def _read_chunks(stream: BinaryIO) -> Iterable[bytes]:
    total = 0
    while True:
        try:
            size = int(stream.readline(_MAX_LINE).split(b";")[0], 16)
        except ValueError:
            raise BadRequest("malformed chunk") from None
        total += size
        if size < 0 or total > _MAX_BODY:
            raise BadRequest("body out of bounds")
        if size == 0:
            while stream.readline(_MAX_LINE) not in (b"\r\n", b"\n", b""):  # trailers
                pass
            return
        yield _exactly(stream, size)
        stream.readline(_MAX_LINE)


def _exactly(stream: BinaryIO, length: int) -> bytes:
    data = stream.read(length) if length else b""
    if len(data) != length:
        raise BadRequest("the body ended early")
    return data


def render(response: Response, *, keep: bool, head: bool) -> bytes:
    """Return the bytes of a response. ``head``: the request was HEAD, so there is a Content-Length but no body."""
    status = response.status
    names = {name.lower() for name, _ in response.headers}
    lines = [f"HTTP/1.1 {status} {http.client.responses.get(status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in response.headers if name.lower() not in _OURS]
    bodiless = status in (204, 304) or status < 200
    if head and "content-length" in names:
        lines.append(f"Content-Length: {response.header('content-length')}")
    elif not bodiless:
        lines.append(f"Content-Length: {len(response.body)}")
    if "date" not in names:
        lines.append(f"Date: {formatdate(usegmt=True)}")
    if not keep:
        lines.append("Connection: close")
    text = "\r\n".join(lines) + "\r\n\r\n"
    return text.encode("latin-1", "replace") + (b"" if head or bodiless else response.body)


_OURS = frozenset({"content-length", "transfer-encoding", "connection"})
