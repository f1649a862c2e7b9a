"""Gives tags to resources of EC2 that exist, and takes them away."""

from __future__ import annotations

from collections.abc import Mapping

from goldenami.aws import tags
from goldenami.aws.ledger import Call, Ledger
from goldenami.model import Place


def tag(ledger: Ledger, key: str, place: Place, resource: str, wanted: Mapping[str, str]) -> None:
    """Ensure that a resource has these tags; its other tags stay. It may be a resource that goldenami did not create.

    Raises UsageError for tags that AWS would refuse.
    """
    request = {"Resources": [resource], "Tags": tags.to_list(tags.checked(wanted))}
    ledger.change(key, place, Call("ec2", "CreateTags", request), resource=resource, kind="tags")


def untag(ledger: Ledger, key: str, place: Place, resource: str, removed: Mapping[str, str | None]) -> None:
    """Ensure that a resource does not have these tags any more. A tag with another value than the given one stays;
    None is any value."""
    listed = [{"Key": k, **({} if value is None else {"Value": value})} for k, value in sorted(removed.items())]
    call = Call("ec2", "DeleteTags", {"Resources": [resource], "Tags": listed})
    ledger.change(key, place, call, resource=resource, kind="tags")
