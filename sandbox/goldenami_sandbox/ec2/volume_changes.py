"""Changes of a volume's size and type, its status and its attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from goldenami_sandbox.ec2 import volumes
from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.ec2.core import Action, Ec2Cloud
from goldenami_sandbox.ec2.filters import Source
from goldenami_sandbox.ec2.pagination import described
from goldenami_sandbox.ec2.records import Modification, Volume

_PAUSE = 6 * 3600.0  # seconds that EBS requires between two modifications of a volume


def modify_volume(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    """ModifyVolume. Type and performance change at once. EC2 returns the new size at once; the contents grow with
    snapshots.
    """
    volume = cloud.volume(ctx, params["VolumeId"])
    if volumes.state(cloud, volume) not in ("available", "in-use"):
        raise Ec2Error("IncorrectState", f"Volume {volume.id} is in state {volumes.state(cloud, volume)}.")
    now = cloud.now()
    if volume.modification is not None and now - volume.modification.started < _PAUSE:
        raise Ec2Error(
            "VolumeModificationRateExceeded",
            "You've reached the maximum modification rate per volume limit. Wait at least 6 hours between "
            "modifications per EBS volume.",
        )
    size, kind = params.get("Size") or volume.size, params.get("VolumeType") or volume.type
    if size < volume.size:
        raise Ec2Error("InvalidParameterValue", "New size cannot be smaller than existing size")
    volumes.check_size(size, kind, None)
    same = kind == volume.type
    iops = params.get("Iops") or (volume.iops if same and kind != "gp2" else None)
    throughput = params.get("Throughput") or (volume.throughput if same else None)
    target = volumes.performance(kind, size, iops, throughput)
    volume.modification = Modification(
        started=now,
        progress=cloud.progress(cloud.settings.pending.volume, done=True),
        original_size=volume.size,
        original_type=volume.type,
        original_iops=volume.iops,
        original_throughput=volume.throughput,
    )
    volume.size, volume.type = size, kind
    volume.iops, volume.throughput = target
    return {"VolumeModification": _modification(cloud, volume, volume.modification)}


def _modification(cloud: Ec2Cloud, volume: Volume, change: Modification) -> dict[str, Any]:
    done = change.progress.condition(cloud.now()) == "ready"
    return {
        "VolumeId": volume.id,
        "ModificationState": "completed" if done else "modifying",
        "TargetSize": volume.size,
        "TargetVolumeType": volume.type,
        "TargetIops": volume.iops,
        "TargetThroughput": volume.throughput,
        "OriginalSize": change.original_size,
        "OriginalVolumeType": change.original_type,
        "OriginalIops": change.original_iops,
        "OriginalThroughput": change.original_throughput,
        "Progress": change.progress.percent(cloud.now()),
        "StartTime": change.started,
        "EndTime": change.progress.until if done else None,
    }


_MODIFICATION_FILTERS: dict[str, Source] = {
    "modification-state": "ModificationState",
    "original-iops": "OriginalIops",
    "original-size": "OriginalSize",
    "original-volume-type": "OriginalVolumeType",
    "target-iops": "TargetIops",
    "target-size": "TargetSize",
    "target-volume-type": "TargetVolumeType",
    "volume-id": "VolumeId",
}


def describe_volumes_modifications(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    found = volumes.select_volumes(cloud, ctx, params.get("VolumeIds"))
    answers = [_modification(cloud, v, v.modification) for v in found if v.modification is not None]
    if params.get("VolumeIds") and len(answers) < len(found):
        missing = next(v.id for v in found if v.modification is None)
        raise Ec2Error("InvalidVolumeModification.NotFound", f"Modification for volume '{missing}' does not exist.")
    return described("VolumesModifications", answers, params, _MODIFICATION_FILTERS, ["VolumeId"])


_STATUS_FILTERS: dict[str, Source] = {
    "availability-zone": "AvailabilityZone",
    "volume-status.status": "VolumeStatus.Status",
}


def describe_volume_status(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    answers: list[dict[str, Any]] = []
    for volume in volumes.select_volumes(cloud, ctx, params.get("VolumeIds")):
        ready = volumes.state(cloud, volume) in ("available", "in-use")
        check = "passed" if ready else "not-applicable"
        answers.append(
            {
                "VolumeId": volume.id,
                "AvailabilityZone": volume.availability_zone,
                "Actions": [],
                "Events": [],
                "VolumeStatus": {
                    "Status": "ok" if ready else "insufficient-data",
                    "Details": [
                        {"Name": "io-enabled", "Status": check},
                        {"Name": "io-performance", "Status": "not-applicable"},
                    ],
                },
            }
        )
    return described("VolumeStatuses", answers, params, _STATUS_FILTERS, ["VolumeId"])


def describe_volume_attribute(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    volume = cloud.volume(ctx, params["VolumeId"])
    if params["Attribute"] == "autoEnableIO":
        return {"VolumeId": volume.id, "AutoEnableIO": {"Value": volume.auto_enable_io}}
    if params["Attribute"] == "productCodes":
        return {"VolumeId": volume.id, "ProductCodes": []}
    raise Ec2Error("InvalidParameterValue", f"Value ({params['Attribute']}) for parameter attribute is invalid.")


def modify_volume_attribute(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    volume = cloud.volume(ctx, params["VolumeId"])
    if "AutoEnableIO" not in params:
        raise Ec2Error("InvalidParameterCombination", "No attributes specified.")
    volume.auto_enable_io = bool(params["AutoEnableIO"].get("Value"))
    return {}


ACTIONS: dict[str, Action] = {
    "ModifyVolume": modify_volume,
    "DescribeVolumesModifications": describe_volumes_modifications,
    "DescribeVolumeStatus": describe_volume_status,
    "DescribeVolumeAttribute": describe_volume_attribute,
    "ModifyVolumeAttribute": modify_volume_attribute,
}
