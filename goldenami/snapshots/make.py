"""``snapshot volume``, ``register`` and ``image``: creates volumes and images from snapshots and instances."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, Literal

from goldenami.aws import images, volumes, waiters
from goldenami.aws.ledger import Call
from goldenami.aws.volumes import Volume
from goldenami.aws.waiters import Item
from goldenami.errors import UsageError
from goldenami.model import LONGEST_DESCRIPTION, Architecture, Place
from goldenami.nextstep import command
from goldenami.snapshots import names
from goldenami.snapshots.progress import progress_events
from goldenami.task import TEMPORARY, Task

BootMode = Literal["legacy-bios", "uefi", "uefi-preferred"]
_DATA_DEVICES: Final = tuple(
    f"/dev/sd{letter}" for letter in "fghijklmnop"
)  # EC2 recommends these names for data volumes


def check_usable(item: Item) -> None:
    """Check that a snapshot can be used. Raises UsageError if it is not completed, or is archived."""
    if item.get("State") != "completed":
        raise UsageError(f"{item['SnapshotId']} is {item.get('State')}, expected completed")
    if item.get("StorageTier") == "archive":
        raise UsageError(
            f"{item['SnapshotId']} is archived",
            hint=f"Restore it first: {command('snapshot restore-archive', item['SnapshotId'])}",
        )


def free_device(attached: Collection[Volume]) -> str:
    """Return the first free device name for a data volume. Raises UsageError if there is none."""
    taken = {v.device for v in attached} | {str(v.device).replace("/dev/xvd", "/dev/sd") for v in attached}
    free = next((d for d in _DATA_DEVICES if d not in taken), None)
    if free is None:
        raise UsageError(
            f"--device is missing, and all of {_DATA_DEVICES[0]} to {_DATA_DEVICES[-1]} are in use",
            hint="Give --device with another device name.",
        )
    return free


def volume(
    job: Task,
    place: Place,
    item: Item,
    *,
    zone: str,
    name: str,
    type: str | None = None,
    size_gib: int | None = None,
    iops: int | None = None,
    throughput: int | None = None,
    kms_key: str | None = None,
    attach_to: str | None = None,
    device: str | None = None,
) -> Volume:
    """Create a volume from a snapshot, and attach it to the instance ``attach_to``. ``kms_key``: an ARN."""
    check_usable(item)
    made = volumes.create(
        job.ledger,
        "volume",
        place,
        snapshot_id=item["SnapshotId"],
        zone=zone,
        name=name,
        type=type,
        size_gib=size_gib,
        iops=iops,
        throughput=throughput,
        kms_key=kms_key,
        tags=names.own_tags(item),
    )
    volumes.wait_available(job.ledger, place, [made])
    if attach_to is not None:
        at = device or free_device(volumes.of_instance(job.cloud, place, attach_to))
        volumes.attach(job.ledger, "attach", place, made, attach_to, at)
    return volumes.describe_many(job.cloud, place, [made])[made]


def register(
    job: Task,
    place: Place,
    item: Item,
    *,
    name: str,
    architecture: Architecture,
    root_device: str = "/dev/xvda",
    boot_mode: BootMode | None = None,
    imds_v2: bool = True,
    ena: bool = True,
    description: str = "",
    key: str = "image",
    tags: Mapping[str, str] | None = None,
) -> Item:
    """Register an image with a snapshot as its root volume. EC2 does not check whether its contents can boot."""
    check_usable(item)
    request: dict[str, Any] = {
        "Name": images.valid_name(name),
        "Architecture": architecture,
        "RootDeviceName": root_device,
        "VirtualizationType": "hvm",
        "EnaSupport": ena,
        "BlockDeviceMappings": [
            {
                "DeviceName": root_device,
                "Ebs": {"SnapshotId": item["SnapshotId"], "VolumeType": "gp3", "DeleteOnTermination": True},
            }
        ],
        # The snapshot exists already and keeps its tags.
        "TagTypes": ["image"],
    }
    if boot_mode is not None:
        request["BootMode"] = boot_mode
    if imds_v2:
        request["ImdsSupport"] = "v2.0"
    if description:
        request["Description"] = description[:LONGEST_DESCRIPTION]
    call = Call("ec2", "RegisterImage", request)
    temporary = key.startswith(TEMPORARY)
    with images.name_refused(job.ledger, place, request["Name"]):
        made = job.ledger.create(key, "image", place, call, name=name, tags=tags, temporary=temporary)
    return wait_available(job, place, made)


def image(
    job: Task, place: Place, instance_id: str, *, name: str, description: str = "", no_reboot: bool = False
) -> Item:
    """Create an image of an instance with all its volumes.

    EC2 reboots the instance, unless ``no_reboot``. Without a reboot, the filesystems are as after a power failure.
    """
    made = images.create(
        job.ledger,
        "image",
        place,
        instance_id=instance_id,
        name=name,
        description=description,
        no_reboot=no_reboot,
    )
    return wait_available(job, place, made)


def wait_available(job: Task, place: Place, image_id: str) -> Item:
    """Wait until an image is available, and return it. Raises CloudError if it failed."""
    seen = images.wait(job.ledger, place, [image_id], on_progress=progress_events(job, place))[image_id]
    if not seen.ok:
        raise waiters.failure(seen, "image", place)
    return seen.item
