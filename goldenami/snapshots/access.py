"""SSH access to instances that goldenami did not launch.

The host key is the one that is given, or one of known_hosts, or that of the console output of the first boot. EC2
returns the console output over an authenticated API (GetConsoleOutput).
"""

from __future__ import annotations

import re
from typing import Final

from goldenami import ssh
from goldenami.aws import instances
from goldenami.aws.session import Cloud
from goldenami.aws.waiters import Item
from goldenami.errors import BuilderError
from goldenami.model import Network, Place, SshEndpoint, Transport
from goldenami.ssh.knownhosts import best

_CONSOLE: Final = re.compile(r"-----BEGIN SSH HOST KEY KEYS-----(.*?)-----END SSH HOST KEY KEYS-----", re.DOTALL)
_USER: Final = "admin"


def connect(
    cloud: Cloud, place: Place, instance: Item, network: Network, access: ssh.Access, transport: Transport | None = None
) -> ssh.Connection:
    """Open an SSH connection to an instance. ``transport``: opens it; None: TCP.

    Raises UsageError if the private key cannot be read, NotFound if no host key is found, and BuilderError if the
    instance is not running or is unreachable.
    """
    endpoint = endpoint_of(cloud, place, instance, network, access, transport)
    return ssh.connect(endpoint, timeout=access.timeout, sleep=cloud.sleep)


def endpoint_of(
    cloud: Cloud, place: Place, instance: Item, network: Network, access: ssh.Access, transport: Transport | None = None
) -> SshEndpoint:
    """Return the address, user, private key and host key of an instance. Raises the errors of ``connect``."""
    id = instance["InstanceId"]
    found = instances.describe_many(cloud, place, [id]).get(id)
    if found is None or found.state != "running":
        state = found.state if found is not None else "missing"
        raise BuilderError(f"{id} is {state}, expected running", hint="Start the instance and try again.")
    return access.endpoint(
        instances.address(found, network),
        user=_USER,
        transport=transport,
        instance_id=id,
        region=place.region,
        otherwise=lambda: _console_key(cloud, place, id),
    )


def _console_key(cloud: Cloud, place: Place, instance_id: str) -> str | None:
    blocks = _CONSOLE.findall(instances.console_output(cloud, place, instance_id))
    return "\n".join(best(blocks[-1].splitlines())) or None if blocks else None
