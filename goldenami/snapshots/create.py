"""``snapshot create``: of a volume, or of all volumes of an instance at one moment."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext

from goldenami.aws import snapshots
from goldenami.aws.waiters import Item
from goldenami.model import Place
from goldenami.snapshots.progress import completed
from goldenami.task import Task

Frozen = AbstractContextManager[object]  # while it is entered, the host's filesystems stand still


def create_of_volume(
    job: Task,
    place: Place,
    volume_id: str,
    *,
    name: str,
    description: str = "",
    tags: Mapping[str, str] | None = None,
    frozen: Frozen | None = None,
    wait: bool = True,
) -> list[Item]:
    """One snapshot. The point in time is taken when this asks for it; ``wait``: until the blocks are stored, too."""
    with frozen or nullcontext():
        made = snapshots.create(
            job.ledger, "snapshot", place, volume_id=volume_id, name=name, description=description, tags=tags
        )
    if wait:
        return completed(job, place, [made])
    return list(snapshots.describe_many(job.cloud, place, [made]).values())


def create_of_instance(
    job: Task,
    place: Place,
    instance_id: str,
    *,
    name: str,
    description: str = "",
    exclude: Collection[str] = (),
    exclude_root: bool = False,
    tags: Mapping[str, str] | None = None,
    frozen: Frozen | None = None,
    wait: bool = True,
) -> list[Item]:
    """A snapshot of each volume, all of one moment (CreateSnapshots). Without ``frozen`` that is what a power cut would
    leave: consistent over all volumes, but not flushed by applications."""
    with frozen or nullcontext():
        made = snapshots.create_all(
            job.ledger,
            "snapshots",
            place,
            instance_id=instance_id,
            name=name,
            description=description,
            exclude=exclude,
            exclude_root=exclude_root,
            tags=tags,
        )
    return completed(job, place, [s["SnapshotId"] for s in made]) if wait else made
