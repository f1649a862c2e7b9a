"""The Recycle Bin keeps deleted resources for the time of a retention rule. They can be listed and restored from there.

A rule belongs to one account and region and to one kind of resource. With resource tags it retains resources that have
one of them. Without them it retains all resources except those with an exclusion tag. If several rules match, the
longest period counts. A resource keeps its time in the bin even if the rules change. ("Recycle Bin", EBS user guide.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.ec2.core import Action, Ec2Cloud, check_id, not_found
from goldenami_sandbox.ec2.pagination import page
from goldenami_sandbox.ec2.records import Binned, Image, R, Resource, Snapshot

SNAPSHOTS, IMAGES = "EBS_SNAPSHOT", "EC2_IMAGE"
_DAY = 86400.0


def retained_until(cloud: Ec2Cloud, kind: str, resource: Resource) -> float | None:
    """Return until when a resource deleted now stays in the bin, or None if no rule retains it."""
    days = [
        rule.days
        for rule in cloud.store.bin_rules.values()
        if (rule.kind, rule.owner, rule.region) == (kind, resource.owner, resource.region)
        and (_has_one(resource.tags, rule.match) if rule.match else not _has_one(resource.tags, rule.exclude))
    ]
    return cloud.now() + max(days) * _DAY if days else None


def _has_one(own: Mapping[str, str], wanted: Iterable[tuple[str, str | None]]) -> bool:
    """Return whether a resource has one of the tags. A tag without a value matches any value."""
    return any(key in own and value in (None, own[key]) for key, value in wanted)


def keep_image(cloud: Ec2Cloud, image: Image) -> None:
    """Put a deregistered image into the bin if a rule retains it."""
    until = retained_until(cloud, IMAGES, image)
    if until is not None:
        cloud.store.binned_images[image.id] = Binned(image, cloud.now(), until)


def keep_snapshot(cloud: Ec2Cloud, snapshot: Snapshot) -> bool:
    """Put a deleted snapshot into the bin if a rule retains it. Returns whether its contents must be kept.

    A snapshot that never completed is not retained.
    """
    until = retained_until(cloud, SNAPSHOTS, snapshot)
    if until is None or snapshot.progress.condition(cloud.now()) != "ready":
        return False
    cloud.store.binned_snapshots[snapshot.id] = Binned(snapshot, cloud.now(), until)
    return True


def empty(cloud: Ec2Cloud) -> None:
    """Delete the resources whose time in the bin is over. Called with the lock held."""
    now = cloud.now()
    for id in [id for id, binned in cloud.store.binned_images.items() if binned.leaves <= now]:
        del cloud.store.binned_images[id]
    for id in [id for id, binned in cloud.store.binned_snapshots.items() if binned.leaves <= now]:
        snapshot = cloud.store.binned_snapshots.pop(id).resource
        if not snapshot.hollow and snapshot.release is None:
            cloud.drop_contents(id)


# --- the actions ------------------------------------------------------------------------------------------------------


def list_images(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    def facts(image: Image) -> dict[str, Any]:
        return {"ImageId": image.id, "Name": image.name, "Description": image.description}

    told, token = _listed(cloud.store.binned_images, ctx, params, "ami", params.get("ImageIds"), facts)
    return {"Images": told, "NextToken": token}


def list_snapshots(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
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
    """Return a page of the caller's resources in a bin (or of these ids), and the token of the next page."""
    found = [b for b in bin.values() if _is_owned(b.resource, ctx)]
    if ids:
        found = [_binned(bin, ctx, prefix, id) for id in dict.fromkeys(ids)]
    shown, token = page(found, params, lambda b: (b.entered, b.resource.id))
    return [
        {**facts(b.resource), "RecycleBinEnterTime": b.entered, "RecycleBinExitTime": b.leaves} for b in shown
    ], token


def restore_image(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    """Restore an image from the bin. Its deleted snapshots must be restored first."""
    image = _binned(cloud.store.binned_images, ctx, "ami", params["ImageId"]).resource
    missing = [id for id in image.snapshot_ids if id not in cloud.store.snapshots]
    if missing:
        raise not_found("snap", missing)
    same = [i for i in cloud.store.images.values() if i.name == image.name and _is_owned(i, ctx)]
    if same:
        raise Ec2Error("InvalidAMIName.Duplicate", f"AMI name {image.name} is already in use by AMI {same[0].id}")
    cloud.store.images[image.id] = cloud.store.binned_images.pop(image.id).resource
    return {"Return": True}


def restore_snapshot(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
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


def _is_owned(resource: Resource, ctx: Ctx) -> bool:
    return (resource.owner, resource.region) == (ctx.account, ctx.region)


def _binned(bin: Mapping[str, Binned[R]], ctx: Ctx, prefix: str, id: str) -> Binned[R]:
    check_id(prefix, id)
    found = bin.get(id)
    if found is None or not _is_owned(found.resource, ctx):
        raise not_found(prefix, [id])
    return found


ACTIONS: dict[str, Action] = {
    "ListImagesInRecycleBin": list_images,
    "ListSnapshotsInRecycleBin": list_snapshots,
    "RestoreImageFromRecycleBin": restore_image,
    "RestoreSnapshotFromRecycleBin": restore_snapshot,
}
