"""The command watch: shows a build that another process works on, by its log and its journal. Changes nothing."""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import click

from goldenami.cli import completing, lastpage
from goldenami.cli.build import next_steps
from goldenami.cli.context import in_bucket, open_catalog, open_journals, open_project
from goldenami.cli.options import environment_option
from goldenami.errors import GoldenAmiError, Interrupted, NotFound, UsageError
from goldenami.nextstep import step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.console import Console

    from goldenami.events import Event
    from goldenami.journal import Journals, Summary
    from goldenami.model import Environment

POLL_SECONDS = 1.0
POLL_SECONDS_BUCKET = 5.0  # each read of a bucket takes requests
_CODES = {"released": 0, "done": 0, "skipped": 0, "cleaned": Interrupted.exit_code}


@click.command()
@click.argument("build_id", metavar="[BUILD_ID]", required=False, shell_complete=completing.builds)
@environment_option
def watch(build_id: str | None, environment_name: str | None) -> int:
    """Show a build while another process works on it, as the terminal of that process shows it.

    Works in another terminal, and if the journals are in a bucket, on another machine, where events arrive every 15
    seconds and the output of operations at the end. Without BUILD_ID, the only build that runs is shown.

    It ends with the build, and with its exit code. Ctrl-C ends only the watching. If no process works on the build any
    more, although it has not ended, the exit code is 1, and the command that continues it is printed.
    """
    from goldenami import report

    _, environment = open_project(environment_name)
    journals = open_journals(environment)
    build_id = journals.read(build_id).build_id if build_id is not None else _only_running(journals)
    holder = journals.holder(build_id)
    if holder is not None:
        click.echo(f"{holder} works on build {build_id}", err=True)
    console = report.stderr_console()
    seconds = POLL_SECONDS_BUCKET if in_bucket(environment.builds) else POLL_SECONDS
    try:
        finished = _show(journals, build_id, console, lambda: time.sleep(seconds))
    except KeyboardInterrupt:
        click.echo(f"The watching ended; build {build_id} goes on: {step('watch', build_id)}", err=True)
        return Interrupted.exit_code
    return _end(environment, journals.read(build_id), finished, console)


def _only_running(journals: Journals) -> str:
    """Return the id of the only build that a process works on. Raises NotFound or UsageError."""
    running = [s.build_id for s in journals.unfinished() if journals.holder(s.build_id) is not None]
    if not running:
        raise NotFound("no build runs now", hint=f"{step('builds list')} shows all builds.")
    if len(running) > 1:
        raise UsageError(
            f"{len(running)} builds run now: {', '.join(running)}",
            hint=f"Write the id of one of them after {step('watch')}.",
        )
    return running[0]


def _show(journals: Journals, build_id: str, console: Console, pause: Callable[[], None]) -> Event | None:
    """Show the events of a build until no process works on it. Return the last ``build.finished`` of the last run."""
    from goldenami import report

    finished: Event | None = None
    run, seen = "", False
    now = 0.0
    with ExitStack() as stack:
        if console.is_interactive:
            live = report.Live(console, clock=time.time)
            stack.callback(live.close)
        else:
            lines = report.Lines(console.file, clock=lambda: now)
        log = journals.storage.events(build_id)
        for recorded in log.follow(lambda: journals.holder(build_id) is not None, pause):
            now, seen = recorded.at.timestamp(), True
            if recorded.run != run:
                run, finished = recorded.run, None
            if recorded.event.kind == "build.finished":
                finished = recorded.event
            if console.is_interactive:
                live.take(recorded.event, now)
            else:
                lines(recorded.event)
    if not seen:
        click.echo(f"Build {build_id} has no log here.", err=True)
    return finished


def _end(environment: Environment, summary: Summary, finished: Event | None, console: Console) -> int:
    """Print how a build ended and what to do next. Returns its exit code."""
    fields: Mapping[str, Any] = finished.fields if finished is not None else {}
    if summary.ending is None and summary.header is not None and finished is None:
        click.echo(f"error: no process works on build {summary.build_id} any more, and it has not ended", err=True)
        _print_steps(summary)
        return GoldenAmiError.exit_code
    if summary.ending == "released":
        _render_release(environment, summary, fields, console)
    elif fields.get("error"):
        click.echo(f"error: {fields['error']}", err=True)
    elif not fields:
        click.echo(f"{summary.build_id}: {summary.ending or summary.problem}", err=True)
    if summary.ending in (None, "failed"):
        _print_steps(summary)
    code = fields.get("exit_code")
    return code if isinstance(code, int) else _CODES.get(summary.ending or "", GoldenAmiError.exit_code)


def _print_steps(summary: Summary) -> None:
    for purpose, line in next_steps([summary]).items():
        click.echo(f"to {purpose}: {line}", err=True)


def _render_release(environment: Environment, summary: Summary, fields: Mapping[str, Any], console: Console) -> None:
    """Print the release of a build, if the catalog can be read."""
    from goldenami import report
    from goldenami.release import targets as modes

    header = summary.header
    if header is None or "version" not in header.data:
        return
    with suppress(GoldenAmiError):
        catalog = open_catalog(environment)
        manifest = catalog.get(header.recipe, str(header.data["version"]))
        names = {account.id: account.name for account in environment.accounts.values()}
        seconds = fields.get("seconds")
        took = float(seconds) if isinstance(seconds, int | float) else None
        report.render_release(manifest, console, accounts=names, notes=modes.notes(), seconds=took, tests=False)
        pointer = catalog.channel(header.recipe, str(header.data.get("channel") or "candidate"))
        moves = [m.version for m in pointer.history] if pointer is not None else []
        if pointer is not None and pointer.current == manifest.version:
            before = moves[-2] if len(moves) > 1 else None
            lastpage.render(console, environment, manifest, pointer.channel, before)
