"""``goldenami snapshot``: making, finding, copying and sharing snapshots, and what is made of them."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from goldenami.cli.context import print_json
from goldenami.cli.lineage import lineage
from goldenami.cli.tasks import (
    carried_out,
    confirm,
    expand,
    find_place,
    moment,
    open_place,
    place_options,
    print_snapshots,
    yes_option,
)
from goldenami.errors import UsageError

if TYPE_CHECKING:
    from goldenami.model import Environment, Place
    from goldenami.snapshots.access import Access

no_wait_option = click.option("--no-wait", is_flag=True, help="Do not wait until the blocks are stored.")


def ssh_options(command: Any) -> Any:
    command = click.option(
        "--ssh-host-key", metavar="KEY", help="Its host key. Default: from known_hosts, or the console."
    )(command)
    command = click.option(
        "--ssh-key",
        type=click.Path(path_type=Path),
        default="~/.ssh/id_ed25519",
        show_default=True,
        help="Private key.",
    )(command)
    return click.option("--ssh-user", metavar="USER", default="admin", show_default=True, help="Login user.")(command)


def access_of(ssh_user: str, ssh_key: Path, ssh_host_key: str | None) -> Access:
    from goldenami.snapshots.access import Access

    return Access(ssh_user, ssh_key, ssh_host_key)


@click.group()
def snapshot() -> None:
    """Snapshots of volumes and instances: take, find, copy, share, restore, archive, lock.

    SNAPSHOT is an id or a Name tag; where several can be given also NAME@CHANNEL or NAME@VERSION: those of a release.
    What a command makes is journaled: if it is killed, `goldenami clean` deletes it.
    """


snapshot.add_command(lineage)


# --- taking and finding -----------------------------------------------------------------------------------------------


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
    ssh_user: str,
    ssh_key: Path,
    ssh_host_key: str | None,
    no_wait: bool,
    environment_name: str | None,
    region: str | None,
    account: str | None,
    as_json: bool,
) -> None:
    """Take a snapshot of a volume, or of all volumes of an instance at one moment.

    Without --consistent an instance's snapshots are as after a power cut: of one moment, not flushed. With it the
    host thaws by itself after a minute, whatever becomes of this command.
    """
    from goldenami.snapshots import access, freeze, names
    from goldenami.snapshots.create import create_of_instance, create_of_volume

    environment, place, cloud = open_place(environment_name, region, account)
    is_volume = subject.startswith("vol-")
    volume = names.volume(cloud, place, subject) if is_volume else None
    if volume is not None and (exclude or exclude_root):
        raise UsageError("--exclude and --exclude-root are for the volumes of an instance")
    host_id = (volume.instance_id if volume else subject) if consistent or volume is None else None
    if consistent and host_id is None:
        raise UsageError(f"{subject} is attached to no instance: there is nothing to freeze")
    instance = names.instance(cloud, place, host_id) if host_id is not None else None
    with ExitStack() as stack:
        way_in = access_of(ssh_user, ssh_key, ssh_host_key)
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
    environment_name: str | None,
    region: str | None,
    account: str | None,
    as_json: bool,
) -> None:
    """List the account's snapshots in a region, oldest first."""
    from goldenami.snapshots import listing, names

    pairs = [pair.partition("=") for pair in tag_pairs]
    if any(not separator for _, separator, _ in pairs):
        raise UsageError("--tag takes KEY=VALUE")
    _, place, cloud = open_place(environment_name, region, account)
    found = listing.listed(
        cloud,
        place,
        volume=names.volume(cloud, place, volume).id if volume and not volume.startswith("vol-") else volume,
        instance=names.instance(cloud, place, instance)["InstanceId"] if instance else None,
        name=name,
        tag={key: value for key, _, value in pairs},
        state=state,
        tier=tier,
        encrypted=encrypted,
        since=moment(since) if since else None,
        until=moment(until) if until else None,
    )
    print_snapshots(place, found, as_json=as_json)


