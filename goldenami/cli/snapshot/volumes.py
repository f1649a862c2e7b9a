"""Volumes and images from snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from goldenami.cli.context import print_json
from goldenami.cli.options import (
    Where,
    description_option,
    instance_argument,
    place_options,
    snapshot_argument,
    yes_option,
)
from goldenami.cli.tasks import confirm, open_place, run_task
from goldenami.errors import UsageError

if TYPE_CHECKING:
    from goldenami.model import Architecture
    from goldenami.snapshots.make import BootMode


@click.command()
@snapshot_argument
@click.option("--zone", metavar="ZONE", help="Availability zone. Default: the zone of the --attach instance.")
@click.option("--name", help="Name tag of the volume. Default: the snapshot's.")
@click.option("--type", "kind", default="gp3", show_default=True, help="Volume type of EC2, for example io2 or st1.")
@click.option("--size", type=int, metavar="GIB", help="Size in GiB. Default: the snapshot's size.")
@click.option("--iops", type=int, help="I/O operations per second, for gp3, io1 and io2.")
@click.option("--throughput", type=int, metavar="MIB/S", help="Throughput in MiB/s, for gp3.")
@click.option("--kms-key", metavar="KEY", help="Encrypt the volume under this key. Default: as the snapshot.")
@click.option("--attach", metavar="INSTANCE", help="Attach the volume to this instance.")
@click.option(
    "--device", metavar="DEVICE", help="Device name for --attach. Default: the first free one of /dev/sdf to /dev/sdp."
)
@place_options
def volume(
    reference: str,
    zone: str | None,
    name: str | None,
    kind: str,
    size: int | None,
    iops: int | None,
    throughput: int | None,
    kms_key: str | None,
    attach: str | None,
    device: str | None,
    where: Where,
    as_json: bool,
) -> None:
    """Create a volume from a snapshot, and attach it to an instance with --attach."""
    from goldenami.aws import kms
    from goldenami.snapshots import make, names

    environment, place, cloud = open_place(where)
    item = names.snapshot(cloud, place, reference, shared=True)
    instance = names.instance(cloud, place, attach) if attach else None
    if instance is not None:
        of_instance = instance["Placement"]["AvailabilityZone"]
        if zone not in (None, of_instance):
            raise UsageError(
                f"--zone is {zone}, but the instance {attach} of --attach is in {of_instance}",
                hint=f"Omit --zone, or give --zone {of_instance}.",
            )
        zone = of_instance
    if zone is None:
        raise UsageError(
            f"--zone is missing. Expected: an availability zone, for example {place.region}a",
            hint="Give --zone ZONE; or give --attach INSTANCE to use the zone of that instance.",
        )
    if device is not None and instance is None:
        raise UsageError(
            f"--device {device}: expected --attach as well", hint="Add --attach INSTANCE, or omit --device."
        )
    key = kms.resolve(cloud, place, kms_key).arn if kms_key else None
    make.check_usable(item)
    arguments = {"snapshot": item["SnapshotId"], "zone": zone, "attach": attach}
    with run_task(cloud, environment, "snapshot volume", arguments) as job:
        made = make.volume(
            job,
            place,
            item,
            zone=zone,
            name=name or names.name_of(item) or item["SnapshotId"],
            type=kind,
            size_gib=size,
            iops=iops,
            throughput=throughput,
            kms_key=key,
            attach_to=instance["InstanceId"] if instance else None,
            device=device,
        )
    if as_json:
        print_json(
            {
                "schema": "goldenami.volume/1",
                "task": job.id,
                "id": made.id,
                "account": place.account,
                "region": place.region,
                "zone": made.zone,
                "size_gib": made.size_gib,
                "type": made.type,
                "encrypted": made.encrypted,
                "kms_key": made.kms_key,
                "snapshot": made.snapshot_id,
                "instance": made.instance_id,
                "device": made.device,
            }
        )
        return
    host = f"{made.instance_id} as {made.device}" if made.instance_id else "no instance"
    click.echo(f"{made.id}  {made.size_gib} GiB in {made.zone}, attached to {host}")


@click.command()
@snapshot_argument
@click.option("--name", required=True, help="The image's name; it has to be new in the account and region.")
@click.option(
    "--architecture",
    type=click.Choice(["x86_64", "arm64"]),
    required=True,
    help="Processor architecture of the snapshot's contents.",
)
@click.option("--root-device", default="/dev/xvda", show_default=True, help="Device name of the root volume.")
@click.option(
    "--boot-mode",
    type=click.Choice(["legacy-bios", "uefi", "uefi-preferred"]),
    help="Boot mode. Default: the default of EC2.",
)
@click.option(
    "--imds",
    type=click.Choice(["v2", "any"]),
    default="v2",
    show_default=True,
    help="Required version of the instance metadata service.",
)
@click.option("--ena/--no-ena", default=True, show_default=True, help="Enable enhanced networking (ENA).")
@click.option(
    "--copy",
    "own_copy",
    is_flag=True,
    help="Register a copy of the snapshot. Required for a snapshot of another account.",
)
@click.option("--kms-key", metavar="KEY", help="With --copy: key of the copy. Required for an encrypted snapshot.")
@description_option
@place_options
def register(
    reference: str,
    name: str,
    architecture: Architecture,
    root_device: str,
    boot_mode: BootMode | None,
    imds: str,
    ena: bool,
    own_copy: bool,
    kms_key: str | None,
    description: str,
    where: Where,
    as_json: bool,
) -> None:
    """Register an image with a snapshot as its root volume.

    EC2 registers only snapshots of the own account. One that another account shares, or that is public, is copied first
    with --copy. The copy stays, because the image consists of it.
    """
    from goldenami.snapshots import copy, make, names

    if kms_key is not None and not own_copy:
        raise UsageError("found --kms-key without --copy, expected both")
    environment, place, cloud = open_place(where)
    item = names.snapshot(cloud, place, reference, shared=True)
    make.check_usable(item)
    if not own_copy and item.get("OwnerId", place.account) != place.account:
        raise UsageError(
            f"{item['SnapshotId']} belongs to account {item['OwnerId']}, and EC2 registers only own snapshots",
            hint="Add --copy to register a copy of it" + (", and --kms-key." if item.get("Encrypted") else "."),
        )
    to = copy.destination(cloud, place, [item], kms_key) if own_copy else None
    arguments = {"snapshot": item["SnapshotId"], "name": name}
    with run_task(cloud, environment, "snapshot register", arguments, undo=copy.take_back) as job:
        if to is not None:
            (copied,) = copy.copy(job, place, [item], [to], name=name)
            item = copied.item
        made = make.register(
            job,
            place,
            item,
            name=name,
            architecture=architecture,
            root_device=root_device,
            boot_mode=boot_mode,
            imds_v2=imds == "v2",
            ena=ena,
            description=description,
        )
    _print_image(made["ImageId"], made.get("Name", name), as_json, job.id)


@click.command()
@instance_argument
@click.option("--name", required=True, help="The image's name; it has to be new in the account and region.")
@description_option
@click.option(
    "--no-reboot",
    is_flag=True,
    help="Do not reboot the instance. Writes that are in progress may be incomplete in the image.",
)
@yes_option
@place_options
def image(reference: str, name: str, description: str, no_reboot: bool, yes: bool, where: Where, as_json: bool) -> None:
    """Create an image of an instance with all its volumes.

    EC2 reboots the instance, unless --no-reboot is given. Without --yes the command asks before the reboot.
    """
    from goldenami.snapshots import make, names

    environment, place, cloud = open_place(where)
    instance = names.instance(cloud, place, reference)
    if not no_reboot and instance["State"]["Name"] == "running":
        confirm(f"{instance['InstanceId']} will be rebooted. Continue?", yes)
    with run_task(cloud, environment, "snapshot image", {"instance": instance["InstanceId"], "name": name}) as job:
        made = make.image(job, place, instance["InstanceId"], name=name, description=description, no_reboot=no_reboot)
    _print_image(made["ImageId"], made.get("Name", name), as_json, job.id)


def _print_image(id: str, name: str, as_json: bool, task_id: str) -> None:
    if as_json:
        print_json({"schema": "goldenami.image/1", "task": task_id, "id": id, "name": name})
    else:
        click.echo(f"{id}  {name}")
