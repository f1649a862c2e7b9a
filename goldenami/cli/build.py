"""The commands that change the cloud: build, resume, clean; and builds, which looks at what they left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from goldenami.cli.context import open_journals, open_project, print_json, reach
from goldenami.cli.recipes import environment_option, json_option, parse_variables, variable_option
from goldenami.errors import GoldenAmiError, Interrupted, TargetsFailed

if TYPE_CHECKING:
    from goldenami.events import Emit
    from goldenami.journal import Summary
    from goldenami.model import Environment
    from goldenami.pipeline import Outcome
    from goldenami.report import Leftover

events_option = click.option(
    "--events", type=click.Path(dir_okay=False, path_type=Path), help="Append what happens to this file, as JSON lines."
)
on_failure_option = click.option(
    "--on-failure",
    type=click.Choice(["clean", "keep"]),
    default="clean",
    show_default=True,
    help="Delete what a failed build made, or keep all of it, the builder too, to look at.",
)
manifest_option = click.option("--json", "as_json", is_flag=True, help="Print the manifest of the release on stdout.")


@click.command()
@click.argument("recipe", metavar="RECIPE")
@environment_option
@variable_option
@click.option("--force", is_flag=True, help="Build even if a release with the same inputs exists.")
@manifest_option
@events_option
@on_failure_option
def build(
    recipe: str,
    environment_name: str | None,
    assignments: tuple[str, ...],
    force: bool,
    as_json: bool,
    events: Path | None,
    on_failure: Literal["clean", "keep"],
) -> int:
    """Turn RECIPE (a name or a path) into tested, encrypted images in every target.

    A release that was built from the same inputs, and whose images still exist, is not built again; the reason is
    printed. A base recipe that has no release yet is built first. Ctrl-C stops and deletes what was made; a second
    Ctrl-C stops at once, and leaves a journal for `goldenami resume` and `goldenami clean`.
    """
    variables = parse_variables(assignments)
    project, environment = open_project(environment_name)

    def run(emit: Emit) -> Outcome:
        from goldenami import pipeline

        request = pipeline.Request(project, environment, recipe, variables)
        return pipeline.build(request, force=force, on_failure=on_failure, emit_to=emit)

    # What is wrong with the recipe is said before a sandbox is started for it.
    from goldenami import recipe as recipes

    recipes.load(project, recipe, environment, variables)
    return _carry_out(environment, run, as_json=as_json, events=events)


@click.command()
@click.argument("build_id", metavar="[BUILD_ID]", required=False)
@environment_option
@manifest_option
@events_option
@on_failure_option
def resume(
    build_id: str | None,
    environment_name: str | None,
    as_json: bool,
    events: Path | None,
    on_failure: Literal["clean", "keep"],
) -> int:
    """Continue a build that was interrupted or failed: what it made is used again, what failed is repeated.

    Without BUILD_ID, the only build that is unfinished.
    """
    project, environment = open_project(environment_name)

    def run(emit: Emit) -> Outcome:
        from goldenami import pipeline

        return pipeline.resume(project, environment, build_id, on_failure=on_failure, emit_to=emit)

    return _carry_out(environment, run, as_json=as_json, events=events)


def _carry_out(environment: Environment, run: Callable[[Emit], Outcome], *, as_json: bool, events: Path | None) -> int:
    """Run something that makes a release, show its progress, and tell how it ended. Returns the exit code."""
    from goldenami import manifest, report

    reach(environment)
    console = report.stderr_console()
    builds = open_journals(environment)
    before = {summary.build_id: summary.ending for summary in builds.list()}
    try:
        with report.progress(console, events=events) as emit:
            outcome = run(emit)
    except (GoldenAmiError, KeyboardInterrupt) as error:
        if isinstance(error, KeyboardInterrupt):
            error = Interrupted("interrupted before anything was made")
        touched = [s for s in builds.list() if s.build_id not in before or s.ending != before[s.build_id]]
        unfinished = [s for s in touched if s.ending in (None, "failed")]
        report.render_failure(
            error, console, leftovers=_leftovers(unfinished), next_steps=_next_steps(unfinished) if touched else None
        )
        return error.exit_code
    names = {account.id: account.name for account in environment.accounts.values()}
    if as_json:
        print_json(manifest.to_json(outcome.manifest))
    else:
        report.render_release(outcome.manifest, console, accounts=names)
    if outcome.failures:
        failed = TargetsFailed(
            f"released, but not to {', '.join(outcome.failures)}, which the release does not require",
            failures=dict(outcome.failures),
        )
        report.render_failure(failed, console)
        return failed.exit_code
    return 0


def _leftovers(builds: list[Summary]) -> list[Leftover]:
    from goldenami.report import Leftover

    return [Leftover(r.kind, r.id, str(r.place)) for s in builds for r in s.resources]


def _next_steps(builds: list[Summary]) -> dict[str, str]:
    steps: dict[str, str] = {}
    for summary in builds:
        if summary.resources or summary.unresolved:
            steps["continue"] = f"goldenami resume {summary.build_id}"
            steps["delete what is left"] = f"goldenami clean {summary.build_id}"
    return steps


@click.command()
@click.argument("build_id", metavar="[BUILD_ID]", required=False)
@environment_option
@click.option("--all", "every", is_flag=True, help="Every build that is unfinished or failed.")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@json_option
def clean(build_id: str | None, environment_name: str | None, every: bool, dry_run: bool, as_json: bool) -> int:
    """Delete what an unfinished or failed build left behind: what its journal knows, and what carries its tags.

    What a release owns is never deleted, nor anything that the build did not make. Without BUILD_ID, the only build
    that is unfinished. A task (a snapshot that was being copied, a volume that was being encrypted) is named by its id
    in the same way: first what it changed is put back.
    """
    from goldenami import pipeline
    from goldenami.errors import UsageError

    if every and build_id:
        raise UsageError("--all and a build id exclude each other")
    _, environment = open_project(environment_name)
    if every:
        builds = [s.build_id for s in open_journals(environment).unfinished()]
    else:
        builds = [pipeline.choose(open_journals(environment), build_id).build_id]
    if builds:
        reach(environment)
    answers = []
    for one in builds:
        done = pipeline.clean(environment, one, dry_run=dry_run)
        answers.append(
            {
                "build_id": one,
                "deleted": [{"kind": f.kind, "id": f.id, "place": str(f.place)} for f in done.deleted],
                "left": done.left,
            }
        )
        if not as_json:
            word = "would delete" if dry_run else "deleted"
            click.echo(f"{one}: {word} {len(done.deleted)} resource{'s' if len(done.deleted) != 1 else ''}", err=True)
            for found in done.deleted:
                click.echo(f"  {found}", err=True)
            for what, why in done.left.items():
                click.echo(f"  not deleted: {what}: {why}", err=True)
    if as_json:
        print_json({"schema": "goldenami.clean/1", "dry_run": dry_run, "builds": answers})
    elif not builds:
        click.echo("Nothing to clean: no build is unfinished.", err=True)
    return 1 if any(a["left"] for a in answers) else 0


@click.group()
def builds() -> None:
    """What was built, and what is unfinished."""


@builds.command("list")
@environment_option
@json_option
def builds_list(environment_name: str | None, as_json: bool) -> None:
    """List builds, and tasks with their kind in place of a recipe, oldest first."""

    _, environment = open_project(environment_name)
    found = open_journals(environment).list()
    if as_json:
        print_json({"schema": "goldenami.builds/1", "builds": [_summary_json(s) for s in found]})
        return
    for summary in found:
        header = summary.header
        what = f"{header.recipe} {header.data.get('version', '')}".rstrip() if header else str(summary.problem)
        state = summary.ending or ("unfinished" if header else "damaged")
        left = f"  {len(summary.resources)} resources" if state in ("unfinished", "failed") else ""
        click.echo(f"{summary.build_id}  {state:<10}  {what}{left}")


@builds.command("show")
@click.argument("build_id")
@environment_option
@json_option
def builds_show(build_id: str, environment_name: str | None, as_json: bool) -> None:
    """Show one build: how it ended, and what it made that still exists."""

    _, environment = open_project(environment_name)
    summary = open_journals(environment).read(build_id)
    document = _summary_json(summary)
    if as_json:
        print_json({"schema": "goldenami.build/1", **document})
        return
    for key, value in document.items():
        if key != "resources":
            click.echo(f"{key:<12} {value}")
    for resource in summary.resources:
        click.echo(f"{resource.kind:<16} {resource.id:<24} {resource.place}")


def _summary_json(summary: Summary) -> dict[str, object]:
    header = summary.header
    return {
        "build_id": summary.build_id,
        "status": summary.ending or ("unfinished" if header else "damaged"),
        "recipe": header.recipe if header and header.data.get("task") is None else None,
        "task": header.data.get("task") if header else None,
        "version": header.data.get("version") if header else None,
        "environment": header.environment if header else None,
        "digest": header.plan_digest if header else None,
        "created": header.created.strftime("%Y-%m-%dT%H:%M:%SZ") if header else None,
        "problem": summary.problem,
        "unresolved": summary.unresolved,
        "resources": [{"kind": r.kind, "id": r.id, "place": str(r.place), "key": r.key} for r in summary.resources],
    }
