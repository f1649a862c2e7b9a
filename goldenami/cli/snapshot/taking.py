"""Snapshots: create, list, show and copy them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from goldenami.cli import places
from goldenami.cli.context import print_json
from goldenami.cli.options import (
    Where,
    description_option,
    everywhere_option,
    no_wait_option,
    place_options,
    snapshots_argument,
    ssh_options,
)
from goldenami.cli.snapshot.chosen import Chosen, print_snapshots, print_table_of
from goldenami.cli.tasks import environment_key, find_place, open_place, open_places, parse_time, run_task
from goldenami.errors import UsageError

if TYPE_CHECKING:
    from goldenami.aws.waiters import Item
    from goldenami.model import Place
    from goldenami.ssh import Access


@click.command()
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
    access: Access,
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
    from goldenami.snapshots import freeze, names
    from goldenami.snapshots.access import connect
    from goldenami.snapshots.create import create_of_instance, create_of_volume
    from goldenami.stages import transports

    if consistent:
        access = access.with_keys()
    environment, place, cloud = open_place(where)
    volume, instance = names.volume_or_instance(cloud, place, subject)
    if volume is not None and (exclude or exclude_root):
        raise UsageError(
            f"--exclude and --exclude-root: found the volume {subject}, expected an instance",
            hint="Omit both options, or name the instance.",
        )
    if consistent and volume is not None and volume.instance_id is None:
        raise UsageError(
            f"--consistent: {subject} is not attached to an instance, so no filesystem can be frozen",
            hint="Omit --consistent. No program writes to a detached volume.",
        )
    if consistent and volume is not None and volume.instance_id is not None:
        instance = names.instance(cloud, place, volume.instance_id)
    excluded = [names.volume(cloud, place, one).id for one in exclude]
    with ExitStack() as stack:
        frozen = None
        if consistent and instance is not None:
            # Connect before the task starts: if the host is unreachable, no resource has to be cleaned up.
            transport = stack.enter_context(transports.opened(environment, cloud, place))
            connection = stack.enter_context(
                connect(cloud, place, instance, environment.network, access, transport.opener)
            )
            frozen = freeze.frozen(connection)
        job = stack.enter_context(run_task(cloud, environment, "snapshot create", {"of": subject, "name": name}))
        common: dict[str, Any] = {"name": name, "description": description, "frozen": frozen, "wait": not no_wait}
        if volume is not None:
            made = create_of_volume(job, place, volume.id, **common)
        else:
            assert instance is not None
            made = create_of_instance(
                job, place, instance["InstanceId"], exclude=excluded, exclude_root=exclude_root, **common
            )
    print_snapshots(place, made, as_json=as_json, task_id=job.id)


@click.command("list")
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


@click.command()
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


@click.command()
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
