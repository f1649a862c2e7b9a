"""Hands connections to a host over to another process: the parent opens them, the child gets their descriptors.

The process of the tests runs code of the project. It needs connections to the host, but none of the credentials with
which a transport opens them. Each request is a line of JSON; its answer is another, with the descriptor in the same
message (SCM_RIGHTS, unix(7)).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from typing import Any

from goldenami.errors import BuilderError, GoldenAmiError
from goldenami.model import SshEndpoint
from goldenami.ssh.transport import NotReachable, Refused, translated

_ANSWER = 64 << 10  # bytes; the limit for an answer


class ConnectionServer:
    """Opens connections to a host for another process, until ``close``. ``client``: the descriptor for that process."""

    def __init__(self, endpoint: SshEndpoint) -> None:
        self._endpoint = endpoint
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.client = theirs.detach()
        threading.Thread(target=self._serve, name="connections for tests", daemon=True).start()

    def close(self) -> None:
        """End the service. The connections that were handed over stay open."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        os.close(self.client)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while request := self._socket.recv(_ANSWER):
                self._answer(float(json.loads(request)["patience"]))

    def _answer(self, patience: float) -> None:
        answer: dict[str, Any] = {"error": None}
        connection: socket.socket | None = None
        try:
            with translated(self._endpoint.address, NotReachable):
                assert self._endpoint.transport is not None
                connection = self._endpoint.transport(self._endpoint, patience)
        except GoldenAmiError as error:
            again = "yes" if isinstance(error, NotReachable) else "rarely" if isinstance(error, Refused) else "no"
            answer = {"error": error.message[:4000], "hint": error.hint, "again": again}
        except Exception as error:  # of a package's transport; without an answer the child would wait for ever
            answer = {"error": f"the transport failed: {type(error).__name__}: {error}"[:4000], "again": "no"}
        text = json.dumps(answer).encode()
        if connection is None:
            self._socket.send(text)
            return
        with connection:  # the message holds a copy of the descriptor
            socket.send_fds(self._socket, [text], [connection.fileno()])


class ConnectionClient:
    """Gets connections from a ``ConnectionServer`` by the descriptor ``client`` of the server."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def open(self, endpoint: SshEndpoint, patience: float) -> socket.socket:
        """Return a connection that the server opened. Raises NotReachable, Refused or BuilderError, as there."""
        with self._lock, socket.socket(fileno=os.dup(self._descriptor)) as server:
            server.send(json.dumps({"patience": patience}).encode())
            text, descriptors, _, _ = socket.recv_fds(server, _ANSWER, 1, socket.MSG_CMSG_CLOEXEC)
        answer = json.loads(text or '{"error": "the process that opens the connections has ended", "again": "no"}')
        if answer["error"] is None:
            return socket.socket(fileno=descriptors[0])
        kind = {"yes": NotReachable, "rarely": Refused, "no": BuilderError}[answer["again"]]
        raise kind(answer["error"], hint=answer.get("hint"))
