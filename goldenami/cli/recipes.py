"""The commands about recipes: validate, schema and init. Only init writes, and only new files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from goldenami.cli import completing
from goldenami.cli.context import keeping_memory, print_json
from goldenami.cli.options import environment_option, json_option, variable_options
from goldenami.cli.shipped import project_or_shipped, tell
from goldenami.errors import InvalidInput, NotFound, UsageError
from goldenami.nextstep import command

if TYPE_CHECKING:
    from goldenami.provision import Operation
    from goldenami.recipe import Inspection, Project

_OFFERS = """\
Shipped with goldenami, for your recipes:
  goldenami agents list     # software for the section agents, such as chrony
  goldenami harden list     # profiles for the section hardening
  goldenami recipes list    # complete recipes; goldenami recipes copy NAME copies one"""
PROBLEMS_SCHEMA = "goldenami.problems/1"


@click.command()
@click.argument("recipes", nargs=-1, shell_complete=completing.recipes)
@environment_option
@variable_options
@json_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "codeclimate"]),
    default="text",
    show_default=True,
    help="Form of the report. json is the same as --json; codeclimate is for GitLab (artifacts: reports: codequality).",
)
def validate(
    recipes: tuple[str, ...], environment_name: str | None, variables: dict[str, str], as_json: bool, form: str
) -> int:
    """Check recipes, with their agents, templates and tests, and goldenami.yaml; report all problems at once.

    RECIPES are names or paths. Without RECIPES, all recipes and agents of the project are checked. Needs no credentials
    and makes no API call. The exit code is 2 if there is a problem.
    """
    if as_json and form == "codeclimate":
        raise UsageError("--json and --format codeclimate cannot be combined", hint="Give one of them.")
    as_json = as_json or form == "json"
    from goldenami import recipe
    from goldenami.recipe import lookup

    project = recipe.load_project(Path.cwd())
    names = list(recipes) or project.recipe_names()
    if not names:
        raise NotFound(
            f"there are no recipes in {project.shown(project.recipes)}", hint=f"Start one with: {command('init')}"
        )
    with keeping_memory():
        inspection = recipe.inspect(
            project, names, all_agents=not recipes, environment=environment_name, variables=variables
        )
    found = inspection.problems
    if inspection.warnings and not as_json:
        from goldenami.report.problems import render_problems, stderr_console

        render_problems(inspection.warnings, stderr_console(), warnings=True)
    if form == "codeclimate":
        from goldenami.report import codeclimate

        print_json(codeclimate.report(found, inspection.warnings, codeclimate.top_of(Path.cwd())))
    if as_json:
        print_json(_report(project, names, inspection))
    elif found:
        from goldenami.report.problems import render_error

        render_error(InvalidInput(found))
    else:
        for line in (*inspection.notes, *lookup.describe(inspection.lookups)):
            click.echo(line, err=True)
        click.echo(f"{len(names)} recipe{'s' if len(names) != 1 else ''} valid", err=True)
    return InvalidInput.exit_code if found else 0


def _report(project: Project, names: Sequence[str], inspection: Inspection) -> dict[str, Any]:
    problems, warnings = (
        [{"file": p.file, "line": p.line, "column": p.column, "message": p.message, "hint": p.hint} for p in kind]
        for kind in (inspection.problems, inspection.warnings)
    )
    return {
        "schema": PROBLEMS_SCHEMA,
        "valid": not problems,
        "recipes": [project.shown(project.recipe_path(name)) for name in names],
        "problems": problems,
        "warnings": warnings,
        "notes": inspection.notes,
        "lookups": [one.to_json() for one in inspection.lookups],
    }


@click.command()
@click.argument(
    "kind", default="recipe", type=click.Choice(["recipe", "environment", "agent", "event", "operations", "agents"])
)
def schema(kind: str) -> None:
    """Print the JSON Schema (draft 2020-12) of recipes, of goldenami.yaml (environment), of agents, or of
    events (notifications); or a reference as Markdown: of all operations, or of all agents.

    In a project, its own operations (Python files in operations/) are included if you allow that they are executed:
    --allow-project-code.

    Editors complete and check a file while you type if its first line names the saved schema:
    # yaml-language-server: $schema=PATH
    """
    if kind == "operations":
        from goldenami.recipe.reference import operations_reference

        click.echo(operations_reference(_operations()), nl=False)
        return
    if kind == "agents":
        from goldenami.recipe.reference import agents_reference

        click.echo(agents_reference(project_or_shipped()), nl=False)
        return
    from goldenami.recipe.jsonschema import KINDS, json_schema

    print_json(json_schema(next(k for k in KINDS if k == kind), _operations()))


def _operations() -> Mapping[str, type[Operation]]:
    """Return the operations that recipes of this project can use. Problems of single operations go to stderr."""
    from goldenami.recipe.extensions import operations_of
    from goldenami.recipe.project import load_project_or_shipped

    found = operations_of(load_project_or_shipped(Path.cwd()))
    for problem in found.problems:
        click.echo(f"left out: {problem}", err=True)
    return found.kinds


@click.command()
@click.argument("directory", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--from",
    "recipe_name",
    metavar="RECIPE",
    shell_complete=completing.shipped_recipes,
    help="Start with this shipped recipe instead of an example.",
)
@click.option(
    "--ci",
    "engine",
    type=click.Choice(["gitlab"]),
    help="Write also a pipeline: .gitlab-ci.yml and .gitlab/goldenami.yml. In a project, write only these.",
)
@click.option(
    "-e",
    "--environment",
    "built_for",
    metavar="NAME",
    default="production",
    show_default=True,
    help="The environment that the pipeline of --ci builds for.",
)
def init(directory: Path, recipe_name: str | None, engine: str | None, built_for: str) -> None:
    """Start a project in DIRECTORY: goldenami.yaml, a first recipe, its test, and a .gitignore.

    Existing files are never overwritten: if one of them exists, nothing is written.
    """
    from goldenami.recipe import copying
    from goldenami.recipe.project import FILE
    from goldenami.recipe.scaffold import scaffold, write_new

    if recipe_name is not None:
        copying.require_shipped("recipe", recipe_name)
    pipeline = _pipeline(engine, built_for)
    if pipeline and (directory / FILE).exists():
        if recipe_name is not None:
            raise UsageError(
                f"--from starts a project, and {directory / FILE} exists",
                hint=f"Copy the recipe into the project: {command('recipes copy', recipe_name)}",
            )
        hint = (
            "To add the jobs to a pipeline of your own, write them into an empty folder: "
            f"{command('init', '--ci', 'gitlab', 'FOLDER')}. Copy .gitlab/goldenami.yml, and merge include, stages, "
            "workflow and the jobs of .gitlab-ci.yml into yours."
        )
        for path in write_new({directory / name: text for name, text in pipeline.items()}, hint):
            click.echo(str(path))
        return
    for path in scaffold(directory, example=recipe_name is None, more=pipeline):
        click.echo(str(path))
    if recipe_name is not None:
        from goldenami.recipe import load_project

        tell(copying.copy_recipe(load_project(directory), recipe_name))
    where = "" if directory == Path() else f"cd {directory}, then "
    click.echo(f"Next: {where}{command('validate')}", err=True)
    click.echo(_OFFERS, err=True)


def _pipeline(engine: str | None, environment: str) -> dict[str, str]:
    """Return the files of a pipeline: path -> text; empty without --ci."""
    if engine is None:
        return {}
    from goldenami.ci import scaffold as pipelines

    return pipelines.files(environment)
