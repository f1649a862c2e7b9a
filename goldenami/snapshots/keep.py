"""``snapshot delete``, ``archive``, ``restore-archive``, ``lock`` and ``unlock``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from goldenami.aws import images, recyclebin, snapshots, tags
from goldenami.aws.session import Cloud
from goldenami.aws.waiters import Item
from goldenami.errors import UsageError
from goldenami.events import emit
from goldenami.model import Place, utc_text
from goldenami.nextstep import step
from goldenami.task import Task

_LOCKED = ("governance", "compliance", "compliance-cooloff")


def check_deletable(cloud: Cloud, place: Place, items: Sequence[Item]) -> None:
    """Check that snapshots can be deleted. Raises UsageError with every snapshot that is locked or used by an image."""
    ids = [s["SnapshotId"] for s in items]
    problems = [f"{s} is used by {', '.join(i)}" for s, i in snapshots.images_using(cloud, place, ids).items()]
    for id, lock in snapshots.locks(cloud, place, ids).items():
        if lock.get("LockState") in _LOCKED:
            problems.append(
                f"{id} is locked ({lock['LockState']}) until {utc_text(lock['LockExpiresOn'], seconds=False)}"
            )
    if problems:
        raise UsageError(
            "no snapshot was deleted: " + "; ".join(problems),
            hint=f"Deregister the images first, and lift the locks with {step('snapshot unlock', 'SNAPSHOT')}.",
        )


def delete(job: Task, place: Place, items: Sequence[Item]) -> dict[str, datetime]:
    """Delete snapshots. Later snapshots of the same volume stay complete.

    Returns, by id, until when a snapshot can be restored from the Recycle Bin. Raises UsageError, before the first
    deletion, if one of the snapshots cannot be deleted.
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
        message = (
            f"cannot determine whether the snapshots are in the Recycle Bin: reading the rules of {at} failed: {reason}"
        )
        emit(job.emit, "note", message=message, level="warning")
    return found


def archive(job: Task, place: Place, items: Sequence[Item]) -> None:
    """Start moving snapshots to the archive tier.

    An archived snapshot is a full copy, costs about a quarter per GiB, is billed for at least 90 days, and cannot be
    used until it is restored. Raises UsageError for a snapshot that an enabled image uses.
    """
    check_archivable(job.cloud, place, items)
    for item in items:
        snapshots.archive(job.ledger, f"archive/{item['SnapshotId']}", place, item["SnapshotId"])


def check_archivable(cloud: Cloud, place: Place, items: Sequence[Item]) -> None:
    """Check that snapshots can be archived. Raises UsageError with every snapshot that cannot be."""
    problems = [f"{s['SnapshotId']} is {s['State']}, expected completed" for s in items if s["State"] != "completed"]
    problems += [f"{s['SnapshotId']} is already archived" for s in items if s.get("StorageTier") == "archive"]
    using = snapshots.images_using(cloud, place, [s["SnapshotId"] for s in items])
    known = images.describe_many(cloud, place, {i for every in using.values() for i in every})
    for id, every in using.items():
        enabled = [i for i in every if known.get(i, {}).get("State") != "disabled"]
        if enabled:
            problems.append(f"{id} is used by {', '.join(enabled)}")
    if problems:
        raise UsageError(
            "snapshots cannot be archived: " + "; ".join(problems),
            hint="Wait until pending snapshots are completed. Disable or deregister images that use a snapshot.",
        )


def restore_archived(job: Task, place: Place, items: Sequence[Item], *, days: int | None) -> None:
    """Start restoring snapshots from the archive tier. ``days``: for how long; None: permanently.

    Raises UsageError for a snapshot that is not archived.
    """
    tiers = snapshots.tiering(job.cloud, place, [s["SnapshotId"] for s in items])
    standard = [s["SnapshotId"] for s in items if not _was_archived(tiers.get(s["SnapshotId"], {}))]
    if standard:
        raise UsageError(
            f"{', '.join(standard)}: expected archived snapshots, found the standard tier",
            hint="Omit these snapshots: they can be used already.",
        )
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
    """Lock snapshots against deletion, for ``days`` or ``until`` a time. Returns EC2's description of each lock."""
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
    """Lift the locks of snapshots.

    Raises UsageError, before the first change, for a snapshot without a lock, or with a compliance lock after its
    cool-off time.
    """
    locks = snapshots.locks(job.cloud, place, [s["SnapshotId"] for s in items])
    problems = []
    for item in items:
        state = locks.get(item["SnapshotId"], {}).get("LockState")
        if state not in _LOCKED:
            problems.append(f"{item['SnapshotId']} is not locked")
        elif state == "compliance":
            expires = locks[item["SnapshotId"]]["LockExpiresOn"]
            problems.append(
                f"{item['SnapshotId']} is locked in compliance mode until {utc_text(expires, seconds=False)}"
            )
    if problems:
        raise UsageError(
            "; ".join(problems),
            hint="Omit these snapshots. A compliance lock cannot be lifted after its cool-off time.",
        )
    for item in items:
        snapshots.unlock(job.ledger, f"unlock/{item['SnapshotId']}", place, item["SnapshotId"])
