"""EBS snapshots: reading them, their permissions, and deleting them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from goldenami.aws import waiters
from goldenami.aws.ledger import Call, Ledger
from goldenami.aws.session import Cloud
from goldenami.aws.waiters import Item
from goldenami.model import Place


def describe_many(cloud: Cloud, place: Place, ids: Collection[str]) -> dict[str, Item]:
    """The visible ones among ``ids``, as DescribeSnapshots gives them; one call for many."""
    return waiters.describe(cloud, place, waiters.SNAPSHOTS, ids) if ids else {}


def of_image(image: Item) -> tuple[str, ...]:
    """The snapshots behind an image, as its block device mappings name them, sorted."""
    mappings: Iterable[Any] = image.get("BlockDeviceMappings") or ()
    return tuple(sorted({m["Ebs"]["SnapshotId"] for m in mappings if m.get("Ebs", {}).get("SnapshotId")}))


def volume_permissions(cloud: Cloud, place: Place, snapshot_id: str) -> frozenset[str]:
    """The accounts that may make volumes of a snapshot; "all" for everybody."""
    request = {"SnapshotId": snapshot_id, "Attribute": "createVolumePermission"}
    answer = cloud.call(place, "ec2", "DescribeSnapshotAttribute", request)
    return frozenset(p.get("UserId") or p.get("Group") for p in answer.get("CreateVolumePermissions") or ())


def share(ledger: Ledger, key: str, place: Place, snapshot_id: str, accounts: Collection[str]) -> None:
    """Ensure that accounts may make volumes of a snapshot (and so copy it, and launch from its image).

    An encrypted one needs a grant on its key besides (``kms.create_grant``); one under the default key, aws/ebs, cannot
    be shared at all: EC2 refuses it.
    """
    permission = {"Add": [{"UserId": a} for a in sorted(accounts)]}
    request = {"SnapshotId": snapshot_id, "Attribute": "createVolumePermission", "CreateVolumePermission": permission}
    ledger.change(key, place, Call("ec2", "ModifySnapshotAttribute", request), resource=snapshot_id, kind="permission")


def unshare(ledger: Ledger, key: str, place: Place, snapshot_id: str, accounts: Collection[str]) -> None:
    """Ensure that accounts may no longer make volumes of a snapshot."""
    permission = {"Remove": [{"UserId": a} for a in sorted(accounts)]}
    request = {"SnapshotId": snapshot_id, "Attribute": "createVolumePermission", "CreateVolumePermission": permission}
    ledger.change(key, place, Call("ec2", "ModifySnapshotAttribute", request), resource=snapshot_id, kind="permission")


def delete(ledger: Ledger, place: Place, snapshot_id: str) -> None:
    """Ensure that a snapshot is gone. Raises CloudError (InvalidSnapshot.InUse) if an image uses it."""
    ledger.delete("snapshot", place, snapshot_id)
