"""Delete, archive and lock snapshots."""

from __future__ import annotations

from typing import Literal

import click

from goldenami.cli.context import print_json
from goldenami.cli.options import Where, place_options, snapshots_argument, yes_option
from goldenami.cli.snapshot.chosen import Chosen, expect_one
from goldenami.cli.tasks import confirm, parse_time
from goldenami.errors import UsageError
from goldenami.model import timestamp, utc_text


@click.command()
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
        binned = {id: timestamp(until) for id, until in recoverable.items()}
        print_json({"schema": "goldenami.deleted/1", "task": job.id, "deleted": chosen.ids, "recoverable": binned})
    else:
        for id in chosen.ids:
            until = recoverable.get(id)
            click.echo(
                f"{id}  deleted" + (f"; in the Recycle Bin until {utc_text(until, seconds=False)}" if until else "")
            )


@click.command()
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


@click.command("restore-archive")
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
    expect_one(given, "Give --days NUMBER for a temporary restore, or --permanent.")
    chosen = Chosen.find(references, where)
    with chosen.task("snapshot restore-archive", {"days": days}) as job:
        keep.restore_archived(job, chosen.place, chosen.items, days=days)
    chosen.print_properties(as_json, job.id)


@click.command()
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

    expect_one({"--days": days is not None, "--until": until is not None}, "Give --days NUMBER or --until TIME.")
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


@click.command()
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
