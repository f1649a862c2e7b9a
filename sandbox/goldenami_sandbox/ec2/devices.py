"""Block device mappings: those of an image or instance, and the changes of a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from goldenami_sandbox.ec2 import volumes
from goldenami_sandbox.ec2.context import Ec2Error
from goldenami_sandbox.ec2.core import Ec2Cloud
from goldenami_sandbox.ec2.records import ImageDevice, Snapshot


def merged(own: Sequence[ImageDevice], overrides: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return an image's mappings merged with those of a request, in the request's form (DeviceName, Ebs).

    A request changes an existing device field by field, removes it by NoDevice, or adds a new device. Raises Ec2Error
    for a mapping without a device name, or for a device that is given twice. Instance store volumes (VirtualName) do
    not exist here and are left out.
    """
    result: dict[str, dict[str, Any]] = {
        d.device: {"DeviceName": d.device, "Ebs": _as_request(d)} for d in own if not d.virtual_name
    }
    seen = set()
    for item in overrides:
        name = item.get("DeviceName")
        if not name:
            raise Ec2Error("MissingParameter", "The request must contain the parameter deviceName")
        if not volumes.is_device_name(name):
            raise Ec2Error("InvalidBlockDeviceMapping", f"Invalid device name {name}")
        if name in seen:
            raise Ec2Error(
                "InvalidBlockDeviceMapping", f"The device '{name}' is used in more than one block-device mapping"
            )
        seen.add(name)
        if "NoDevice" in item:
            result.pop(name, None)
        elif not item.get("VirtualName"):
            before = result[name]["Ebs"] if name in result else {}
            result[name] = {"DeviceName": name, "Ebs": _changed(before, item.get("Ebs") or {})}
    return list(result.values())


def _as_request(device: ImageDevice) -> dict[str, Any]:
    ebs = {
        "SnapshotId": device.snapshot_id,
        "VolumeSize": device.size,
        "VolumeType": device.type,
        "Iops": device.iops,
        "Throughput": device.throughput,
        "DeleteOnTermination": device.delete_on_termination,
        "Encrypted": device.encrypted or None,
    }
    return {k: v for k, v in ebs.items() if v is not None}


def _changed(before: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    result = {**before, **change}
    if "VolumeType" in change and change["VolumeType"] != before.get("VolumeType"):
        # Values of one volume type do not apply to another.
        for name in ("Iops", "Throughput"):
            if name not in change:
                result.pop(name, None)
    return result


def check(item: Mapping[str, Any], source: Snapshot | None) -> tuple[str, int, int | None, int | None]:
    """Check type, size, IOPS and throughput of a mapping's volume. Raises Ec2Error for invalid values."""
    ebs = item["Ebs"]
    size = ebs.get("VolumeSize") or (source.size if source is not None else None)
    if size is None:
        raise Ec2Error(
            "MissingParameter", f"The request must contain the parameter size or snapshotId for {item['DeviceName']}"
        )
    kind = ebs.get("VolumeType") or "gp2"
    volumes.check_size(size, kind, source)
    iops, throughput = volumes.performance(kind, size, ebs.get("Iops"), ebs.get("Throughput"))
    return kind, size, iops if kind != "gp2" else None, throughput


def image_device(cloud: Ec2Cloud, item: Mapping[str, Any], snapshot: Snapshot | None) -> ImageDevice:
    """Return the image's mapping for a mapping of a request. ``snapshot``: the new snapshot of the device, if any."""
    ebs = item["Ebs"]
    source = snapshot or cloud.store.snapshots.get(ebs.get("SnapshotId") or "")
    kind, size, iops, throughput = check(item, source)
    return ImageDevice(
        device=item["DeviceName"],
        snapshot_id=source.id if source is not None else None,
        size=size,
        type=kind,
        iops=iops,
        throughput=throughput,
        delete_on_termination=bool(ebs.get("DeleteOnTermination", True)),
        encrypted=source.encryption is not None if source is not None else bool(ebs.get("Encrypted")),
    )
