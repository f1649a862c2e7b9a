"""Fast snapshot restore: enabled and disabled per snapshot and Availability Zone, and described.

Volumes of the sandbox have no slow first read, so only the states are kept, and how long enabling takes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from goldenami_sandbox.ec2.context import Ctx
from goldenami_sandbox.ec2.core import Action, Ec2Cloud
from goldenami_sandbox.ec2.filters import Source
from goldenami_sandbox.ec2.pagination import described

_QUOTA = 5  # snapshots per account and region (EBS User Guide, "Fast snapshot restore")


def enable(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    """EnableFastSnapshotRestores. Each pair is handled alone: the answer lists successful and refused pairs."""
    successful, unsuccessful = [], []
    for snapshot_id in params["SourceSnapshotIds"]:
        cloud.own_snapshot(ctx, snapshot_id)
        errors = []
        for zone in params["AvailabilityZones"]:
            refusal = _refusal(cloud, ctx, snapshot_id, zone)
            if refusal is not None:
                code, message = refusal
                errors.append({"AvailabilityZone": zone, "Error": {"Code": code, "Message": message}})
                continue
            snapshot = cloud.store.snapshots[snapshot_id]
            snapshot.fast_restore.setdefault(zone, cloud.now() + cloud.settings.pending.tier)
            snapshot.fast_restore_ended.pop(zone, None)
            successful.append({**_entry(cloud, snapshot_id, zone), "State": "enabling"})
        if errors:
            unsuccessful.append({"SnapshotId": snapshot_id, "FastSnapshotRestoreStateErrors": errors})
    return {"Successful": successful, "Unsuccessful": unsuccessful}


def disable(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    successful = []
    for snapshot_id in params["SourceSnapshotIds"]:
        snapshot = cloud.own_snapshot(ctx, snapshot_id)
        for zone in params["AvailabilityZones"]:
            if snapshot.fast_restore.pop(zone, None) is not None:
                snapshot.fast_restore_ended[zone] = cloud.now() + cloud.settings.pending.tier
                successful.append(
                    {"SnapshotId": snapshot_id, "AvailabilityZone": zone, "State": "disabling", "OwnerId": ctx.account}
                )
    return {"Successful": successful, "Unsuccessful": []}


def describe(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    entries = [
        _entry(cloud, snapshot.id, zone)
        for snapshot in cloud.owned_resources(cloud.store.snapshots, ctx).values()
        for zone in sorted({*snapshot.fast_restore, *snapshot.fast_restore_ended})
    ]
    return described("FastSnapshotRestores", entries, params, FILTERS, ["SnapshotId", "AvailabilityZone"])


FILTERS: dict[str, Source] = {
    "snapshot-id": "SnapshotId",
    "availability-zone": "AvailabilityZone",
    "state": "State",
    "owner-id": "OwnerId",
}


def _entry(cloud: Ec2Cloud, snapshot_id: str, zone: str) -> dict[str, Any]:
    snapshot = cloud.store.snapshots[snapshot_id]
    if zone in snapshot.fast_restore:
        state = "enabled" if snapshot.fast_restore[zone] <= cloud.now() else "optimizing"
    else:
        state = "disabled" if snapshot.fast_restore_ended[zone] <= cloud.now() else "disabling"
    return {
        "SnapshotId": snapshot_id,
        "AvailabilityZone": zone,
        "State": state,
        "StateTransitionReason": "Client.UserInitiated",
        "OwnerId": snapshot.owner,
    }


def _refusal(cloud: Ec2Cloud, ctx: Ctx, snapshot_id: str, zone: str) -> tuple[str, str] | None:
    if not re.fullmatch(rf"{re.escape(ctx.region)}[a-z]", zone):  # and not a Local or Wavelength Zone
        return "InvalidParameterValue", f"The availability zone {zone} is not in the region {ctx.region}."
    using = [s.id for s in cloud.owned_resources(cloud.store.snapshots, ctx).values() if s.fast_restore]
    if len(using) >= _QUOTA and snapshot_id not in using:
        return "FastSnapshotRestoreLimitExceeded", f"You have reached the quota of {_QUOTA} snapshots in {ctx.region}."
    return None


ACTIONS: dict[str, Action] = {
    "EnableFastSnapshotRestores": enable,
    "DisableFastSnapshotRestores": disable,
    "DescribeFastSnapshotRestores": describe,
}
