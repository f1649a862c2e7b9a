"""CopyImage: creates an image in the destination region, with copies of the snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from goldenami_sandbox.ec2 import copies, encryption, images, tags
from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.ec2.core import Action, Ec2Cloud
from goldenami_sandbox.ec2.records import Snapshot
from goldenami_sandbox.ec2.store import new_id


def copy_image(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    """CopyImage. It is called in the destination region.

    Launch permissions are not copied. Tags are copied only if requested, and only for the source's owner.
    """
    earlier = cloud.earlier_ids(ctx, "CopyImage", params)
    if earlier is not None:
        return {"ImageId": earlier[0]}
    source = cloud.image(ctx, params["SourceImageId"], params["SourceRegion"])
    if images.state(cloud, source) != "available":
        raise Ec2Error(
            "InvalidAMIID.Unavailable",
            f"The image ID '{source.id}' is not available (it is {images.state(cloud, source)}).",
        )
    images.check_name(cloud, ctx, params["Name"])
    sources = {s: _source(cloud, ctx, s) for s in source.snapshot_ids}
    encryption.check_parameters(params, source_encrypted=any(s.encryption for s in sources.values()))
    _check_quota(cloud, ctx)
    given = tags.from_specifications(params, "image", "snapshot")
    inherited = {}
    if params.get("CopyImageTags"):  # those of the caller's account: tags of other accounts are not copied
        inherited = {k: v for k, v in source.tags_of(ctx.account).items() if not k.startswith("aws:")}
    image = replace(
        source,
        id=new_id("ami"),
        **cloud.birth(ctx, {**inherited, **given["image"]}),
        name=params["Name"],
        description=params.get(
            "Description", f"[Copied {source.id} from {source.region}] {source.description}".strip()
        ),
        devices=[],
        location=f"{ctx.account}/{params['Name']}",
        owner_alias=None,
        progress=cloud.progress(cloud.settings.pending.copy, done=True),
        disabled=False,
        deprecation=None,
        deregistration_protection="disabled",
        protection_until=None,
        public=False,
        users=[],
        organizations=[],
        organizational_units=[],
        source_image_id=source.id,
        source_image_region=source.region,
        source_instance_id=None,
        last_launched=None,
    )
    made: dict[str, Snapshot] = {}
    for snapshot_id, snapshot in sources.items():
        made[snapshot_id] = copies.new_copy(
            cloud,
            ctx,
            snapshot,
            f"Copied for DestinationAmi {image.id} from SourceAmi {source.id} for SourceSnapshot {snapshot_id}. "
            f"Task created on {int(cloud.now() * 1000)}.",
            given["snapshot"],
            encrypted=params.get("Encrypted"),
            key=params.get("KmsKeyId"),
            for_image=True,
        )
    image.devices = [
        replace(d, snapshot_id=made[d.snapshot_id].id, encrypted=made[d.snapshot_id].encryption is not None)
        if d.snapshot_id
        else replace(d)
        for d in source.devices
    ]
    cloud.store.images[image.id] = image
    cloud.remember(ctx, "CopyImage", params, [image.id])
    return {"ImageId": image.id}


def _check_quota(cloud: Ec2Cloud, ctx: Ctx) -> None:
    limit = cloud.settings.concurrent_image_copies
    running = sum(
        image.source_image_id is not None and images.state(cloud, image) == "pending"
        for image in cloud.owned_resources(cloud.store.images, ctx).values()
    )
    if running >= limit:
        raise Ec2Error(
            "ResourceLimitExceeded",
            f"Too many image copies in progress. The limit is {limit} for this destination Region.",
        )


def _source(cloud: Ec2Cloud, ctx: Ctx, snapshot_id: str) -> Snapshot:
    """Return the source image. A launch permission allows launching only: to copy it, its snapshots must be shared as
    well.
    """
    snapshot = cloud.store.snapshots[snapshot_id]
    if not cloud.may_read_snapshot(ctx.account, snapshot):
        raise Ec2Error(
            "InvalidRequest",
            "You do not have permission to access the storage of this ami",
        )
    return snapshot


ACTIONS: dict[str, Action] = {"CopyImage": copy_image}
