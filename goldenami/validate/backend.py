"""A testinfra backend over goldenami's own SSH connection, so that the host key is pinned for tests too.

Commands that only read get answers from batches that were sent ahead, see ``ahead``. A test that is repeated sees the
current state of the host.
"""

from __future__ import annotations

import re
import shlex
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from testinfra.backend.base import BaseBackend, CommandResult

from goldenami.errors import ConnectionLost, GoldenAmiError
from goldenami.ssh import Completed, Connection, with_terminal
from goldenami.validate.ahead import Ahead
from goldenami.validate.rehearsal import Result as Rehearsed
from goldenami.validate.rehearsal import StopRehearsalError
from goldenami.validate.settings import NOT_EXECUTED

# What testinfra runs for host.service, host.sysctl and host.socket.
_OF_SERVICES = re.compile(rb"test -d /run/systemd/system")
_OF_NETWORK = re.compile(rb"(/\S*/)?(sysctl -n '?net\.|ss |netstat )")
_LONGEST_SECONDS = 3600.0  # for the first connection, which has its own limit
_SUDO = "sudo -n /bin/sh -c "  # before the quoted command that runs as root


def _close(done: Future[Connection]) -> None:
    if done.exception() is None:
        done.result(0).close()


class Result(CommandResult):
    """A CommandResult whose ``repr`` is short: the command, its exit status and its output. Assertions print it."""

    def __repr__(self) -> str:
        output = self.stderr.strip() or self.stdout.strip()
        command = self.command.decode("utf-8", errors="backslashreplace")
        return f"{command!r} (exit status {self.rc}" + (f": {output})" if output else ")")


class ConnectionBackend(BaseBackend):
    """Runs testinfra's commands on one host. Calls ``connect`` at the first command, and for each new connection.

    If the connection ends during a command, the outcome of the command is unknown, so the backend does not repeat it.
    It connects again and raises ConnectionLost; the caller repeats the whole test. If it cannot connect, it raises the
    BuilderError of ``connect``, and does so again for every later command.
    """

    NAME = "goldenami"

    def __init__(
        self, address: str, user: str, connect: Callable[[], Connection], *, in_user_namespace: bool = False
    ) -> None:
        """``in_user_namespace``: the host is known to have neither systemd nor a network of its own, so tests that need
        them are skipped, as not executed."""
        super().__init__(address)
        self.in_user_namespace = in_user_namespace
        self._user = user
        self._connect = connect
        self._connection: Connection | None = None
        self._early: Future[Connection] | None = None
        self.ask_rehearsal: Callable[[str], Rehearsed | None] | None = None  # in the copy of the process only
        self.ahead: Ahead | None = None

    @property
    def connection(self) -> Connection:
        if self.ask_rehearsal is not None:
            raise StopRehearsalError  # the copy of the process must not write to the same connection
        if self._connection is None:
            early, self._early = self._early, None
            self._connection = self._connect() if early is None else early.result(_LONGEST_SECONDS)
        return self._connection

    def connect_early(self) -> None:
        """Begin to connect in another thread, and ask what nearly all tests need. The first command waits for it, and
        raises its error."""
        early: Future[Connection] = Future()

        def connect() -> None:
            try:
                connection = self._connect()
                if self.ahead is not None:
                    with suppress(GoldenAmiError):
                        self.ahead.open_early(connection)
            except BaseException as error:
                early.set_exception(error)
            else:
                early.set_result(connection)

        self._early = early
        threading.Thread(target=connect, daemon=True).start()

    def close(self) -> None:
        """Close the connection, if there is one. A later command would connect again."""
        if self.ahead is not None:
            self.ahead.close()
        connection, self._connection, early = self._connection, None, self._early
        if early is not None:
            self._early = None
            early.add_done_callback(_close)
        if connection is not None:
            connection.close()

    def run(self, command: str, *args: str, **_: Any) -> CommandResult:
        """Run a command. On a host that is known to have no systemd, a command that needs it skips the test."""
        result = self._result(command, *args)
        if self.in_user_namespace:
            if "not been booted with systemd" in f"{result.stderr}{result.stdout}" or _OF_SERVICES.match(
                result.command
            ):
                pytest.skip(f"{NOT_EXECUTED}: this instance has no systemd")
            if _OF_NETWORK.match(result.command):
                pytest.skip(f"{NOT_EXECUTED}: this instance has no network of its own")
        return result

    def _result(self, command: str, *args: str) -> Result:
        text = self.get_command(command, *args)
        if self.ask_rehearsal is not None:
            answer = self.ask_rehearsal(text)
            if answer is None:
                raise StopRehearsalError
            return Result(self, answer[0], self.encode(text), answer[1], answer[2])
        with self.ahead.unwatched() if self.ahead is not None else nullcontext():
            done = self._run(text)
        return Result(self, done.status, self.encode(text), done.stdout, done.stderr)

    def _run(self, text: str) -> Completed:
        connection = self.connection
        try:
            ready = self.ahead.take(text) if self.ahead is not None else None
            return self._run_now(connection, text) if ready is None else ready.done
        except ConnectionLost:
            self.close()
            self._connection = self._connect()  # raises BuilderError if the host is unreachable
            raise

    def _run_now(self, connection: Connection, text: str) -> Completed:
        """Run a command on a channel of its own."""
        with_sudo = text.startswith("sudo ")
        done = connection.run(with_terminal(text) if with_sudo and connection.sudo_needs_terminal else text)
        if with_sudo and connection.asks_for_terminal(done):
            done = connection.run(with_terminal(text))
        return done

    def inside_sudo(self, text: str) -> str | None:
        """Return the command that a command of ``get_sudo_command`` runs as root. None for other commands."""
        if not text.startswith(_SUDO):
            return None
        words = shlex.split(text.removeprefix(_SUDO))
        return words[0] if len(words) == 1 else None

    def get_sudo_command(self, command: str, sudo_user: str | None) -> str:
        """Return testinfra's command with sudo, without a prompt for a password; for root, without sudo.

        A minimal image with the login user root may have no sudo. runuser is part of util-linux and always installed.
        """
        shell = f"/bin/sh -c {shlex.quote(command)}"
        if self._user == "root":
            return shell if sudo_user in (None, "root") else f"runuser -u {shlex.quote(sudo_user)} -- {shell}"
        return f"sudo -n {shell}" if sudo_user is None else f"sudo -n -u {shlex.quote(sudo_user)} {shell}"

    def get_encoding(self) -> str:
        # testinfra would start Python on the host to find the encoding. A host may have no Python, and all supported
        # systems use UTF-8.
        return "utf-8"

    def decode(self, data: bytes) -> str:
        # Output may be a binary file or end in a truncated character. The test receives it without a decoding error.
        return data.decode("utf-8", errors="backslashreplace")

    def encode(self, data: str) -> bytes:
        return data.encode("utf-8", errors="surrogateescape")
