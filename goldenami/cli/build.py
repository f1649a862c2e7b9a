"""The commands that change the cloud: build, resume, clean."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import click

from goldenami.cli import completing, lastpage, results, several
from goldenami.cli.context import open_catalog, open_journals, open_project, print_json, reach
from goldenami.cli.moments import moment
from goldenami.cli.options import environment_option, events_option, json_option, variable_options
from goldenami.cli.output import OUTPUT_FAILED
from goldenami.cli.waiting import Waiting, wait_option
from goldenami.each import Failures
from goldenami.errors import GoldenAmiError, TargetsFailed, UsageError
from goldenami.nextstep import command, step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from rich.console import Console

    from goldenami import many
    from goldenami.events import Emit
    from goldenami.journal import Journals, Summary
    from goldenami.many import Result
    from goldenami.model import Environment
    from goldenami.reconcile import CleanUp
    from goldenami.report import Leftover
    from goldenami.stages.tools import Decide, OnFailure


on_failure_option = click.option(
    "--on-failure",
    type=click.Choice(["clean", "keep", "ask"]),
    default="clean",
    show_default=True,
    help="After a failure: delete what the build created; keep it for inspection, with the builder; or ask on the "
    "terminal (clean, keep, or retry what failed).",
)
results_option = click.option(
    "--json", "as_json", is_flag=True, help="Print how each build ended, with its manifest, as JSON on stdout."
)


@click.command(cls=Waiting)
@click.argument("references", metavar="[RECIPE]...", nargs=-1, shell_complete=completing.recipes)
@environment_option
@variable_options
@click.option("--all", "every", is_flag=True, help="Build all recipes that are for the environment.")
@click.option("--children", is_flag=True, help="Build also the recipes that are built on these, and those on them.")
@click.option(
    "-j",
    "--at-once",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="Builds at the same time, at most.",
)
@click.option("-k", "--keep-going", is_flag=True, help="After a failure, build what does not depend on it.")
@click.option("--force", is_flag=True, help="Build even if a release with the same inputs exists.")
@click.option("--no-move", is_flag=True, help="If such a release exists, do not point the recipe's channel to it.")
@click.option(
    "--resume", "adopt", is_flag=True, help="Continue the newest unfinished build of the same inputs, if there is one."
)
@results_option
@click.option(
    "--junit",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the results to this file, with one JUnit test case for each recipe.",
)
@click.option(
    "--dotenv",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the versions and the image ids of the home region to this file: AMI_RECIPE_VERSION=…, "
    "AMI_RECIPE_ARCHITECTURE=…. GitLab passes them to later jobs (artifacts: reports: dotenv).",
)
@events_option
@on_failure_option
@wait_option
def build(
    references: tuple[str, ...],
    environment_name: str | None,
    variables: dict[str, str],
    every: bool,
    children: bool,
    at_once: int,
    keep_going: bool,
    force: bool,
    no_move: bool,
    adopt: bool,
    as_json: bool,
    junit: Path | None,
    dotenv: Path | None,
    events: Path | None,
    on_failure: Literal["clean", "keep", "ask"],
    wait: float,
) -> int:
    """Turn each RECIPE (a name or a path) into tested, encrypted images in every target.

    If a release with the same inputs exists and its images still exist, nothing is built: the channel of the recipe is
    pointed to that release, unless it was rolled back from it. The reason is printed.

    Several recipes are built in the order of their graph, side by side where they do not depend on each other. A base
    recipe without a release is built first. Only one build of a recipe runs at a time. After a failure no other build
    starts, unless --keep-going is given.

    Ctrl-C stops all builds and deletes what they created, and so does a terminal that is closed. A second Ctrl-C stops
    at once, and leaves journals for `goldenami resume` and `goldenami clean`.
    """
    several.require_recipes(references, every)
    _require_terminal(on_failure)
    environment: Environment | None = None
    try:
        project, environment = open_project(environment_name)
        project = project.trusted()  # a build executes the project's tests on this machine as well
        from goldenami import many

        # Report problems of the recipes before a sandbox is started for them.
        work = many.choose(project, environment, references, variables, children=children)
        results.print_notes(work.notes)
        several.require_work(work, environment)
        reach(environment)
        work = many.with_missing_bases(work, project, environment, open_catalog(environment))
        if on_failure == "ask" and len(work.steps) > 1:
            raise UsageError(
                f"--on-failure ask builds one recipe, found {', '.join(step.name for step in work.steps)}",
                hint="Use --on-failure clean or keep, or build them one after the other.",
            )
    except GoldenAmiError as error:
        if as_json:
            print_json(results.refusal(environment.name if environment is not None else None, error))
        raise
    names = [one.name for one in work.steps]

    def run(emit_for: many.EmitFor) -> tuple[Result, ...]:
        decide = _decide(on_failure, emit_for(names[0]))
        options = many.Options(force=force, move=not no_move, adopt=adopt, on_failure=decide, wait=wait)
        return many.build(
            project, environment, work, options, at_once=at_once, keep_going=keep_going, emit_for=emit_for
        )

    for one in work.steps:
        if one.why:
            click.echo(f"{one.name} is built too: {one.why}", err=True)
    named = [one.name for one in work.steps if not one.why]
    shown = named[0] if len(named) == 1 and not as_json else None
    files = _Files(junit, dotenv)
    return _carry_out(
        environment, names, run, shown=shown, as_json=as_json, events=events, files=files, notes=work.notes
    )


@click.command(cls=Waiting)
@click.argument("build_id", metavar="[BUILD_ID]", required=False, shell_complete=completing.builds)
@environment_option
@results_option
@events_option
@on_failure_option
@wait_option
def resume(
    build_id: str | None,
    environment_name: str | None,
    as_json: bool,
    events: Path | None,
    on_failure: Literal["clean", "keep", "ask"],
    wait: float,
) -> int:
    """Continue a build that was interrupted or failed: use what it created, and repeat what failed.

    Without BUILD_ID, the only unfinished build is continued.
    """
    project, environment = open_project(environment_name)
    project = project.trusted()  # a build executes the project's tests on this machine as well
    reach(environment)
    from goldenami import many

    _require_terminal(on_failure)

    def run(emit_for: many.EmitFor) -> tuple[Result, ...]:
        emit = emit_for("")
        decide = _decide(on_failure, emit)
        return (many.resume(project, environment, build_id, on_failure=decide, wait=wait, emit_to=emit),)

    return _carry_out(environment, [""], run, shown=None if as_json else "", as_json=as_json, events=events)


def _require_terminal(on_failure: str) -> None:
    if on_failure == "ask" and not (sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("--on-failure ask needs a terminal", hint="Use --on-failure clean or keep.")


def _decide(on_failure: Literal["clean", "keep", "ask"], emit: Emit) -> OnFailure | Decide:
    """Return what ``pipeline`` does after a failure. "ask" stops the live view while it asks."""
    if on_failure != "ask":
        return on_failure

    def decide(error: Exception) -> Literal["clean", "keep", "retry"]:
        from goldenami import report

        with report.paused(emit):
            shown = error if isinstance(error, GoldenAmiError) else GoldenAmiError(repr(error))
            report.render_error(shown, tests=False)
            try:
                choice = click.prompt(
                    "Clean up, keep everything for inspection, or retry what failed?",
                    type=click.Choice(["clean", "keep", "retry"]),
                    err=True,
                )
            except click.Abort:  # Ctrl-C, or the end of the input
                return "clean"
        return cast(Literal["clean", "keep", "retry"], choice)

    return decide


@dataclass(frozen=True, slots=True)
class _Files:
    """The files that get the results of builds."""

    junit: Path | None = None
    dotenv: Path | None = None

    def write(self, done: Sequence[Result], environment: Environment) -> list[GoldenAmiError]:
        """Write the files, and return the errors: the builds have ended, and one file does not stop the other."""
        failures = Failures[str]()
        if self.junit is not None:
            with failures.of("--junit"):
                results.write_junit(self.junit, done)
        if self.dotenv is not None:
            with failures.of("--dotenv"):
                results.write_dotenv(self.dotenv, done, environment.home_place)
        return list(failures.errors.values())


def _carry_out(
    environment: Environment,
    names: Sequence[str],
    run: Callable[[many.EmitFor], tuple[Result, ...]],
    *,
    shown: str | None,
    as_json: bool,
    events: Path | None,
    files: _Files = _Files(),  # frozen
    notes: Sequence[str] = (),
) -> int:
    """Run builds, show their progress, and print how they ended. Returns the exit code.

    ``names``: of the recipes. ``shown``: the one whose images are printed; "" for the only build.
    """
    from goldenami import many, report
    from goldenami.report.problems import render_error

    console = report.stderr_console()
    builds = open_journals(environment)
    before = {summary.build_id: summary for summary in builds.unfinished()}
    known = frozenset(builds.storage.names())
    started = time.monotonic()
    with ExitStack() as stack:
        if len(names) == 1:
            emit = stack.enter_context(report.progress(console, events=events))
            done = run(lambda _: emit)
        else:
            done = run(stack.enter_context(report.progress_of_several(names, console, events=events)))
    left = _read_left(builds, before, known)
    for result in done:
        if result.error is not None and result.outcome is None:
            _render_failure(result, left, console, alone=len(done) == 1)
        elif result.outcome is not None:
            _render_success(result, environment, left, console, table=shown in ("", result.recipe))
    if len(done) > 1:
        results.render_table(done, console, time.monotonic() - started)
    if as_json:
        print_json(results.document(environment.name, done, notes))
    unwritten = files.write(done, environment)
    for error in unwritten:
        render_error(error)
    return many.exit_code(done) or (OUTPUT_FAILED if unwritten else 0)


@dataclass(frozen=True, slots=True)
class _Left:
    """What a command left. ``before``: the unfinished builds before it; ``now``: those after it, None if the journals
    cannot be read. ``began``: whether it began a journal."""

    before: Mapping[str, Summary]
    now: tuple[Summary, ...] | None
    began: bool

    def new(self) -> list[Summary]:
        """Return the builds that this command left unfinished."""
        earlier = {id: summary.ending for id, summary in self.before.items()}
        return [s for s in self.now or () if s.build_id not in earlier or s.ending != earlier[s.build_id]]


def _read_left(builds: Journals, before: Mapping[str, Summary], known: frozenset[str]) -> _Left:
    """``known``: the names of all journals before the command."""
    try:
        return _Left(before, builds.unfinished(), not known.issuperset(builds.storage.names()))
    except GoldenAmiError:  # the reason of a failure may be that the bucket with the journals is unreachable
        return _Left(before, None, False)


def _render_failure(result: Result, left: _Left, console: Console, *, alone: bool) -> None:
    """Print a failure, what it left, and the next commands."""
    from goldenami import report

    unfinished = [s for s in left.new() if alone or (s.header is not None and s.header.recipe == result.recipe)]
    steps = next_steps(unfinished) if left.now is not None and (unfinished or left.began) else None
    if not alone:
        console.print(f"\n{result.recipe}", style="bold", highlight=False, end="")
    assert result.error is not None
    report.render_failure(result.error, console, leftovers=_leftovers(unfinished), next_steps=steps, tests=False)
    digests = {s.header.plan_digest for s in unfinished if s.header}
    _print_unfinished(
        [s for s in left.before.values() if s.header and s.header.plan_digest in digests and s not in unfinished]
    )


def _render_success(result: Result, environment: Environment, left: _Left, console: Console, *, table: bool) -> None:
    """Print the images (``table``), failed best-effort targets, what the clean-up left, and other unfinished builds of
    the same inputs."""
    from goldenami import report
    from goldenami.release import targets as modes

    outcome = result.outcome
    assert outcome is not None
    digest = outcome.manifest.digest
    _print_unfinished([s for s in left.now or () if s.header is not None and s.header.plan_digest == digest])
    if table:
        names = {account.id: account.name for account in environment.accounts.values()}
        told = outcome.status == "released"  # the tests ran before the eyes of the user
        report.render_release(
            outcome.manifest, console, accounts=names, notes=modes.notes(), seconds=result.seconds, tests=not told
        )
        if result.channel and result.after == outcome.manifest.version:
            lastpage.render(console, environment, outcome.manifest, result.channel, result.before)
    if outcome.failures:
        failed = TargetsFailed(
            f"{outcome.manifest.label} is released, but not everything was done in {', '.join(outcome.failures)}",
            failures=dict(outcome.failures),
        )
        report.render_failure(failed, console)
    if outcome.left:
        build_id = outcome.manifest.build_id
        left_over = TargetsFailed(
            f"{outcome.manifest.label} is released, but temporary resources of its build remain",
            failures=dict(outcome.left),
            hint=f"{step('clean', build_id)} deletes them.",
        )
        report.render_failure(left_over, console)


def _print_unfinished(earlier: Sequence[Summary]) -> None:
    """Print the other unfinished builds of the same inputs, and the commands that end them."""
    for summary in earlier:
        click.echo(f"build {summary.build_id} of the same inputs has not ended:", err=True)
        for purpose, line in next_steps([summary]).items():
            click.echo(f"to {purpose}: {line}", err=True)


def _leftovers(builds: list[Summary]) -> list[Leftover]:
    from goldenami.report import Leftover

    return [Leftover(r.kind, r.id, str(r.place)) for s in builds for r in s.resources]


def next_steps(builds: list[Summary]) -> dict[str, str]:
    from goldenami import task

    steps: dict[str, str] = {}
    for summary in builds:
        if summary.resources or summary.unresolved:
            if summary.can_resume and task.can_resume(summary.header):  # other tasks are run again instead
                steps["continue"] = command("resume", summary.build_id)
            steps["delete what is left"] = command("clean", summary.build_id)
    return steps


@click.command(cls=Waiting)
@click.argument("build_id", metavar="[BUILD_ID]", required=False, shell_complete=completing.builds)
@environment_option
@click.option("--all", "every", is_flag=True, help="Every unfinished or failed build of the environment.")
@click.option(
    "--recipe", "names", metavar="NAME", multiple=True, help="Every unfinished or failed build of these recipes."
)
@click.option(
    "--expired",
    is_flag=True,
    help="Temporary resources of lost machines that have expired, in every account and region.",
)
@click.option(
    "--logs",
    "logs_before",
    callback=moment,
    metavar="WHEN",
    help="Delete only the logs of builds that ended, if they are older than this: 90d, or 2026-11-01.",
)
@click.option("--dry-run", is_flag=True, help="Only print what would be deleted.")
@wait_option
@json_option
def clean(
    build_id: str | None,
    environment_name: str | None,
    every: bool,
    names: tuple[str, ...],
    expired: bool,
    logs_before: datetime | None,
    dry_run: bool,
    wait: float,
    as_json: bool,
) -> int:
    """Delete what an unfinished or failed build created: the resources in its journal, and those with its tags.

    Resources of a release, and resources that the build did not create, are never deleted. Without BUILD_ID, the only
    unfinished build is cleaned. The id of a task (a copy of a snapshot, the encryption of a volume) is accepted as
    well: the command first undoes what the task changed.

    --expired needs no journal. It deletes resources with the tags of this catalog and environment, a valid token and
    an expiry time that has passed by the cloud's clock, unless a release in the catalog owns them. Expired resources
    of other catalogs and environments are listed and kept.

    --logs changes nothing in the cloud. It deletes the logs that `goldenami builds log` prints, and keeps the journals.

    The exit code is 6 if an account or region did not answer, or something could not be deleted.
    """
    from goldenami import pipeline

    if sum((every, bool(names), expired, build_id is not None, logs_before is not None)) > 1:
        message = "BUILD_ID, --all, --recipe, --expired and --logs cannot be combined"
        raise UsageError(message, hint="Give one of them.")
    _, environment = open_project(environment_name)
    journals = open_journals(environment)
    if logs_before is not None:
        return _clean_logs(journals, logs_before, dry_run=dry_run, as_json=as_json)
    done: dict[str | None, CleanUp]
    failures = Failures[str]()
    if expired:
        reach(environment)
        done = pipeline.clean_expired(environment, dry_run=dry_run)
    else:
        many_builds = every or bool(names)
        unfinished = journals.unfinished() if many_builds else [pipeline.choose_build(journals, build_id, environment)]
        if names:
            unfinished = [s for s in unfinished if s.header is not None and s.header.recipe in names]
        wanted = [s.build_id for s in unfinished if not many_builds or _is_of(s, environment)]
        for summary in unfinished:
            if summary.build_id not in wanted and summary.header is not None:
                message = f"{summary.build_id} is of the environment {summary.header.environment}: nothing is changed"
                click.echo(message, err=True)
        if wanted:
            reach(environment)
        done = {}
        for one in wanted:
            with failures.of(one):
                done[one] = pipeline.clean(environment, one, dry_run=dry_run, wait=wait)
        if not many_builds:
            for error in failures.errors.values():
                raise error
    for one, reason in failures.reasons.items():
        click.echo(f"{one}: {reason}", err=True)
    code = _print_clean_ups(done, failures.reasons, dry_run=dry_run, expired=expired, as_json=as_json)
    return code or next((error.exit_code for error in failures.errors.values()), 0)


def _clean_logs(journals: Journals, before: datetime, *, dry_run: bool, as_json: bool) -> int:
    """Delete old logs, and print the ids of their builds."""
    found = journals.forget_events(before, dry_run=dry_run)
    if as_json:
        print_json({"schema": "goldenami.clean-logs/1", "dry_run": dry_run, "builds": list(found)})
        return 0
    for build_id in found:
        click.echo(build_id)
    count = f"{len(found)} log{'' if len(found) == 1 else 's'}"
    click.echo(f"Would delete {count}" if dry_run else f"Deleted {count}", err=True)
    return 0


def _is_of(summary: Summary, environment: Environment) -> bool:
    from goldenami.stages import opening

    return opening.is_of(summary.header, environment)


def _print_clean_ups(
    done: Mapping[str | None, CleanUp], failed: Mapping[str, str], *, dry_run: bool, expired: bool, as_json: bool
) -> int:
    """Print what was deleted, and return the exit code. ``failed``: builds that were not cleaned, with the reason."""
    answers = []
    for one, clean_up in done.items():
        deleted = [{"kind": f.kind, "id": f.id, "place": str(f.place)} for f in clean_up.deleted]
        answers.append(
            {
                "build_id": one,
                "deleted": deleted,
                "left": clean_up.left,
                "unreachable": clean_up.unreachable,
                "others": clean_up.others,
            }
        )
        if not as_json:
            word = "would delete" if dry_run else "deleted"
            count = len(clean_up.deleted)
            name = one or "expired resources of builds that have no journal here"
            click.echo(f"{name}: {word} {count} resource{'s' if count != 1 else ''}", err=True)
            for found in clean_up.deleted:
                click.echo(f"  {found}", err=True)
            for what, why in clean_up.left.items():
                click.echo(f"  not deleted: {what}: {why}", err=True)
            for what, whose in clean_up.others.items():
                click.echo(f"  kept: {what}: {whose}", err=True)
            for place, why in clean_up.unreachable.items():
                click.echo(f"  {place} did not answer: {why}", err=True)
    if as_json:
        document = {"schema": "goldenami.clean/1", "dry_run": dry_run, "expired": expired, "builds": answers}
        print_json({**document, "failed": dict(failed)})
    elif not done and not failed:
        click.echo("Nothing to clean: no build is unfinished.", err=True)
    return 0 if all(clean_up.complete for clean_up in done.values()) else TargetsFailed.exit_code
