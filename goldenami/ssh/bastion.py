"""Reaches hosts through a bastion: channels of one SSH connection to it carry the connections to all hosts.

The bastion's host key is pinned in the same way as a host's. The bastion sees ciphertext only, since the connection to
the host is encrypted from end to end inside the channel.
"""

from __future__ import annotations

import contextlib
import ipaddress
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from goldenami.errors import BuilderError
from goldenami.model import SshEndpoint
from goldenami.ssh.identity import plain_key
from goldenami.ssh.library import paramiko
from goldenami.ssh.transport import ATTEMPT_SECONDS, Refused, agent_keys, log_in, parse_key, translated
from goldenami.ssh.tunnel import TunnelSocket, over_channel

_PROHIBITED = 1  # RFC 4254, section 5.1: SSH_OPEN_ADMINISTRATIVELY_PROHIBITED


@dataclass(frozen=True, slots=True)
class BastionLogin:
    """How to log in to a bastion. ``private_key``: its text (a secret); None: the keys of the SSH agent are used."""

    host: str
    port: int
    user: str
    host_key: str
    private_key: str | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The bastion for messages: "bastion user@host:port"."""
        return f"bastion {self.user}@{self.host}:{self.port}"


class Bastion:
    """A connection to a bastion, opened when it is first needed, and again after it was lost. Thread-safe."""

    def __init__(self, login: BastionLogin) -> None:
        self._login = login
        self._lock = threading.Lock()
        self._transport: paramiko.Transport | None = None
        self._closed = False

    def connect(self, patience: float = ATTEMPT_SECONDS) -> paramiko.Transport:
        """Return the open connection. Raises NotReachable; Refused for another host key or a refused login."""
        with self._lock:
            if self._closed:
                raise BuilderError(f"{self._login.name}: the connection was closed")
            if self._transport is None or not self._transport.is_active():
                self._transport = log_in(
                    SshEndpoint(self._login.host, self._login.user, "", self._login.host_key, self._login.port),
                    self._keys(),
                    patience,
                    self._login.name,
                )
            return self._transport

    def open(self, endpoint: SshEndpoint, patience: float) -> TunnelSocket:
        """Open a tunnel to a host. Raises OSError if the bastion cannot connect to it yet, Refused if the bastion does
        not allow it."""
        transport = self.connect(patience)
        target = f"{endpoint.address}:{endpoint.port}"
        try:
            channel = transport.open_channel(
                "direct-tcpip", (endpoint.address, endpoint.port), ("127.0.0.1", 0), timeout=patience
            )
        except paramiko.ChannelException as error:
            if error.code == _PROHIBITED:
                raise Refused(
                    f"{self._login.name} does not forward connections to {target}: {error.text}",
                    hint="Check AllowTcpForwarding, PermitOpen and the options of the key in authorized_keys there.",
                ) from error
            raise ConnectionError(f"{self._login.name} cannot connect to {target}: {error.text}") from error
        except (paramiko.SSHException, EOFError) as error:
            raise ConnectionError(f"{self._login.name}: no connection to {target}: {error}") from error
        return over_channel(channel)

    def own_address(self) -> str:
        """Return the address of the bastion in its network, which hosts see as the source of its connections.

        sshd sets SSH_CONNECTION to the addresses of both ends. Raises BuilderError if the bastion runs no commands.
        """
        transport = self.connect()
        output = b""
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError), translated(self._login.name):
            channel = transport.open_session(timeout=ATTEMPT_SECONDS)
            with contextlib.closing(channel):
                channel.settimeout(ATTEMPT_SECONDS)
                channel.exec_command("echo goldenami: $SSH_CONNECTION")  # the login shell may print a banner first
                while data := channel.recv(1 << 12):
                    output += data
        words = output.decode(errors="replace").rpartition("goldenami: ")[2].split()
        try:
            return str(ipaddress.ip_address(words[2]))
        except (IndexError, ValueError):
            raise BuilderError(
                f"{self._login.name} runs no commands, so its address in the builders' network is unknown",
                hint="Set `network.source_cidr` in goldenami.yaml to that address, for example 10.0.0.5/32.",
            ) from None

    def close(self) -> None:
        """Close the connection, and with it all tunnels. A second call does nothing."""
        with self._lock:
            self._closed = True
            if self._transport is not None:
                self._transport.close()

    def _keys(self) -> Sequence[paramiko.PKey]:
        if self._login.private_key is not None:
            what = f"the private key for {self._login.name}"
            hint = "Add the key to an SSH agent (`ssh-add`), and set `agent: true` in its place."
            return [parse_key(plain_key(self._login.private_key, what, hint=hint), what)]
        keys = agent_keys()
        if not keys:
            raise Refused(
                f"{self._login.name}: the SSH agent has no key",
                hint="Start an agent and run `ssh-add`, or set `private_key` of the bastion in goldenami.yaml.",
            )
        return keys
