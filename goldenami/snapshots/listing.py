"""Lists and describes snapshots, also in the form of ``--json``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from goldenami.aws import snapshots, tags
from goldenami.aws.session import Cloud
from goldenami.aws.waiters import Item
from goldenami.model import Place, timestamp

SCHEMA = "goldenami.snapshots/1"


def listed(
    cloud: Cloud,
    place: Place,
    *,
    volume: str | None = None,
    instance: str | None = None,
    name: str | None = None,
    state: str | None = None,
    tag: Mapping[str, str] | None = None,
    tier: str | None = None,
    encrypted: bool | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Item]:
    """Return the caller's snapshots that match all filters, the oldest first.

    ``name``: a Name tag, which may contain ``*``. ``instance``: snapshots of the volumes that are attached to it, and
    of the volumes that those replaced.
    """
    from goldenami.snapshots.points import volumes_behind

    filters: dict[str, Sequence[str]] = {f"tag:{k}": [tags.exactly(v)] for k, v in (tag or {}).items()}
    if name is not None:
        filters["tag:Name"] = [name]
    if state is not None:
        filters["status"] = [state]
    if tier is not None:
        filters["storage-tier"] = [tier]
    if encrypted is not None:
        filters["encrypted"] = ["true" if encrypted else "false"]
    if volume is not None:
        filters["volume-id"] = [volume]
    if instance is not None:
        ids = {id for line in volumes_behind(cloud, place, instance).values() for id in line}
        found = snapshots.of_volumes(cloud, place, ids, filters)
    else:
        found = snapshots.find(cloud, place, filters)
    return [
        s for s in found if (since is None or s["StartTime"] >= since) and (until is None or s["StartTime"] <= until)
    ]


def details(cloud: Cloud, place: Place, items: Collection[Item]) -> list[dict[str, Any]]:
    """Return all properties of snapshots: also sharing, images that use them, locks and changes of the tier."""
    # Of a snapshot of another account, EC2 tells only what DescribeSnapshots returns.
    ids = [s["SnapshotId"] for s in items if s.get("OwnerId", place.account) == place.account]
    using = snapshots.images_using(cloud, place, ids)
    locks = snapshots.locks(cloud, place, ids)
    tiers = snapshots.tiering(cloud, place, ids)
    answers = []
    for item in items:
        id = item["SnapshotId"]
        lock, tier = locks.get(id), tiers.get(id, {})
        answers.append(
            {
                **to_json(place, item),
                "shared_with": sorted(snapshots.volume_permissions(cloud, place, id)) if id in ids else [],
                "images": using.get(id, []),
                "lock": _lock(lock) if lock is not None else None,
                "tiering": tier.get("LastTieringOperationStatus"),
                "restored_until": _text(tier.get("RestoreExpiryTime")),
            }
        )
    return answers


def to_json(place: Place, item: Item) -> dict[str, Any]:
    """Return a snapshot as JSON. ``full_size_bytes`` is the size of its contents, not the size that it adds."""
    every = tags.from_list(item.get("Tags"))
    return {
        "id": item["SnapshotId"],
        "name": every.get(tags.NAME, ""),
        "account": place.account,
        "owner": item.get("OwnerId"),
        "region": place.region,
        "state": item.get("State"),
        "progress": item.get("Progress"),
        "volume": item.get("VolumeId"),
        "size_gib": item.get("VolumeSize"),
        "full_size_bytes": item.get("FullSnapshotSizeInBytes"),
        "encrypted": bool(item.get("Encrypted")),
        "kms_key": item.get("KmsKeyId"),
        "tier": item.get("StorageTier", "standard"),
        "started": _text(item.get("StartTime")),
        "description": item.get("Description", ""),
        "tags": every,
    }


def _lock(item: Item) -> dict[str, Any]:
    return {
        "state": item.get("LockState"),
        "expires": _text(item.get("LockExpiresOn")),
        "cool_off_until": _text(item.get("CoolOffPeriodExpiresOn")),
    }


def _text(moment: datetime | None) -> str | None:
    return timestamp(moment) if moment is not None else None


def age(started: datetime, now: datetime) -> str:
    """Format an age in the largest unit that gives 2 or more: ``45 s``, ``12 min``, ``3 h``, ``20 d``, ``3 y``."""
    seconds = max(0, int((now - started).total_seconds()))
    for unit, length in (("y", 365 * 86400), ("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (unit == "min" and seconds >= length):
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
