"""Starts sshd as the user of the tests, on a port of loopback that no other process has."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from goldenami_sandbox.guard import killed_with_parent

_PORTS = 10  # that are tried
_PATIENCE = 60.0  # seconds: on a machine that is busy


def configured(folder: Path, environment: Mapping[str, object] | None = None, **options: object) -> list[str]:
    """Return the command of an sshd with ``host`` and ``authorized_keys`` of the folder; it lacks the port (-p).

    ``environment``: of its sessions. Their home is the folder, so that a shell does not run the start files of the
    user of the tests, which can take longer than most commands. ``options``: more of sshd_config(5). Without sshd, the
    test is skipped.
    """
    program = shutil.which("sshd", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        pytest.skip("openssh-server is not installed")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd changes its root to this folder before a login
    variables = {"HOME": folder} | dict(environment or {})
    config = {
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "authorized_keys",
        "StrictModes": "no",  # /tmp is writable for others
        "PidFile": "none",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "SetEnv": " ".join(f"{name}={value}" for name, value in variables.items()),
    }
    (folder / "config").write_text("".join(f"{name} {value}\n" for name, value in (config | options).items()))
    return [program, "-D", "-e", "-f", str(folder / "config")]


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
