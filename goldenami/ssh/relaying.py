"""Carries connections to a host for OpenSSH: over standard input and output, and from a Unix socket."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from goldenami.errors import GoldenAmiError
from goldenami.model import SshEndpoint
from goldenami.ssh.transport import ATTEMPT_SECONDS, NotReachable, open_socket

_CHUNK = 256 << 10


def relay(endpoint: SshEndpoint, source: int = 0, sink: int = 1) -> None:
    """Connect to the address of an endpoint by its transport, and copy data until one side ends.

    ``source`` and ``sink``: file descriptors. Raises NotReachable with the reason of the transport.
    """
    name = f"{endpoint.address}:{endpoint.port}"
    with open_socket(endpoint, name, ATTEMPT_SECONDS) as connection:
        received = 0

        def send() -> None:
            with suppress(OSError):
                while data := os.read(source, _CHUNK):
                    connection.sendall(data)
            with suppress(OSError):  # SSH never closes only one direction: this ends the loop below
                connection.shutdown(socket.SHUT_RDWR)

        # A daemon: it may wait in a read of the source when the host ends the connection.
        threading.Thread(target=send, name="relay", daemon=True).start()
        with suppress(OSError):
            while data := connection.recv(_CHUNK):
                received += len(data)
                while data:
                    data = data[os.write(sink, data) :]
        explain = getattr(connection, "explain", None)
        if not received:
            reason = explain() if explain is not None else ""
            raise NotReachable(f"{name}: {reason or 'the connection ended without data'}")


def listen(endpoint: SshEndpoint, path: Path, on_failure: Callable[[GoldenAmiError], None]) -> socket.socket:
    """Carry every connection to the Unix socket ``path`` to the host, in the background, until the socket that is
    returned is closed. ``on_failure``: is told why a connection failed. Raises OSError.
    """
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def carry(client: socket.socket) -> None:
        with client:
            try:
                relay(endpoint, client.fileno(), client.fileno())
            except GoldenAmiError as error:
                on_failure(error)

    def accept() -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                client, _ = listener.accept()
                threading.Thread(target=carry, args=(client,), name="relay", daemon=True).start()

    threading.Thread(target=accept, name="relay of a socket", daemon=True).start()
    return listener
