"""The door to EC2: which actions are answered here, one call in, one reply out, and the state as JSON.

    ec2 = Ec2(node, clock=time.time, hooks=hooks, settings=Settings())
    ec2.call(ctx, "DescribeImages", {"Owners": ["self"]})      # names as in the API's model (and in boto3)
    ec2.respond(ctx, form)                                     # the same from a request's form, answered as XML

Calls may come from any number of threads. Work on contents (booting, freezing, storing) happens in worker threads, and
shows in describes; ``settle`` waits until none is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from goldenami.sandbox.ec2.context import Ctx, Ec2Error, Settings
from goldenami.sandbox.ec2.hooks import Hooks

__all__ = ["Ctx", "Ec2", "Ec2Error", "Settings"]


class Ec2:
    def __init__(self, node: Any, *, clock: Callable[[], float], hooks: Hooks, settings: Settings) -> None:
        self.settings = settings

    def handles(self, action: str) -> bool:
        """Whether ``call`` knows this action; all others belong elsewhere."""
        raise NotImplementedError

    def owns(self, resource_id: str) -> bool:
        """Whether this id names a kind of thing that is kept here (whether it exists or not): its tags are kept here too."""
        raise NotImplementedError

    def call(self, ctx: Ctx, action: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Do one action. Raises Ec2Error as the API refuses it."""
        raise NotImplementedError

    def respond(self, ctx: Ctx, form: Mapping[str, str]) -> tuple[int, bytes]:
        """The HTTP status and XML body for a request's form (query protocol); refusals are answered, not raised."""
        raise NotImplementedError

    def users_of(self, resource_id: str) -> list[str]:
        """Instances that use a security group or a subnet (by its id): it cannot be deleted while there are any."""
        raise NotImplementedError

    def add_public_image(
        self,
        region: str,
        owner: str,
        name: str,
        *,
        architecture: str,
        release: str | None,
        default_user: str,
        owner_alias: str | None = None,
        description: str = "",
        creation_date: str,
        root_device_name: str = "/dev/xvda",
        size_gib: int = 8,
        boot_mode: str | None = None,
    ) -> str:
        """Publish a vendor's image; its id follows from region, owner and name. A second call changes nothing.

        ``release``: which of the node's base roots it contains ("debian-12"), made when first launched; None: it can
        be described and copied, but not launched.
        """
        raise NotImplementedError

    def dump(self) -> dict[str, Any]:
        """All state, as JSON values."""
        raise NotImplementedError

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over dumped state; instances that were running are started again."""
        raise NotImplementedError

    def settle(self, timeout: float = 60.0) -> bool:
        """Wait until no work is under way; False where the time (seconds) was not enough."""
        raise NotImplementedError

    def close(self) -> None:
        """Take no more work and wait for what is running. The node is the caller's to close."""
        raise NotImplementedError
