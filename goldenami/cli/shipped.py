"""The commands about what goldenami ships for every project: agents and recipes. Profiles are in cli/harden.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from goldenami.cli import completing
from goldenami.cli.context import print_json, print_table
from goldenami.cli.options import json_option
from goldenami.errors import NotFound
from goldenami.nextstep import command, step

if TYPE_CHECKING:
    from goldenami.recipe import Project
    from goldenami.recipe.copying import Copied
    from goldenami.recipe.lookup import Found, Kind

AGENTS_SCHEMA = "goldenami.agents/1"
AGENT_SCHEMA = "goldenami.agent/1"
RECIPES_SCHEMA = "goldenami.recipes/1"

force_option = click.option("--force", is_flag=True, help="Replace files of the project that differ.")


@click.group()
def agents() -> None:
    """Agents: software that many recipes install in the same way. Shipped ones, and the project's own."""


@agents.command("list")
@json_option
def list_agents(as_json: bool) -> None:
    """List the agents that recipes can use, and where each comes from. Works without a project, too."""
    project = project_or_shipped()
    found = _all(project, "agent")
    require(found, "agents")
    described = [_agent(project, one) for one in found]
    if as_json:
        print_json({"schema": AGENTS_SCHEMA, "agents": described})
        return
    rows = [
        (row["name"], one.origin, ", ".join(row["systems"]), row["description"])
        for row, one in zip(described, found, strict=True)
    ]
    print_table(("AGENT", "FROM", "SYSTEMS", "DESCRIPTION"), rows)


@agents.command("show")
@click.argument("name", shell_complete=completing.agents)
@json_option
def show_agent(name: str, as_json: bool) -> None:
    """Show what an agent does: its systems, its parameters with their defaults, and its files."""
    from goldenami.recipe.reference import describe_params
    from goldenami.recipe.similar import suggestion

    project = project_or_shipped()
    found = project.find("agent", name)
    if found is None:
        hint = suggestion(name, project.agent_names(), f"{step('agents list')} prints the names.")
        raise NotFound(f"there is no agent {name!r}", hint=hint)
    described = _agent(project, found)
    value = read(project, found)
    if as_json:
        print_json({"schema": AGENT_SCHEMA, **described, "params": value.get("params") or {}})
        return
    click.echo(f"{name}: {described['description']}\n")
    click.echo(f"from     {found.origin}")
    click.echo(f"systems  {', '.join(described['systems'])}")
    click.echo(f"files    {described['files'][0]}")
    for file in described["files"][1:]:
        click.echo(f"         {file}")
    for param, (takes, default, words) in describe_params(value).items():
        click.echo(f"\nparameter {param}: {takes}; default: {default}")
        if words:
            click.echo(f"  {words}")


@agents.command("copy")
@click.argument("name", shell_complete=completing.agents)
@force_option
def copy_agent(name: str, force: bool) -> None:
    """Copy a shipped agent into recipes/agents/NAME, where the project uses it and you can change it.

    Prints the files that it wrote. Files of the project are overwritten only with --force.
    """
    from goldenami import recipe
    from goldenami.recipe import copying

    project = recipe.load_project(Path.cwd())
    tell(copying.copy_agent(project, name, force=force))


@click.group()
def recipes() -> None:
    """Recipes: the project's own, and the shipped ones as starting points."""


@recipes.command("list")
@json_option
def list_recipes(as_json: bool) -> None:
    """List the project's recipes, and the shipped ones that can be copied. Works without a project, too."""
    project = project_or_shipped()
    found = _all(project, "recipe")
    require(found, "recipes")
    described = [_recipe(project, one) for one in found]
    if as_json:
        print_json({"schema": RECIPES_SCHEMA, "recipes": described})
        return
    rows = [
        (row["name"], one.origin, row["version"], row["base"] or "-", row["description"])
        for row, one in zip(described, found, strict=True)
    ]
    print_table(("RECIPE", "FROM", "VERSION", "BASE RECIPE", "DESCRIPTION"), rows)
    if any(one.shipped for one in found):
        click.echo(f"A shipped recipe is a starting point: {command('recipes copy', 'NAME')}", err=True)


@recipes.command("copy")
@click.argument("name", shell_complete=completing.shipped_recipes)
@force_option
def copy_recipe(name: str, force: bool) -> None:
    """Copy a shipped recipe into recipes/, with its files and tests, and its base recipes that the project lacks.

    Agents and profiles are found without a copy. Prints the files that it wrote. Files of the project are overwritten
    only with --force.
    """
    from goldenami import recipe
    from goldenami.recipe import copying

    project = recipe.load_project(Path.cwd())
    tell(copying.copy_recipe(project, name, force=force))
    click.echo(f"Next: {command('validate', name)}", err=True)


# --- shared with cli/harden.py and cli/recipes.py ---------------------------------------------------------------------


def project_or_shipped() -> Project:
    """The project around the working directory; where there is none, what is shipped."""
    from goldenami.recipe.project import load_project_or_shipped

    return load_project_or_shipped(Path.cwd())


def require(found: Sequence[object], what: str) -> None:
    """Refuse to print an empty list: a project has the shipped ones at least. Raises NotFound."""
    if not found:
        from goldenami.shipped import ROOT

        raise NotFound(
            f"there are no {what}, not even in {ROOT}", hint="Install goldenami anew: its files are missing."
        )


def tell(copied: Sequence[Copied]) -> None:
    """The files that were written on stdout, one a line; the others on stderr, with the reason."""
    from goldenami.recipe.project import shown

    for one in copied:
        if one.outcome == "written":
            click.echo(shown(one.path))
    for one in copied:
        if one.outcome == "replaced":
            click.echo(shown(one.path))
            click.echo(f"replaced: {shown(one.path)}", err=True)
        elif one.outcome == "unchanged":
            click.echo(f"there already, with the same contents: {shown(one.path)}", err=True)
        elif one.outcome == "kept":
            click.echo(f"kept: {shown(one.path)} differs from the shipped file; --force replaces it", err=True)


def read(project: Project, found: Found) -> Mapping[str, Any]:
    """The contents of a definition; what cannot be parsed is empty. ``goldenami validate`` reports its mistakes."""
    from goldenami.recipe.problems import Problems

    document = project.document(found.path, Problems())
    return document.value if document is not None else {}


def _all(project: Project, kind: Kind) -> list[Found]:
    found = (project.find(kind, name) for name in project.names(kind))
    return [one for one in found if one is not None]


def _agent(project: Project, found: Found) -> dict[str, Any]:
    from goldenami.recipe import lookup

    value = read(project, found)
    operations = value.get("operations")
    return {
        **found.to_json(),
        "description": str(value.get("description", "")),
        "systems": list(operations) if isinstance(operations, dict) else [],
        "files": [str(file) for file in lookup.members(found.path)],
    }


def _recipe(project: Project, found: Found) -> dict[str, Any]:
    value = read(project, found)
    base = value.get("base")
    parent = base.get("recipe") if isinstance(base, dict) else None
    return {
        **found.to_json(),
        "version": str(value.get("version", "")),
        "description": str(value.get("description", "")),
        "base": parent if isinstance(parent, str) else None,
    }
