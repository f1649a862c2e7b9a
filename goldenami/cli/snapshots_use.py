"""``goldenami snapshot``, second half: what is made of snapshots, and how long they are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from goldenami.cli.context import print_json
from goldenami.cli.snapshots import change, snapshot, tell
from goldenami.cli.tasks import carried_out, confirm, moment, open_place, place_options, yes_option
from goldenami.errors import UsageError

__all__ = ["snapshot"]

if TYPE_CHECKING:
    from goldenami.model import Architecture
    from goldenami.snapshots.make import BootMode

references_argument = click.argument("references", metavar="SNAPSHOT...", nargs=-1, required=True)


# --- what is made of them ---------------------------------------------------------------------------------------------


@snapshot.command()
@click.argument("reference", metavar="SNAPSHOT")
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
    environment_name: str | None,
    region: str | None,
    account: str | None,
    as_json: bool,
) -> None:
    """Make a volume of a snapshot, encrypted and attached if asked."""
    from goldenami.aws import kms
    from goldenami.snapshots import make, names

    environment, place, cloud = open_place(environment_name, region, account)
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
    where = f"{made.instance_id} as {made.device}" if made.instance_id else "nothing"
    click.echo(f"{made.id}  {made.size_gib} GiB in {made.zone}, attached to {where}")


@snapshot.command()
@click.argument("reference", metavar="SNAPSHOT")
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
    environment_name: str | None,
    region: str | None,
    account: str | None,
    as_json: bool,
) -> None:
    """Register an image whose root is a snapshot."""
    from goldenami.snapshots import make, names

    environment, place, cloud = open_place(environment_name, region, account)
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


@snapshot.command()
@click.argument("reference", metavar="INSTANCE")
@click.option("--name", required=True, help="The image's name; it has to be new in the account and region.")
@click.option("--description", default="")
@click.option(
    "--no-reboot", is_flag=True, help="Do not shut it down for the moment: what was being written may be torn."
)
@yes_option
@place_options
def image(
    reference: str,
    name: str,
    description: str,
    no_reboot: bool,
    yes: bool,
    environment_name: str | None,
    region: str | None,
    account: str | None,
    as_json: bool,
) -> None:
    """Make an image of an instance, with all its volumes. It reboots for that, unless --no-reboot."""
    from goldenami.snapshots import make, names

    environment, place, cloud = open_place(environment_name, region, account)
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


# --- how long they are kept -------------------------------------------------------------------------------------------


@snapshot.command()
@references_argument
@yes_option
@place_options
def delete(
    references: tuple[str, ...],
    yes: bool,
    environment_name: str | None,
    region: str | None,
    account: str | None,
    as_json: bool,
) -> None:
    """Delete snapshots. Refused, and none is deleted, if an image uses one of them or one is locked.

    Later snapshots of the same volume lose nothing. Asks first; without a terminal it needs --yes.
    """
    from goldenami.snapshots import keep

    environment, place, cloud, items, arguments = change(references, (environment_name, region, account))
    keep.check_deletable(cloud, place, items)
    confirm(f"Delete {', '.join(s['SnapshotId'] for s in items)} for good?", yes)
    with carried_out(cloud, environment, "snapshot delete", arguments) as job:
        recoverable = keep.delete(job, place, items)
    deleted = [s["SnapshotId"] for s in items]
    if as_json:
        binned = {id: until.isoformat(timespec="seconds") for id, until in recoverable.items()}
        print_json({"schema": "goldenami.deleted/1", "task": job.id, "deleted": deleted, "recoverable": binned})
    else:
        for id in deleted:
            until = recoverable.get(id)
            click.echo(f"{id}  deleted" + (f"; in the Recycle Bin until {until:%Y-%m-%d %H:%M} UTC" if until else ""))


@snapshot.command()
@references_argument
@yes_option
@place_options
def archive(
    references: tuple[str, ...],
    yes: bool,
    environment_name: str | None,
    region: str | None,
    account: str | None,
    as_json: bool,
) -> None:
    """Move snapshots to the archive tier, which takes up to three days.

    There a snapshot is a full one, paid for 90 days at least, and of no use until it is restored; sharing ends. Later
    snapshots of the same volume keep what they refer to in the standard tier. Asks first; without a terminal it needs
    --yes.
    """
    from goldenami.snapshots import keep

    environment, place, cloud, items, arguments = change(references, (environment_name, region, account))
    keep.check_archivable(cloud, place, items)
    confirm(f"Archive {', '.join(s['SnapshotId'] for s in items)} (paid for 90 days at least)?", yes)
    with carried_out(cloud, environment, "snapshot archive", arguments) as job:
        keep.archive(job, place, items)
    tell(place, cloud, items, as_json, job.id)


@snapshot.command("restore-archive")
@references_argument
@click.option("--days", type=click.IntRange(1, 180), help="For so many days; then it is archived again by itself.")
@click.option("--permanent", is_flag=True, help="For good.")
@place_options
def restore_archive(
    references: tuple[str, ...],
    days: int | None,
    permanent: bool,
    environment_name: str | None,
    region: str | None,
    account: str | None,
    as_json: bool,
) -> None:
    """Bring snapshots back from the archive tier, which takes up to three days: for some --days, or --permanent."""
    from goldenami.snapshots import keep

    if permanent == (days is not None):
        raise UsageError("for how long?", hint="Give --days NUMBER, or --permanent.")
    environment, place, cloud, items, arguments = change(references, (environment_name, region, account))
    with carried_out(cloud, environment, "snapshot restore-archive", {**arguments, "days": days}) as job:
        keep.restore_archived(job, place, items, days=days)
    tell(place, cloud, items, as_json, job.id)


@snapshot.command()
@references_argument
@click.option("--mode", type=click.Choice(["governance", "compliance"]), default="governance", show_default=True)
@click.option("--days", type=click.IntRange(1, 36500), help="For so many days.")
@click.option("--until", metavar="TIME", help="Until then.")
@click.option(
    "--cool-off", type=click.IntRange(1, 72), metavar="HOURS", help="For compliance: how long it can be undone."
)
@yes_option
@place_options
def lock(
    references: tuple[str, ...],
    mode: Literal["governance", "compliance"],
    days: int | None,
    until: str | None,
    cool_off: int | None,
    yes: bool,
    environment_name: str | None,
    region: str | None,
    account: str | None,
    as_json: bool,
) -> None:
    """Lock snapshots against deletion.

    Whoever has the permission can lift a governance lock. A compliance lock can be lifted by nobody, AWS included, once
    its cool-off is over; without --cool-off that is at once. So that one asks first.
    """
    from goldenami.snapshots import keep

    if (days is None) == (until is None):
        raise UsageError("for how long?", hint="Give --days NUMBER, or --until TIME.")
    if cool_off is not None and mode != "compliance":
        raise UsageError("--cool-off is for --mode compliance")
    moment_until = moment(until) if until else None
    environment, place, cloud, items, arguments = change(references, (environment_name, region, account))
    if mode == "compliance":
        after = f"after {cool_off} hours" if cool_off else "from this moment on"
        confirm(f"Nobody will be able to delete {', '.join(s['SnapshotId'] for s in items)} {after}. Lock?", yes)
    with carried_out(cloud, environment, "snapshot lock", {**arguments, "mode": mode}) as job:
        keep.lock(job, place, items, mode=mode, days=days, until=moment_until, cool_off_hours=cool_off)
    tell(place, cloud, items, as_json, job.id)


@snapshot.command()
@references_argument
@place_options
def unlock(
    references: tuple[str, ...], environment_name: str | None, region: str | None, account: str | None, as_json: bool
) -> None:
    """Lift the locks of snapshots: governance ones, and compliance ones during their cool-off."""
    from goldenami.snapshots import keep

    environment, place, cloud, items, arguments = change(references, (environment_name, region, account))
    with carried_out(cloud, environment, "snapshot unlock", arguments) as job:
        keep.unlock(job, place, items)
    tell(place, cloud, items, as_json, job.id)
