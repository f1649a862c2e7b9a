"""SSH access to instances that goldenami did not launch: the private key, and the verification of the host key.

An unknown host key is never accepted. The host key is taken from the first of these sources that has one: the option
--ssh-host-key, known_hosts, or the console output of the first boot. EC2 returns the console output over an
authenticated API (GetConsoleOutput).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from goldenami import ssh
from goldenami.aws import instances
from goldenami.aws.session import Cloud
from goldenami.aws.waiters import Item
from goldenami.errors import BuilderError, NotFound
from goldenami.model import Network, Place, SshEndpoint, Transport

_KINDS: Final = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")
_CONSOLE: Final = re.compile(r"-----BEGIN SSH HOST KEY KEYS-----(.*?)-----END SSH HOST KEY KEYS-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Access:
    """How to log in. ``host_key``: "ssh-ed25519 AAAA…", or None to search for it. ``timeout``: seconds.
    ``identity``: the key of ``key_file``, if it was read already (see :func:`with_key`)."""

    user: str
    key_file: Path
    host_key: str | None = None
    known_hosts: Path = Path("~/.ssh/known_hosts")
    timeout: float = 60.0
    identity: ssh.Identity | None = None


def with_key(access: Access) -> Access:
    """Return the access with its private key, so that a key that cannot be read is an error before other work. Asks for
    a passphrase on the terminal. Raises UsageError."""
    return replace(access, identity=_identity(access))


def _identity(access: Access) -> ssh.Identity:
    return access.identity or ssh.read_identity(access.key_file, "--ssh-key", ask=ssh.ask_on_terminal())


def connect(
    cloud: Cloud, place: Place, instance: Item, network: Network, access: Access, transport: Transport | None = None
) -> ssh.Connection:
    """Open an SSH connection to an instance. ``transport``: opens it; None: TCP.

    Raises UsageError if the private key cannot be read, NotFound if no host key is found, and BuilderError if the
    instance is not running or is unreachable.
    """
    endpoint = endpoint_of(cloud, place, instance, network, access)
    return ssh.connect(replace(endpoint, transport=transport), timeout=access.timeout, sleep=cloud.sleep)


def endpoint_of(cloud: Cloud, place: Place, instance: Item, network: Network, access: Access) -> SshEndpoint:
    """Return the address, user, private key and host key of an instance. Raises the errors of ``connect``."""
    id = instance["InstanceId"]
    found = instances.describe_many(cloud, place, [id]).get(id)
    if found is None or found.state != "running":
        state = found.state if found is not None else "missing"
        raise BuilderError(f"{id} is {state}, expected running", hint="Start the instance and try again.")
    address = instances.address(found, network)
    login = _identity(access)
    host_key = access.host_key or _known_key(access.known_hosts.expanduser(), address) or _console_key(cloud, place, id)
    if host_key is None:
        raise NotFound(
            f"the host key of {id} ({address}) is unknown: it is not in {access.known_hosts} or the console output",
            hint="Give --ssh-host-key, or add the host key to known_hosts.",
        )
    return SshEndpoint(
        address,
        access.user,
        login.private_key,
        host_key,
        agent_keys=login.agent_keys,
        instance_id=id,
        region=place.region,
    )


def _console_key(cloud: Cloud, place: Place, instance_id: str) -> str | None:
    blocks = _CONSOLE.findall(instances.console_output(cloud, place, instance_id))
    return _best(blocks[-1].splitlines()) if blocks else None


def _known_key(path: Path, address: str) -> str | None:
    """Return the host key of an address in a known_hosts(5) file. Lines with a marker (@revoked) are ignored."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    fields = [line.split() for line in lines if line.strip() and line[0] not in "#@"]
    return _best(" ".join(f[1:3]) for f in fields if len(f) >= 3 and _matches(f[0], address))


def _matches(pattern: str, address: str) -> bool:
    if pattern.startswith("|1|"):
        _, _, salt, wanted = pattern.split("|")
        digest = hmac.new(base64.b64decode(salt), address.encode(), hashlib.sha1).digest()
        return hmac.compare_digest(digest, base64.b64decode(wanted))
    return address in pattern.split(",")


def _best(lines: Iterable[str]) -> str | None:
    """Return the public key with the preferred algorithm, in the order of ``_KINDS``, or None."""
    keys: dict[str, str] = {}
    for line in lines:
        parts = line.split()
        if len(parts) >= 2 and parts[0] in _KINDS:
            keys.setdefault(parts[0], " ".join(parts[:2]))
    return next((keys[kind] for kind in _KINDS if kind in keys), None)
