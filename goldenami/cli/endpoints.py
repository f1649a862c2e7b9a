"""Hosts that a user names: how to log in, and which host key to trust. An unknown host key is never accepted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from goldenami.cli.options import with_options
from goldenami.errors import UsageError

if TYPE_CHECKING:
    from goldenami.model import SshEndpoint

_R = TypeVar("_R")

identity_option = click.option(
    "-i",
    "--identity",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Private key. Default: the keys of the SSH agent, and the one in ~/.ssh.",
)
host_key_option = click.option(
    "--host-key", metavar="KEY", help='The only host key to accept: "ssh-ed25519 AAAA…", or its fingerprint "SHA256:…".'
)
known_hosts_option = click.option(
    "--known-hosts",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File with the host key. Default: ~/.ssh/known_hosts.",
)
timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(1),
    default=30.0,
    show_default=True,
    help="Timeout for the connection, in seconds.",
)


@dataclass(frozen=True, slots=True)
class Access:
    """The values of the options for logins. ``timeout``: seconds for the connection."""

    identity: Path | None
    host_key: str | None
    known_hosts: Path | None
    timeout: float


def login_options(command: Callable[..., _R]) -> Callable[..., _R]:
    """Add the options for logging in to a host that the user names; the command receives them as ``access``."""

    @wraps(command)
    def with_access(
        *, identity: Path | None, host_key: str | None, known_hosts: Path | None, timeout: float, **others: Any
    ) -> _R:
        return command(access=Access(identity, host_key, known_hosts, timeout), **others)

    return with_options(with_access, identity_option, host_key_option, known_hosts_option, timeout_option)


def parse_host(text: str) -> tuple[str, str, int]:
    """Return user, address and port of ``[USER@]HOST[:PORT]``; an IPv6 address with a port is in brackets. The default
    user is root. Raises UsageError."""
    user, _, rest = text.rpartition("@")
    address, port = rest, "22"
    if rest.startswith("["):
        address, _, tail = rest[1:].partition("]")
        port = tail.removeprefix(":") or port
    elif rest.count(":") == 1:
        address, _, port = rest.partition(":")
    if not address or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise UsageError(f"found {text!r}, expected the id of a build or [USER@]HOST[:PORT]")
    return user or "root", address, int(port)


def endpoint_of(address: str, user: str, port: int, access: Access) -> SshEndpoint:
    """Return the endpoint of a host. Raises UsageError or NotFound without a usable key, and NotFound or Refused
    without a trusted host key."""
    from goldenami import ssh
    from goldenami.model import SshEndpoint

    ask = ssh.ask_on_terminal()
    login = (
        ssh.read_identity(access.identity, "-i", ask=ask) if access.identity else ssh.default_identity("-i", ask=ask)
    )
    key = access.host_key or ssh.known_host_key(access.known_hosts or Path.home() / ".ssh/known_hosts", address, port)
    if key.startswith("SHA256:"):
        key = ssh.key_with_fingerprint(address, port, key)
    return SshEndpoint(address, user, login.private_key, key, port, login.agent_keys)
