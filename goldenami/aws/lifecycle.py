"""Policies of Amazon Data Lifecycle Manager.

DLM has no ClientToken and no unique names. A policy gets its tags in the creating call, and the list of policies
returns them. So the ledger finds a policy by its token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from goldenami.aws.ledger import Call, Ledger
from goldenami.aws.session import Cloud
from goldenami.model import Place

KIND = "lifecycle-policy"
# The roles that DLM's console creates, for snapshots and for images ("IAM service roles", EBS user guide).
SNAPSHOT_ROLE: Final = "service-role/AWSDataLifecycleManagerDefaultRole"
IMAGE_ROLE: Final = "service-role/AWSDataLifecycleManagerDefaultRoleForAMIManagement"


@dataclass(frozen=True, slots=True)
class LifecyclePolicy:
    """A policy as GetLifecyclePolicy returns it. ``default``: a default policy of DLM, which has no schedules."""

    id: str
    place: Place
    description: str
    state: str
    role: str
    details: Mapping[str, Any]
    tags: Mapping[str, str]
    arn: str
    default: bool = False


def policies(cloud: Cloud, place: Place) -> tuple[LifecyclePolicy, ...]:
    """Return all policies of an account and region, sorted by id."""
    listed = cloud.call(place, "dlm", "GetLifecyclePolicies", {}).get("Policies") or ()
    found = []
    for id in sorted(p["PolicyId"] for p in listed):
        policy = cloud.call(place, "dlm", "GetLifecyclePolicy", {"PolicyId": id})["Policy"]
        found.append(
            LifecyclePolicy(
                id=id,
                place=place,
                description=str(policy.get("Description", "")),
                state=str(policy.get("State", "")),
                role=str(policy.get("ExecutionRoleArn", "")),
                details=policy.get("PolicyDetails") or {},
                tags=policy.get("Tags") or {},
                arn=str(policy.get("PolicyArn", "")),
                default=bool(policy.get("DefaultPolicy")),
            )
        )
    return tuple(found)


def create(
    ledger: Ledger,
    key: str,
    place: Place,
    *,
    name: str,
    description: str,
    role: str,
    details: Mapping[str, Any],
    tags: Mapping[str, str],
) -> str:
    """Ensure that an enabled policy exists. Return its id."""
    request = {
        "ExecutionRoleArn": role,
        "Description": description,
        "State": "ENABLED",
        "PolicyDetails": dict(details),
    }
    return ledger.create(key, KIND, place, Call("dlm", "CreateLifecyclePolicy", request), name=name, tags=tags)


def update(
    ledger: Ledger,
    key: str,
    place: Place,
    policy_id: str,
    *,
    description: str,
    role: str,
    details: Mapping[str, Any],
) -> None:
    """Ensure that a policy has these details and is enabled. Snapshots that it created before keep their retention."""
    request = {
        "PolicyId": policy_id,
        "ExecutionRoleArn": role,
        "Description": description,
        "State": "ENABLED",
        "PolicyDetails": dict(details),
    }
    ledger.change(key, place, Call("dlm", "UpdateLifecyclePolicy", request), resource=policy_id, kind="policy")


def tag(ledger: Ledger, key: str, place: Place, policy: LifecyclePolicy, tags: Mapping[str, str]) -> None:
    """Ensure that a policy has these tags in addition to its other tags."""
    request = {"ResourceArn": policy.arn, "Tags": dict(tags)}
    ledger.change(key, place, Call("dlm", "TagResource", request), resource=policy.id, kind="tags")


def delete(ledger: Ledger, place: Place, policy_id: str) -> None:
    """Ensure that a policy is deleted. The snapshots that it created stay, and DLM does not delete them any more."""
    ledger.delete(KIND, place, policy_id)
