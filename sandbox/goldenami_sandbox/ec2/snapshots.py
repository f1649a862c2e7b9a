"""Snapshots: created from volumes, deleted, described. Other modules copy them and change their permissions.

The contents are taken in two steps. *Freezing* takes the point in time, in order with other changes of the volume;
CreateSnapshot answers after it. *Storing* keeps the blocks that changed, and may take seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any

from goldenami_sandbox.ec2 import encryption, recycle_bin, tags
from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.ec2.core import Action, Ec2Cloud, Reply, select_resources
from goldenami_sandbox.ec2.filters import Source
from goldenami_sandbox.ec2.pagination import described
from goldenami_sandbox.ec2.records import Snapshot, Volume
from goldenami_sandbox.ec2.store import new_id
from goldenami_sandbox.node.api import BLOCK_SIZE
from goldenami_sandbox.policy import Caller

COPY_VOLUME_ID = "vol-ffffffff"  # EC2 returns this volume id for copies


# --- making -----------------------------------------------------------------------------------------------------------


def create_snapshot(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> Reply:
    volume = cloud.volume(ctx, params["VolumeId"])
    given = tags.from_specifications(params, "snapshot")["snapshot"]
    snapshot = snapshot_of(cloud, ctx, volume, params.get("Description", ""), given)
    after = [take(cloud, volume, snapshot)]
    return Reply(rendered(cloud, snapshot, created=True), after)


def create_snapshots(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> Reply:
    """CreateSnapshots: snapshots of all volumes of an instance at one point in time."""
    specification = params["InstanceSpecification"]
    instance = cloud.instance(ctx, specification["InstanceId"])
    given = tags.from_specifications(params, "snapshot")["snapshot"]
    excluded = set(specification.get("ExcludeDataVolumeIds") or ())
    volumes = cloud.volumes_of(instance)
    roots = {v.id for v in volumes if v.attachment and v.attachment.device == instance.root_device_name}
    if excluded & roots:
        raise Ec2Error(
            "InvalidParameterValue",
            "The root volume cannot be excluded by ExcludeDataVolumeIds; use ExcludeBootVolume.",
        )
    if excluded - {v.id for v in volumes}:
        raise Ec2Error(
            "InvalidParameterValue", "ExcludeDataVolumeIds names volumes that are not attached to the instance."
        )
    if specification.get("ExcludeBootVolume"):
        excluded |= roots
    copied = params.get("CopyTagsFromSource") == "volume"
    taken: list[tuple[Volume, Snapshot]] = []
    for volume in volumes:
        if volume.id in excluded:
            continue
        own = {k: v for k, v in volume.tags.items() if not k.startswith("aws:")} if copied else {}
        snapshot = snapshot_of(cloud, ctx, volume, params.get("Description", ""), {**own, **given})
        taken.append((volume, snapshot))
    after = [take_together(cloud, instance.id, taken)] if taken else []
    return Reply({"Snapshots": [rendered(cloud, s, created=True) for _, s in taken]}, after)


def snapshot_of(cloud: Ec2Cloud, ctx: Ctx, volume: Volume, description: str, given: Mapping[str, str]) -> Snapshot:
    """Create a snapshot of the volume without contents. It becomes the head of the volume's lineage."""
    if volume.progress.condition(cloud.now()) != "ready" or volume.deleting:
        raise Ec2Error("IncorrectState", f"The volume '{volume.id}' is not in a state that can be snapshotted.")
    cloud.require_room()
    snapshot = Snapshot(
        id=new_id("snap"),
        **cloud.birth(ctx, given),
        volume_id=volume.id,
        size=volume.size,
        description=description,
        encryption=volume.encryption,
        progress=cloud.progress(cloud.settings.pending.snapshot),
        parent=volume.lineage,
        default_user=volume.default_user,
    )
    cloud.store.snapshots[snapshot.id] = snapshot
    volume.lineage = snapshot.id
    return snapshot


