"""A program for ``ProxyCommand`` of OpenSSH: carries a connection from standard input and output to a Unix socket.

``python -IS unixproxy.py SOCKET``. It imports nothing of goldenami, so that it starts quickly.
"""

import contextlib
import os
import socket
import sys
import threading

_CHUNK = 256 << 10


def main() -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(sys.argv[1])

        def send() -> None:
            with contextlib.suppress(OSError):  # the other side may be gone
                while data := os.read(0, _CHUNK):
                    connection.sendall(data)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

        threading.Thread(target=send, daemon=True).start()
        with contextlib.suppress(OSError):
            while data := connection.recv(_CHUNK):
                while data:
                    data = data[os.write(1, data) :]


if __name__ == "__main__":
    main()
