"""The commands about builds and tasks: list them, show one and who holds its lock, print the log of one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from goldenami.cli import completing
from goldenami.cli.build import next_steps
from goldenami.cli.context import in_bucket, open_journals, open_project, print_json
from goldenami.cli.moments import moment
from goldenami.cli.options import environment_option, json_option
from goldenami.cli.output import write_file
from goldenami.errors import NotFound
from goldenami.model import timestamp, utc_text
from goldenami.nextstep import step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime
    from typing import Any

    from goldenami.journal import Header, Holder, Intent, Journals, Recorded, Result, Summary
    from goldenami.model import Environment
    from goldenami.report.timeline import Timeline


STATES = ("running", "unfinished", "failed", "released", "cleaned", "done", "skipped", "damaged")
_WIDE = 110  # columns of a terminal that shows the bars of the timeline
_POLL_SECONDS = 1.0  # between two reads of a log that is followed
_POLL_SECONDS_BUCKET = 5.0  # each read of a bucket takes requests


@click.group()
def builds() -> None:
    """List builds and tasks; show one, or its log."""


@builds.command("list")
@environment_option
@click.option("--unfinished", is_flag=True, help="Only those that can be resumed or cleaned.")
@click.option(
    "--recipe",
    metavar="NAME",
    shell_complete=completing.recipes,
    help="Only builds of this recipe, or tasks of this kind.",
)
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only those in one of these states.")
@click.option(
    "--since", callback=moment, metavar="WHEN", help="Only those that began at or after this: 7d, 12h, or 2026-11-01."
)
@click.option("--limit", type=click.IntRange(1), metavar="NUMBER", help="At most this many. Default: all.")
@json_option
def builds_list(
    environment_name: str | None,
    unfinished: bool,
    recipe: str | None,
    states: tuple[str, ...],
    since: datetime | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """List builds and tasks, newest first. A task has its kind in the column of the recipe.

    Example: goldenami builds list --recipe debian-12-web --state failed --since 7d
    """
    _, environment = open_project(environment_name)
    journals = open_journals(environment)
    every = reversed(journals.unfinished()) if unfinished else journals.newest(since)
    found: list[tuple[Summary, Holder | None]] = []
    for summary in every:
        header = summary.header
        if (since is not None and (header is None or header.created < since)) or (
            recipe is not None and (header is None or header.recipe != recipe)
        ):
            continue
        holder = journals.holder(summary.build_id) if summary.ending is None else None
        if states and _state(summary, holder) not in states:
            continue
        found.append((summary, holder))
        if len(found) == limit:
            break
    if as_json:
        rows = [{**_summary_json(s, holder), "state": _state(s, holder)} for s, holder in found]
        print_json({"schema": "goldenami.builds/1", "builds": rows})
        return
    for summary, holder in found:
        header = summary.header
        what = _subject(header) if header else str(summary.problem)
        state = _state(summary, holder)
        left = f"  {len(summary.resources)} resources" if state in ("unfinished", "failed") else ""
        who = f"  {holder}" if holder else ""
        age = f"  {_age(header.created)}" if header else ""
        click.echo(f"{summary.build_id}  {state:<10}  {what}{age}{left}{who}")
    if not found:
        some = "No build is unfinished." if unfinished else "No build matches."
        none = f"There are no builds yet. {step('build', 'RECIPE')} makes one."
        click.echo(some if any(True for _ in journals.newest()) else none, err=True)


def _subject(header: Header) -> str:
    """Return the release of a build, or the kind of a task with what it is about."""
    given = header.data.get("arguments") or {}
    name = "@".join(given[key] for key in ("name", "channel") if key in given)
    about = [name, *given.get("releases", ())] if header.data.get("task") else [header.data.get("version", "")]
    return " ".join([header.recipe, *filter(None, about)])


def _state(summary: Summary, holder: Holder | None) -> str:
    """Return one of STATES."""
    return "running" if holder else summary.ending or ("unfinished" if summary.header else "damaged")


@builds.command("show")
@click.argument("build_id", metavar="[BUILD_ID]", required=False, shell_complete=completing.builds)
@environment_option
@click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), help="Draw the timeline into this file.")
@click.option(
    "-f", "--follow", is_flag=True, help="Draw the timeline again and again, until no process works on the build."
)
@json_option
def builds_show(
    build_id: str | None, environment_name: str | None, svg: Path | None, follow: bool, as_json: bool
) -> None:
    """Show one build: how it ended, its stages with their times, every call with its result, and what still exists.
    Without BUILD_ID, the newest build is shown.

    With --follow, the timeline of a build that runs is drawn on the terminal and into the file of --svg, and everything
    else is shown after its end. The stages are read from the log of the build. A build whose process was killed on
    another machine may have none here.
    """
    from datetime import UTC, datetime

    from goldenami.report import timeline

    _, environment = open_project(environment_name)
    journals = open_journals(environment)
    summary = _chosen(journals, build_id)
    build_id = summary.build_id
    title = f"{summary.header.recipe if summary.header else ''} {build_id}".lstrip()
    if follow:
        _draw_until_its_end(journals, environment, build_id, svg, title)
        summary = journals.read(build_id)
    holder = journals.holder(build_id)
    now = datetime.now(UTC)
    recorded = list(journals.storage.events(build_id).read())
    times = timeline.timeline(recorded, running=holder is not None, now=now)
    tests = [dict(one.event.fields) for one in recorded if one.event.kind == "tests.finished"]
    if svg is not None:
        write_file(svg, timeline.draw(times, title), "--svg")
        click.echo(f"Drew {svg}", err=True)
    document = _summary_json(summary, holder)
    if as_json:
        calls = [_call_json(i, r) for i, r in summary.calls]
        stages = [span.to_json() for span in times.spans]
        ended = None if times.ended is None or holder else timestamp(times.ended)
        more = {"state": _state(summary, holder), "runs": times.runs, "ended": ended, "stages": stages, "tests": tests}
        print_json({"schema": "goldenami.build-record/1", **document, **more, "calls": calls})
        return
    for key, value in document.items():
        if key == "holder":
            value = str(holder) if holder else None
        if key != "resources" and value is not None:
            click.echo(f"{key:<12} {value}")
    if summary.header:
        click.echo(f"{'age':<12} {_age(summary.header.created)}")
    _print_timeline(times, bool(holder))
    _print_tests(tests)
    click.echo(f"calls ({len(summary.calls)}):")
    for intent, result in summary.calls:
        click.echo(f"  {intent.operation:<28} {intent.place}  {intent.key}: {_outcome(intent, result)}")
    click.echo(f"resources ({len(summary.resources)}):")
    for resource in summary.resources:
        spoiled = f"  must not be used: {resource.spoiled}" if resource.spoiled else ""
        click.echo(f"  {resource.kind:<16} {resource.id:<24} {resource.place}{spoiled}")
    if summary.ending in (None, "failed") and not holder and summary.header is not None:
        for purpose, command in next_steps([summary]).items():
            click.echo(f"to {purpose}: {command}", err=True)


def _print_tests(tests: Sequence[Mapping[str, Any]]) -> None:
    """Print the results of each run of tests, from its event."""
    from goldenami.report.text import TEST_NUMBERS, counts_of_tests, duration

    if tests:
        click.echo(f"tests ({len(tests)} runs):")
    for one in tests:
        numbers = {name: int(one.get(name) or 0) for name in TEST_NUMBERS}
        gate = f"gate {one.get('gate')} ({one.get('architecture')})"
        click.echo(f"  {gate}  {counts_of_tests(numbers)} in {duration(float(one.get('seconds') or 0))}")


def _draw_until_its_end(
    journals: Journals, environment: Environment, build_id: str, svg: Path | None, title: str
) -> None:
    """Draw the timeline of a build that runs: on the terminal, if there is one, and into a file."""
    from datetime import UTC, datetime

    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from goldenami.report import timeline

    console = Console()
    stages: list[Recorded] = []
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def redraw() -> None:
            times = timeline.timeline(stages, running=True, now=datetime.now(UTC))
            if console.is_terminal:
                bars = console.width >= _WIDE
                live.update(Text("\n".join([title, *timeline.lines(times, bars=bars)])), refresh=True)
            if svg is not None:
                write_file(svg, timeline.draw(times, title), "--svg")

        for recorded in _following(journals, environment, build_id, timeline.KINDS, redraw):
            stages.append(recorded)


def _following(
    journals: Journals,
    environment: Environment,
    build_id: str,
    kinds: Sequence[str] = (),
    waiting: Callable[[], None] = lambda: None,
) -> Iterator[Recorded]:
    """Yield the events of a build until no process works on it. ``waiting`` is called before each wait for more."""
    import time

    seconds = _POLL_SECONDS_BUCKET if in_bucket(environment.builds) else _POLL_SECONDS

    def pause() -> None:
        waiting()
        time.sleep(seconds)

    events = journals.storage.events(build_id)
    return events.follow(lambda: journals.holder(build_id) is not None, pause, kinds)


def _print_timeline(times: Timeline, running: bool) -> None:
    from goldenami.report import timeline
    from goldenami.report.text import duration

    if times.started is None or times.ended is None:
        return
    if not running:
        click.echo(f"{'ended':<12} {timestamp(times.ended)}")
        click.echo(f"{'took':<12} {duration((times.ended - times.started).total_seconds())}")
    click.echo(f"stages ({len(times.spans)}{f', in {times.runs} runs' if times.runs > 1 else ''}):")
    for line in timeline.lines(times, bars=shutil.get_terminal_size().columns >= _WIDE):
        click.echo(f"  {line}")


@builds.command("log")
@click.argument("build_id", metavar="[BUILD_ID]", required=False, shell_complete=completing.builds)
@click.option("-f", "--follow", is_flag=True, help="Print further lines until no process works on the build.")
@environment_option
def builds_log(build_id: str | None, follow: bool, environment_name: str | None) -> None:
    """Print the log of one build: stages, operations with their output, tests, and calls that change the cloud.
    Without BUILD_ID, the log of the newest build is printed.

    Secrets are masked, as on the terminal. The first column is the time since the start of the run. A log has at most
    10 MiB for each run. If the journals are in a bucket, the log of a run on another machine appears when that run
    ends. `goldenami clean --logs AGE` deletes old logs.
    """
    import sys

    from goldenami.report import Lines

    _, environment = open_project(environment_name)
    journals = open_journals(environment)
    build_id = _chosen(journals, build_id).build_id
    found = _following(journals, environment, build_id) if follow else journals.storage.events(build_id).read()
    run, now = None, 0.0

    def clock() -> float:
        return now

    lines = Lines(sys.stdout, clock=clock, everything=True)
    for recorded in found:
        now = recorded.at.timestamp()
        if recorded.run != run:
            run = recorded.run
            lines = Lines(sys.stdout, clock=clock, everything=True)
            click.echo(f"run of {utc_text(recorded.at)}")
        lines(recorded.event)
    if run is None:
        click.echo(f"Build {build_id} has no log here.", err=True)


def _chosen(journals: Journals, build_id: str | None) -> Summary:
    """Return the build or task with that id, or the newest build. Raises NotFound if there is none."""
    if build_id is not None:
        return journals.read(build_id)
    for summary in journals.newest():
        if summary.header is not None and not summary.header.data.get("task"):
            return summary
    raise NotFound("there is no build yet", hint=f"{step('build', 'RECIPE')} makes one.")


def _age(created: datetime) -> str:
    """Return the age in its largest unit: "3 h ago"."""
    from datetime import UTC, datetime

    seconds = max(0.0, (datetime.now(UTC) - created).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} ago"
    return "just now"


def _outcome(intent: Intent, result: Result | None) -> str:
    if result is None:
        return "unresolved: the reply was never read"
    if result.error is not None:
        return f"refused: {result.error['code']}: {result.error['message']}"
    return f"{result.id or intent.resource or 'done'}{' (found by its token)' if result.adopted else ''}"


def _call_json(intent: Intent, result: Result | None) -> dict[str, object]:
    return {
        "key": intent.key,
        "attempt": intent.attempt,
        "action": intent.action,
        "kind": intent.kind,
        "place": str(intent.place),
        "operation": f"{intent.service}:{intent.operation}",
        "status": "unresolved" if result is None else "refused" if result.error else "ok",
        "id": (result.id if result else None) or intent.resource,
        "adopted": result.adopted if result else False,
        "error": dict(result.error) if result and result.error else None,
    }


def _summary_json(summary: Summary, holder: Holder | None = None) -> dict[str, object]:
    header = summary.header
    return {
        "build_id": summary.build_id,
        "status": summary.ending or ("unfinished" if header else "damaged"),
        "recipe": header.recipe if header and header.data.get("task") is None else None,
        "task": header.data.get("task") if header else None,
        "version": header.data.get("version") if header else None,
        "environment": header.environment if header else None,
        "digest": header.plan_digest if header else None,
        "created": timestamp(header.created) if header else None,
        "problem": summary.problem,
        "unresolved": summary.unresolved,
        "holder": holder.to_json() if holder else None,
        "resources": [{"kind": r.kind, "id": r.id, "place": str(r.place), "key": r.key} for r in summary.resources],
    }