def take(cloud: Ec2Cloud, volume: Volume, snapshot: Snapshot) -> Future[None]:
    """Queue the freezing and storing of the contents. The future ends with the freezing."""
    cloud.pin([snapshot.id])  # if it is deleted early, the contents must be created before they are deleted
    return cloud.work.submit(queue_key(volume), lambda: freeze(cloud, volume, snapshot))


def take_together(cloud: Ec2Cloud, instance_id: str, taken: list[tuple[Volume, Snapshot]]) -> Future[None]:
    """Queue the same for several volumes of one instance, at one point in time."""
    ids = [snapshot.id for _, snapshot in taken]
    cloud.pin(ids)

    def freeze_all() -> None:
        try:
            with cloud.recording(*(snapshot.progress for _, snapshot in taken)):
                cloud.node.freeze_snapshots(instance_id, {snapshot.id: volume.id for volume, snapshot in taken})
            with cloud.lock:
                for _, snapshot in taken:
                    snapshot.frozen = True
                    queue_storing(cloud, snapshot)
        finally:
            cloud.unpin(ids)

    return cloud.work.submit(instance_id, freeze_all)


def queue_key(volume: Volume) -> str:
    """Return the key of the queue for all work on the volume's contents."""
    return volume.attachment.instance_id if volume.attachment else volume.id


def freeze(cloud: Ec2Cloud, volume: Volume, snapshot: Snapshot) -> None:
    """Freeze a pinned snapshot, as a task of the volume's queue, and queue its storing."""
    try:
        with cloud.recording(snapshot.progress):
            cloud.node.freeze_snapshot(snapshot.id, volume.id)
        with cloud.lock:
            snapshot.frozen = True
            queue_storing(cloud, snapshot)
    finally:
        cloud.unpin([snapshot.id])


def queue_storing(cloud: Ec2Cloud, snapshot: Snapshot) -> None:
    """Queue the storing. It runs in order within a lineage, because each snapshot is stored as a difference from the
    last.
    """
    cloud.work.submit(f"lineage {snapshot.volume_id}", lambda: _store(cloud, snapshot))


def _store(cloud: Ec2Cloud, snapshot: Snapshot) -> None:
    with cloud.lock:
        if snapshot.id not in cloud.store.snapshots:  # deleted meanwhile
            return
        parent = cloud.store.snapshots.get(snapshot.parent or "")
        if parent is not None and (parent.hollow or parent.progress.failure):
            parent = None
        pinned = [s.id for s in (snapshot, parent) if s is not None]
        cloud.pin(pinned)
    try:
        with cloud.recording(snapshot.progress):
            key = encryption.data_key(cloud, snapshot.encryption, Caller(snapshot.owner))
            facts = cloud.node.store_snapshot(snapshot.id, contents(cloud, parent) if parent is not None else None, key)
        with cloud.lock:
            finish(cloud, snapshot, facts.full_blocks, facts.stored_bytes)
    finally:
        cloud.unpin(pinned)


def finish(cloud: Ec2Cloud, snapshot: Snapshot, full_blocks: int, stored_bytes: int) -> None:
    snapshot.full_bytes, snapshot.stored_bytes = full_blocks * BLOCK_SIZE, stored_bytes
    snapshot.completed = max(cloud.now(), snapshot.progress.until)
    snapshot.progress.succeed()


def contents(cloud: Ec2Cloud, snapshot: Snapshot) -> str:
    """Return the node's id of a snapshot's contents. The first use of a vendor's contents creates them and may take
    long.
    """
    return cloud.node.base(snapshot.release) if snapshot.release is not None else snapshot.id


def for_reading(cloud: Ec2Cloud, ctx: Ctx, resource_id: str) -> Snapshot:
    """Return a completed snapshot with contents that the caller may read, by its id or as the root of an image."""
    if resource_id.startswith("ami-"):
        image = cloud.image(ctx, resource_id)
        root = next((d for d in image.devices if d.device == image.root_device_name and d.snapshot_id), None)
        if root is None:
            raise Ec2Error("InvalidRequest", f"The image {resource_id} has no root snapshot")
        snapshot = cloud.store.snapshots[root.snapshot_id or ""]
    else:
        snapshot = cloud.readable_snapshot(ctx, resource_id)
    check_usable(cloud, snapshot)
    if snapshot.hollow:
        raise no_contents_error(resource_id)
    return snapshot


