"""``snapshot delete``, ``archive``, ``restore-archive``, ``lock`` and ``unlock``: how long a snapshot is kept, and
where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from goldenami.aws import images, recyclebin, snapshots, tags
from goldenami.aws.session import Cloud
from goldenami.aws.waiters import Item
from goldenami.errors import UsageError
from goldenami.events import emit
from goldenami.model import Place
from goldenami.task import Task

_LOCKED = ("governance", "compliance", "compliance-cooloff")


def check_deletable(cloud: Cloud, place: Place, items: Sequence[Item]) -> None:
    """Raises UsageError that names every snapshot that an image uses or that is locked."""
    ids = [s["SnapshotId"] for s in items]
    problems = [f"{s} is used by {', '.join(i)}" for s, i in snapshots.images_using(cloud, place, ids).items()]
    for id, lock in snapshots.locks(cloud, place, ids).items():
        if lock.get("LockState") in _LOCKED:
            problems.append(f"{id} is locked ({lock['LockState']}) until {lock['LockExpiresOn']:%F %H:%M} UTC")
    if problems:
        raise UsageError(
            "not deleted: " + "; ".join(problems),
            hint="Deregister the image first, or lift the lock with `goldenami snapshot unlock`.",
        )


def delete(job: Task, place: Place, items: Sequence[Item]) -> dict[str, datetime]:
    """Delete snapshots: all of them can be deleted, or none is. Later snapshots of the same volume lose nothing.

    Returns until when those that lie in the Recycle Bin can be restored, by id.
    """
    check_deletable(job.cloud, place, items)
    bins = recyclebin.Bins(job.cloud)
    found: dict[str, datetime] = {}
    for item in items:
        id = str(item["SnapshotId"])
        snapshots.delete(job.ledger, place, id)
        until = bins.until(place, "snapshot", tags.from_list(item.get("Tags")), job.cloud.now())
        if until is not None:
            found[id] = until
    for at, reason in bins.unreachable.items():
        message = f"whether they are in the Recycle Bin cannot be told: {at} did not tell its rules: {reason}"
        emit(job.emit, "note", message=message, level="warning")
    return found


def archive(job: Task, place: Place, items: Sequence[Item]) -> None:
    """Have snapshots moved to the archive: cheaper by three quarters, full instead of incremental, for 90 days at
    least, and out of reach until they are restored. Raises UsageError for those that an enabled image uses."""
    check_archivable(job.cloud, place, items)
    for item in items:
        snapshots.archive(job.ledger, f"archive/{item['SnapshotId']}", place, item["SnapshotId"])


def check_archivable(cloud: Cloud, place: Place, items: Sequence[Item]) -> None:
    problems = [f"{s['SnapshotId']} is {s['State']}" for s in items if s["State"] != "completed"]
    problems += [f"{s['SnapshotId']} is archived already" for s in items if s.get("StorageTier") == "archive"]
    using = snapshots.images_using(cloud, place, [s["SnapshotId"] for s in items])
    known = images.describe_many(cloud, place, {i for every in using.values() for i in every})
    for id, every in using.items():
        enabled = [i for i in every if known.get(i, {}).get("State") != "disabled"]
        if enabled:
            problems.append(f"{id} is used by {', '.join(enabled)}")
    if problems:
        raise UsageError(
            "these cannot be archived: " + "; ".join(problems),
            hint="An image has to be disabled or deregistered first.",
        )


def restore_archived(job: Task, place: Place, items: Sequence[Item], *, days: int | None) -> None:
    """Have snapshots brought back from the archive, for some days or (None) for good."""
    tiers = snapshots.tiering(job.cloud, place, [s["SnapshotId"] for s in items])
    back = [s["SnapshotId"] for s in items if not _was_archived(tiers.get(s["SnapshotId"], {}))]
    if back:
        raise UsageError(f"{', '.join(back)}: not archived")
    for item in items:
        id = item["SnapshotId"]
        snapshots.restore_from_archive(job.ledger, f"restore-archive/{id}", place, id, days=days)


def _was_archived(tier: Item) -> bool:
    return str(tier.get("LastTieringOperationStatus", "")).startswith(("archival-completed", "temporary-restore-"))


def lock(
    job: Task,
    place: Place,
    items: Sequence[Item],
    *,
    mode: Literal["governance", "compliance"],
    days: int | None,
    until: datetime | None,
    cool_off_hours: int | None,
) -> list[Mapping[str, Any]]:
    """Lock snapshots against deletion, for some days or until a moment."""
    return [
        snapshots.lock(
            job.ledger,
            f"lock/{item['SnapshotId']}",
            place,
            item["SnapshotId"],
            mode=mode,
            days=days,
            until=until,
            cool_off_hours=cool_off_hours,
        )
        for item in items
    ]


def unlock(job: Task, place: Place, items: Sequence[Item]) -> None:
    """Lift the locks of snapshots. Raises UsageError, before any is lifted, for one that is locked for good."""
    locks = snapshots.locks(job.cloud, place, [s["SnapshotId"] for s in items])
    problems = []
    for item in items:
        state = locks.get(item["SnapshotId"], {}).get("LockState")
        if state not in _LOCKED:
            problems.append(f"{item['SnapshotId']} is not locked")
        elif state == "compliance":
            expires = locks[item["SnapshotId"]]["LockExpiresOn"]
            problems.append(f"{item['SnapshotId']} is locked in compliance mode until {expires:%F %H:%M} UTC")
    if problems:
        raise UsageError("; ".join(problems), hint="Nobody can lift a compliance lock after its cool-off.")
    for item in items:
        snapshots.unlock(job.ledger, f"unlock/{item['SnapshotId']}", place, item["SnapshotId"])
