"""The Recycle Bin: what is deleted while a retention rule holds stays for its days, out of sight, and can be restored.

A rule is of one account and region and of one kind. With resource tags it retains what has one of them, without it
retains everything but what has one of its exclusion tags; of several rules that match, the longest counts. What lies in
the bin keeps the day on which it leaves, whatever becomes of the rules. ("Recycle Bin", EBS user guide.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.ec2.core import Action, Cloud, check_id, not_found
from goldenami_sandbox.ec2.pagination import page
from goldenami_sandbox.ec2.records import Binned, Image, R, Resource, Snapshot

SNAPSHOTS, IMAGES = "EBS_SNAPSHOT", "EC2_IMAGE"
_DAY = 86400.0


def retained_until(cloud: Cloud, kind: str, resource: Resource) -> float | None:
    """Until when a resource that is deleted now would be in the bin; None where no rule retains it."""
    days = [
        rule.days
        for rule in cloud.store.bin_rules.values()
        if (rule.kind, rule.owner, rule.region) == (kind, resource.owner, resource.region)
        and (_has_one(resource.tags, rule.match) if rule.match else not _has_one(resource.tags, rule.exclude))
    ]
    return cloud.now() + max(days) * _DAY if days else None


def _has_one(own: Mapping[str, str], wanted: Iterable[tuple[str, str | None]]) -> bool:
    """A rule's tag without a value stands for the key with any."""
    return any(key in own and value in (None, own[key]) for key, value in wanted)


def keep_image(cloud: Cloud, image: Image) -> None:
    """Called when an image was deregistered."""
    until = retained_until(cloud, IMAGES, image)
    if until is not None:
        cloud.store.binned_images[image.id] = Binned(image, cloud.now(), until)


def keep_snapshot(cloud: Cloud, snapshot: Snapshot) -> bool:
    """Called when a snapshot was deleted; whether its contents have to stay. One that never got complete goes."""
    until = retained_until(cloud, SNAPSHOTS, snapshot)
    if until is None or snapshot.progress.condition(cloud.now()) != "ready":
        return False
    cloud.store.binned_snapshots[snapshot.id] = Binned(snapshot, cloud.now(), until)
    return True


def empty(cloud: Cloud) -> None:
    """Let go what has been there long enough. Called with the lock held."""
    now = cloud.now()
    for id in [id for id, binned in cloud.store.binned_images.items() if binned.leaves <= now]:
        del cloud.store.binned_images[id]
    for id in [id for id, binned in cloud.store.binned_snapshots.items() if binned.leaves <= now]:
        snapshot = cloud.store.binned_snapshots.pop(id).resource
        if not snapshot.hollow and snapshot.release is None:
            cloud.drop_contents(id)


# --- the actions ------------------------------------------------------------------------------------------------------


def list_images(cloud: Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    def facts(image: Image) -> dict[str, Any]:
        return {"ImageId": image.id, "Name": image.name, "Description": image.description}

    told, token = _listed(cloud.store.binned_images, ctx, params, "ami", params.get("ImageIds"), facts)
    return {"Images": told, "NextToken": token}


def list_snapshots(cloud: Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    def facts(snapshot: Snapshot) -> dict[str, Any]:
        return {"SnapshotId": snapshot.id, "Description": snapshot.description, "VolumeId": snapshot.volume_id}

    told, token = _listed(cloud.store.binned_snapshots, ctx, params, "snap", params.get("SnapshotIds"), facts)
    return {"Snapshots": told, "NextToken": token}


def _listed(
    bin: Mapping[str, Binned[R]],
    ctx: Ctx,
    params: Mapping[str, Any],
    prefix: str,
    ids: Iterable[str] | None,
    facts: Callable[[R], dict[str, Any]],
) -> tuple[list[dict[str, Any]], str | None]:
    """A page of what is the caller's in a bin (or of these ids), and the token of the next."""
    found = [b for b in bin.values() if _own(b.resource, ctx)]
    if ids:
        found = [_binned(bin, ctx, prefix, id) for id in dict.fromkeys(ids)]
    shown, token = page(found, params, lambda b: (b.entered, b.resource.id))
    return [
        {**facts(b.resource), "RecycleBinEnterTime": b.entered, "RecycleBinExitTime": b.leaves} for b in shown
    ], token


def restore_image(cloud: Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    """Its snapshots have to be there: those that were deleted too are restored before it."""
    image = _binned(cloud.store.binned_images, ctx, "ami", params["ImageId"]).resource
    missing = [id for id in image.snapshot_ids if id not in cloud.store.snapshots]
    if missing:
        raise not_found("snap", missing)
    same = [i for i in cloud.store.images.values() if i.name == image.name and _own(i, ctx)]
    if same:
        raise Ec2Error("InvalidAMIName.Duplicate", f"AMI name {image.name} is already in use by AMI {same[0].id}")
    cloud.store.images[image.id] = cloud.store.binned_images.pop(image.id).resource
    return {"Return": True}


def restore_snapshot(cloud: Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    snapshot = _binned(cloud.store.binned_snapshots, ctx, "snap", params["SnapshotId"]).resource
    cloud.store.snapshots[snapshot.id] = cloud.store.binned_snapshots.pop(snapshot.id).resource
    return {
        "SnapshotId": snapshot.id,
        "Description": snapshot.description,
        "Encrypted": snapshot.encryption is not None,
        "OwnerId": snapshot.owner,
        "Progress": "100%",
        "StartTime": snapshot.created,
        "State": "completed",
        "VolumeId": snapshot.volume_id,
        "VolumeSize": snapshot.size,
    }


def _own(resource: Resource, ctx: Ctx) -> bool:
    return (resource.owner, resource.region) == (ctx.account, ctx.region)


def _binned(bin: Mapping[str, Binned[R]], ctx: Ctx, prefix: str, id: str) -> Binned[R]:
    check_id(prefix, id)
    found = bin.get(id)
    if found is None or not _own(found.resource, ctx):
        raise not_found(prefix, [id])
    return found


ACTIONS: dict[str, Action] = {
    "ListImagesInRecycleBin": list_images,
    "ListSnapshotsInRecycleBin": list_snapshots,
    "RestoreImageFromRecycleBin": restore_image,
    "RestoreSnapshotFromRecycleBin": restore_snapshot,
}
