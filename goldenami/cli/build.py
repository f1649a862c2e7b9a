"""The commands that change the cloud: build, resume, clean."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from goldenami.cli.context import open_journals, open_project, print_json, reach
from goldenami.cli.options import environment_option, events_option, json_option, parse_variables, variable_option
from goldenami.cli.waiting import Waiting, wait_option
from goldenami.each import Failures
from goldenami.errors import GoldenAmiError, Interrupted, TargetsFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from goldenami.events import Emit
    from goldenami.journal import Summary
    from goldenami.model import Environment
    from goldenami.pipeline import Outcome
    from goldenami.reconcile import CleanUp
    from goldenami.report import Leftover


on_failure_option = click.option(
    "--on-failure",
    type=click.Choice(["clean", "keep"]),
    default="clean",
    show_default=True,
    help="Delete what a failed build made, or keep all of it, the builder too, to look at.",
)
manifest_option = click.option("--json", "as_json", is_flag=True, help="Print the manifest of the release on stdout.")


@click.command(cls=Waiting)
@click.argument("recipe", metavar="RECIPE")
@environment_option
@variable_option
@click.option("--force", is_flag=True, help="Build even if a release with the same inputs exists.")
@manifest_option
@events_option
@on_failure_option
@wait_option
def build(
    recipe: str,
    environment_name: str | None,
    assignments: tuple[str, ...],
    force: bool,
    as_json: bool,
    events: Path | None,
    on_failure: Literal["clean", "keep"],
    wait: float,
) -> int:
    """Turn RECIPE (a name or a path) into tested, encrypted images in every target.

    A release that was built from the same inputs, and whose images still exist, is not built again; the reason is
    printed. A base recipe that has no release yet is built first. One build of a recipe runs at a time. Ctrl-C stops
    and deletes what was made; a second Ctrl-C stops at once, and leaves a journal for `goldenami resume` and `goldenami
    clean`.
    """
    variables = parse_variables(assignments)
    project, environment = open_project(environment_name)
    project = project.trusted()  # a build executes the project's tests here as well

    def run(emit: Emit) -> Outcome:
        from goldenami import pipeline

        request = pipeline.Request(project, environment, recipe, variables)
        return pipeline.build(request, force=force, on_failure=on_failure, wait=wait, emit_to=emit)

    # What is wrong with the recipe is said before a sandbox is started for it.
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
    """Continue a build that was interrupted or failed: what it made is used again, what failed is repeated.

    Without BUILD_ID, the only build that is unfinished.
    """
    project, environment = open_project(environment_name)
    project = project.trusted()  # a build executes the project's tests here as well

    def run(emit: Emit) -> Outcome:
        from goldenami import pipeline

        return pipeline.resume(project, environment, build_id, on_failure=on_failure, wait=wait, emit_to=emit)

    return _carry_out(environment, run, as_json=as_json, events=events)


def _carry_out(environment: Environment, run: Callable[[Emit], Outcome], *, as_json: bool, events: Path | None) -> int:
    """Run something that makes a release, show its progress, and tell how it ended. Returns the exit code."""
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
            error = Interrupted("interrupted before anything was made")
        unfinished: list[Summary] = []
        steps: dict[str, str] | None = None
        with suppress(GoldenAmiError):  # journals in a bucket may be out of reach by the very error that is told here
            now = builds.unfinished()
            unfinished = [s for s in now if s.build_id not in before or s.ending != before[s.build_id].ending]
            touched = bool(unfinished) or not known.issuperset(builds.storage.names())
            steps = next_steps(unfinished) if touched else None
        report.render_failure(error, console, leftovers=_leftovers(unfinished), next_steps=steps)
        digests = {s.header.plan_digest for s in unfinished if s.header}
        _tell_of([s for s in before.values() if s.header and s.header.plan_digest in digests and s not in unfinished])
        return error.exit_code
    with suppress(GoldenAmiError):
        _tell_of(builds.unfinished(plan_digest=outcome.manifest.digest))
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


def _tell_of(earlier: Sequence[Summary]) -> None:
    """Builds of the same inputs that this one was not about, and that somebody should put an end to."""
    for summary in earlier:
        click.echo(f"build {summary.build_id} of the same inputs has not ended:", err=True)
        for purpose, command in next_steps([summary]).items():
            click.echo(f"to {purpose}: {command}", err=True)


def _leftovers(builds: list[Summary]) -> list[Leftover]:
    from goldenami.report import Leftover

    return [Leftover(r.kind, r.id, str(r.place)) for s in builds for r in s.resources]


def next_steps(builds: list[Summary]) -> dict[str, str]:
    steps: dict[str, str] = {}
    for summary in builds:
        if summary.resources or summary.unresolved:
            if summary.header is None or summary.header.data.get("task") is None:  # a task is run again instead
                steps["continue"] = f"goldenami resume {summary.build_id}"
            steps["delete what is left"] = f"goldenami clean {summary.build_id}"
    return steps


@click.command(cls=Waiting)
@click.argument("build_id", metavar="[BUILD_ID]", required=False)
@environment_option
@click.option("--all", "every", is_flag=True, help="Every build that is unfinished or failed.")
@click.option(
    "--expired",
    is_flag=True,
    help="What machines that never came back left, in every account and region: temporary things past their time.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@wait_option
@json_option
def clean(
    build_id: str | None,
    environment_name: str | None,
    every: bool,
    expired: bool,
    dry_run: bool,
    wait: float,
    as_json: bool,
) -> int:
    """Delete what an unfinished or failed build left behind: what its journal knows, and what carries its tags.

    What a release owns is never deleted, nor anything that the build did not make. Without BUILD_ID, the only build
    that is unfinished. A task (a snapshot that was being copied, a volume that was being encrypted) is named by its id
    in the same way: first what it changed is put back.

    --expired needs no journal: it takes what carries goldenami's own tags, with a token that is right and a time that
    has passed by the cloud's clock, and that no release in the catalog owns.

    The exit code is 6 if an account or region did not answer, or something could not be deleted.
    """
    from goldenami import pipeline
    from goldenami.errors import UsageError

    if sum((every, expired, build_id is not None)) > 1:
        raise UsageError("BUILD_ID, --all and --expired exclude each other")
    _, environment = open_project(environment_name)
    journals = open_journals(environment)
    done: dict[str | None, CleanUp]
    failures = Failures[str]()
    if expired:
        reach(environment)
        done = pipeline.clean_expired(environment, dry_run=dry_run)
    else:
        wanted = (
            [s.build_id for s in journals.unfinished()]
            if every
            else [pipeline.choose_build(journals, build_id).build_id]
        )
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
    code = _told(done, failures.reasons, dry_run=dry_run, expired=expired, as_json=as_json)
    return code or next((error.exit_code for error in failures.errors.values()), 0)


def _told(
    done: Mapping[str | None, CleanUp], failed: Mapping[str, str], *, dry_run: bool, expired: bool, as_json: bool
) -> int:
    """Say what was deleted; the exit code. ``failed``: builds that were not cleaned, with the reason."""
    answers = []
    for one, clean_up in done.items():
        deleted = [{"kind": f.kind, "id": f.id, "place": str(f.place)} for f in clean_up.deleted]
        answers.append(
            {"build_id": one, "deleted": deleted, "left": clean_up.left, "unreachable": clean_up.unreachable}
        )
        if not as_json:
            word = "would delete" if dry_run else "deleted"
            count = len(clean_up.deleted)
            name = one or "expired, of builds without a journal here"
            click.echo(f"{name}: {word} {count} resource{'s' if count != 1 else ''}", err=True)
            for found in clean_up.deleted:
                click.echo(f"  {found}", err=True)
            for what, why in clean_up.left.items():
                click.echo(f"  not deleted: {what}: {why}", err=True)
            for place, why in clean_up.unreachable.items():
                click.echo(f"  {place} did not answer: {why}", err=True)
    if as_json:
        document = {"schema": "goldenami.clean/1", "dry_run": dry_run, "expired": expired, "builds": answers}
        print_json({**document, "failed": dict(failed)})
    elif not done and not failed:
        click.echo("Nothing to clean: no build is unfinished.", err=True)
    return 0 if all(clean_up.complete for clean_up in done.values()) else TargetsFailed.exit_code
