"""Starts a real sshd on loopback, so that these tests run over SSH."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from goldenami.events import Event
from goldenami.model import SshEndpoint, TestReport
from goldenami.validate import run_suite
from tests.worlds.sshd import configured, listening


@dataclass(frozen=True)
class Sshd:
    endpoint: SshEndpoint
    pid: int  # of the listening process
    programs: Path  # a folder that comes first in the PATH of commands


def _keygen(path: Path) -> str:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path.with_name(path.name + ".pub").read_text().strip()


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """Run sshd as the user of the tests, with new keys. Its sessions end with it."""
    home = tmp_path / "sshd"
    home.mkdir()
    host_key, client_key = _keygen(home / "host"), _keygen(home / "client")
    (home / "authorized_keys").write_text(client_key + "\n")
    (home / "programs").mkdir()
    path = f"{home / 'programs'}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    command = configured(home, {"PATH": path}, PermitRootLogin="prohibit-password")
    with listening(lambda port: [*command, "-p", str(port)], home / "log") as (port, server):
        user = pwd.getpwuid(os.getuid()).pw_name
        private = (home / "client").read_text()
        yield Sshd(SshEndpoint("127.0.0.1", user, private, host_key, port), server.pid, home / "programs")


@pytest.fixture
def other_host_key(tmp_path: Path) -> str:
    return _keygen(tmp_path / "other")


@dataclass
class Bench:
    """Writes a test file, runs it, and stores the events."""

    sshd: Sshd
    folder: Path
    events: list[Event]

    def write(self, code: str, name: str = "web_test.py") -> Path:
        path = self.folder / "recipes" / "tests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
        return path

    def run(self, *tests: object, **options: object) -> TestReport:
        settings: dict[str, object] = {
            "gate": "builder",
            "architecture": "x86_64",
            "report_dir": self.folder / "reports",
            "emit": self.events.append,
            "connect_timeout": 60.0,
            "retry_delay": 0.1,
        }
        return run_suite(self.sshd.endpoint, tests, **(settings | options))  # type: ignore[arg-type]

    def fields(self, kind: str) -> list[dict[str, Any]]:
        return [dict(event.fields) for event in self.events if event.kind == kind]

    @property
    def log(self) -> str:
        return (self.folder / "reports" / "tests-builder-x86_64.log").read_text()


@pytest.fixture
def bench(sshd: Sshd, tmp_path: Path) -> Bench:
    return Bench(sshd, tmp_path, [])


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
