"""Hosts that a user names: ``[USER@]HOST[:PORT]``, beside the options for the login."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from goldenami.errors import UsageError

if TYPE_CHECKING:
    from goldenami.model import SshEndpoint
    from goldenami.ssh import Access

HOST: Final = "[USER@]HOST[:PORT]"


def parse_host(text: str, expected: str = HOST) -> tuple[str | None, str, int | None]:
    """Return user, address and port of ``[USER@]HOST[:PORT]``; an IPv6 address with a port is in brackets. None: not
    given. ``expected``: the forms, for the error. Raises UsageError."""
    user, _, rest = text.rpartition("@")
    address, port = rest, ""
    if rest.startswith("["):
        address, _, tail = rest[1:].partition("]")
        port = tail.removeprefix(":")
    elif rest.count(":") == 1:
        address, separator, port = rest.partition(":")
        port = port if port else separator
    if not address or (port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)):
        raise UsageError(f"found {text!r}, expected {expected}")
    return user or None, address, int(port) if port else None


def endpoint_of(text: str, access: Access, expected: str = HOST) -> SshEndpoint:
    """Return the endpoint of a host. Raises UsageError if the text is no host or names another user or port than the
    options; UsageError or NotFound without a usable key, and NotFound or Refused without a trusted host key."""
    user, address, port = parse_host(text, expected)
    for option, given, named in (("--ssh-user", access.user, user), ("--ssh-port", access.port, port)):
        if given is not None and named is not None and given != named:
            raise UsageError(f"found {option} {given} and {text}, expected one of them")
    return access.endpoint(address, user=user or "root", port=port or 22)