def related(cloud: Ec2Cloud, first: str, second: str) -> bool:
    """Return whether two existing snapshots have the same lineage.

    That is: they are of one volume, or of volumes created from one another's snapshots, under one data key. A copy
    begins a new lineage.
    """
    one, other = (cloud.store.snapshots[id] for id in (first, second))
    if one.encryption != other.encryption:
        return False
    if first == second or (one.volume_id == other.volume_id and not one.is_copy and not other.is_copy):
        return True
    return bool(ancestry(cloud, first) & ancestry(cloud, second))


def ancestry(cloud: Ec2Cloud, snapshot_id: str) -> set[str]:
    """Yield the snapshot and its predecessors, including deleted ones that still have a record."""
    found: set[str] = set()
    current: str | None = snapshot_id
    while current is not None and current not in found:
        found.add(current)
        record = cloud.store.snapshots.get(current)
        current = record.parent if record is not None else None
    return found


def tier(cloud: Ec2Cloud, snapshot: Snapshot) -> str:
    """Return the tier of the contents: "standard", where they can be used, or "archive"."""
    tiering = snapshot.tiering
    if tiering is None:
        return "standard"
    moved = tiering.progress.condition(cloud.now()) == "ready"
    match tiering.operation:
        case "archival":
            return "archive" if moved else "standard"
        case "permanent-restore":
            return "standard" if moved else "archive"
    return "standard" if moved and cloud.now() < (tiering.expires or 0.0) else "archive"


def check_usable(cloud: Ec2Cloud, snapshot: Snapshot) -> None:
    """Raise Ec2Error for a snapshot that is not completed, or is archived."""
    if state(cloud, snapshot) != "completed":
        raise Ec2Error("IncorrectState", f"Snapshot '{snapshot.id}' is not 'completed'.")
    if tier(cloud, snapshot) == "archive":
        raise Ec2Error("IncorrectState", f"Snapshot '{snapshot.id}' is archived. Restore it first.")


def lock_state(cloud: Ec2Cloud, snapshot: Snapshot) -> str | None:
    """Return the state of the lock, or None if the snapshot was never locked."""
    lock, now = snapshot.lock, cloud.now()
    if lock is None:
        return None
    if now >= lock.expires:
        return "expired"
    if lock.cool_off_until is not None and now < lock.cool_off_until:
        return "compliance-cooloff"
    return lock.mode


def no_contents_error(resource_id: str) -> Ec2Error:
    return Ec2Error(
        "Unsupported",
        f"The sandbox has no contents for {resource_id}: it can be described and copied here, but not launched.",
    )


# --- deleting ---------------------------------------------------------------------------------------------------------


