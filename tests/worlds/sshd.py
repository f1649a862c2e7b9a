"""Starts sshd on a port of loopback that no other process has."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from goldenami_sandbox.guard import killed_with_parent

_PORTS = 10  # that are tried
_PATIENCE = 60.0  # seconds: on a machine that is busy


@contextlib.contextmanager
def listening(command: Callable[[int], Sequence[str]], log: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Start the command for a port, and yield the port and the process when its sshd listens there.

    ``command`` starts sshd with -D and -e. Another process may take the port before sshd does: then the next one is
    tried. The process is killed at the end.
    """
    for _ in range(_PORTS):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        # sshd overwrites its environment, so the guard of the tests does not find it.
        guarded = killed_with_parent(list(command(port)))
        with log.open("wb") as file:
            server = subprocess.Popen(
                guarded, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )
        try:
            if _listens(server, log, port):
                yield port, server
                return
        finally:
            server.kill()
            server.wait()
        said = log.read_text(errors="replace")
        assert "Address already in use" in said, said
    raise AssertionError(f"{_PORTS} ports were in use")


def _listens(server: subprocess.Popen[bytes], log: Path, port: int) -> bool:
    """Wait until sshd says that it listens: something that can be connected to may be another process."""
    until = time.monotonic() + _PATIENCE
    while f"Server listening on 127.0.0.1 port {port}." not in log.read_text(errors="replace"):
        if server.poll() is not None or time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True
