"""A program: the connection to the SSH server of an instance in a user namespace, as standard input and output.

    python -I -S connect.py SOCKET INSTANCE

It imports nothing of the package, because it starts for each connection. ``node.rootless.Doors`` is its other side.
"""

import os
import socket
import sys
import threading

_PIECE = 1 << 16


def main(path: str, instance: str) -> None:
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)  # noqa: PTH120
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        # The address of a socket has at most 108 bytes.
        door.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")  # noqa: PTH119
        door.sendall(f"{instance}\n".encode())

        def send() -> None:
            try:
                while data := os.read(0, _PIECE):
                    door.sendall(data)
                door.shutdown(socket.SHUT_WR)
            except OSError:
                os._exit(1)

        threading.Thread(target=send, daemon=True).start()
        while data := door.recv(_PIECE):
            view = memoryview(data)
            while view:
                view = view[os.write(1, view) :]
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
