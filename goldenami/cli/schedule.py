"""The commands of ``goldenami schedule``: run schedules, show them, and preview their next runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from goldenami.cli import completing, places
from goldenami.cli.context import NO_SCHEDULES, open_project, open_schedules, print_json, reach
from goldenami.cli.options import environment_option, events_option, json_option, schedules_argument
from goldenami.cli.output import write_file
from goldenami.errors import UsageError
from goldenami.model import local_text, timestamp

if TYPE_CHECKING:
    from goldenami.schedules.policy import Schedule
    from goldenami.schedules.run import ScheduleRun

LEFT_SCHEMA = "goldenami.left/1"
SCHEDULES_SCHEMA = "goldenami.schedules/1"
RUN_SCHEMA = "goldenami.schedule-run/1"
NEXT_SCHEMA = "goldenami.schedule-next/1"
CALENDAR_SCHEMA = "goldenami.schedule-calendar/1"

now_option = click.option(
    "--now", "now_text", metavar="TIME", help="Work as if this were the current time (ISO 8601; UTC without a zone)."
)


@click.group()
def schedule() -> None:
    """Run, preview and list schedules of snapshots.

    Schedules are defined under `schedules:` in goldenami.yaml and in recipes.
    """


@schedule.command("run")
@schedules_argument
@environment_option
@now_option
@click.option("--dry-run", is_flag=True, help="Only print the steps. Change nothing.")
@click.option(
    "--wait",
    type=click.IntRange(0, 86400),
    default=3600,
    show_default=True,
    help="Seconds to wait for new snapshots before they are copied. The next run copies the others.",
)
@events_option
@json_option
def run_schedules(
    names: tuple[str, ...],
    environment_name: str | None,
    now_text: str | None,
    dry_run: bool,
    wait: int,
    events: Path | None,
    as_json: bool,
) -> int:
    """Create due snapshots, copy and share them, and delete those that no rule keeps.

    Without NAME, all schedules are run. Start this command repeatedly, for example from cron every five minutes. A
    second run for the same time changes nothing. Slots that were missed are handled as `missed` of the schedule
    defines. The exit code is 6 if a step failed, or if an account or region did not answer.

    Example: goldenami schedule run --dry-run
    """
    from goldenami import report
    from goldenami.schedules import run as running

    chosen, environment = open_schedules(environment_name, names)
    if not chosen:
        click.echo(NO_SCHEDULES, err=True)
        return 0
    moment = _parse_now(now_text)
    reach(environment)
    console = report.stderr_console()
    with report.progress(console, events=events) as emit:
        runs = running.run(environment, chosen, moment, dry_run=dry_run, emit_to=emit, wait=wait)
    if as_json:
        shown = [_run_json(one) for one in runs]
        print_json({"schema": RUN_SCHEMA, "now": timestamp(moment), "dry_run": dry_run, "schedules": shown})
    else:
        for one in runs:
            _print_run(one, dry_run=dry_run)
    error = running.error_of(runs)
    if error is not None:
        report.render_failure(error, console)
        return error.exit_code
    return 0


@schedule.command("list")
@environment_option
@json_option
def list_schedules(environment_name: str | None, as_json: bool) -> None:
    """List schedules with their sources, next times and retention."""
    from goldenami.schedules.calendar import following

    chosen, _ = open_schedules(environment_name)
    now = datetime.now(UTC)
    rows = []
    for one in chosen:
        coming = following(one.timing, one.zone, now, 1, anchor=one.anchor)
        rows.append({**_schedule_json(one), "next": timestamp(coming[0]) if coming else None})
    if as_json:
        print_json({"schema": SCHEDULES_SCHEMA, "schedules": rows})
        return
    for one, row in zip(chosen, rows, strict=True):
        click.echo(f"{one.name}: {one.make} of {one.selection}, {one.timing.text} {one.zone}; keeps {one.retention}")
        click.echo(f"  next {row['next'] or 'never'}   {one.mark}")
    if not rows:
        click.echo(NO_SCHEDULES, err=True)


@schedule.command("show")
@click.argument("name", shell_complete=completing.schedules)
@environment_option
@json_option
def show_schedule(name: str, environment_name: str | None, as_json: bool) -> int:
    """Show the snapshots of a schedule, and the rule that keeps each.

    The snapshots are read from EC2. The exit code is 6 if an account or region did not answer.
    """
    from goldenami.schedules import run as running

    (chosen,), environment = open_schedules(environment_name, (name,))
    reach(environment)
    run = running.inspect(environment, chosen, datetime.now(UTC))
    if as_json:
        print_json({"schema": SCHEDULES_SCHEMA, "schedules": [{**_schedule_json(chosen), **_run_json(run)}]})
    else:
        for line in _description(chosen):
            click.echo(line)
        for made, decision in run.steps.decisions:
            word = "kept" if decision.keep else "to delete"
            local = local_text(chosen.local(made.saved.slot))
            click.echo(f"  {made.id}  {made.place}  {local}  {made.saved.source}  {word}: {decision.rule}")
        for what, owner in run.others.items():
            click.echo(f"  theirs: {what}: {owner}")
    places.tell(run.unreachable)
    return places.exit_code(run.unreachable)


@schedule.command("left")
@environment_option
@json_option
def left_snapshots(environment_name: str | None, as_json: bool) -> int:
    """Show the snapshots of schedules that no run deletes any more, and what they cost.

    They belong to a schedule that is not defined any more, or to a volume or instance that does not exist any more. The
    cost is the most that AWS bills: the full size of each snapshot, by prices.yaml. Nothing is deleted. The exit code
    is 6 if an account or region did not answer.
    """
    from goldenami import recipe
    from goldenami.aws.session import Cloud
    from goldenami.model import Place
    from goldenami.recipe.prices import prices as read_prices
    from goldenami.release.usage import places_of
    from goldenami.schedules import left
    from goldenami.snapshots.prices import GIB

    project, environment = open_project(environment_name)
    defined = recipe.schedules(project, environment)
    prices = read_prices(project)
    reach(environment)
    cloud = Cloud.of(environment)
    cloud.check_caller()
    at = {*places_of(environment), *(p for one in defined for p in one.places)}
    at |= {Place(p.account, c.region) for one in defined for p in one.places for c in one.copies}
    found, unreachable = left.find(cloud, environment, at, {one.name for one in defined})
    rows = []
    for one in found:
        rate = prices.rate(one.place.region)
        size = {tier: amount / GIB for tier, amount in one.full_bytes.items()}
        cost = size.get("standard", 0.0) * rate.standard + size.get("archive", 0.0) * rate.archive
        rows.append(
            {
                "schedule": one.schedule,
                "account": one.place.account,
                "region": one.place.region,
                "source": one.source,
                "reason": one.reason,
                "ids": list(one.ids),
                "newest_slot": timestamp(one.newest) if one.newest is not None else None,
                "full_size_bytes": sum(one.full_bytes.values()),
                "monthly_cost_at_most": round(cost, 4),
            }
        )
    if as_json:
        document = {"schema": LEFT_SCHEMA, "currency": prices.currency, "left": rows}
        print_json({**document, "unreachable": places.to_json(unreachable)})
    else:
        for one, row in zip(found, rows, strict=True):
            at_most = f"at most {row['monthly_cost_at_most']:.2f} {prices.currency} a month"
            click.echo(f"{one.schedule}  {one.place}  {one.source}  {len(one.ids)} snapshots, {at_most}: {one.reason}")
            for id in one.ids:
                click.echo(f"  {id}")
    places.tell(unreachable)
    return places.exit_code(unreachable)


@schedule.command("next")
@schedules_argument
@environment_option
@now_option
@click.option("--count", type=click.IntRange(1, 1000), default=5, show_default=True, help="Number of runs to show.")
@json_option
def next_runs(
    names: tuple[str, ...], environment_name: str | None, now_text: str | None, count: int, as_json: bool
) -> None:
    """Preview the next runs, and what each deletes and keeps.

    This makes no API call. It assumes that no run was missed.
    """
    from goldenami.schedules.preview import preview

    chosen, _ = open_schedules(environment_name, names)
    now = _parse_now(now_text)
    answers = []
    for one in chosen:
        runs = preview(one, now, count)
        answers.append(
            {
                "name": one.name,
                "time_zone": str(one.zone),
                "runs": [
                    {
                        "slot": timestamp(r.moment),
                        "local": one.local(r.moment).isoformat(),
                        "deletes": [timestamp(slot) for slot in r.deleted],
                        "keeps": [{"slot": timestamp(v.saved.slot), "rule": v.rule} for v in r.kept],
                    }
                    for r in runs
                ],
            }
        )
        if as_json:
            continue
        click.echo(f"{one.name} ({one.timing.text} {one.zone}; keeps {one.retention})")
        for r in runs:
            gone = ", ".join(local_text(one.local(slot)) for slot in r.deleted)
            click.echo(f"  {local_text(one.local(r.moment))}" + (f"  removes {gone}" if gone else ""))
        if runs:
            click.echo("  after these runs, the schedule keeps:")
            for v in runs[-1].kept:
                click.echo(f"    {local_text(one.local(v.saved.slot))}  {v.rule}")
    if as_json:
        print_json({"schema": NEXT_SCHEMA, "now": timestamp(now), "schedules": answers})


@schedule.command("calendar")
@schedules_argument
@environment_option
@now_option
@click.option("--weeks", type=click.IntRange(1, 53), default=5, show_default=True, help="Number of weeks to show.")
@click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), help="Draw the calendar into this file.")
@json_option
def show_calendar(
    names: tuple[str, ...],
    environment_name: str | None,
    now_text: str | None,
    weeks: int,
    svg: Path | None,
    as_json: bool,
) -> None:
    """Show the coming weeks: the days with runs, and which of their snapshots are left at the end.

    Days and times are in the time zone of the schedule. This makes no API call. It assumes that no run was missed.
    """
    from goldenami.schedules import picture

    chosen, environment = open_schedules(environment_name, names)
    now = _parse_now(now_text)
    found = [picture.calendar(one, now, weeks) for one in chosen]
    if svg is not None:
        write_file(svg, picture.draw(found, f"Schedules of the environment {environment.name}"), "--svg")
        click.echo(f"Drew {svg}", err=True)
    if as_json:
        rows = [
            {
                "name": one.schedule.name,
                "time_zone": str(one.schedule.zone),
                "complete": not one.more,
                "days": [day.to_json() for day in one.days],
            }
            for one in found
        ]
        print_json({"schema": CALENDAR_SCHEMA, "now": timestamp(now), "schedules": rows})
        return
    for one in found:
        click.echo("\n".join(picture.lines(one)))


# --- helpers ----------------------------------------------------------------------------------------------------------


def _parse_now(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        hint = "Write 2026-11-28T03:00 for UTC, or 2026-11-28T03:00+01:00."
        raise UsageError(f"--now: found {text!r}, expected a time in ISO 8601", hint=hint) from None
    return given.astimezone(UTC) if given.tzinfo else given.replace(tzinfo=UTC)


def _schedule_json(one: Schedule) -> dict[str, Any]:
    return {
        "name": one.name,
        "description": one.description,
        "make": one.make,
        "what": str(one.selection),
        "when": one.timing.text,
        "time_zone": str(one.zone),
        "missed": one.missed,
        "places": [str(place) for place in one.places],
        "retention": str(one.retention),
        "copies": [{"region": c.region, "retention": str(c.retention)} for c in one.copies],
        "written": str(one.mark),
    }


def _run_json(run: ScheduleRun) -> dict[str, Any]:
    return {
        "name": run.schedule.name,
        "task": run.task_id or None,
        "makes": [
            {
                "source": m.source.id,
                "place": str(m.source.place),
                "slot": timestamp(m.slot),
                "made": run.made.get(str(m)),
            }
            for m in run.steps.makes
        ],
        "copies": [
            {
                "of": c.made.id,
                "place": str(c.place),
                "slot": timestamp(c.made.saved.slot),
                "made": run.made.get(str(c)),
            }
            for c in run.steps.copies
        ],
        "changes": [{"what": c.what, "id": c.made.id, "values": list(c.values)} for c in run.steps.changes],
        "verdicts": [
            {
                "id": made.id,
                "place": str(made.place),
                "source": made.saved.source,
                "slot": timestamp(made.saved.slot),
                "action": decision.action,
                "rule": decision.rule,
            }
            for made, decision in run.steps.decisions
        ],
        "failures": run.failures,
        "others": dict(run.others),
        "unreachable": places.to_json(run.unreachable),
    }


def _print_run(run: ScheduleRun, *, dry_run: bool) -> None:
    steps = [*run.steps.makes, *run.steps.copies, *run.steps.changes]
    lines = [f"{step}" + (f": {run.made[str(step)]}" if str(step) in run.made else "") for step in steps]
    lines += [f"delete {made.id} in {made.place}: {decision.rule}" for made, decision in run.steps.deletions]
    kept = sum(decision.keep for _, decision in run.steps.decisions)
    word = "would do" if dry_run else "did"
    done = f"{word} {len(lines)} step{'s' if len(lines) != 1 else ''}" if lines else "nothing is due"
    click.echo(f"{run.schedule.name}: {done}, {kept} kept")
    for line in lines:
        click.echo(f"  {line}")
    for what, owner in run.others.items():
        click.echo(f"  theirs: {what}: {owner}")


def _description(one: Schedule) -> Sequence[str]:
    facts = {
        "description": one.description,
        "makes": f"{one.make} of {one.selection}",
        "when": f"{one.timing.text} ({one.zone})",
        "missed": one.missed,
        "in": ", ".join(map(str, one.places)),
        "keeps": str(one.retention),
        "copies": "; ".join(f"{c.region}: {c.retention}" for c in one.copies),
        "fast restore": f"the newest {one.fast_restore.count} in {', '.join(one.fast_restore.zones)}"
        if one.fast_restore
        else "",
        "shared with": ", ".join(one.share_accounts),
        "written": str(one.mark),
    }
    return [one.name, *(f"  {label:<12}  {value}" for label, value in facts.items() if value)]
