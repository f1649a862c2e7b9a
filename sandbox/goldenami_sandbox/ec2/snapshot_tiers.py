"""The archive tier: snapshots are moved there, and restored for some days or permanently.

An archived snapshot cannot become a volume, be copied, registered or shared. ``check_usable`` refuses that. Its
contents stay in place, because the node has no tiers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from goldenami_sandbox.ec2 import snapshots, tags
from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.ec2.core import Action, Ec2Cloud
from goldenami_sandbox.ec2.filters import Source
from goldenami_sandbox.ec2.pagination import described
from goldenami_sandbox.ec2.records import Snapshot, Tiering

_DAY = 86400.0
_RESTORE_HOURS = 72  # hours; RestoreSnapshotTier returns this as the longest time of a restore


def modify_snapshot_tier(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    """ModifySnapshotTier: archive a snapshot. Sharing ends. Snapshots of an enabled image are refused, of a disabled
    one not.
    """
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


def restore_snapshot_tier(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    """RestoreSnapshotTier: restore a snapshot. For a temporarily restored one, change the days or make it permanent."""
    snapshot = cloud.own_snapshot(ctx, params["SnapshotId"])
    days, permanent = params.get("TemporaryRestoreDays"), bool(params.get("PermanentRestore"))
    if permanent == (days is not None):
        raise Ec2Error("InvalidParameterCombination", "Either TemporaryRestoreDays or PermanentRestore must be given.")
    if days is not None and not 1 <= days <= 180:
        raise Ec2Error("InvalidParameterValue", "TemporaryRestoreDays must be between 1 and 180.")
    before = snapshot.tiering
    if before is None or before.operation == "permanent-restore":
        raise Ec2Error("IncorrectState", f"Snapshot '{snapshot.id}' is not archived.")
    if under_way(cloud, snapshot):
        raise Ec2Error("IncorrectState", f"Snapshot '{snapshot.id}' is being archived or restored.")
    is_restored = snapshots.tier(cloud, snapshot) == "standard"  # only the date changes
    now = cloud.now()
    progress = cloud.progress(0.0 if is_restored else cloud.settings.pending.tier, done=True)
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


def under_way(cloud: Ec2Cloud, snapshot: Snapshot) -> bool:
    return snapshot.tiering is not None and snapshot.tiering.progress.condition(cloud.now()) == "pending"


FILTERS: dict[str, Source] = {
    "snapshot-id": "SnapshotId",
    "volume-id": "VolumeId",
    "last-tiering-operation": "LastTieringOperationStatus",
}


def describe_snapshot_tier_status(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    answers = [_status(cloud, s) for s in cloud.visible_resources(cloud.store.snapshots, ctx)]
    return described("SnapshotTierStatuses", answers, params, FILTERS, ["SnapshotId"])


def _status(cloud: Ec2Cloud, snapshot: Snapshot) -> dict[str, Any]:
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
