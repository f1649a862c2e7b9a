"""Images: created from instances and snapshots, and deregistered. Other modules describe, copy and change them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from goldenami_sandbox.ec2 import devices, guests, instances, metadata, recycle_bin, snapshots, tags, types
from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.ec2.core import Action, Ec2Cloud
from goldenami_sandbox.ec2.records import Image, ImageDevice, Instance, Snapshot, Volume
from goldenami_sandbox.ec2.store import new_id

_NAME = re.compile(r"[A-Za-z0-9()\[\] ./'@_-]{3,128}")


def state(cloud: Ec2Cloud, image: Image) -> str:
    """Return the state of an image: available if all its snapshots are, failed if one of them is."""
    if image.disabled:
        return "disabled"
    now = cloud.now()
    conditions = [image.progress.condition(now)]
    for snapshot_id in image.snapshot_ids:
        snapshot = cloud.store.snapshots.get(snapshot_id)
        conditions.append(snapshot.progress.condition(now) if snapshot is not None else "failed")
    if "failed" in conditions:
        return "failed"
    return "pending" if "pending" in conditions else "available"


def check_name(cloud: Ec2Cloud, ctx: Ctx, name: str) -> None:
    """Check a name. Raises InvalidAMIName.Malformed, or Duplicate if the account has an image with this name in the
    region.
    """
    if not _NAME.fullmatch(name):
        raise Ec2Error(
            "InvalidAMIName.Malformed",
            "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, "
            "'(', ')', '.', '-', '/' and '_'",
        )
    for image in cloud.owned_resources(cloud.store.images, ctx).values():
        if image.name == name:
            raise Ec2Error("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {image.id}")


# --- from an instance -------------------------------------------------------------------------------------------------


def create_image(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    instance = cloud.instance(ctx, params["InstanceId"])
    if instance.state(cloud.now()) not in ("running", "stopped"):
        raise Ec2Error("IncorrectState", f"Instance '{instance.id}' is not 'running' or 'stopped'.")
    check_name(cloud, ctx, params["Name"])
    given = tags.from_specifications(params, "image", "snapshot")
    attached = {v.attachment.device: v for v in cloud.volumes_of(instance) if v.attachment}
    current = [_device_of(volume) for volume in attached.values()]
    mapped = devices.merged(current, params.get("BlockDeviceMappings") or [])
    _check_unchanged(attached, params.get("BlockDeviceMappings") or [])
    _check_overrides(cloud, ctx, instance, attached, mapped)
    reboot = instance.goal == "running" and not params.get("NoReboot")
    pending = cloud.settings.pending
    image = Image(
        id=new_id("ami"),
        **cloud.birth(ctx, given["image"]),
        name=params["Name"],
        description=params.get("Description", ""),
        architecture=instance.architecture,
        root_device_name=instance.root_device_name,
        virtualization_type=instance.virtualization_type,
        ena_support=instance.ena_support,
        boot_mode=_boot_mode(instance, params.get("BootModeOverride")),
        tpm_support=instance.tpm_support,
        imds_support=instance.imds_support,
        uefi_data=instance.uefi_data,
        platform_details=instance.platform_details,
        usage_operation=instance.usage_operation,
        location=f"{ctx.account}/{params['Name']}",
        # The capture begins when the guest is down.
        progress=cloud.progress((pending.stop if reboot else 0.0) + pending.image, done=True),
        source_instance_id=instance.id,
        source_image_id=instance.image_id,
        source_image_region=instance.region,
        default_user=instance.default_user,
    )
    taken: list[tuple[Volume, Snapshot]] = []
    for item in mapped:
        volume = attached.get(item["DeviceName"])
        snapshot = None
        if volume is not None:
            what = f"Created by CreateImage({instance.id}) for {image.id}"
            snapshot = snapshots.snapshot_of(cloud, ctx, volume, what, given["snapshot"])
            # It is complete when the image is available, and begins when the guest is down.
            snapshot.progress = image.progress.after(
                pending.stop if reboot else 0.0, max(pending.image, pending.snapshot)
            )
            taken.append((volume, snapshot))
        image.devices.append(devices.image_device(cloud, item, snapshot))
    cloud.store.images[image.id] = image
    _queue_capture(cloud, instance, taken, reboot=reboot)
    return {"ImageId": image.id}


def _device_of(volume: Volume) -> ImageDevice:
    assert volume.attachment is not None
    return ImageDevice(
        volume.attachment.device,
        size=volume.size,
        type=volume.type,
        iops=volume.iops if volume.type != "gp2" else None,
        throughput=volume.throughput,
        delete_on_termination=volume.attachment.delete_on_termination,
    )


def _boot_mode(instance: Instance, override: str | None) -> str | None:
    """Return the boot mode of an instance's image. The only override is "uefi", and only of an instance that booted by
    UEFI (CreateImage). AWS documents no error code for the others.
    """
    if override is None:
        return instance.boot_mode
    current = types.current_boot_mode(types.find(instance.type), instance.boot_mode)
    if current != "uefi":
        raise Ec2Error(
            "OperationNotPermitted",
            f"The boot mode override uefi requires an instance whose current boot mode is uefi. {instance.id} has "
            f"{current}.",
        )
    return override


def _check_unchanged(attached: Mapping[str, Volume], overrides: list[Mapping[str, Any]]) -> None:
    """Refuse a change of a volume that the instance has. Only DeleteOnTermination can be changed (CreateImage).

    "Encrypted" may be given if it changes nothing (EbsBlockDevice): false for an unencrypted volume, and both values
    for an encrypted one.
    """
    for item in overrides:
        ebs, volume = item.get("Ebs") or {}, attached.get(item.get("DeviceName", ""))
        if volume is None or "NoDevice" in item:
            continue
        if ebs.get("Encrypted") and volume.encryption is None:
            raise Ec2Error(
                "InvalidBlockDeviceMapping",
                f"The encryption status of the volume at {item['DeviceName']} cannot be changed by CreateImage. "
                "Copy the image instead.",
            )
        current = {
            "VolumeSize": volume.size, "VolumeType": volume.type, "Iops": volume.iops, "Throughput": volume.throughput,
            "KmsKeyId": volume.encryption.key_arn if volume.encryption else None,
        }  # fmt: skip
        changed = [name for name, value in current.items() if name in ebs and ebs[name] != value]
        if changed:
            raise Ec2Error(
                "InvalidBlockDeviceMapping",
                f"{', '.join(changed)} cannot be changed for the existing volume at {item['DeviceName']}. "
                "CreateImage can change DeleteOnTermination only.",
            )


def _check_overrides(
    cloud: Ec2Cloud, ctx: Ctx, instance: Instance, attached: Mapping[str, Volume], mapped: list[dict[str, Any]]
) -> None:
    names = {item["DeviceName"] for item in mapped}
    if instance.root_device_name not in names:
        raise Ec2Error("InvalidBlockDeviceMapping", f"The root device {instance.root_device_name} cannot be left out.")
    for item in mapped:
        ebs, volume = item["Ebs"], attached.get(item["DeviceName"])
        if volume is not None and ebs.get("SnapshotId"):
            raise Ec2Error(
                "InvalidBlockDeviceMapping", f"snapshotId cannot be given for {item['DeviceName']}, which is attached."
            )
        source = cloud.own_snapshot(ctx, ebs["SnapshotId"]) if ebs.get("SnapshotId") else None
        devices.check(item, source)


def _queue_capture(cloud: Ec2Cloud, instance: Instance, taken: list[tuple[Volume, Snapshot]], *, reboot: bool) -> None:
    """Take the points in time of all volumes. The guest is shut down meanwhile if ``reboot``.

    As on AWS, the instance's state stays ``running``. Called with the lock held.
    """
    cloud.pin([snapshot.id for _, snapshot in taken])

    def capture() -> None:
        try:
            with cloud.recording(*(snapshot.progress for _, snapshot in taken)):
                if reboot:
                    cloud.node.stop(instance.id)
                for volume, snapshot in taken:
                    cloud.node.freeze_snapshot(snapshot.id, volume.id)
            with cloud.lock:
                for _, snapshot in taken:
                    snapshot.frozen = True
                    snapshots.queue_storing(cloud, snapshot)
        finally:
            cloud.unpin([snapshot.id for _, snapshot in taken])
            if reboot:
                _resume(cloud, instance)

    cloud.work.submit(instance.id, capture)


def _resume(cloud: Ec2Cloud, instance: Instance) -> None:
    """Start the guest again after the capture, unless the user stopped or terminated it meanwhile."""
    with cloud.lock:
        if instance.goal != "running":
            return
        spec = metadata.spec(cloud, instance)
    try:
        cloud.node.configure(spec)
        cloud.node.start_instance(instance.id)
        guests.attach_data_volumes(cloud, instance)
    except Exception:
        instances.guest_exited(cloud, instance.id, "crashed")
        raise


# --- from snapshots ---------------------------------------------------------------------------------------------------


def register_image(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    check_name(cloud, ctx, params["Name"])
    given = tags.from_specifications(params, "image")["image"]
    root = params.get("RootDeviceName")
    mapped = devices.merged([], params.get("BlockDeviceMappings") or [])
    if params.get("ImageLocation"):
        raise Ec2Error("Unsupported", "The sandbox has no images in S3.")
    if not root or root not in {item["DeviceName"] for item in mapped}:
        raise Ec2Error(
            "InvalidBlockDeviceMapping",
            "Root device is not found in the block device mapping.",
        )
    for item in params.get("BlockDeviceMappings") or ():
        if (item.get("Ebs") or {}).keys() >= {"Encrypted", "SnapshotId"}:
            raise Ec2Error(
                "InvalidBlockDeviceMapping",
                f"the encrypted flag cannot be specified since device {item['DeviceName']} has a snapshot specified.",
            )
    architecture = params.get("Architecture") or "i386"
    image_devices, default_user = [], ""
    for item in mapped:
        snapshot = _registrable(cloud, ctx, item)
        devices.check(item, snapshot)
        if item["DeviceName"] == root:
            if snapshot is None:
                raise Ec2Error("InvalidBlockDeviceMapping", "The root device needs a snapshot.")
            default_user = snapshot.default_user
        image_devices.append(devices.image_device(cloud, item, snapshot))
    image = Image(
        id=new_id("ami"),
        **cloud.birth(ctx, given),
        name=params["Name"],
        description=params.get("Description", ""),
        architecture=architecture,
        root_device_name=root,
        devices=image_devices,
        virtualization_type=params.get("VirtualizationType") or "paravirtual",
        ena_support=bool(params.get("EnaSupport")),
        sriov_net_support=params.get("SriovNetSupport"),
        boot_mode=params.get("BootMode"),
        tpm_support=params.get("TpmSupport"),
        imds_support=params.get("ImdsSupport"),
        uefi_data=params.get("UefiData"),
        location=f"{ctx.account}/{params['Name']}",
        progress=cloud.progress(0.0, done=True),
        default_user=default_user,
    )
    cloud.store.images[image.id] = image
    return {"ImageId": image.id}


def _registrable(cloud: Ec2Cloud, ctx: Ctx, item: Mapping[str, Any]) -> Snapshot | None:
    snapshot_id = item["Ebs"].get("SnapshotId")
    if not snapshot_id:
        return None
    snapshot = cloud.own_snapshot(ctx, snapshot_id)
    snapshots.check_usable(cloud, snapshot)
    return snapshot


# --- the end ----------------------------------------------------------------------------------------------------------


def deregister_image(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    image = cloud.own_image(ctx, params["ImageId"])
    if protected(cloud, image):
        raise Ec2Error(
            "OperationNotPermitted",
            f"The image '{image.id}' is protected from deregistration. Disable that protection and try again.",
        )
    del cloud.store.images[image.id]
    recycle_bin.keep_image(cloud, image)
    answer: dict[str, Any] = {"Return": True}
    if params.get("DeleteAssociatedSnapshots"):
        answer["DeleteSnapshotResults"] = [_delete_snapshot(cloud, ctx, s) for s in dict.fromkeys(image.snapshot_ids)]
    return answer


def protected(cloud: Ec2Cloud, image: Image) -> bool:
    """Return whether the image is protected. With a cool-down, protection holds for a day after it was disabled."""
    return image.deregistration_protection != "disabled" or (
        image.protection_until is not None and cloud.now() < image.protection_until
    )


def _delete_snapshot(cloud: Ec2Cloud, ctx: Ctx, snapshot_id: str) -> dict[str, str]:
    snapshot = cloud.store.snapshots.get(snapshot_id)
    if snapshot is None:
        return {"SnapshotId": snapshot_id, "ReturnCode": "client-error"}
    if snapshot.owner != ctx.account:
        return {"SnapshotId": snapshot_id, "ReturnCode": "missing-permissions"}
    if cloud.images_using(snapshot_id):
        return {"SnapshotId": snapshot_id, "ReturnCode": "skipped"}
    snapshots.delete(cloud, snapshot)
    return {"SnapshotId": snapshot_id, "ReturnCode": "success"}


ACTIONS: dict[str, Action] = {
    "CreateImage": create_image,
    "RegisterImage": register_image,
    "DeregisterImage": deregister_image,
}
