"""The archive tier: snapshots moved there, and brought back for some days or for good.

What an archived snapshot cannot do (become a volume, be copied, registered or shared) is refused where it is asked for,
by ``check_usable``. Its contents stay where they are: the node knows no tiers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from goldenami_sandbox.ec2 import snapshots, tags
from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.ec2.core import Action, Cloud
from goldenami_sandbox.ec2.filters import Source
from goldenami_sandbox.ec2.pagination import described
from goldenami_sandbox.ec2.records import Snapshot, Tiering

_DAY = 86400.0
_RESTORE_HOURS = 72  # what RestoreSnapshotTier answers as the longest that it may take


def modify_snapshot_tier(cloud: Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    """Archive. Sharing ends with it, and a disabled image may keep its snapshots there, an enabled one not."""
    snapshot = cloud.own_snapshot(ctx, params["SnapshotId"])
    if params.get("StorageTier", "archive") != "archive":
        raise Ec2Error("InvalidParameterValue", "Snapshots can only be moved to the storage tier 'archive'.")
    if snapshots.state(cloud, snapshot) != "completed":
        raise Ec2Error("IncorrectState", f"Snapshot '{snapshot.id}' is not 'completed'.")
    if under_way(cloud, snapshot) or snapshots.tier(cloud, snapshot) == "archive":
        raise Ec2Error("IncorrectState", f"Snapshot '{snapshot.id}' is archived, or being archived or restored.")
    using = [image.id for image in cloud.images_using(snapshot.id) if not image.disabled]
    if using:
        raise Ec2Error("InvalidSnapshot.InUse", f"The snapshot {snapshot.id} is currently in use by {using[0]}")
    now = cloud.now()
    snapshot.tiering = Tiering("archival", cloud.progress(cloud.settings.pending.tier, done=True), now)
    snapshot.users, snapshot.public = [], False
    return {"SnapshotId": snapshot.id, "TieringStartTime": now}


def restore_snapshot_tier(cloud: Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    """Bring back; for one that is back for some days: another number of them, or for good."""
    snapshot = cloud.own_snapshot(ctx, params["SnapshotId"])
    days, permanent = params.get("TemporaryRestoreDays"), bool(params.get("PermanentRestore"))
    if permanent == (days is not None):
        raise Ec2Error(
            "InvalidParameterCombination", "Either TemporaryRestoreDays or PermanentRestore has to be given."
        )
    if days is not None and not 1 <= days <= 180:
        raise Ec2Error("InvalidParameterValue", "TemporaryRestoreDays has to be between 1 and 180.")
    before = snapshot.tiering
    if before is None or before.operation == "permanent-restore":
        raise Ec2Error("IncorrectState", f"Snapshot '{snapshot.id}' is not archived.")
    if under_way(cloud, snapshot):
        raise Ec2Error("IncorrectState", f"Snapshot '{snapshot.id}' is being archived or restored.")
    at_hand = snapshots.tier(cloud, snapshot) == "standard"  # already back: only the date changes
    now = cloud.now()
    progress = cloud.progress(0.0 if at_hand else cloud.settings.pending.tier, done=True)
    expires = progress.until + days * _DAY if days is not None else None
    operation: Literal["permanent-restore", "temporary-restore"]
    operation = "permanent-restore" if permanent else "temporary-restore"
    archived = before.archived or before.progress.until
    snapshot.tiering = Tiering(operation, progress, now, archived=archived, expires=expires)
    return {
        "SnapshotId": snapshot.id,
        "RestoreStartTime": now,
        "RestoreDuration": days if days is not None else _RESTORE_HOURS,
        "IsPermanentRestore": permanent,
    }


def under_way(cloud: Cloud, snapshot: Snapshot) -> bool:
    return snapshot.tiering is not None and snapshot.tiering.progress.condition(cloud.now()) == "pending"


FILTERS: dict[str, Source] = {
    "snapshot-id": "SnapshotId",
    "volume-id": "VolumeId",
    "last-tiering-operation": "LastTieringOperationStatus",
}


def describe_snapshot_tier_status(cloud: Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    answers = [_status(cloud, s) for s in cloud.mine(cloud.store.snapshots, ctx)]
    return described("SnapshotTierStatuses", answers, params, FILTERS, ["SnapshotId"])


def _status(cloud: Cloud, snapshot: Snapshot) -> dict[str, Any]:
    now = cloud.now()
    answer: dict[str, Any] = {
        "SnapshotId": snapshot.id,
        "VolumeId": snapshot.volume_id,
        "Status": snapshots.state(cloud, snapshot),
        "OwnerId": snapshot.owner,
        "Tags": tags.rendered(snapshot),
        "StorageTier": snapshots.tier(cloud, snapshot),
    }
    tiering = snapshot.tiering
    if tiering is not None:
        ready = tiering.progress.condition(now) == "ready"
        answer |= {
            "LastTieringStartTime": tiering.started,
            "LastTieringProgress": tiering.progress.percent(now),
            "LastTieringOperationStatus": f"{tiering.operation}-{'completed' if ready else 'in-progress'}",
            "ArchivalCompleteTime": tiering.archived or (tiering.progress.until if ready else None),
            "RestoreExpiryTime": tiering.expires if ready else None,
        }
    return answer


ACTIONS: dict[str, Action] = {
    "ModifySnapshotTier": modify_snapshot_tier,
    "RestoreSnapshotTier": restore_snapshot_tier,
    "DescribeSnapshotTierStatus": describe_snapshot_tier_status,
}
