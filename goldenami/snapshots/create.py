"""``snapshot create``: creates snapshots of a volume, or of all volumes of an instance at the same moment."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext

from goldenami.aws import snapshots, waiters
from goldenami.aws.waiters import Item
from goldenami.model import Place
from goldenami.snapshots.progress import completed
from goldenami.task import Task

Frozen = AbstractContextManager[object]  # while this context is entered, the filesystems of the host are frozen


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
    """Create a snapshot of a volume. Its contents are those at the time of the API call.

    ``frozen``: a context that freezes the filesystems during the call. ``wait``: wait until all blocks are stored.
    """
    with frozen or nullcontext():
        made = snapshots.create(
            job.ledger, "snapshot", place, volume_id=volume_id, name=name, description=description, tags=tags
        )
    if wait:
        return completed(job, place, [made])
    seen = waiters.Watch(job.cloud, place, snapshots.VISIBLE, [made]).until_ready()[made]
    if not seen.ok:
        raise waiters.failure(seen, "snapshot", place)
    return [seen.item]


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
    """Create a snapshot of each volume of an instance, all from the same moment (CreateSnapshots).

    Without ``frozen`` the contents are those after a power failure: consistent over all volumes, but without data that
    applications have not flushed. ``wait``: wait until all blocks are stored.
    """
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
