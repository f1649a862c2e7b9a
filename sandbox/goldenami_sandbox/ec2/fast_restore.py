"""Fast snapshot restore: enabled and disabled per snapshot and Availability Zone, and described.

Volumes of the sandbox have no slow first read, so only the states are kept, and how long enabling takes. An account can
enable it for its own snapshots and for those that are shared with it. Each account has its own state, which ends when
the owner deletes the snapshot or no longer shares it ("Configure fast snapshot restore", EBS user guide).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from goldenami_sandbox.ec2.context import Ctx
from goldenami_sandbox.ec2.core import Action, Ec2Cloud
from goldenami_sandbox.ec2.filters import Source
from goldenami_sandbox.ec2.pagination import described
from goldenami_sandbox.ec2.records import Snapshot

_QUOTA = 5  # snapshots per account and region (EBS User Guide, "Fast snapshot restore")


def enable(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    """EnableFastSnapshotRestores. Each pair is handled alone: the answer lists successful and refused pairs."""
    successful, unsuccessful = [], []
    for snapshot_id in params["SourceSnapshotIds"]:
        snapshot = cloud.readable_snapshot(ctx, snapshot_id)
        errors = []
        for zone in params["AvailabilityZones"]:
            refusal = _refusal(cloud, ctx, snapshot_id, zone)
            if refusal is not None:
                code, message = refusal
                errors.append({"AvailabilityZone": zone, "Error": {"Code": code, "Message": message}})
                continue
            key = _key(snapshot, ctx.account, zone)
            snapshot.fast_restore.setdefault(key, cloud.now() + cloud.settings.pending.tier)
            snapshot.fast_restore_ended.pop(key, None)
            successful.append({**_entry(cloud, snapshot, key), "State": "enabling"})
        if errors:
            unsuccessful.append({"SnapshotId": snapshot_id, "FastSnapshotRestoreStateErrors": errors})
    return {"Successful": successful, "Unsuccessful": unsuccessful}


def disable(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    successful = []
    for snapshot_id in params["SourceSnapshotIds"]:
        snapshot = cloud.readable_snapshot(ctx, snapshot_id)
        for zone in params["AvailabilityZones"]:
            key = _key(snapshot, ctx.account, zone)
            if snapshot.fast_restore.pop(key, None) is not None:
                snapshot.fast_restore_ended[key] = cloud.now() + cloud.settings.pending.tier
                successful.append({**_entry(cloud, snapshot, key), "State": "disabling"})
    return {"Successful": successful, "Unsuccessful": []}


def describe(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    entries = [
        _entry(cloud, snapshot, key)
        for snapshot in _candidates(cloud, ctx)
        for key in sorted({*snapshot.fast_restore, *snapshot.fast_restore_ended})
        if _key(snapshot, ctx.account, _zone(key)) == key
    ]
    return described("FastSnapshotRestores", entries, params, FILTERS, ["SnapshotId", "AvailabilityZone"])


FILTERS: dict[str, Source] = {
    "snapshot-id": "SnapshotId",
    "availability-zone": "AvailabilityZone",
    "state": "State",
    "owner-id": "OwnerId",
}


def end_of_sharing(snapshot: Snapshot, account: str) -> None:
    """End the fast restore that an account enabled for a snapshot, because the snapshot is not shared with it any
    more."""
    for states in (snapshot.fast_restore, snapshot.fast_restore_ended):
        for key in [key for key in states if key.startswith(f"{account}/")]:
            del states[key]


def _key(snapshot: Snapshot, account: str, zone: str) -> str:
    """The key of a state in the record of a snapshot: the zone, behind the account if it is not the owner's."""
    return zone if account == snapshot.owner else f"{account}/{zone}"


def _zone(key: str) -> str:
    return key.rpartition("/")[2]


def _candidates(cloud: Ec2Cloud, ctx: Ctx) -> list[Snapshot]:
    """The snapshots of a region for which an account can have fast restore."""
    return [
        snapshot
        for snapshot in cloud.store.snapshots.values()
        if cloud.is_known(snapshot, ctx.region) and cloud.may_read_snapshot(ctx.account, snapshot)
    ]


def _entry(cloud: Ec2Cloud, snapshot: Snapshot, key: str) -> dict[str, Any]:
    if key in snapshot.fast_restore:
        state = "enabled" if snapshot.fast_restore[key] <= cloud.now() else "optimizing"
    else:
        state = "disabled" if snapshot.fast_restore_ended[key] <= cloud.now() else "disabling"
    return {
        "SnapshotId": snapshot.id,
        "AvailabilityZone": _zone(key),
        "State": state,
        "StateTransitionReason": "Client.UserInitiated",
        "OwnerId": snapshot.owner,
    }


def _refusal(cloud: Ec2Cloud, ctx: Ctx, snapshot_id: str, zone: str) -> tuple[str, str] | None:
    if not re.fullmatch(rf"{re.escape(ctx.region)}[a-z]", zone):  # and not a Local or Wavelength Zone
        return "InvalidParameterValue", f"The availability zone {zone} is not in the region {ctx.region}."
    using = [
        snapshot.id
        for snapshot in _candidates(cloud, ctx)
        if any(_key(snapshot, ctx.account, _zone(key)) == key for key in snapshot.fast_restore)
    ]
    if len(using) >= _QUOTA and snapshot_id not in using:
        return "FastSnapshotRestoreLimitExceeded", f"You have reached the quota of {_QUOTA} snapshots in {ctx.region}."
    return None


ACTIONS: dict[str, Action] = {
    "EnableFastSnapshotRestores": enable,
    "DisableFastSnapshotRestores": disable,
    "DescribeFastSnapshotRestores": describe,
}