@snapshot.command()
@click.argument("references", metavar="SNAPSHOT...", nargs=-1, required=True)
@place_options
def show(
    references: tuple[str, ...], environment_name: str | None, region: str | None, account: str | None, as_json: bool
) -> None:
    """Show all about snapshots: who may use them, which images do, locks, and the way to the archive."""
    from goldenami.snapshots import listing, names

    environment, place, cloud = open_place(environment_name, region, account)
    items = names.many(cloud, place, expand(environment, place, references))
    rows = listing.details(cloud, place, items)
    if as_json:
        print_snapshots(place, items, as_json=True, full=rows)
        return
    for row in rows:
        click.echo(row["id"])
        for key, value in row.items():
            if key != "id" and value not in (None, "", [], {}):
                text = ", ".join(value) if isinstance(value, list) else value
                if isinstance(value, dict):
                    text = ", ".join(f"{k}={v}" for k, v in value.items() if v is not None)
                click.echo(f"  {key:<15} {text}")


# --- copying and sharing ----------------------------------------------------------------------------------------------


@snapshot.command()
@click.argument("references", metavar="SNAPSHOT...", nargs=-1, required=True)
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
    environment_name: str | None,
    region: str | None,
    account: str | None,
    as_json: bool,
) -> None:
    """Copy snapshots into regions and accounts, encrypted anew if asked; all at once, within EC2's limits.

    --region and --account say where the sources are. An encrypted source needs a key for its copy: EC2 would take the
    default one in silence, and what that encrypts cannot be shared.
    """
    from goldenami.snapshots import copy as copying
    from goldenami.snapshots import listing, names

    environment, place, cloud = open_place(environment_name, region, account)
    items = names.many(cloud, place, expand(environment, place, references))
    places = [find_place(environment, r, a) for a in accounts or [place.account] for r in regions or [place.region]]
    keys = {p: kms_key or (environment_key(environment, p) if encrypt else None) for p in places}
    destinations = [copying.destination(cloud, p, items, keys[p]) for p in places]
    arguments = {"snapshots": [s["SnapshotId"] for s in items], "to": [str(p) for p in places]}
    with carried_out(cloud, environment, "snapshot copy", arguments, undo=copying.take_back) as job:
        made = copying.copy(job, place, items, destinations, name=name, wait=not no_wait)
    rows = [{**listing.to_json(c.place, c.item), "source": c.source} for c in made]
    if as_json:
        print_json({"schema": listing.SCHEMA, "task": job.id, "snapshots": rows})
        return
    for row in rows:
        click.echo(f"{row['id']}  {row['account']}/{row['region']}  of {row['source']}")


def environment_key(environment: Environment, place: Place) -> str:
    found = {t.kms_key for t in environment.targets if t.place == place and t.kms_key}
    if len(found) != 1:
        raise UsageError(f"environment {environment.name} names no key for {place}", hint="Name one with --kms-key.")
    return found.pop()


def _accounts(environment: Environment, names: tuple[str, ...]) -> list[str]:
    """Accounts to share with: names of goldenami.yaml, or any 12 digits."""
    from goldenami.cli.images import account_id

    return sorted({account_id(environment, name) for name in names})


_with_option = click.option(
    "--with", "partners", metavar="ACCOUNT", multiple=True, required=True, help="A name of goldenami.yaml, or an id."
)


def change(references: tuple[str, ...], where: tuple[str | None, str | None, str | None]) -> Any:
    """Where a change is made, and to what."""
    from goldenami.snapshots import names

    environment, place, cloud = open_place(*where)

    items = names.many(cloud, place, expand(environment, place, references))
    return environment, place, cloud, items, {"snapshots": [s["SnapshotId"] for s in items]}


