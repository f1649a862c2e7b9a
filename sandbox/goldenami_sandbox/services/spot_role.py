"""The service-linked role of EC2 Spot, with which EC2 launches spot instances.

("Service-linked role for Spot Instance requests", EC2 user guide.)
"""

from __future__ import annotations

from goldenami_sandbox import seed
from goldenami_sandbox.policy import Access, Caller, Decision
from goldenami_sandbox.services import World


def arn(account: str) -> str:
    return f"arn:aws:iam::{account}:role{seed.SPOT_PATH}{seed.SPOT_ROLE}"


def ensure(world: World, caller: Caller) -> bool:
    """Return whether the role exists. A missing role is created if the caller may call CreateServiceLinkedRole."""
    with world.surface.active():
        iam = world.surface.backend("iam", caller.account, "aws")
        if any(role.name == seed.SPOT_ROLE for role in iam.roles.values()):
            return True
        if world.authorization.enforcing:
            access = Access(
                "iam:CreateServiceLinkedRole", arn(caller.account), {"iam:awsservicename": "spot.amazonaws.com"}
            )
            if world.authorization.decide(caller, access) is not Decision.ALLOWED:
                return False
        seed.spot_role(iam)
        return True
