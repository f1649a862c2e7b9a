"""``goldenami import``: templates of other tools become recipes of the project."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any

import click

from goldenami.cli.context import choose_environment, print_json
from goldenami.cli.options import environment_option, json_option
from goldenami.cli.output import write_file
from goldenami.errors import InvalidInput, UsageError
from goldenami.nextstep import command
from goldenami.os import SYSTEMS

if TYPE_CHECKING:
    from goldenami.importing import Draft
    from goldenami.importing.draft import Content, Note
    from goldenami.model import Environment
    from goldenami.recipe import Project

IMPORT_SCHEMA = "goldenami.import/1"
AGENT_SCHEMA = "goldenami.import-agent/1"


@click.group("import")
def importing() -> None:
    """Templates of other tools, as recipes."""


@importing.command("packer")
@click.argument("template", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--var-file",
    "var_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A variable file of Packer, whose values become the defaults. Repeatable.",
)
@click.option("--var", "given", multiple=True, metavar="NAME=VALUE", help="A default of a variable. Repeatable.")
@click.option("--dry-run", is_flag=True, help="Print the recipes; write nothing.")
@click.option("--force", is_flag=True, help="Replace recipes of the project that have the same names.")
@environment_option
@json_option
def import_packer(
    template: Path,
    var_files: tuple[Path, ...],
    given: tuple[str, ...],
    dry_run: bool,
    force: bool,
    environment_name: str | None,
    as_json: bool,
) -> int:
    """Write recipes for the Amazon EBS sources of a Packer template.

    TEMPLATE is a file in HCL2 (.pkr.hcl) or JSON, or a folder of files .pkr.hcl. Scripts and files that it names are
    copied beside the recipes. What could not be carried over is printed line by line, and is in the head of each
    recipe. Regions, keys and networks belong into an environment of goldenami.yaml, which is printed and not written.
    """
    from goldenami import recipe
    from goldenami.importing import draft_recipes, read_packer

    project = None if dry_run else recipe.load_project(Path.cwd())
    environment = choose_environment(project, environment_name) if project is not None else None
    values = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals:
            raise UsageError(f"--var {one}: expected NAME=VALUE")
        values[name] = value
    drafts = draft_recipes(read_packer(template, var_files, values))
    problems: list[str] = []
    written: list[Path] = []
    if project is not None and environment is not None:
        contents = {
            path: content
            for draft in drafts
            for path, content in _contents(draft, project.recipes, f"{draft.name}.yaml").items()
        }
        written = _write(project, contents, force=force)
        problems = _problems(recipe.load_project(Path.cwd()), drafts, environment)
    if as_json:
        print_json({"schema": IMPORT_SCHEMA, "recipes": [_to_json(one) for one in drafts], "problems": problems})
    else:
        _print(drafts, written, problems)
    return InvalidInput.exit_code if problems else 0


@importing.command("image-builder")
@click.argument("document", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--os",
    "systems",
    multiple=True,
    required=True,
    type=click.Choice(sorted(SYSTEMS)),
    help="The operating system that the component is for. Repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Print the agent; write nothing.")
@click.option("--force", is_flag=True, help="Replace files of the agent that differ.")
@json_option
def import_component(document: Path, systems: tuple[str, ...], dry_run: bool, force: bool, as_json: bool) -> None:
    """Write an agent for a component document of EC2 Image Builder.

    Its phase build becomes operations, its phases validate and test become a test file. What could not be carried
    over is printed line by line, and is in the head of the agent.
    """
    from goldenami import recipe
    from goldenami.importing import draft_agent

    project = None if dry_run else recipe.load_project(Path.cwd())
    draft = draft_agent(document, systems)
    written: list[Path] = []
    if project is not None:
        written = _write(project, _contents(draft, project.agents / draft.name, "agent.yaml"), force=force)
    if as_json:
        print_json({"schema": AGENT_SCHEMA, "agent": draft.recipe, **_common_json(draft)})
        return
    for path in written:
        click.echo(f"wrote {_shown(path)}")
    if not written:
        click.echo(draft.to_yaml())
    _print_notes(draft)
    if written:
        click.echo(f"\nNext: name it under agents: in a recipe, then {command('validate')}", err=True)


def _write(project: Project, contents: Mapping[Path, Content], *, force: bool) -> list[Path]:
    """Write files of a project. Raises UsageError, and writes nothing, if one of them exists and differs."""
    existing = [path for path, given in contents.items() if path.exists() and path.read_bytes() != given.contents]
    if existing and not force:
        names = ", ".join(str(path.relative_to(project.root)) for path in existing)
        raise UsageError(f"nothing was written: these files exist: {names}", hint="--force replaces them.")
    for path, given in contents.items():
        write_file(path, given.contents, "--directory")
        if given.executable:
            path.chmod(path.stat().st_mode | 0o111)
    return list(contents)


def _contents(draft: Draft, folder: Path, name: str) -> dict[Path, Content]:
    """Return the files of a draft. ``name``: that of its definition."""
    from goldenami.importing.draft import Content

    definition = Content(draft.to_yaml().encode())
    return {folder / name: definition, **{folder / path: content for path, content in draft.files.items()}}


def _problems(project: Project, drafts: list[Draft], environment: Environment) -> list[str]:
    """Return the mistakes that the written recipes have, with their places."""
    from goldenami import recipe

    found: list[str] = []
    for draft in drafts:
        try:
            recipe.load(project, draft.name, environment)
        except InvalidInput as error:
            found += [str(problem) for problem in error.problems]
    return found


def _to_json(draft: Draft) -> dict[str, Any]:
    return {
        "name": draft.name,
        "recipe": draft.recipe,
        "environment": draft.environment,
        **_common_json(draft),
    }


def _common_json(draft: Draft) -> dict[str, Any]:
    return {
        "files": sorted(draft.files),
        "lost": [_note_json(note) for note in draft.lost],
        "replaced": [_note_json(note) for note in draft.replaced],
    }


def _note_json(note: Note) -> dict[str, Any]:
    return {"file": note.file, "line": note.line, "text": note.text}


def _print(drafts: list[Draft], written: list[Path], problems: list[str]) -> None:
    from goldenami.importing.draft import to_yaml

    for path in written:
        click.echo(f"wrote {_shown(path)}")
    for draft in drafts:
        if not written:
            click.echo(f"# recipes/{draft.name}.yaml")
            click.echo(draft.to_yaml())
        _print_notes(draft)
    click.echo("\nFor goldenami.yaml, to complete (docs/environments.md):")
    told: list[dict[str, Any]] = []
    for draft in drafts:
        if draft.environment not in told:
            told.append(draft.environment)
            names = ", ".join(one.name for one in drafts if one.environment == draft.environment)
            click.echo(f"  # {names}")
            click.echo(indent(to_yaml({"environments": {"production": draft.environment}}), "  "), nl=False)
    for problem in problems:
        click.echo(problem, err=True)
    if written:
        click.echo(f"\nNext: {command('validate' if problems else 'plan', drafts[0].name)}", err=True)


def _print_notes(draft: Draft) -> None:
    click.echo(f"\n{draft.name}: {len(draft.lost)} not carried over, {len(draft.replaced)} done in another way")
    for title, notes in (("not carried over", draft.lost), ("done in another way", draft.replaced)):
        if notes:
            click.echo(f"  {title}:")
        for note in notes:
            click.echo(f"    {note}")


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
