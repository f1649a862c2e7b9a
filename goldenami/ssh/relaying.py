"""Carries a connection to a host over standard input and output, for ``ProxyCommand`` of OpenSSH."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress

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
