"""A testinfra backend over our own SSH connection: the host key stays pinned, and there is one way to reach a host.

Nothing is remembered between commands: a test that is run again sees the host as it is then.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult

from goldenami.errors import ConnectionLost
from goldenami.ssh import Connection


class Result(CommandResult):
    """A CommandResult that an assertion can show: the command, how it ended and what it said."""

    def __repr__(self) -> str:
        said = self.stderr.strip() or self.stdout.strip()
        command = self.command.decode("utf-8", errors="backslashreplace")
        return f"{command!r} (exit status {self.rc}" + (f": {said})" if said else ")")


class ConnectionBackend(BaseBackend):
    """Runs testinfra's commands on one host. ``connect`` is called at the first command, and for each re-connection.

    A command whose connection ended is never repeated here, since nobody knows whether it ran: the connection is made
    anew, and ConnectionLost is raised for the test to be run again as a whole. If that fails too, what ``connect``
    raised (BuilderError) goes through, now and for every later command.
    """

    NAME = "goldenami"

    def __init__(self, address: str, user: str, connect: Callable[[], Connection]) -> None:
        super().__init__(address)
        self._user = user
        self._connect = connect
        self._connection: Connection | None = None

    @property
    def connection(self) -> Connection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def close(self) -> None:
        """Close the connection, if there is one. A later command would connect again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def run(self, command: str, *args: str, **_: Any) -> CommandResult:
        text = self.get_command(command, *args)
        connection = self.connection
        try:
            done = connection.run(text)
        except ConnectionLost:
            self.close()
            self._connection = self._connect()  # raises if the host is really gone
            raise
        return Result(self, done.status, self.encode(text), done.stdout, done.stderr)

    def get_sudo_command(self, command: str, sudo_user: str | None) -> str:
        """As testinfra asks for it, but never waiting for a password, and without sudo where it is not needed.

        A minimal image reached as root may have no sudo; util-linux's runuser is always there.
        """
        shell = f"/bin/sh -c {shlex.quote(command)}"
        if self._user == "root":
            return shell if sudo_user in (None, "root") else f"runuser -u {shlex.quote(sudo_user)} -- {shell}"
        return f"sudo -n {shell}" if sudo_user is None else f"sudo -n -u {shlex.quote(sudo_user)} {shell}"

    def get_encoding(self) -> str:
        # testinfra would start Python on the host to find out; hosts need not have one, and all of ours speak UTF-8.
        return "utf-8"

    def decode(self, data: bytes) -> str:
        # Output may hold anything (a binary file, a truncated character): a test should see it, not die of it.
        return data.decode("utf-8", errors="backslashreplace")

    def encode(self, data: str) -> bytes:
        return data.encode("utf-8", errors="surrogateescape")
