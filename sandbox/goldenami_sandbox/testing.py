"""A cloud inside the test process: real API, signatures and states, but instances without contents.

::

    with paper_cloud() as cloud:
        ec2 = boto3.client("ec2", **cloud.client("eu-central-1"))

It needs no root and starts in less than a second. Clouds share nothing, so a test can use several.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from goldenami_sandbox.accounts import ACCOUNTS, AccessKey
from goldenami_sandbox.cloud import Cloud
from goldenami_sandbox.ec2.paper import PaperNode
from goldenami_sandbox.http import Server
from goldenami_sandbox.settings import Settings


@dataclass(frozen=True)
class PaperCloud:
    """A cloud that is being served. ``cloud`` is the object behind it, for functions without an API
    (``cloud.ec2.settle()``).
    """

    endpoint: str
    accounts: Mapping[str, str]
    cloud: Cloud
    node: PaperNode

    def key(self, account: str = "home") -> AccessKey:
        """Return the administrator's access key of an account, by name or id."""
        return self.cloud.credentials.admin_key(self.accounts.get(account, account))

    def client(self, region: str = "eu-central-1", account: str = "home") -> dict[str, Any]:
        """Return keyword arguments for ``boto3.client``, to pass after the name of the service."""
        key = self.key(account)
        return {
            "region_name": region,
            "endpoint_url": self.endpoint,
            "aws_access_key_id": key.access_key_id,
            "aws_secret_access_key": key.secret_access_key,
        }

    def variables(self, account: str = "home", region: str = "eu-central-1") -> dict[str, str]:
        """Return the environment variables that direct any AWS client to this cloud."""
        from goldenami_sandbox.control import variables

        return variables(self.endpoint, self.key(account), region)

    def set(self, **change: Any) -> None:
        """Change settings, given in their JSON form: ``set(faults=[…], pending={"image": 1})``."""
        self.cloud.change(change)

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Return the calls so far, oldest first, with the fields of the call log."""
        return self.cloud.log.entries()


@contextlib.contextmanager
def held_port() -> Iterator[int]:
    """Hold a free port of 127.0.0.1 until the block ends: nobody gets it by chance, while servers that set SO_REUSEADDR
    listen on it in turn. While none does, connections to it are refused.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])


@contextlib.contextmanager
def paper_cloud(
    *,
    accounts: Mapping[str, str] = ACCOUNTS,
    settings: Settings | None = None,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[PaperCloud]:
    """Serve a cloud on a free loopback port until the block ends.

    ``clock`` returns the time in seconds since the epoch. ``sleep`` waits for latencies of the settings.
    """
    node = PaperNode()
    node.start()
    cloud = Cloud(node, accounts=accounts, settings=settings, clock=clock, sleep=sleep)
    try:
        cloud.seed()
        server = Server(cloud)
        server.serve_in_thread()
        try:
            yield PaperCloud(f"http://127.0.0.1:{server.port}", dict(accounts), cloud, node)
        finally:
            server.close()
    finally:
        cloud.close()
        node.close()
