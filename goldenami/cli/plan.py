"""The command plan: what a build of one, many or all recipes would do, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from goldenami.cli import completing, results, several
from goldenami.cli import planned as views
from goldenami.cli.context import keeping_memory, open_project, print_json, print_lines, print_long_json, reach
from goldenami.cli.options import DIFFERS, environment_option, json_option, variable_options
from goldenami.errors import GoldenAmiError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from goldenami.many import Work
    from goldenami.model import Environment
    from goldenami.plans import Planned
    from goldenami.recipe import Project


@click.command()
@click.argument("references", metavar="[RECIPE]...", nargs=-1, shell_complete=completing.recipes)
@environment_option
@variable_options
@click.option("--all", "every", is_flag=True, help="Plan all recipes that are for the environment.")
@click.option("--children", is_flag=True, help="Plan also the recipes that are built on these, and those on them.")
@click.option(
    "--diff",
    "ref",
    metavar="REF",
    help="Say only what the files change since this commit, branch or tag of Git. Needs no credentials.",
)
@click.option(
    "--offline", is_flag=True, help="Use only files: the recipes, and the catalog if it is a directory. No network."
)
@json_option
@click.option("--markdown", is_flag=True, help="Print Markdown on stdout, for a note in a merge request.")
@click.option(
    "--detailed-exitcode",
    "detailed",
    is_flag=True,
    help=f"Return {DIFFERS} if a build would make a release or move a channel.",
)
def plan(
    references: tuple[str, ...],
    environment_name: str | None,
    variables: dict[str, str],
    every: bool,
    children: bool,
    ref: str | None,
    offline: bool,
    as_json: bool,
    markdown: bool,
    detailed: bool,
) -> int:
    """Show what `goldenami build` would do now for each RECIPE (a name or a path), and why. Changes nothing.

    A recipe is built because an input differs, an update of its packages is due, or its base is built first. It is
    unchanged, or only its channel moves, if a release with the same inputs exists. For one RECIPE, all inputs, images
    and targets are shown. A base without a release is planned too.

    Needs credentials, because it looks up base images, keys and releases. A recipe that cannot be planned does not
    hide the others; its exit code is that of `goldenami build`.

    With --offline, nothing is looked up: what is not known is said, and the base images and keys of the last release
    are assumed. With --diff, the working tree is compared with a commit, without any look-up: which recipes are new,
    changed or gone, at which places, and which follow along the graph. Without RECIPE, all recipes are compared.
    --offline changes nothing about that: --diff uses only files, too.
    """
    if as_json and markdown:
        raise UsageError("--json and --markdown cannot be combined", hint="Give one of them.")
    if ref is not None:
        return _diff(ref, references, environment_name, variables, every, children, as_json, markdown, detailed)
    several.require_recipes(references, every)
    environment: Environment | None = None
    try:
        with keeping_memory():
            project, environment = open_project(environment_name)
            from goldenami import many

            # Report problems of the recipes before any API call.
            work = many.choose(project, environment, references, variables, children=children)
            several.require_work(work, environment)
            made = _made(project, environment, work, offline=offline)
    except GoldenAmiError as error:
        if as_json:
            print_json(views.refusal(environment.name if environment is not None else None, error))
        raise
    if as_json:
        results.print_notes(work.notes)
        print_long_json(views.frame(environment.name, made, work.notes), "plans", map(views.plan, made))
    elif markdown:
        click.echo("\n".join(views.markdown(environment.name, made, work.notes)))
    else:
        results.print_notes(work.notes)
        in_full = work.steps[0].name if len(work.steps) == 1 else None
        print_lines(views.text(environment.name, made, in_full, offline=offline))
    _tell_failures(made)
    return many.exit_code(made) or (DIFFERS if detailed and any(one.changes for one in made) else 0)


def _made(project: Project, environment: Environment, work: Work, *, offline: bool) -> tuple[Planned, ...]:
    if offline:
        from goldenami import offline as without_network

        return without_network.make(project, environment, work)
    reach(environment)
    from goldenami import plans

    return plans.make(project, environment, work)


def _diff(
    ref: str,
    references: tuple[str, ...],
    environment_name: str | None,
    variables: Mapping[str, str],
    every: bool,
    children: bool,
    as_json: bool,
    markdown: bool,
    detailed: bool,
) -> int:
    from goldenami.cli import changed as changes_views

    if references and every:
        several.require_recipes(references, every)
    environment: Environment | None = None
    try:
        project, environment = open_project(environment_name)
        from goldenami import changes, many
        from goldenami.recipe.revision import at_commit

        work = many.choose(project, environment, references, variables, children=children)
        with at_commit(project, ref) as revision:
            made = changes.since(project, environment, work, revision)
            if not references:
                made += changes.removed(project, environment, revision)
            commit = revision.commit
    except GoldenAmiError as error:
        if as_json:
            print_json(changes_views.refusal(environment.name if environment is not None else None, ref, error))
        raise
    if as_json:
        results.print_notes(work.notes)
        print_json(changes_views.document(environment.name, ref, commit, made, work.notes))
    elif markdown:
        click.echo("\n".join(changes_views.markdown(environment.name, ref, commit, made, work.notes)))
    else:
        results.print_notes(work.notes)
        click.echo("\n".join(changes_views.text(environment.name, ref, commit, made)))
    return DIFFERS if detailed and any(one.change != "unchanged" for one in made) else 0


def _tell_failures(made: Iterable[Planned]) -> None:
    for error in [one.error for one in made if one.error is not None]:
        from goldenami.report.problems import render_error  # here, because it is slow to load

        render_error(error)
