"""``goldenami snapshot``: the group; taking snapshots, finding and copying them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from goldenami.cli import places, snapshots_keep, snapshots_make, snapshots_share
from goldenami.cli.chosen import Chosen, print_snapshots, print_table_of
from goldenami.cli.context import print_json
from goldenami.cli.lineage import lineage
from goldenami.cli.options import (
    Where,
    everywhere_option,
    no_wait_option,
    place_options,
    snapshots_argument,
    ssh_options,
)
from goldenami.cli.snapshots_restore import restore
from goldenami.cli.tasks import carried_out, environment_key, find_place, moment, open_place, open_places
from goldenami.errors import UsageError

if TYPE_CHECKING:
    from goldenami.snapshots.access import Access


@click.group()
def snapshot() -> None:
    """Snapshots of volumes and instances: take, find, copy, share, restore, archive, lock.

    SNAPSHOT is an id or a Name tag; where several can be given also NAME@CHANNEL or NAME@VERSION: those of a release.
    What a command makes is journaled: if it is killed, `goldenami clean` deletes it.
    """


for command in (lineage, restore, *snapshots_share.commands, *snapshots_make.commands, *snapshots_keep.commands):
    snapshot.add_command(command)


@snapshot.command()
@click.argument("subject", metavar="VOLUME|INSTANCE")
@click.option("--name", required=True, help="The Name tag: by it the point in time is found again.")
@click.option("--description", default="", help="What it is for.")
@click.option("--exclude", metavar="VOLUME", multiple=True, help="Leave a data volume of the instance out.")
@click.option("--exclude-root", is_flag=True, help="Leave the root volume out.")
@click.option(
    "--consistent",
    is_flag=True,
    help="Freeze the filesystems over SSH for the moment, so that nothing is half written.",
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
    """Take a snapshot of a volume, or of all volumes of an instance at one moment.

    Without --consistent an instance's snapshots are as after a power cut: of one moment, not flushed. With it the
    host thaws by itself after a minute, whatever becomes of this command.
    """
    from goldenami.snapshots import access, freeze, names
    from goldenami.snapshots.create import create_of_instance, create_of_volume

    environment, place, cloud = open_place(where)
    is_volume = subject.startswith("vol-")
    volume = names.volume(cloud, place, subject) if is_volume else None
    if volume is not None and (exclude or exclude_root):
        raise UsageError("--exclude and --exclude-root are for the volumes of an instance")
    host_id = (volume.instance_id if volume else subject) if consistent or volume is None else None
    if consistent and host_id is None:
        raise UsageError(f"{subject} is attached to no instance: there is nothing to freeze")
    instance = names.instance(cloud, place, host_id) if host_id is not None else None
    with ExitStack() as stack:
        frozen = None
        if consistent and instance is not None:
            # Before anything is made: a host that cannot be reached is no reason to clean up.
            connection = stack.enter_context(access.connect(cloud, place, instance, environment.network, way_in))
            frozen = freeze.frozen(connection)
        job = stack.enter_context(carried_out(cloud, environment, "snapshot create", {"of": subject, "name": name}))
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
@click.option("--volume", metavar="VOLUME", help="Only of this volume.")
@click.option("--instance", metavar="INSTANCE", help="Only of this instance's volumes, and of those they replaced.")
@click.option("--name", help="Only with this Name tag; * stands for anything.")
@click.option("--tag", "tag_pairs", metavar="KEY=VALUE", multiple=True, help="Only with this tag.")
@click.option("--state", type=click.Choice(["pending", "completed", "error"]), help="Only in this state.")
@click.option("--tier", type=click.Choice(["standard", "archive"]), help="Only in this tier.")
@click.option("--encrypted/--plain", default=None, help="Only encrypted ones, or only those that are not.")
@click.option("--since", metavar="TIME", help="Only taken since then: 2026-11-24T03:00, or 3d for three days ago.")
@click.option("--until", metavar="TIME", help="Only taken until then.")
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
    """List the account's snapshots in a region, oldest first.

    The exit code is 6 if an account or region did not answer.
    """
    from goldenami.aws.waiters import Item
    from goldenami.model import Place
    from goldenami.snapshots import listing, names

    pairs = [pair.partition("=") for pair in tag_pairs]
    if any(not separator for _, separator, _ in pairs):
        raise UsageError("--tag takes KEY=VALUE")
    first, last = moment(since) if since else None, moment(until) if until else None
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
    """Show all about snapshots: who may use them, which images do, locks, and the way to the archive."""
    from goldenami.snapshots import listing

    chosen = Chosen.of(references, where)
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
@click.option("--to-region", "regions", metavar="REGION", multiple=True, help="Destination; the source's by default.")
@click.option(
    "--to-account", "accounts", metavar="ACCOUNT", multiple=True, help="Destination; the source's by default."
)
@click.option("--encrypt", is_flag=True, help="Encrypt under the key that the environment has for the destination.")
@click.option("--kms-key", metavar="KEY", help="Encrypt under this key: an alias or an id in each destination.")
@click.option("--name", help="The copies' Name tag. Default: the source's.")
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
    """Copy snapshots into regions and accounts, encrypted anew if asked; all at once, within EC2's limits.

    What is completed stays if others fail; the exit code is 6 then.

    --region and --account say where the sources are. An encrypted source needs a key for its copy: EC2 would take the
    default one in silence, and what that encrypts cannot be shared.
    """
    from goldenami import report
    from goldenami.snapshots import copy as copying
    from goldenami.snapshots import listing

    chosen = Chosen.of(references, where)
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
