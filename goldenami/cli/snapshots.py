"""The commands of ``goldenami snapshot``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import click

from goldenami.cli import places
from goldenami.cli.context import account_id, open_catalog, print_json, print_table
from goldenami.cli.lineage import lineage
from goldenami.cli.options import (
    Where,
    address_option,
    description_option,
    everywhere_option,
    instance_argument,
    no_wait_option,
    place_options,
    snapshot_argument,
    snapshots_argument,
    ssh_options,
    yes_option,
)
from goldenami.cli.tasks import (
    confirm,
    confirm_address,
    environment_key,
    find_place,
    open_place,
    open_places,
    parse_time,
    run_task,
)
from goldenami.errors import TestsFailed, UsageError
from goldenami.nextstep import command, step

if TYPE_CHECKING:
    from goldenami.aws.session import Cloud
    from goldenami.aws.waiters import Item
    from goldenami.model import Architecture, Environment, Place
    from goldenami.snapshots.access import Access
    from goldenami.snapshots.make import BootMode
    from goldenami.snapshots.restore import Step
    from goldenami.task import Task, Undo

RESTORE_SCHEMA = "goldenami.restore/1"


@click.group()
def snapshot() -> None:
    """Create, find, copy, share, restore, archive and lock snapshots.

    SNAPSHOT is an id or a Name tag. A command that accepts several snapshots also accepts NAME@CHANNEL and
    NAME@VERSION: all snapshots of that release. Every resource that a command creates is in its journal. If the command
    is killed, `goldenami clean` deletes these resources.
    """


snapshot.add_command(lineage)


# --- create, list, show, copy -----------------------------------------------------------------------------------------


@snapshot.command()
@click.argument("subject", metavar="VOLUME|INSTANCE")
@click.option("--name", required=True, help="Name tag. `snapshot restore --to NAME` finds the snapshots by it.")
@description_option
@click.option("--exclude", metavar="VOLUME", multiple=True, help="Exclude this data volume of the instance.")
@click.option("--exclude-root", is_flag=True, help="Exclude the root volume.")
@click.option(
    "--consistent",
    is_flag=True,
    help="Freeze the filesystems over SSH while the snapshot is taken, so that no write is incomplete.",
)
@ssh_options
@no_wait_option
@place_options
def create(
    subject: str,
    name: str,
    description: str,
    exclude: tuple[str, ...],
    exclude_root: bool,
    consistent: bool,
    way_in: Access,
    no_wait: bool,
    where: Where,
    as_json: bool,
) -> None:
    """Create a snapshot of a volume, or of all volumes of an instance.

    All snapshots of an instance are taken at the same moment. Without --consistent they contain what a power failure
    would leave: data that applications have not flushed is missing. With --consistent the filesystems are frozen for
    at most 60 seconds. A watchdog on the host unfreezes them, even if this command is killed.

    Example: goldenami snapshot create i-0a1b --name before-upgrade --consistent
    """
    from goldenami.snapshots import access, freeze, names
    from goldenami.snapshots.create import create_of_instance, create_of_volume
    from goldenami.stages import transports

    if consistent:
        way_in = access.with_key(way_in)
    environment, place, cloud = open_place(where)
    is_volume = subject.startswith("vol-")
    volume = names.volume(cloud, place, subject) if is_volume else None
    if volume is not None and (exclude or exclude_root):
        raise UsageError(
            f"--exclude and --exclude-root: found the volume {subject}, expected an instance",
            hint="Omit both options, or name the instance.",
        )
    host_id = (volume.instance_id if volume else subject) if consistent or volume is None else None
    if consistent and host_id is None:
        raise UsageError(
            f"--consistent: {subject} is not attached to an instance, so no filesystem can be frozen",
            hint="Omit --consistent. No program writes to a detached volume.",
        )
    instance = names.instance(cloud, place, host_id) if host_id is not None else None
    with ExitStack() as stack:
        frozen = None
        if consistent and instance is not None:
            # Connect before the task starts: if the host is unreachable, no resource has to be cleaned up.
            transport = stack.enter_context(transports.opened(environment, cloud, place))
            connection = stack.enter_context(
                access.connect(cloud, place, instance, environment.network, way_in, transport.opener)
            )
            frozen = freeze.frozen(connection)
        job = stack.enter_context(run_task(cloud, environment, "snapshot create", {"of": subject, "name": name}))
        common: dict[str, Any] = {"name": name, "description": description, "frozen": frozen, "wait": not no_wait}
        if volume is not None:
            made = create_of_volume(job, place, volume.id, **common)
        else:
            assert instance is not None
            made = create_of_instance(
                job, place, instance["InstanceId"], exclude=exclude, exclude_root=exclude_root, **common
            )
    print_snapshots(place, made, as_json=as_json, task_id=job.id)


@snapshot.command("list")
@click.option("--volume", metavar="VOLUME", help="Only snapshots of this volume.")
@click.option(
    "--instance",
    metavar="INSTANCE",
    help="Only snapshots of this instance's volumes, and of the volumes that those replaced.",
)
@click.option("--name", help="Only snapshots with this Name tag. * matches any text.")
@click.option("--tag", "tag_pairs", metavar="KEY=VALUE", multiple=True, help="Only snapshots with this tag.")
@click.option("--state", type=click.Choice(["pending", "completed", "error"]), help="Only snapshots in this state.")
@click.option("--tier", type=click.Choice(["standard", "archive"]), help="Only snapshots in this tier.")
@click.option("--encrypted/--plain", default=None, help="Only encrypted snapshots, or only unencrypted ones.")
@click.option(
    "--since",
    metavar="TIME",
    help="Only snapshots from this time or later: 2026-11-24T03:00, or 3d for three days ago.",
)
@click.option("--until", metavar="TIME", help="Only snapshots from this time or earlier.")
@everywhere_option
@place_options
def list_snapshots(
    volume: str | None,
    instance: str | None,
    name: str | None,
    tag_pairs: tuple[str, ...],
    state: str | None,
    tier: str | None,
    encrypted: bool | None,
    since: str | None,
    until: str | None,
    everywhere: bool,
    where: Where,
    as_json: bool,
) -> int:
    """List the account's snapshots in a region, the oldest first.

    The exit code is 6 if an account or region did not answer.
    """
    from goldenami.snapshots import listing, names

    pairs = [pair.partition("=") for pair in tag_pairs]
    if any(not separator for _, separator, _ in pairs):
        bad = ", ".join(key for key, separator, _ in pairs if not separator)
        raise UsageError(f"--tag {bad}: expected KEY=VALUE", hint="Write --tag Role=database, for example.")
    first, last = parse_time(since) if since else None, parse_time(until) if until else None
    _, at, cloud = open_places(where, everywhere=everywhere)

    def listed(place: Place) -> list[Item]:
        return listing.listed(
            cloud,
            place,
            volume=names.volume(cloud, place, volume).id if volume and not volume.startswith("vol-") else volume,
            instance=names.instance(cloud, place, instance)["InstanceId"] if instance else None,
            name=name,
            tag={key: value for key, _, value in pairs},
            state=state,
            tier=tier,
            encrypted=encrypted,
            since=first,
            until=last,
        )

    found, unreachable = places.ask(at, listed)
    if as_json:
        rows = [listing.to_json(place, item) for place, items in found.items() for item in items]
        print_json({"schema": listing.SCHEMA, "snapshots": rows, "unreachable": places.to_json(unreachable)})
    else:
        print_table_of(found, with_places=everywhere)
    places.tell(unreachable)
    return places.exit_code(unreachable)


@snapshot.command()
@snapshots_argument
@place_options
def show(references: tuple[str, ...], where: Where, as_json: bool) -> None:
    """Show all properties of snapshots.

    Included are the accounts that a snapshot is shared with, the images that use it, its lock and its tier.
    """
    from goldenami.snapshots import listing

    chosen = Chosen.find(references, where, to_change=False)
    rows = listing.details(chosen.cloud, chosen.place, chosen.items)
    if as_json:
        print_snapshots(chosen.place, chosen.items, as_json=True, full=rows)
        return
    for row in rows:
        click.echo(row["id"])
        for key, value in row.items():
            if key != "id" and value not in (None, "", [], {}):
                text = ", ".join(value) if isinstance(value, list) else value
                if isinstance(value, dict):
                    text = ", ".join(f"{k}={v}" for k, v in value.items() if v is not None)
                click.echo(f"  {key:<15} {text}")


@snapshot.command()
@snapshots_argument
@click.option(
    "--to-region", "regions", metavar="REGION", multiple=True, help="Destination region. Default: the source's."
)
@click.option(
    "--to-account", "accounts", metavar="ACCOUNT", multiple=True, help="Destination account. Default: the source's."
)
@click.option("--encrypt", is_flag=True, help="Encrypt the copies under the environment's key for each destination.")
@click.option(
    "--kms-key",
    metavar="KEY",
    help="Encrypt the copies under this key: an alias or an id that exists in each destination.",
)
@click.option("--name", help="Name tag of the copies. Default: the source's.")
@no_wait_option
@place_options
def copy(
    references: tuple[str, ...],
    regions: tuple[str, ...],
    accounts: tuple[str, ...],
    encrypt: bool,
    kms_key: str | None,
    name: str | None,
    no_wait: bool,
    where: Where,
    as_json: bool,
) -> int:
    """Copy snapshots to other regions and accounts.

    All copies run in parallel, within EC2's limits. If some copies fail, the completed ones stay, and the exit code is
    6. --region and --account select the sources. For an encrypted source, --kms-key or --encrypt is required: without a
    key, EC2 uses the default key without a warning, and copies under the default key cannot be shared.

    Example: goldenami snapshot copy before-upgrade --to-region eu-west-1 --encrypt
    """
    from goldenami import report
    from goldenami.snapshots import copy as copying
    from goldenami.snapshots import listing

    chosen = Chosen.find(references, where, to_change=False)
    environment, place = chosen.environment, chosen.place
    targets = [find_place(environment, r, a) for a in accounts or [place.account] for r in regions or [place.region]]
    keys = {p: kms_key or (environment_key(environment, p) if encrypt else None) for p in targets}
    destinations, unreachable = copying.destinations_for(chosen.cloud, chosen.items, keys)
    made: Sequence[copying.Copied] = ()
    failed: copying.CopiesFailed | None = None
    try:
        with chosen.task("snapshot copy", {"to": [str(p) for p in targets]}, undo=copying.take_back) as job:
            made = copying.copy(
                job, place, chosen.items, destinations, name=name, wait=not no_wait, unreachable=unreachable
            )
    except copying.CopiesFailed as error:
        failed, made = error, error.made
    rows = [{**listing.to_json(c.place, c.item), "source": c.source} for c in made]
    if as_json:
        document = {"schema": listing.SCHEMA, "task": job.id, "snapshots": rows}
        problems = {"failures": failed.failures if failed else {}, "unreachable": places.to_json(unreachable)}
        print_json({**document, **problems})
    else:
        for row in rows:
            click.echo(f"{row['id']}  {row['account']}/{row['region']}  of {row['source']}")
    if failed is not None:
        report.render_error(failed)
        return failed.exit_code
    return 0


# --- volumes and images from snapshots --------------------------------------------------------------------------------


@snapshot.command()
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
    item = names.snapshot(cloud, place, reference)
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


@snapshot.command()
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
    description: str,
    where: Where,
    as_json: bool,
) -> None:
    """Register an image with a snapshot as its root volume."""
    from goldenami.snapshots import make, names

    environment, place, cloud = open_place(where)
    item = names.snapshot(cloud, place, reference)
    make.check_usable(item)
    with run_task(cloud, environment, "snapshot register", {"snapshot": item["SnapshotId"], "name": name}) as job:
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


@snapshot.command()
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


# --- restore ----------------------------------------------------------------------------------------------------------


@snapshot.command()
@instance_argument
@click.option("--to", metavar="TIME|NAME|ID", help="Time, Name tag of snapshots, or id of one snapshot.")
@click.option("--device", "devices", metavar="DEVICE", multiple=True, help="Restore only the volume at this device.")
@click.option("--undo", is_flag=True, help="Attach the volumes again that the last exchange replaced.")
@click.option("--dry-run", is_flag=True, help="Only show the plan. Change nothing.")
@click.option(
    "--check", metavar="COMMAND", help="Afterwards run this command on the instance over SSH. It must exit with 0."
)
@click.option(
    "--health-timeout",
    type=float,
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Seconds to wait for the status checks.",
)
@ssh_options
@address_option
@yes_option
@place_options
def restore(
    reference: str,
    to: str | None,
    devices: tuple[str, ...],
    undo: bool,
    dry_run: bool,
    check: str | None,
    health_timeout: float,
    way_in: Access,
    new_public_address: bool,
    yes: bool,
    where: Where,
    as_json: bool,
) -> int:
    """Restore the volumes of an instance from snapshots.

    The plan is printed first. If --to is a time, each volume is restored from its last snapshot before that time. If
    --to is the name or id of a snapshot, all volumes are restored that have a snapshot from the same call. The instance
    is stopped, its volumes are exchanged, and it is started again. Then EC2's status checks and the command of --check
    must pass. If one of them fails, the exit code is 5, and the restored volumes stay attached. The old volumes are
    always kept, and --undo attaches them again. Members of Auto Scaling groups and instances with an instance store are
    refused, because a stop would destroy them or their data.

    Example: goldenami snapshot restore i-0a1b --to 2026-11-24T03:00
    """
    from goldenami.snapshots import access, exchange, interruption, names, points
    from goldenami.snapshots import restore as restoring

    _expect_one(
        {"--to": to is not None, "--undo": undo}, "Give --to with a time, a Name tag or a snapshot id; or --undo."
    )
    if check is not None and not dry_run:
        way_in = access.with_key(way_in)
    environment, place, cloud = open_place(where)
    instance = names.instance(cloud, place, reference)
    id = instance["InstanceId"]
    if undo:
        pairs = restoring.undo_plan(cloud, place, instance)
        pairs = [p for p in pairs if not devices or p[0].device in devices]
        steps = restoring.undo_steps(pairs)
    else:
        chosen = points.only(points.choose(cloud, place, id, _point(str(to))), devices)
        steps = restoring.plan(chosen)
    if dry_run or not as_json:
        _show(id, steps, as_json and dry_run)
    if dry_run:
        return 0
    exchange.check(cloud, place, instance, [p[0] for p in pairs] if undo else [p.volume for p in chosen])
    confirm(f"Stop {id} and exchange these volumes?", yes)
    confirm_address(id, interruption.changing_address(instance), new_public_address)
    arguments = {"instance": id, "to": to, "undo": undo}
    with run_task(cloud, environment, "snapshot restore", arguments, undo=exchange.put_back) as job:
        done = restoring.undo(job, place, instance, pairs) if undo else restoring.restore(job, place, instance, chosen)
    answer: dict[str, Any] = {
        "schema": RESTORE_SCHEMA,
        "task": job.id,
        "instance": id,
        "volumes": [{"device": e.device, "new": e.new, "kept": e.old.id} for e in done],
    }
    problem = None
    if instance["State"]["Name"] == "running":
        problem = _health(cloud, environment, place, instance, check, way_in, health_timeout)
        answer["healthy"] = problem is None
        answer["problem"] = problem
    if as_json:
        print_json(answer)
    else:
        for e in done:
            click.echo(f"{e.device}  {e.new} replaces {e.old.id}, which is kept")
        if problem is None:
            click.echo(f"To delete the kept volumes: {command('volume forget', id)}", err=True)
    if problem is not None:
        raise TestsFailed(problem, hint=f"To attach the old volumes again: {command('snapshot restore', id, '--undo')}")
    return 0


def _point(text: str) -> str | datetime:
    """Return a time if the text is one, otherwise the text: a name or an id."""
    with suppress(UsageError):
        return parse_time(text)
    return text


def _show(instance: str, steps: list[Step], as_json: bool) -> None:
    if as_json:
        print_json({"schema": RESTORE_SCHEMA, "instance": instance, "plan": [asdict(s) for s in steps]})
        return
    rows = [[s.device, s.old, s.source, s.taken or "-", s.name or "-"] for s in steps]
    print_table(("DEVICE", "NOW", "BACK TO", "TAKEN", "NAME"), rows)


def _health(
    cloud: Cloud,
    environment: Environment,
    place: Place,
    instance: Item,
    check: str | None,
    way_in: Access,
    timeout: float,
) -> str | None:
    """Return why the instance is unhealthy, or None if it is healthy."""
    from goldenami.errors import GoldenAmiError
    from goldenami.snapshots import access, health
    from goldenami.stages import transports

    try:
        health.wait_ok(cloud, place, instance["InstanceId"], timeout=timeout)
        if check is not None:
            network = environment.network
            with (
                transports.opened(environment, cloud, place) as transport,
                access.connect(cloud, place, instance, network, way_in, transport.opener) as connection,
            ):
                health.command_ok(connection, check)
    except GoldenAmiError as error:
        return error.message
    return None


# --- share ------------------------------------------------------------------------------------------------------------


_with_option = click.option(
    "--with",
    "partners",
    metavar="ACCOUNT",
    multiple=True,
    required=True,
    help="Account to change: a name in goldenami.yaml, or a 12-digit id.",
)


def _accounts(environment: Environment, names: tuple[str, ...]) -> list[str]:
    """Return the ids of accounts that are given as names in goldenami.yaml or as 12-digit ids."""
    return sorted({account_id(environment, name) for name in names})


@snapshot.command()
@snapshots_argument
@_with_option
@place_options
def share(references: tuple[str, ...], partners: tuple[str, ...], where: Where, as_json: bool) -> None:
    """Share snapshots with other accounts.

    For an encrypted snapshot, the accounts also get a grant on its key. A snapshot that is encrypted under the default
    key is refused, because EC2 cannot share it.

    Example: goldenami snapshot share before-upgrade --with 222222222222
    """
    from goldenami.snapshots.share import check_shareable
    from goldenami.snapshots.share import share as do

    chosen = Chosen.find(references, where)
    accounts = _accounts(chosen.environment, partners)
    check_shareable(chosen.cloud, chosen.place, chosen.items)
    with chosen.task("snapshot share", {"with": accounts}) as job:
        do(job, chosen.place, chosen.items, accounts)
    chosen.print_properties(as_json, job.id)


@snapshot.command()
@snapshots_argument
@_with_option
@place_options
def unshare(references: tuple[str, ...], partners: tuple[str, ...], where: Where, as_json: bool) -> None:
    """Stop sharing snapshots with other accounts.

    Volumes and copies that these accounts have created are not changed.
    """
    from goldenami.snapshots.share import unshare as do

    chosen = Chosen.find(references, where)
    accounts = _accounts(chosen.environment, partners)
    with chosen.task("snapshot unshare", {"with": accounts}) as job:
        do(job, chosen.place, chosen.items, accounts)
    chosen.print_properties(as_json, job.id)


@snapshot.command("make-public")
@snapshots_argument
@yes_option
@place_options
def make_public(references: tuple[str, ...], yes: bool, where: Where, as_json: bool) -> None:
    """Make snapshots public: every AWS account can read them.

    Every AWS account can then copy all blocks, including those of deleted files. These copies remain when the snapshot
    is made private again. Encrypted snapshots are refused, and so are all snapshots if the account blocks public
    access. The command asks first. Without a terminal, --yes is required.
    """
    from goldenami.snapshots import share as sharing

    chosen = Chosen.find(references, where)
    sharing.check_publishable(chosen.cloud, chosen.place, chosen.items)
    click.echo(
        "Every AWS account will be able to read all blocks of these snapshots, including those of deleted files, and "
        "to keep copies.",
        err=True,
    )
    confirm(f"Make {chosen.ids_text} public?", yes)
    with chosen.task("snapshot make-public") as job:
        sharing.make_public(job, chosen.place, chosen.items)
    chosen.print_properties(as_json, job.id)


@snapshot.command("make-private")
@snapshots_argument
@place_options
def make_private(references: tuple[str, ...], where: Where, as_json: bool) -> None:
    """Make public snapshots private again.

    Copies that other accounts have created are not changed. Accounts that a snapshot is shared with keep their access.
    """
    from goldenami.snapshots import share as sharing

    chosen = Chosen.find(references, where)
    with chosen.task("snapshot make-private") as job:
        sharing.make_private(job, chosen.place, chosen.items)
    chosen.print_properties(as_json, job.id)


# --- delete, archive, lock --------------------------------------------------------------------------------------------


@snapshot.command()
@snapshots_argument
@yes_option
@place_options
def delete(references: tuple[str, ...], yes: bool, where: Where, as_json: bool) -> None:
    """Delete snapshots.

    If an image uses one of the snapshots, or one is locked, the command is refused and none is deleted. Later snapshots
    of the same volume stay complete. The command asks first. Without a terminal, --yes is required.
    """
    from goldenami.snapshots import keep

    chosen = Chosen.find(references, where)
    keep.check_deletable(chosen.cloud, chosen.place, chosen.items)
    confirm(f"Delete {chosen.ids_text}?", yes)
    with chosen.task("snapshot delete") as job:
        recoverable = keep.delete(job, chosen.place, chosen.items)
    if as_json:
        binned = {id: until.isoformat(timespec="seconds") for id, until in recoverable.items()}
        print_json({"schema": "goldenami.deleted/1", "task": job.id, "deleted": chosen.ids, "recoverable": binned})
    else:
        for id in chosen.ids:
            until = recoverable.get(id)
            click.echo(f"{id}  deleted" + (f"; in the Recycle Bin until {until:%Y-%m-%d %H:%M} UTC" if until else ""))


@snapshot.command()
@snapshots_argument
@yes_option
@place_options
def archive(references: tuple[str, ...], yes: bool, where: Where, as_json: bool) -> None:
    """Move snapshots to the archive tier.

    This takes up to three days. An archived snapshot is a full copy, is billed for at least 90 days, and cannot be used
    or shared until it is restored. Blocks that later snapshots of the same volume refer to stay in the standard tier.
    The command asks first. Without a terminal, --yes is required.
    """
    from goldenami.snapshots import keep

    chosen = Chosen.find(references, where)
    keep.check_archivable(chosen.cloud, chosen.place, chosen.items)
    confirm(f"Archive {chosen.ids_text} (billed for at least 90 days)?", yes)
    with chosen.task("snapshot archive") as job:
        keep.archive(job, chosen.place, chosen.items)
    chosen.print_properties(as_json, job.id)


@snapshot.command("restore-archive")
@snapshots_argument
@click.option(
    "--days", type=click.IntRange(1, 180), help="Restore for this number of days. Then EC2 archives the snapshot again."
)
@click.option("--permanent", is_flag=True, help="Restore permanently.")
@place_options
def restore_archive(
    references: tuple[str, ...],
    days: int | None,
    permanent: bool,
    where: Where,
    as_json: bool,
) -> None:
    """Restore snapshots from the archive tier.

    This takes up to three days. Give either --days or --permanent.
    """
    from goldenami.snapshots import keep

    given = {"--days": days is not None, "--permanent": permanent}
    _expect_one(given, "Give --days NUMBER for a temporary restore, or --permanent.")
    chosen = Chosen.find(references, where)
    with chosen.task("snapshot restore-archive", {"days": days}) as job:
        keep.restore_archived(job, chosen.place, chosen.items, days=days)
    chosen.print_properties(as_json, job.id)


@snapshot.command()
@snapshots_argument
@click.option("--mode", type=click.Choice(["governance", "compliance"]), default="governance", show_default=True)
@click.option("--days", type=click.IntRange(1, 36500), help="Lock for this number of days.")
@click.option("--until", metavar="TIME", help="Lock until this time.")
@click.option(
    "--cool-off",
    type=click.IntRange(1, 72),
    metavar="HOURS",
    help="Only for --mode compliance: hours in which the lock can be lifted. Default: 0.",
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
    where: Where,
    as_json: bool,
) -> None:
    """Lock snapshots against deletion.

    Users with the permission ec2:UnlockSnapshot can lift a governance lock. No user, and not AWS either, can lift a
    compliance lock after its cool-off time. Without --cool-off, that is immediately. Therefore --mode compliance asks
    first; without a terminal, --yes is required.
    """
    from goldenami.snapshots import keep

    _expect_one({"--days": days is not None, "--until": until is not None}, "Give --days NUMBER or --until TIME.")
    if cool_off is not None and mode != "compliance":
        raise UsageError(
            f"--cool-off {cool_off}: expected --mode compliance, found --mode {mode}",
            hint="Omit --cool-off: a governance lock can always be lifted.",
        )
    moment_until = parse_time(until) if until else None
    chosen = Chosen.find(references, where)
    if mode == "compliance":
        after = f"after {cool_off} hours" if cool_off else "from now on"
        confirm(f"No user will be able to delete {chosen.ids_text} {after}. Lock?", yes)
    with chosen.task("snapshot lock", {"mode": mode}) as job:
        keep.lock(job, chosen.place, chosen.items, mode=mode, days=days, until=moment_until, cool_off_hours=cool_off)
    chosen.print_properties(as_json, job.id)


@snapshot.command()
@snapshots_argument
@place_options
def unlock(references: tuple[str, ...], where: Where, as_json: bool) -> None:
    """Lift the locks of snapshots.

    A compliance lock can be lifted only during its cool-off time.
    """
    from goldenami.snapshots import keep

    chosen = Chosen.find(references, where)
    with chosen.task("snapshot unlock") as job:
        keep.unlock(job, chosen.place, chosen.items)
    chosen.print_properties(as_json, job.id)


# --- selected snapshots and output ------------------------------------------------------------------------------------


def _expect_one(options: Mapping[str, bool], hint: str) -> None:
    """Raise UsageError unless exactly one option is given. ``options``: names, and whether each is given."""
    given = [name for name, is_given in options.items() if is_given]
    if len(given) != 1:
        raise UsageError(
            f"expected one of {', '.join(options)}, found {' and '.join(given) or 'none of them'}", hint=hint
        )


@dataclass(frozen=True, slots=True)
class Chosen:
    """The snapshots of one place that a command works on."""

    environment: Environment
    place: Place
    cloud: Cloud
    items: Sequence[Item]

    @classmethod
    def find(cls, references: Sequence[str], where: Where, *, to_change: bool = True) -> Chosen:
        """Find snapshots by id, Name tag or release. Raises NotFound for a reference that matches no snapshot.

        ``to_change``: the command changes them. Raises UsageError then if one belongs to another catalog or
        environment.
        """
        from goldenami.snapshots import names
        from goldenami.snapshots.others import refuse_others

        environment, place, cloud = open_place(where)
        items = names.many(cloud, place, _expand_releases(environment, place, references))
        if to_change:
            every = {item["SnapshotId"]: {t["Key"]: t["Value"] for t in item.get("Tags") or ()} for item in items}
            refuse_others(environment, cloud, every)
        return cls(environment, place, cloud, items)

    @property
    def ids(self) -> list[str]:
        return [item["SnapshotId"] for item in self.items]

    @property
    def ids_text(self) -> str:
        """The ids, separated by commas."""
        return ", ".join(self.ids)

    def task(
        self, kind: str, arguments: Mapping[str, Any] | None = None, *, undo: Undo | None = None
    ) -> AbstractContextManager[Task]:
        """Start a task. ``arguments``: the arguments that it records in addition to the snapshot ids."""
        return run_task(self.cloud, self.environment, kind, {"snapshots": self.ids, **(arguments or {})}, undo=undo)

    def print_properties(self, as_json: bool, task_id: str) -> None:
        """Print the current properties of the snapshots. They are read again from EC2."""
        from goldenami.snapshots import listing, names

        now = names.many(self.cloud, self.place, self.ids)
        rows = listing.details(self.cloud, self.place, now)
        if as_json:
            print_snapshots(self.place, now, as_json=True, task_id=task_id, full=rows)
            return
        for row in rows:
            lock = f", locked until {row['lock']['expires']} ({row['lock']['state']})" if row["lock"] else ""
            tier = f", {row['tiering']}" if row["tiering"] else ""
            click.echo(f"{row['id']}  shared with {', '.join(row['shared_with']) or 'no account'}{tier}{lock}")


def _expand_releases(environment: Environment, place: Place, references: Sequence[str]) -> list[str]:
    """Replace releases (``name@channel``, ``name@version``) by the ids of their snapshots in a place."""
    from goldenami.release import targets as modes
    from goldenami.release.versions import Reference

    found: list[str] = []
    for reference in references:
        if "@" not in reference or reference.startswith("snap-"):
            found.append(reference)
            continue
        release = open_catalog(environment).find(Reference.parse(reference))
        images = [i for i in release.images if i.place == place]
        ids = [s.snapshot_id for i in images if modes.owns(i) for s in i.snapshots]
        if not ids:
            raise UsageError(
                f"{release.label} owns no snapshot in {place}",
                hint=f"Give --region and --account of one of its targets; {step('images list')} shows them.",
            )
        found += ids
    return found


def print_snapshots(
    place: Place, items: Sequence[Item], *, as_json: bool, task_id: str | None = None, full: Sequence[Any] = ()
) -> None:
    """Print snapshots on stdout as a table, or as JSON of the schema ``listing.SCHEMA``. ``full``: rows for ``--json``
    that have more properties than ``items``."""
    from goldenami.snapshots import listing

    if as_json:
        rows = list(full) or [listing.to_json(place, item) for item in items]
        print_json({"schema": listing.SCHEMA, **({"task": task_id} if task_id else {}), "snapshots": rows})
        return
    print_table_of({place: items})


def print_table_of(found: Mapping[Place, Sequence[Item]], *, with_places: bool = False) -> None:
    """Print the snapshots of several places as a table. ``with_places``: add a column for the place."""
    columns = ("SNAPSHOT", "NAME", "AGE", "SIZE", "STATE", "ENCRYPTED", "TIER", "VOLUME")
    rows = [[*((str(place),) if with_places else ()), *_row(item)] for place, items in found.items() for item in items]
    print_table((*(("PLACE",) if with_places else ()), *columns), rows)


def _row(item: Item) -> list[str]:
    from goldenami.snapshots import listing, names

    state = str(item.get("State", ""))
    if state == "pending":
        state += f" {item.get('Progress') or '0%'}"
    started = item.get("StartTime")
    return [
        item["SnapshotId"],
        names.name_of(item) or "-",
        listing.age(started, datetime.now(started.tzinfo)) if started else "-",
        f"{item.get('VolumeSize', '?')} GiB",
        state,
        "yes" if item.get("Encrypted") else "no",
        str(item.get("StorageTier", "standard")),
        str(item.get("VolumeId", "-")),
    ]
