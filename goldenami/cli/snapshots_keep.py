"""``goldenami snapshot``: how long snapshots are kept, and where."""

from __future__ import annotations

from typing import Literal

import click

from goldenami.cli.chosen import Chosen
from goldenami.cli.context import print_json
from goldenami.cli.options import Where, place_options, snapshots_argument, yes_option
from goldenami.cli.tasks import confirm, moment
from goldenami.errors import UsageError


@click.command()
@snapshots_argument
@yes_option
@place_options
def delete(references: tuple[str, ...], yes: bool, where: Where, as_json: bool) -> None:
    """Delete snapshots. Refused, and none is deleted, if an image uses one of them or one is locked.

    Later snapshots of the same volume lose nothing. Asks first; without a terminal it needs --yes.
    """
    from goldenami.snapshots import keep

    chosen = Chosen.of(references, where)
    keep.check_deletable(chosen.cloud, chosen.place, chosen.items)
    confirm(f"Delete {chosen.listed} for good?", yes)
    with chosen.task("snapshot delete") as job:
        recoverable = keep.delete(job, chosen.place, chosen.items)
    if as_json:
        binned = {id: until.isoformat(timespec="seconds") for id, until in recoverable.items()}
        print_json({"schema": "goldenami.deleted/1", "task": job.id, "deleted": chosen.ids, "recoverable": binned})
    else:
        for id in chosen.ids:
            until = recoverable.get(id)
            click.echo(f"{id}  deleted" + (f"; in the Recycle Bin until {until:%Y-%m-%d %H:%M} UTC" if until else ""))


@click.command()
@snapshots_argument
@yes_option
@place_options
def archive(references: tuple[str, ...], yes: bool, where: Where, as_json: bool) -> None:
    """Move snapshots to the archive tier, which takes up to three days.

    There a snapshot is a full one, paid for 90 days at least, and of no use until it is restored; sharing ends. Later
    snapshots of the same volume keep what they refer to in the standard tier. Asks first; without a terminal it needs
    --yes.
    """
    from goldenami.snapshots import keep

    chosen = Chosen.of(references, where)
    keep.check_archivable(chosen.cloud, chosen.place, chosen.items)
    confirm(f"Archive {chosen.listed} (paid for 90 days at least)?", yes)
    with chosen.task("snapshot archive") as job:
        keep.archive(job, chosen.place, chosen.items)
    chosen.tell(as_json, job.id)


@click.command("restore-archive")
@snapshots_argument
@click.option("--days", type=click.IntRange(1, 180), help="For so many days; then it is archived again by itself.")
@click.option("--permanent", is_flag=True, help="For good.")
@place_options
def restore_archive(
    references: tuple[str, ...],
    days: int | None,
    permanent: bool,
    where: Where,
    as_json: bool,
) -> None:
    """Bring snapshots back from the archive tier, which takes up to three days: for some --days, or --permanent."""
    from goldenami.snapshots import keep

    if permanent == (days is not None):
        raise UsageError("for how long?", hint="Give --days NUMBER, or --permanent.")
    chosen = Chosen.of(references, where)
    with chosen.task("snapshot restore-archive", {"days": days}) as job:
        keep.restore_archived(job, chosen.place, chosen.items, days=days)
    chosen.tell(as_json, job.id)


@click.command()
@snapshots_argument
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
    where: Where,
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
    chosen = Chosen.of(references, where)
    if mode == "compliance":
        after = f"after {cool_off} hours" if cool_off else "from this moment on"
        confirm(f"Nobody will be able to delete {chosen.listed} {after}. Lock?", yes)
    with chosen.task("snapshot lock", {"mode": mode}) as job:
        keep.lock(job, chosen.place, chosen.items, mode=mode, days=days, until=moment_until, cool_off_hours=cool_off)
    chosen.tell(as_json, job.id)


@click.command()
@snapshots_argument
@place_options
def unlock(references: tuple[str, ...], where: Where, as_json: bool) -> None:
    """Lift the locks of snapshots: governance ones, and compliance ones during their cool-off."""
    from goldenami.snapshots import keep

    chosen = Chosen.of(references, where)
    with chosen.task("snapshot unlock") as job:
        keep.unlock(job, chosen.place, chosen.items)
    chosen.tell(as_json, job.id)


commands = [delete, archive, restore_archive, lock, unlock]