def delete_snapshot(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    snapshot = cloud.own_snapshot(ctx, params["SnapshotId"])
    if lock_state(cloud, snapshot) not in (None, "expired"):
        raise Ec2Error("OperationNotPermitted", f"The snapshot {snapshot.id} is locked and cannot be deleted.")
    using = cloud.images_using(snapshot.id)
    if using:
        raise Ec2Error("InvalidSnapshot.InUse", f"The snapshot {snapshot.id} is currently in use by {using[0].id}")
    delete(cloud, snapshot)
    return {}


def delete(cloud: Ec2Cloud, snapshot: Snapshot) -> None:
    del cloud.store.snapshots[snapshot.id]
    retained = recycle_bin.keep_snapshot(cloud, snapshot)
    if not retained and not snapshot.hollow and snapshot.release is None:
        cloud.drop_contents(snapshot.id)


# --- describing -------------------------------------------------------------------------------------------------------


def state(cloud: Ec2Cloud, snapshot: Snapshot) -> str:
    return {"pending": "pending", "ready": "completed", "failed": "error"}[snapshot.progress.condition(cloud.now())]


def rendered(cloud: Ec2Cloud, snapshot: Snapshot, *, created: bool = False) -> dict[str, Any]:
    """Return the fields of DescribeSnapshots, or with ``created`` the fewer fields of CreateSnapshot."""
    now, current = cloud.now(), state(cloud, snapshot)
    ready = current == "completed"
    answer: dict[str, Any] = {
        "SnapshotId": snapshot.id,
        "VolumeId": COPY_VOLUME_ID if snapshot.is_copy else snapshot.volume_id,
        "State": current,
        "StartTime": snapshot.created,
        "Progress": f"{snapshot.progress.percent(now)}%",
        "OwnerId": snapshot.owner,
        "Description": snapshot.description,
        "VolumeSize": snapshot.size,
        "Encrypted": snapshot.encryption is not None,
        "Tags": tags.rendered(snapshot),
    }
    if created:
        return answer
    answer |= {
        "StorageTier": tier(cloud, snapshot),
        "RestoreExpiryTime": snapshot.tiering.expires if snapshot.tiering else None,
        "OwnerAlias": snapshot.owner_alias,
        "StateMessage": snapshot.progress.failure if current == "error" else None,
        "FullSnapshotSizeInBytes": snapshot.full_bytes if ready else None,
        "CompletionTime": snapshot.completed if ready else None,
        "TransferType": "standard" if snapshot.is_copy else None,
    }
    if snapshot.encryption is not None:
        answer["KmsKeyId"] = snapshot.encryption.key_arn
        answer["SseType"] = "sse-ebs"
    return answer


FILTERS: dict[str, Source] = {
    "description": "Description",
    "encrypted": "Encrypted",
    "owner-alias": "OwnerAlias",
    "owner-id": "OwnerId",
    "progress": "Progress",
    "snapshot-id": "SnapshotId",
    "start-time": "StartTime",
    "status": "State",
    "storage-tier": "StorageTier",
    "transfer-type": "TransferType",
    "volume-id": "VolumeId",
    "volume-size": "VolumeSize",
}


def describe_snapshots(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    def visible(snapshot: Snapshot) -> bool:
        return cloud.is_visible(snapshot, ctx) and cloud.may_read_snapshot(ctx.account, snapshot)

    known = cloud.store.snapshots
    if params.get("SnapshotIds"):
        found = select_resources("snap", params["SnapshotIds"], known, visible)
    else:
        found = [s for s in known.values() if s.region == ctx.region and visible(s)]  # most are elsewhere
    if params.get("OwnerIds"):
        found = [s for s in found if owned_by(s.owner, s.owner_alias, params["OwnerIds"], ctx)]
    if params.get("RestorableByUserIds"):
        found = [s for s in found if _restorable(s, params["RestorableByUserIds"], ctx)]
    answers = [_described(cloud, ctx, s) for s in found]
    return described("Snapshots", answers, params, FILTERS, ["StartTime", "SnapshotId"])


def _described(cloud: Ec2Cloud, ctx: Ctx, snapshot: Snapshot) -> dict[str, Any]:
    answer = rendered(cloud, snapshot)
    answer["Tags"] = tags.rendered(snapshot, ctx.account)
    return answer


def owned_by(owner: str, alias: str | None, wanted: Iterable[str], ctx: Ctx) -> bool:
    """Return whether an owner is among ``Owners``: account ids, ``self``, or an alias such as ``amazon``."""
    return any(
        w == owner or (w == "self" and owner == ctx.account) or (alias is not None and w == alias) for w in wanted
    )


def _restorable(snapshot: Snapshot, wanted: Iterable[str], ctx: Ctx) -> bool:
    for user in wanted:
        if user == "all" and snapshot.public:
            return True
        account = ctx.account if user == "self" else user
        if account in snapshot.users or (account == ctx.account and snapshot.owner == account):
            return True
    return False


ACTIONS: dict[str, Action] = {
    "CreateSnapshot": create_snapshot,
    "CreateSnapshots": create_snapshots,
    "DeleteSnapshot": delete_snapshot,
    "DescribeSnapshots": describe_snapshots,
}
