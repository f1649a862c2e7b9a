"""``goldenami snapshot``: what is made of snapshots and instances."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from goldenami.cli.context import print_json
from goldenami.cli.options import Where, instance_argument, place_options, snapshot_argument, yes_option
from goldenami.cli.tasks import carried_out, confirm, open_place
from goldenami.errors import UsageError

if TYPE_CHECKING:
    from goldenami.model import Architecture
    from goldenami.snapshots.make import BootMode


@click.command()
@snapshot_argument
@click.option("--zone", metavar="ZONE", help="Availability zone. Default: that of the instance to attach to.")
@click.option("--name", help="Its Name tag. Default: the snapshot's.")
@click.option("--type", "kind", default="gp3", show_default=True, help="gp3, io2, st1, …")
@click.option("--size", type=int, metavar="GIB", help="Default: the snapshot's.")
@click.option("--iops", type=int, help="For gp3, io1 and io2.")
@click.option("--throughput", type=int, metavar="MIB/S", help="For gp3.")
@click.option("--kms-key", metavar="KEY", help="Encrypt under this key. Default: as the snapshot is.")
@click.option("--attach", metavar="INSTANCE", help="Attach it to this instance.")
@click.option("--device", metavar="DEVICE", help="As what. Default: the first free one of /dev/sdf to /dev/sdp.")
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
    """Make a volume of a snapshot, encrypted and attached if asked."""
    from goldenami.aws import kms
    from goldenami.snapshots import make, names

    environment, place, cloud = open_place(where)
    item = names.snapshot(cloud, place, reference)
    instance = names.instance(cloud, place, attach) if attach else None
    if instance is not None:
        of_instance = instance["Placement"]["AvailabilityZone"]
        if zone not in (None, of_instance):
            raise UsageError(f"{attach} is in {of_instance}: a volume in {zone} cannot be attached to it")
        zone = of_instance
    if zone is None:
        raise UsageError("in which zone?", hint=f"Give --zone (such as {place.region}a), or --attach INSTANCE.")
    if device is not None and instance is None:
        raise UsageError("--device is for --attach")
    key = kms.resolve(cloud, place, kms_key).arn if kms_key else None
    make.check_usable(item)
    arguments = {"snapshot": item["SnapshotId"], "zone": zone, "attach": attach}
    with carried_out(cloud, environment, "snapshot volume", arguments) as job:
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
    host = f"{made.instance_id} as {made.device}" if made.instance_id else "nothing"
    click.echo(f"{made.id}  {made.size_gib} GiB in {made.zone}, attached to {host}")


@click.command()
@snapshot_argument
@click.option("--name", required=True, help="The image's name; it has to be new in the account and region.")
@click.option(
    "--architecture", type=click.Choice(["x86_64", "arm64"]), required=True, help="What its contents are for."
)
@click.option("--root-device", default="/dev/xvda", show_default=True, help="The root's device name.")
@click.option("--boot-mode", type=click.Choice(["legacy-bios", "uefi", "uefi-preferred"]), help="Default: EC2's.")
@click.option("--imds", type=click.Choice(["v2", "any"]), default="v2", show_default=True, help="Metadata service.")
@click.option("--ena/--no-ena", default=True, show_default=True, help="Enhanced networking.")
@click.option("--description", default="")
@place_options
def register(
    reference: str,
    name: str,
    architecture: Architecture,
    root_device: str,
    boot_mode: BootMode | None,
    imds: str,
    ena: bool,
    description: str,
    where: Where,
    as_json: bool,
) -> None:
    """Register an image whose root is a snapshot."""
    from goldenami.snapshots import make, names

    environment, place, cloud = open_place(where)
    item = names.snapshot(cloud, place, reference)
    make.check_usable(item)
    with carried_out(cloud, environment, "snapshot register", {"snapshot": item["SnapshotId"], "name": name}) as job:
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
    _tell_image(made["ImageId"], made.get("Name", name), as_json, job.id)


@click.command()
@instance_argument
@click.option("--name", required=True, help="The image's name; it has to be new in the account and region.")
@click.option("--description", default="")
@click.option(
    "--no-reboot", is_flag=True, help="Do not shut it down for the moment: what was being written may be torn."
)
@yes_option
@place_options
def image(reference: str, name: str, description: str, no_reboot: bool, yes: bool, where: Where, as_json: bool) -> None:
    """Make an image of an instance, with all its volumes. It reboots for that, unless --no-reboot."""
    from goldenami.snapshots import make, names

    environment, place, cloud = open_place(where)
    instance = names.instance(cloud, place, reference)
    if not no_reboot and instance["State"]["Name"] == "running":
        confirm(f"{instance['InstanceId']} will be shut down and started again. Go on?", yes)
    with carried_out(cloud, environment, "snapshot image", {"instance": instance["InstanceId"], "name": name}) as job:
        made = make.image(job, place, instance["InstanceId"], name=name, description=description, no_reboot=no_reboot)
    _tell_image(made["ImageId"], made.get("Name", name), as_json, job.id)


def _tell_image(id: str, name: str, as_json: bool, task_id: str) -> None:
    if as_json:
        print_json({"schema": "goldenami.image/1", "task": task_id, "id": id, "name": name})
    else:
        click.echo(f"{id}  {name}")


commands = [volume, register, image]
