"""Public images of vendors: in every region, owned by the vendor. Every account may launch them."""

from __future__ import annotations

import hashlib
from datetime import datetime

from goldenami_sandbox.ec2.core import Ec2Cloud
from goldenami_sandbox.ec2.records import Image, ImageDevice, Progress, Snapshot


def publish(
    cloud: Ec2Cloud,
    region: str,
    owner: str,
    name: str,
    *,
    architecture: str,
    release: str | None,
    default_user: str,
    owner_alias: str | None,
    description: str,
    creation_date: str,
    root_device_name: str,
    size_gib: int,
    boot_mode: str | None,
    imds_support: str | None,
) -> str:
    """Publish an image; see ``Ec2.add_public_image``. Called with the lock held."""
    image_id, snapshot_id = (f"{prefix}-{_stable(prefix, region, owner, name)}" for prefix in ("ami", "snap"))
    if image_id in cloud.store.images:
        return image_id
    created = datetime.fromisoformat(creation_date).timestamp()
    ready = Progress(created, created, done=True)
    cloud.store.snapshots[snapshot_id] = Snapshot(
        id=snapshot_id,
        owner=owner,
        region=region,
        created=created,
        volume_id=f"vol-{_stable('vol', region, owner, name)}",
        size=size_gib,
        description=f"Created for {image_id}",
        progress=ready,
        frozen=True,
        release=release,
        hollow=release is None,
        owner_alias=owner_alias,
        default_user=default_user,
        full_bytes=size_gib << 30,
        completed=created,
    )
    cloud.store.images[image_id] = Image(
        id=image_id,
        owner=owner,
        region=region,
        created=created,
        name=name,
        description=description,
        architecture=architecture,
        root_device_name=root_device_name,
        devices=[ImageDevice(root_device_name, snapshot_id, size_gib)],
        sriov_net_support="simple",
        boot_mode=boot_mode,
        imds_support=imds_support,
        owner_alias=owner_alias,
        location=f"{owner_alias or owner}/{name}",
        progress=ready,
        public=True,
        default_user=default_user,
    )
    return image_id


def _stable(prefix: str, region: str, owner: str, name: str) -> str:
    return "0" + hashlib.sha256(f"{prefix}/{region}/{owner}/{name}".encode()).hexdigest()[:16]
