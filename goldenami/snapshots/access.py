"""The way into an instance that goldenami did not launch: whose key opens it, and how its host key is known.

A host key is never accepted blindly. It is the one that was given; or one that known_hosts has for the address; or one
that the instance wrote to its console when it first booted, which EC2 hands out over its own, authenticated API.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from goldenami import ssh
from goldenami.aws import instances
from goldenami.aws.session import Cloud
from goldenami.aws.waiters import Item
from goldenami.errors import BuilderError, NotFound, UsageError
from goldenami.model import Network, Place, SshEndpoint

_KINDS: Final = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")
_CONSOLE: Final = re.compile(r"-----BEGIN SSH HOST KEY KEYS-----(.*?)-----END SSH HOST KEY KEYS-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Access:
    """How a person gets in. ``host_key``: "ssh-ed25519 AAAA…", or None to look for it. ``timeout``: seconds."""

    user: str
    key_file: Path
    host_key: str | None = None
    known_hosts: Path = Path("~/.ssh/known_hosts")
    timeout: float = 60.0


def connect(cloud: Cloud, place: Place, instance: Item, network: Network, access: Access) -> ssh.Connection:
    """Raises UsageError or NotFound for what is missing, BuilderError if the host cannot be reached."""
    endpoint = endpoint_of(cloud, place, instance, network, access)
    return ssh.connect(endpoint, timeout=access.timeout, sleep=cloud.sleep)


def endpoint_of(cloud: Cloud, place: Place, instance: Item, network: Network, access: Access) -> SshEndpoint:
    id = instance["InstanceId"]
    found = instances.describe_many(cloud, place, [id]).get(id)
    if found is None or found.state != "running":
        raise BuilderError(f"{id} does not run: nobody can log in")
    address = instances.address(found, network)
    path = access.key_file.expanduser()
    try:
        private_key = path.read_text()
    except OSError as error:
        raise UsageError(f"cannot read the SSH key {path}: {error.strerror}", hint="Name it with --ssh-key.") from error
    host_key = access.host_key or _known(access.known_hosts.expanduser(), address) or _on_console(cloud, place, id)
    if host_key is None:
        raise NotFound(
            f"the host key of {id} ({address}) is not known",
            hint="Give it with --ssh-host-key, or have it in known_hosts; its console does not show it any more.",
        )
    return SshEndpoint(address, access.user, private_key, host_key)


def _on_console(cloud: Cloud, place: Place, instance_id: str) -> str | None:
    blocks = _CONSOLE.findall(instances.console_output(cloud, place, instance_id))
    return _best(blocks[-1].splitlines()) if blocks else None


def _known(path: Path, address: str) -> str | None:
    """What known_hosts(5) has for an address, plain or hashed. Markers (@revoked, @cert-authority) are left out."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    fields = [line.split() for line in lines if line.strip() and line[0] not in "#@"]
    return _best(" ".join(f[1:3]) for f in fields if len(f) >= 3 and _names(f[0], address))


def _names(pattern: str, address: str) -> bool:
    if pattern.startswith("|1|"):
        _, _, salt, wanted = pattern.split("|")
        digest = hmac.new(base64.b64decode(salt), address.encode(), hashlib.sha1).digest()
        return hmac.compare_digest(digest, base64.b64decode(wanted))
    return address in pattern.split(",")


def _best(lines: Iterable[str]) -> str | None:
    """The key of the best kind among lines of public keys."""
    keys: dict[str, str] = {}
    for line in lines:
        parts = line.split()
        if len(parts) >= 2 and parts[0] in _KINDS:
            keys.setdefault(parts[0], " ".join(parts[:2]))
    return next((keys[kind] for kind in _KINDS if kind in keys), None)
