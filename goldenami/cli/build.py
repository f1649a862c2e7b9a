"""The commands that change the cloud: build, resume, clean."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from goldenami.cli.context import open_journals, open_project, print_json, reach
from goldenami.cli.moments import moment
from goldenami.cli.options import environment_option, events_option, json_option, variable_options
from goldenami.cli.waiting import Waiting, wait_option
from goldenami.each import Failures
from goldenami.errors import GoldenAmiError, Interrupted, TargetsFailed
from goldenami.nextstep import command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from goldenami.events import Emit
    from goldenami.journal import Journals, Summary
    from goldenami.model import Environment
    from goldenami.pipeline import Outcome
    from goldenami.reconcile import CleanUp
    from goldenami.report import Leftover


on_failure_option = click.option(
    "--on-failure",
    type=click.Choice(["clean", "keep"]),
    default="clean",
    show_default=True,
    help="After a failure: delete what the build created, or keep it for inspection, with the builder.",
)
manifest_option = click.option("--json", "as_json", is_flag=True, help="Print the manifest of the release on stdout.")


@click.command(cls=Waiting)
@click.argument("recipe", metavar="RECIPE")
@environment_option
@variable_options
@click.option("--force", is_flag=True, help="Build even if a release with the same inputs exists.")
@click.option("--no-move", is_flag=True, help="If such a release exists, do not point the recipe's channel to it.")
@manifest_option
@events_option
@on_failure_option
@wait_option
def build(
    recipe: str,
    environment_name: str | None,
    variables: dict[str, str],
    force: bool,
    no_move: bool,
    as_json: bool,
    events: Path | None,
    on_failure: Literal["clean", "keep"],
    wait: float,
) -> int:
    """Turn RECIPE (a name or a path) into tested, encrypted images in every target.

    If a release with the same inputs exists and its images still exist, nothing is built: the channel of the recipe is
    pointed to that release, unless it was rolled back from it. The reason is printed. A
    base recipe without a release is built first. Only one build of a recipe runs at a time.

    Ctrl-C stops the build and deletes what it created, and so does a terminal that is closed. A second Ctrl-C stops at
    once, and leaves a journal for `goldenami resume` and `goldenami clean`.
    """
    project, environment = open_project(environment_name)
    project = project.trusted()  # a build executes the project's tests on this machine as well

    def run(emit: Emit) -> Outcome:
        from goldenami import pipeline

        request = pipeline.Request(project, environment, recipe, variables)
        return pipeline.build(request, force=force, move=not no_move, on_failure=on_failure, wait=wait, emit_to=emit)

    # Report problems of the recipe before a sandbox is started for it.
    from goldenami import recipe as recipes

    recipes.load(project, recipe, environment, variables)
    return _carry_out(environment, run, as_json=as_json, events=events)


@click.command(cls=Waiting)
@click.argument("build_id", metavar="[BUILD_ID]", required=False)
@environment_option
@manifest_option
@events_option
@on_failure_option
@wait_option
def resume(
    build_id: str | None,
    environment_name: str | None,
    as_json: bool,
    events: Path | None,
    on_failure: Literal["clean", "keep"],
    wait: float,
) -> int:
    """Continue a build that was interrupted or failed: use what it created, and repeat what failed.

    Without BUILD_ID, the only unfinished build is continued.
    """
    project, environment = open_project(environment_name)
    project = project.trusted()  # a build executes the project's tests on this machine as well

    def run(emit: Emit) -> Outcome:
        from goldenami import pipeline

        return pipeline.resume(project, environment, build_id, on_failure=on_failure, wait=wait, emit_to=emit)

    return _carry_out(environment, run, as_json=as_json, events=events)


def _carry_out(environment: Environment, run: Callable[[Emit], Outcome], *, as_json: bool, events: Path | None) -> int:
    """Run a build, show its progress, and print how it ended. Returns the exit code."""
    from goldenami import manifest, report
    from goldenami.release import targets as modes

    reach(environment)
    console = report.stderr_console()
    builds = open_journals(environment)
    before = {summary.build_id: summary for summary in builds.unfinished()}
    known = frozenset(builds.storage.names())
    try:
        with report.progress(console, events=events) as emit:
            outcome = run(emit)
    except (GoldenAmiError, KeyboardInterrupt) as error:
        if isinstance(error, KeyboardInterrupt):
            error = Interrupted("interrupted before anything was created")
        unfinished: list[Summary] = []
        steps: dict[str, str] | None = None
        with suppress(GoldenAmiError):  # the error may be that the bucket with the journals is unreachable
            now = builds.unfinished()
            unfinished = [s for s in now if s.build_id not in before or s.ending != before[s.build_id].ending]
            touched = bool(unfinished) or not known.issuperset(builds.storage.names())
            steps = next_steps(unfinished) if touched else None
        report.render_failure(error, console, leftovers=_leftovers(unfinished), next_steps=steps)
        digests = {s.header.plan_digest for s in unfinished if s.header}
        _print_unfinished(
            [s for s in before.values() if s.header and s.header.plan_digest in digests and s not in unfinished]
        )
        return error.exit_code
    with suppress(GoldenAmiError):
        _print_unfinished(builds.unfinished(plan_digest=outcome.manifest.digest))
    names = {account.id: account.name for account in environment.accounts.values()}
    if as_json:
        print_json(manifest.to_json(outcome.manifest))
    else:
        report.render_release(outcome.manifest, console, accounts=names, notes=modes.notes())
    if outcome.failures:
        failed = TargetsFailed(
            f"released, but not to {', '.join(outcome.failures)}, which the release does not require",
            failures=dict(outcome.failures),
        )
        report.render_failure(failed, console)
        return failed.exit_code
    return 0


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
@click.argument("build_id", metavar="[BUILD_ID]", required=False)
@environment_option
@click.option("--all", "every", is_flag=True, help="Every unfinished or failed build of the environment.")
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
    from goldenami.errors import UsageError

    if sum((every, expired, build_id is not None, logs_before is not None)) > 1:
        raise UsageError("BUILD_ID, --all, --expired and --logs cannot be combined", hint="Give one of them.")
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
        unfinished = journals.unfinished() if every else [pipeline.choose_build(journals, build_id, environment)]
        wanted = [s.build_id for s in unfinished if not every or _is_of(s, environment)]
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
        if not every:
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