def tell(place: Place, cloud: Any, items: Any, as_json: bool, task_id: str) -> None:
    """What the snapshots are like now, read back."""
    from goldenami.snapshots import listing, names

    now = names.many(cloud, place, [s["SnapshotId"] for s in items])
    rows = listing.details(cloud, place, now)
    if as_json:
        print_snapshots(place, now, as_json=True, task_id=task_id, full=rows)
        return
    for row in rows:
        lock = f", locked until {row['lock']['expires']} ({row['lock']['state']})" if row["lock"] else ""
        tier = f", {row['tiering']}" if row["tiering"] else ""
        click.echo(f"{row['id']}  shared with {', '.join(row['shared_with']) or 'nobody'}{tier}{lock}")


@snapshot.command()
@click.argument("references", metavar="SNAPSHOT...", nargs=-1, required=True)
@_with_option
@place_options
def share(
    references: tuple[str, ...],
    partners: tuple[str, ...],
    environment_name: str | None,
    region: str | None,
    account: str | None,
    as_json: bool,
) -> None:
    """Let accounts use snapshots; for encrypted ones with a grant on their key.

    Refused for what is encrypted under the default key: EC2 cannot share that.
    """
    from goldenami.snapshots.share import check_shareable
    from goldenami.snapshots.share import share as do

    environment, place, cloud, items, arguments = change(references, (environment_name, region, account))
    accounts = _accounts(environment, partners)
    check_shareable(cloud, place, items)
    with carried_out(cloud, environment, "snapshot share", {**arguments, "with": accounts}) as job:
        do(job, place, items, accounts)
    tell(place, cloud, items, as_json, job.id)


@snapshot.command()
@click.argument("references", metavar="SNAPSHOT...", nargs=-1, required=True)
@_with_option
@place_options
def unshare(
    references: tuple[str, ...],
    partners: tuple[str, ...],
    environment_name: str | None,
    region: str | None,
    account: str | None,
    as_json: bool,
) -> None:
    """Take the permission away from accounts. What they made of it meanwhile stays theirs."""
    from goldenami.snapshots.share import unshare as do

    environment, place, cloud, items, arguments = change(references, (environment_name, region, account))
    accounts = _accounts(environment, partners)
    with carried_out(cloud, environment, "snapshot unshare", {**arguments, "with": accounts}) as job:
        do(job, place, items, accounts)
    tell(place, cloud, items, as_json, job.id)


@snapshot.command("make-public")
@click.argument("references", metavar="SNAPSHOT...", nargs=-1, required=True)
@yes_option
@place_options
def make_public(
    references: tuple[str, ...],
    yes: bool,
    environment_name: str | None,
    region: str | None,
    account: str | None,
    as_json: bool,
) -> None:
    """Let everybody in the world read snapshots. Asks first; without a terminal it needs --yes.

    Every AWS account can then copy all blocks of it, files that were deleted included, and keep the copy whatever is
    done here later. Refused for encrypted snapshots, and where the account blocks public access.
    """
    from goldenami.snapshots import share as sharing

    environment, place, cloud, items, arguments = change(references, (environment_name, region, account))
    sharing.check_publishable(cloud, place, items)
    listed = ", ".join(s["SnapshotId"] for s in items)
    click.echo(
        "Every AWS account in the world will be able to read all blocks of this, deleted files included, and to keep a "
        "copy for good.",
        err=True,
    )
    confirm(f"Make {listed} public?", yes)
    with carried_out(cloud, environment, "snapshot make-public", arguments) as job:
        sharing.make_public(job, place, items)
    tell(place, cloud, items, as_json, job.id)


@snapshot.command("make-private")
@click.argument("references", metavar="SNAPSHOT...", nargs=-1, required=True)
@place_options
def make_private(
    references: tuple[str, ...], environment_name: str | None, region: str | None, account: str | None, as_json: bool
) -> None:
    """Take the permission of everybody away again. Copies that were made meanwhile cannot be taken back."""
    from goldenami.snapshots import share as sharing

    environment, place, cloud, items, arguments = change(references, (environment_name, region, account))
    with carried_out(cloud, environment, "snapshot make-private", arguments) as job:
        sharing.make_private(job, place, items)
    tell(place, cloud, items, as_json, job.id)
