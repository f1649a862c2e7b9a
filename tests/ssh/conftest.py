"""Starts a real sshd on loopback, as the user of the tests."""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from goldenami.model import SshEndpoint
from goldenami.ssh import generate_keypair
from tests.worlds import sshd


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the server, with its authorized_keys."""
    return tmp_path_factory.mktemp("sshd")


@pytest.fixture(scope="session")
def endpoint(home: Path) -> Iterator[SshEndpoint]:
    host, login = generate_keypair(), generate_keypair()
    (home / "host").write_text(host.private_key)
    (home / "host").chmod(0o600)
    (home / "authorized_keys").write_text(login.public_key + "\n")
    command = sshd.configured(home, MaxStartups="100:30:200")
    with sshd.listening(lambda port: [*command, "-p", str(port)], home / "log") as (port, _):
        user = pwd.getpwuid(os.getuid()).pw_name
        yield SshEndpoint("127.0.0.1", user, login.private_key, host.public_key, port)


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An SSH agent without keys, which ssh-add and the program use."""
    path = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        until = time.monotonic() + 60
        while not path.exists() and time.monotonic() < until:
            time.sleep(0.02)
        yield path
    finally:
        process.kill()
        process.wait()
