"""What is under way on a connection ends in silence when the other side is gone: no thread ends with an error."""

from __future__ import annotations

import contextlib
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from goldenami import ssh
from goldenami.errors import ConnectionLost
from goldenami.model import SshEndpoint
from goldenami.ssh import unixproxy
from goldenami.ssh.transport import direct, open_transport
from goldenami.ssh.tunnel import over_channel


class Broken(socket.socket):
    """A connection that carries nothing to the host any more once it ``is_broken``, which nobody has noticed yet."""

    is_broken = False

    def send(self, data: Any, flags: int = 0) -> int:
        if self.is_broken:
            raise BrokenPipeError("broken")
        return super().send(data, flags)


@pytest.fixture
def breaking(endpoint: SshEndpoint) -> tuple[SshEndpoint, list[Broken]]:
    """The endpoint, and the connections to it."""
    made: list[Broken] = []

    def open_one(endpoint: SshEndpoint, patience: float) -> socket.socket:
        made.append(Broken(fileno=direct(endpoint, patience).detach()))
        return made[-1]

    return replace(endpoint, transport=open_one), made


@pytest.fixture(autouse=True)
def raised(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Threads that end with an error fail the test."""
    before, errors = set(threading.enumerate()), list[str]()

    def note(given: threading.ExceptHookArgs) -> None:
        if given.thread not in before:  # those of other tests may still end
            errors.append(f"{given.thread}: {given.exc_value!r}")

    monkeypatch.setattr(threading, "excepthook", note)
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
    assert not errors


def test_a_command(breaking: tuple[SshEndpoint, list[Broken]], tmp_path: Path) -> None:
    endpoint, made = breaking
    go, is_broken = tmp_path / "go", threading.Event()

    def end(line: str) -> None:
        made[0].is_broken = True
        is_broken.set()
        go.touch()

    def word() -> Iterator[bytes]:
        is_broken.wait(60)
        yield b"word"

    with ssh.connect(endpoint, timeout=60) as connection, contextlib.suppress(ConnectionLost):
        # So much is received only if more is permitted.
        connection.stream(
            f"echo begun; until test -e {go}; do sleep 0.02; done; head -c 3000000 /dev/zero >&2", word(), end
        )


def test_a_shell(breaking: tuple[SshEndpoint, list[Broken]]) -> None:
    endpoint, made = breaking
    answers: queue.SimpleQueue[tuple[str, ssh.ShellAnswer | None]] = queue.SimpleQueue()
    with ssh.connect(endpoint, timeout=60) as connection:
        shells = ssh.Shells(connection, count=1)
        shells.ask(["echo first"], [], lambda *given: answers.put(given))
        _, answer = answers.get(timeout=60)
        assert answer is not None
        assert answer.done.text == "first"
        made[0].is_broken = True
        shells.ask(["echo second"], [], lambda *given: answers.put(given))
        assert answers.get(timeout=60) == ("echo second", None)
        shells.close()


def test_a_channel_of_a_bastion(breaking: tuple[SshEndpoint, list[Broken]]) -> None:
    endpoint, made = breaking
    with contextlib.closing(open_transport(endpoint)) as transport:
        channel = transport.open_channel("direct-tcpip", (endpoint.address, endpoint.port), ("127.0.0.1", 0))
        before = set(threading.enumerate())
        with over_channel(channel) as tunnel:
            copies = set(threading.enumerate()) - before
            assert tunnel.recv(4) == b"SSH-"
            made[0].is_broken = True
        for thread in copies:
            thread.join(60)


def test_the_program_for_a_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        command = [sys.executable, "-IS", unixproxy.__file__, str(tmp_path / "s")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as program:
            accepted, _ = listener.accept()
            with accepted:
                accepted.shutdown(socket.SHUT_RD)  # the host is gone for who sends
                assert program.stdin is not None
                program.stdin.write(b"word")
                program.stdin.flush()
                assert accepted.recv(1) == b""
                assert program.wait(60) == 0
            assert program.stderr is not None
            assert program.stderr.read() == b""
