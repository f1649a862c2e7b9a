"""DescribeImages: which images a caller can see, and their fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from goldenami_sandbox.ec2 import images, tags
from goldenami_sandbox.ec2.context import Ctx
from goldenami_sandbox.ec2.core import Action, Ec2Cloud, select_resources
from goldenami_sandbox.ec2.filters import Source
from goldenami_sandbox.ec2.pagination import described
from goldenami_sandbox.ec2.protocol import timestamp
from goldenami_sandbox.ec2.records import Image, ImageDevice
from goldenami_sandbox.ec2.snapshots import owned_by


def rendered(cloud: Ec2Cloud, ctx: Ctx, image: Image) -> dict[str, Any]:
    own = image.owner == ctx.account
    current = images.state(cloud, image)
    return {
        "ImageId": image.id,
        "ImageLocation": image.location,
        "State": current,
        "StateReason": _reason(cloud, image) if current == "failed" else None,
        "OwnerId": image.owner,
        "ImageOwnerAlias": image.owner_alias,
        "CreationDate": timestamp(image.created),
        "Public": image.public,
        "ProductCodes": [],
        "Architecture": image.architecture,
        "ImageType": "machine",
        "PlatformDetails": image.platform_details,
        "UsageOperation": image.usage_operation,
        "BlockDeviceMappings": [block_device(device, made=current != "pending") for device in image.devices],
        "Description": image.description or None,
        "EnaSupport": image.ena_support,
        "Hypervisor": "xen",  # fields that EC2 returns for all images
        "Name": image.name,
        "RootDeviceName": image.root_device_name,
        "RootDeviceType": "ebs",
        "SriovNetSupport": image.sriov_net_support,
        "VirtualizationType": image.virtualization_type,
        "BootMode": image.boot_mode,
        "TpmSupport": image.tpm_support,
        "ImdsSupport": image.imds_support,
        "DeprecationTime": timestamp(image.deprecation) if image.deprecation is not None else None,
        "DeregistrationProtection": image.deregistration_protection if own else None,
        "LastLaunchedTime": timestamp(image.last_launched) if own and image.last_launched is not None else None,
        "SourceInstanceId": image.source_instance_id if own else None,
        "SourceImageId": image.source_image_id if own else None,
        "SourceImageRegion": image.source_image_region if own else None,
        "ImageAllowed": cloud.matches_criteria(ctx.account, image) if _audited(cloud, ctx) else None,
        "Tags": tags.rendered(image, ctx.account),
    }


def _audited(cloud: Ec2Cloud, ctx: Ctx) -> bool:
    settings = cloud.store.allowed_images.get(f"{ctx.account}/{ctx.region}")
    return settings is not None and settings.state != "disabled"


def block_device(device: ImageDevice, *, made: bool = True) -> dict[str, Any]:
    """Return a mapping of an image. ``made``: whether the image has its snapshots: a pending image shows none."""
    if device.virtual_name:
        return {"DeviceName": device.device, "VirtualName": device.virtual_name}
    ebs = {
        "DeleteOnTermination": device.delete_on_termination,
        "Iops": device.iops,
        "SnapshotId": device.snapshot_id if made else None,
        "VolumeSize": device.size,
        "VolumeType": device.type,
        "Throughput": device.throughput,
        "Encrypted": device.encrypted,
    }
    return {"DeviceName": device.device, "Ebs": ebs}


def _reason(cloud: Ec2Cloud, image: Image) -> dict[str, str]:
    """Return the state reason of the first failed snapshot."""
    progresses = [image.progress]
    progresses += [s.progress for s in (cloud.store.snapshots.get(i) for i in image.snapshot_ids) if s is not None]
    failed = next((p for p in progresses if p.failure is not None), None)
    code = (failed.failure_code if failed else None) or "Server.InternalError"
    message = (failed.failure if failed else None) or "A snapshot of the image does not exist"
    return {"Code": code, "Message": f"{code}: {message}"}


FILTERS: dict[str, Source] = {
    "architecture": "Architecture",
    "block-device-mapping.delete-on-termination": "BlockDeviceMappings.Ebs.DeleteOnTermination",
    "block-device-mapping.device-name": "BlockDeviceMappings.DeviceName",
    "block-device-mapping.encrypted": "BlockDeviceMappings.Ebs.Encrypted",
    "block-device-mapping.snapshot-id": "BlockDeviceMappings.Ebs.SnapshotId",
    "block-device-mapping.volume-size": "BlockDeviceMappings.Ebs.VolumeSize",
    "block-device-mapping.volume-type": "BlockDeviceMappings.Ebs.VolumeType",
    "boot-mode": "BootMode",
    "creation-date": "CreationDate",
    "description": "Description",
    "ena-support": "EnaSupport",
    "hypervisor": "Hypervisor",
    "image-allowed": "ImageAllowed",
    "image-id": "ImageId",
    "image-type": "ImageType",
    "imds-support": "ImdsSupport",
    "is-public": "Public",
    "kernel-id": "KernelId",
    "manifest-location": "ImageLocation",
    "name": "Name",
    "owner-alias": "ImageOwnerAlias",
    "owner-id": "OwnerId",
    "platform": "Platform",
    "product-code": "ProductCodes.ProductCodeId",
    "ramdisk-id": "RamdiskId",
    "root-device-name": "RootDeviceName",
    "root-device-type": "RootDeviceType",
    "source-image-id": "SourceImageId",
    "source-image-region": "SourceImageRegion",
    "source-instance-id": "SourceInstanceId",
    "sriov-net-support": "SriovNetSupport",
    "state": "State",
    "state-reason-code": "StateReason.Code",
    "state-reason-message": "StateReason.Message",
    "tpm-support": "TpmSupport",
    "virtualization-type": "VirtualizationType",
}


def describe_images(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    def visible(image: Image) -> bool:
        return cloud.is_visible(image, ctx) and cloud.may_see_image(ctx.account, image)

    known = cloud.store.images
    if params.get("ImageIds"):
        found = select_resources("ami", params["ImageIds"], known, visible)
    else:
        here = [i for i in known.values() if i.region == ctx.region]  # first, since most are elsewhere
        found = [i for i in here if visible(i) and not _hidden_by_deprecation(cloud, ctx, i, params)]
    if not params.get("IncludeDisabled"):
        found = [i for i in found if not i.disabled]
    if params.get("Owners"):
        found = [i for i in found if owned_by(i.owner, i.owner_alias, params["Owners"], ctx)]
    if params.get("ExecutableUsers"):
        found = [i for i in found if _executable(cloud, i, params["ExecutableUsers"], ctx)]
    answers = [rendered(cloud, ctx, i) for i in found]
    return described("Images", answers, params, FILTERS, ["CreationDate", "ImageId"], least=1)


def _hidden_by_deprecation(cloud: Ec2Cloud, ctx: Ctx, image: Image, params: Mapping[str, Any]) -> bool:
    """Return whether a deprecated image is omitted: its owner sees it, and others only by IncludeDeprecated."""
    deprecated = image.deprecation is not None and image.deprecation <= cloud.now()
    return deprecated and image.owner != ctx.account and not params.get("IncludeDeprecated")


def _executable(cloud: Ec2Cloud, image: Image, users: Iterable[str], ctx: Ctx) -> bool:
    """Return whether an account has an explicit launch permission. The owner's implicit permission does not count, and
    permissions by an organization count only for the caller's own account (DescribeImages).
    """
    for user in users:
        if user == "all":
            if image.public:
                return True
            continue
        account = ctx.account if user == "self" else user
        by_organization = account == ctx.account and cloud.shared_with_organization(account, image)
        if by_organization or account in image.users:
            return True
    return False


ACTIONS: dict[str, Action] = {"DescribeImages": describe_images}
