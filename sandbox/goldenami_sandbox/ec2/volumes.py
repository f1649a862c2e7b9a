"""Volumes: created empty or from snapshots, attached, detached, deleted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from goldenami_sandbox.ec2 import encryption, snapshots, tags
from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.ec2.core import Action, Ec2Cloud
from goldenami_sandbox.ec2.encryption import KeyProblem
from goldenami_sandbox.ec2.filters import Source
from goldenami_sandbox.ec2.pagination import described
from goldenami_sandbox.ec2.protocol import whole_seconds
from goldenami_sandbox.ec2.records import Attachment, Snapshot, Volume
from goldenami_sandbox.ec2.store import new_id
from goldenami_sandbox.errors import VolumeInUse
from goldenami_sandbox.policy import Caller

# Sizes in GiB (least, most) by volume type, from the EBS user guide.
_SIZES = {
    "gp2": (1, 16384),
    "gp3": (1, 65536),
    "io1": (4, 16384),
    "io2": (4, 65536),
    "st1": (125, 16384),
    "sc1": (125, 16384),
    "standard": (1, 1024),
}


# "Device names for volumes on Amazon EC2 instances", EC2 user guide.
_NAME = re.compile(r"(/dev/)?(sd[a-z]|hd[a-z]|xvd[a-z]|xvd[a-d][a-z])([1-9]|1[0-5])?")


def is_device_name(name: str) -> bool:
    """Return whether EBS accepts a device name for an attachment."""
    return _NAME.fullmatch(name) is not None


def check_size(size: int, kind: str, source: Snapshot | None) -> None:
    """Check a size. Raises Ec2Error for an unknown type, and for a size that the type or the snapshot does
    not allow.
    """
    if kind not in _SIZES:
        raise Ec2Error(
            "InvalidParameterValue", f"Value ({kind}) for parameter volumeType is invalid. Unknown volume type: {kind}"
        )
    least, most = _SIZES[kind]
    if not least <= size <= most:
        raise Ec2Error(
            "InvalidParameterValue", f"Volume of {size}GiB is out of bounds for {kind}: {least}GiB to {most}GiB."
        )
    if source is not None and size < source.size:
        raise Ec2Error(
            "InvalidBlockDeviceMapping",
            f"Volume of size {size}GB is smaller than snapshot '{source.id}', expect size >= {source.size}GB",
        )


@dataclass(frozen=True, slots=True)
class _Provisioned:
    """The limits of a volume type with provisioned performance. ``per_gib``: IOPS per GiB at most."""

    iops: tuple[int, int]
    per_gib: int
    throughput: tuple[int, int] | None = None  # MiB/s


# CreateVolume, EC2 API reference; "Amazon EBS volume types", EBS user guide.
_PROVISIONED = {
    "gp3": _Provisioned((3000, 80000), 500, (125, 2000)),
    "io1": _Provisioned((100, 64000), 50),
    "io2": _Provisioned((100, 256000), 1000),
}
_THROUGHPUT_PER_IOPS = 0.25  # MiB/s
_FREE_IOPS = 3000  # gp3 has them at every size


def performance(kind: str, size: int, iops: int | None, throughput: int | None) -> tuple[int | None, int | None]:
    """Return IOPS and throughput (MiB/s) in EC2's form, by default the type's.

    Raises Ec2Error if the type has none, and for values that the type or the size (GiB) does not allow.
    """
    limits = _PROVISIONED.get(kind)
    if throughput is not None and (limits is None or limits.throughput is None):
        raise Ec2Error("InvalidParameterCombination", "throughput can only be specified for volumeType gp3.")
    if iops is not None and limits is None:
        raise Ec2Error("InvalidParameterCombination", f"The parameter iops is not supported for {kind} volumes.")
    if kind == "gp2":
        return max(100, min(16000, 3 * size)), None
    if limits is None:
        return None, None
    if iops is None and kind != "gp3":
        raise Ec2Error("MissingParameter", f"The parameter iops must be specified for {kind} volumes.")
    iops = _FREE_IOPS if iops is None else iops
    _check_range("iops", iops, limits.iops)
    if iops / size > limits.per_gib and not (kind == "gp3" and iops <= _FREE_IOPS):
        raise Ec2Error(
            "InvalidParameterValue",
            f"Iops to volume size ratio of {iops / size:.6f} is too high; maximum is {limits.per_gib}",
        )
    if limits.throughput is None:
        return iops, None
    throughput = limits.throughput[0] if throughput is None else throughput
    _check_range("throughput", throughput, limits.throughput)
    if throughput / iops > _THROUGHPUT_PER_IOPS:
        raise Ec2Error(
            "InvalidParameterValue",
            f"Throughput (MiBps) to iops ratio of {throughput / iops:.6f} is too high; "
            f"maximum is {_THROUGHPUT_PER_IOPS:.6f} MiBps per iops",
        )
    return iops, throughput


def _check_range(name: str, value: int, limits: tuple[int, int]) -> None:
    least, most = limits
    if not least <= value <= most:
        relation = f"low; minimum is {least}" if value < least else f"high; maximum is {most}"
        raise Ec2Error("InvalidParameterValue", f"Volume {name} of {value} is too {relation}.")


def create_volume(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    earlier = cloud.earlier_ids(ctx, "CreateVolume", params)
    if earlier is not None and earlier[0] in cloud.store.volumes:
        return rendered(cloud, cloud.store.volumes[earlier[0]])
    source = cloud.readable_snapshot(ctx, params["SnapshotId"]) if params.get("SnapshotId") else None
    if source is not None:
        check_source(cloud, source)
    zone = params.get("AvailabilityZone") or ""
    if not zone.startswith(ctx.region) or len(zone) != len(ctx.region) + 1:
        raise Ec2Error(
            "InvalidParameterValue",
            f"Value ({zone}) for parameter availabilityZone is invalid.",
        )
    size = params.get("Size") or (source.size if source is not None else None)
    if size is None:
        raise Ec2Error("MissingParameter", "The request must contain the parameter size/snapshot")
    if params.get("KmsKeyId") and not params.get("Encrypted"):
        raise Ec2Error(
            "InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted to be set."
        )
    kind = params.get("VolumeType") or "gp2"
    if params.get("MultiAttachEnabled") and kind not in ("io1", "io2"):
        raise Ec2Error(
            "InvalidParameterCombination", f"The parameter multiAttachEnabled is not supported for {kind} volumes."
        )
    volume = new_volume(
        cloud,
        ctx,
        zone=zone,
        source=source,
        size=size,
        kind=kind,
        iops=params.get("Iops"),
        throughput=params.get("Throughput"),
        encrypted=params.get("Encrypted"),
        key=params.get("KmsKeyId"),
        given=tags.from_specifications(params, "volume")["volume"],
    )
    volume.multi_attach = bool(params.get("MultiAttachEnabled"))
    if volume.progress.failure is None:
        queue_filling(cloud, volume, source)
    cloud.remember(ctx, "CreateVolume", params, [volume.id])
    return rendered(cloud, volume)


def check_source(cloud: Ec2Cloud, source: Snapshot) -> None:
    """Raise Ec2Error if no volume can be created from the snapshot."""
    snapshots.check_usable(cloud, source)
    if source.hollow:
        raise snapshots.no_contents_error(source.id)


def new_volume(
    cloud: Ec2Cloud,
    ctx: Ctx,
    *,
    zone: str,
    source: Snapshot | None,
    size: int,
    kind: str,
    iops: int | None,
    throughput: int | None,
    encrypted: bool | None,
    key: str | None,
    given: Mapping[str, str],
) -> Volume:
    """Create a volume in the store, without contents (``fill``). A key problem is recorded as its failure."""
    check_size(size, kind, source)
    cloud.require_room(source.full_bytes if source is not None and source.encryption and not source.hollow else 0)
    iops, throughput = performance(kind, size, iops, throughput)
    how = encryption.for_volume(cloud, ctx, source, encrypted=encrypted, key=key)
    volume = Volume(
        id=new_id("vol"),
        **cloud.birth(ctx, given),
        availability_zone=zone,
        size=size,
        type=kind,
        iops=iops,
        throughput=throughput,
        snapshot_id=source.id if source is not None else None,
        progress=cloud.progress(cloud.settings.pending.volume),
        default_user=source.default_user if source is not None else "",
    )
    if isinstance(how, KeyProblem):
        volume.progress.fail(how.message, how.code)
    else:
        volume.encryption = how
        # Blocks can be shared with the snapshot only if both are stored in the same form.
        if source is not None and how == source.encryption:
            volume.lineage = source.id
    cloud.store.volumes[volume.id] = volume
    return volume


def fill(cloud: Ec2Cloud, volume: Volume, source: Snapshot | None) -> None:
    """Fill the volume, from the (pinned) snapshot or empty. Runs in a task."""
    with cloud.recording(volume.progress):
        key = encryption.data_key(cloud, source.encryption, Caller(volume.owner)) if source is not None else None
        origin = snapshots.contents(cloud, source) if source is not None else None
        cloud.node.create_volume(volume.id, volume.size, origin, key)
    with cloud.lock:
        volume.progress.succeed()


def queue_filling(cloud: Ec2Cloud, volume: Volume, source: Snapshot | None) -> None:
    pinned = [source.id] if source is not None else []

    def task() -> None:
        try:
            fill(cloud, volume, source)
        finally:
            cloud.unpin(pinned)

    cloud.pin(pinned)
    cloud.work.submit(volume.id, task)


def delete_volume(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    volume = cloud.volume(ctx, params["VolumeId"])
    if volume.attachment is not None:
        raise Ec2Error("VolumeInUse", f"Volume {volume.id} is currently attached to {volume.attachment.instance_id}")
    if state(cloud, volume) not in ("available", "error"):
        raise Ec2Error("IncorrectState", f"Volume {volume.id} is in state {state(cloud, volume)}.")
    discard(cloud, volume)
    return {}


def discard(cloud: Ec2Cloud, volume: Volume) -> None:
    """Remove a volume at once and queue the deletion of its contents."""
    cloud.store.volumes.pop(volume.id, None)
    cloud.work.submit(volume.id, lambda: cloud.node.delete_volume(volume.id))


def attach_volume(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    volume, instance = cloud.volume(ctx, params["VolumeId"]), cloud.instance(ctx, params["InstanceId"])
    device = params["Device"]
    if volume.attachment is not None:
        if volume.multi_attach and volume.attachment.instance_id != instance.id:
            raise Ec2Error("UnsupportedOperation", "The sandbox attaches a volume to one instance only.")
        raise Ec2Error("VolumeInUse", f"{volume.id} is already attached to an instance")
    if state(cloud, volume) != "available":
        raise Ec2Error("IncorrectState", f"Volume '{volume.id}' is not 'available'.")
    if instance.state(cloud.now()) not in ("running", "stopped"):
        raise Ec2Error("IncorrectState", f"Instance '{instance.id}' is not 'running'.")
    if not is_device_name(device):
        raise Ec2Error(
            "InvalidParameterValue",
            f"Value ({device}) for parameter device is invalid. {device} is not a valid EBS device name.",
        )
    if volume.availability_zone != instance.availability_zone:
        raise Ec2Error(
            "InvalidVolume.ZoneMismatch",
            f"The volume '{volume.id}' is not in the same availability zone as instance '{instance.id}'",
        )
    if any(v.attachment and v.attachment.device == device for v in cloud.volumes_of(instance)):
        raise Ec2Error(
            "InvalidParameterValue",
            f"Invalid value '{device}' for unixDevice. Attachment point {device} is already in use",
        )
    progress = cloud.progress(0.0)
    volume.attachment = Attachment(instance.id, device, cloud.now(), False, progress)

    def attach() -> None:
        # A stopped instance finds its volumes when it starts.
        if instance.goal == "running":
            with cloud.recording(progress):
                cloud.node.attach(instance.id, volume.id, device)
        with cloud.lock:
            progress.succeed()

    cloud.work.submit(instance.id, attach)
    return _attachment(cloud, volume)


def detach_volume(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    volume = cloud.volume(ctx, params["VolumeId"])
    attachment = volume.attachment
    if attachment is None or attachment.detaching:
        raise Ec2Error("IncorrectState", f"Volume '{volume.id}' is in the 'available' state.")
    if params.get("InstanceId") and params["InstanceId"] != attachment.instance_id:
        raise Ec2Error("InvalidAttachment.NotFound", f"Volume '{volume.id}' is not attached to {params['InstanceId']}")
    instance = cloud.store.instances[attachment.instance_id]
    if attachment.device == instance.root_device_name and instance.state(cloud.now()) != "stopped":
        raise Ec2Error(
            "OperationNotPermitted", f"Unable to detach root volume '{volume.id}' from instance '{instance.id}'"
        )
    attachment.detaching = True

    def detach() -> None:
        is_in_use = False
        try:
            if instance.goal == "running":
                cloud.node.detach(instance.id, volume.id)
        except VolumeInUse:  # as on EC2, it is detached when the guest no longer uses it
            is_in_use = True
            cloud.work.submit(instance.id, detach)
        finally:
            if not is_in_use:
                with cloud.lock:
                    volume.attachment = None

    cloud.work.submit(instance.id, detach)
    return _attachment(cloud, volume)


# --- describing -------------------------------------------------------------------------------------------------------


def state(cloud: Ec2Cloud, volume: Volume) -> str:
    if volume.deleting:
        return "deleting"
    condition = volume.progress.condition(cloud.now())
    if condition == "failed":
        return "error"
    if volume.attachment is not None:
        return "in-use"
    return "available" if condition == "ready" else "creating"


def attachment_state(cloud: Ec2Cloud, attachment: Attachment) -> str:
    if attachment.detaching:
        return "detaching"
    return "attached" if attachment.progress.condition(cloud.now()) == "ready" else "attaching"


def _attachment(cloud: Ec2Cloud, volume: Volume) -> dict[str, Any]:
    attachment = volume.attachment
    assert attachment is not None
    return {
        "VolumeId": volume.id,
        "InstanceId": attachment.instance_id,
        "Device": attachment.device,
        "State": attachment_state(cloud, attachment),
        "AttachTime": whole_seconds(attachment.attached),
        "DeleteOnTermination": attachment.delete_on_termination,
    }


def rendered(cloud: Ec2Cloud, volume: Volume) -> dict[str, Any]:
    answer = {
        "VolumeId": volume.id,
        "Size": volume.size,
        "SnapshotId": volume.snapshot_id or "",
        "AvailabilityZone": volume.availability_zone,
        "State": state(cloud, volume),
        "CreateTime": volume.created,
        "VolumeType": volume.type,
        "Iops": volume.iops,
        "Throughput": volume.throughput,
        "Encrypted": volume.encryption is not None,
        "KmsKeyId": volume.encryption.key_arn if volume.encryption else None,
        "MultiAttachEnabled": volume.multi_attach,
        "Attachments": [_attachment(cloud, volume)] if volume.attachment else [],
        "Tags": tags.rendered(volume),
    }
    if volume.encryption:
        answer["SseType"] = "sse-ebs"
    return answer


FILTERS: dict[str, Source] = {
    "attachment.attach-time": "Attachments.AttachTime",
    "attachment.delete-on-termination": "Attachments.DeleteOnTermination",
    "attachment.device": "Attachments.Device",
    "attachment.instance-id": "Attachments.InstanceId",
    "attachment.status": "Attachments.State",
    "availability-zone": "AvailabilityZone",
    "create-time": "CreateTime",
    "encrypted": "Encrypted",
    "multi-attach-enabled": "MultiAttachEnabled",
    "size": "Size",
    "snapshot-id": "SnapshotId",
    "status": "State",
    "volume-id": "VolumeId",
    "volume-type": "VolumeType",
}


def select_volumes(cloud: Ec2Cloud, ctx: Ctx, ids: list[str] | None) -> list[Volume]:
    """Return the caller's volumes, or those with the given ids. Raises InvalidVolume.NotFound."""
    return cloud.select("vol", cloud.store.volumes, ctx, ids)


def describe_volumes(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    found = select_volumes(cloud, ctx, params.get("VolumeIds"))
    answers = [rendered(cloud, v) for v in found]
    return described("Volumes", answers, params, FILTERS, ["CreateTime", "VolumeId"])


ACTIONS: dict[str, Action] = {
    "CreateVolume": create_volume,
    "DeleteVolume": delete_volume,
    "AttachVolume": attach_volume,
    "DetachVolume": detach_volume,
    "DescribeVolumes": describe_volumes,
}
