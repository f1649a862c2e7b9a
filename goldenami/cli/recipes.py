"""The commands about recipes: validate, schema, plan and init. Only init writes, and only new files."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from goldenami.cli.context import open_project, print_json, reach
from goldenami.cli.options import environment_option, json_option, parse_variables, variable_option
from goldenami.errors import InvalidInput, NotFound, Problem

if TYPE_CHECKING:
    from goldenami.provision import Operation
    from goldenami.recipe import Project

PROBLEMS_SCHEMA = "goldenami.problems/1"


@click.command()
@click.argument("recipes", nargs=-1)
@environment_option
@variable_option
@json_option
def validate(
    recipes: tuple[str, ...], environment_name: str | None, assignments: tuple[str, ...], as_json: bool
) -> int:
    """Check recipes, with their agents, templates and tests, and goldenami.yaml; report every mistake at once.

    RECIPES are names or paths; without any, all recipes and agents of the project are checked. Needs no credentials
    and calls nothing. The exit code is 2 if there is a problem.
    """
    from goldenami import recipe

    variables = parse_variables(assignments)
    project = recipe.load_project(Path.cwd())
    names = list(recipes) or project.recipe_names()
    if not names:
        raise NotFound(
            f"there are no recipes in {project.shown(project.recipes)}", hint="Start one with: goldenami init"
        )
    found = recipe.check(project, names, all_agents=not recipes, environment=environment_name, variables=variables)
    if as_json:
        print_json(_report(project, names, found))
    elif found:
        from goldenami.report.problems import render_error

        render_error(InvalidInput(found))
    else:
        count = len(names)
        shown = ", ".join(Path(name).name.removesuffix(".yaml") for name in names)
        click.echo(f"{count} recipe{'s' if count != 1 else ''} valid: {shown}", err=True)
    return InvalidInput.exit_code if found else 0


def _report(project: Project, names: Sequence[str], problems: Sequence[Problem]) -> dict[str, Any]:
    return {
        "schema": PROBLEMS_SCHEMA,
        "valid": not problems,
        "recipes": [project.shown(project.recipe_path(name)) for name in names],
        "problems": [
            {"file": p.file, "line": p.line, "column": p.column, "message": p.message, "hint": p.hint} for p in problems
        ],
    }


@click.command()
@click.argument("kind", default="recipe", type=click.Choice(["recipe", "environment", "agent", "operations", "agents"]))
def schema(kind: str) -> None:
    """Print the JSON Schema (draft 2020-12) of recipes, of goldenami.yaml (environment), or of agents; or a reference
    as Markdown: of all operations, or of the project's agents.

    In a project, its own operations (Python files in operations/) are included if you allow that they are executed:
    --allow-project-code.

    Save it and name it in the first line of a file, and editors complete and check while you type:
    # yaml-language-server: $schema=PATH
    """
    if kind == "operations":
        from goldenami.recipe.reference import operations_reference

        click.echo(operations_reference(_operations()), nl=False)
        return
    if kind == "agents":
        from goldenami.recipe import load_project
        from goldenami.recipe.reference import agents_reference

        click.echo(agents_reference(load_project(Path.cwd())), nl=False)
        return
    from goldenami.recipe.jsonschema import KINDS, json_schema

    print_json(json_schema(next(k for k in KINDS if k == kind), _operations()))


def _operations() -> Mapping[str, type[Operation]]:
    """The operations that recipes here can use; what is wrong with some of them is told on stderr."""
    from goldenami.recipe.extensions import operations_of
    from goldenami.recipe.project import load_project_or_shipped

    found = operations_of(load_project_or_shipped(Path.cwd()))
    for problem in found.problems:
        click.echo(f"left out: {problem}", err=True)
    return found.kinds


@click.command()
@click.argument("recipe_ref", metavar="RECIPE")
@environment_option
@variable_option
@json_option
def plan(recipe_ref: str, environment_name: str | None, assignments: tuple[str, ...], as_json: bool) -> None:
    """Say what a build of RECIPE (a name or a path) would make, from what, and where it would go. Changes nothing.

    Needs credentials, for it looks up the base image and the keys.
    """
    variables = parse_variables(assignments)
    from goldenami import planning, recipe

    project, environment = open_project(environment_name)
    recipe.load(project, recipe_ref, environment, variables)  # mistakes are told before a cloud is asked
    reach(environment)
    from goldenami import pipeline

    made = pipeline.make_plan(pipeline.Request(project, environment, recipe_ref, variables))
    if as_json:
        print_json(planning.to_json(made))
    else:
        click.echo("\n".join(planning.describe(made)))


@click.command()
@click.argument("directory", default=".", type=click.Path(file_okay=False, path_type=Path))
def init(directory: Path) -> None:
    """Start a project in DIRECTORY: goldenami.yaml, a first recipe, its test, and a .gitignore.

    Existing files are never overwritten: if one of them exists, nothing is written.
    """
    from goldenami.recipe.scaffold import scaffold

    for path in scaffold(directory):
        click.echo(str(path))
    where = "" if directory == Path() else f"cd {directory}, then "
    print(f"Next: {where}goldenami validate", file=sys.stderr)  # noqa: T201
