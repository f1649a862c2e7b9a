"""The command graph: the images of a project and what they are built on, with their releases."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from goldenami.cli.context import open_catalog, open_project, print_json, recipes_for
from goldenami.cli.options import environment_option, json_option
from goldenami.errors import GoldenAmiError, NotFound, UsageError
from goldenami.nextstep import step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from goldenami.model import Environment
    from goldenami.recipe.family import Written
    from goldenami.release.catalog import Catalog
    from goldenami.report.graph import Image

SCHEMA: Final = "goldenami.graph/1"


@click.command()
@environment_option
@click.option("--svg", is_flag=True, help="Print an SVG document on stdout.")
@click.option("--mermaid", is_flag=True, help="Print a Mermaid flowchart, for Markdown in GitLab and GitHub.")
@click.option("--offline", is_flag=True, help="Do not read the catalog: only what the recipes say.")
@json_option
def graph(environment_name: str | None, svg: bool, mermaid: bool, offline: bool, as_json: bool) -> None:
    """Show the images of the project, each below what it is built on.

    With the catalog, each image has the version in its channel. An image is stale if the channel of its parent moved
    since it was built: `goldenami build --all` builds it again. A catalog that cannot be read is reported, and the
    graph is printed without releases.

    The graph is that of the recipes as they are written: nothing is rendered, and no recipe is validated.
    """
    from goldenami.recipe.family import family
    from goldenami.report import graph as views

    if sum((svg, mermaid, as_json)) > 1:
        raise UsageError("--svg, --mermaid and --json cannot be combined", hint="Give one of them.")
    project, environment = open_project(environment_name)
    written = family(project, recipes_for(project, environment))
    if not written:
        raise NotFound("the project has no recipes", hint=f"{step('recipes list')} shows shipped ones to start from.")
    images, read = _images(environment, written, offline=offline)
    if as_json:
        rows = [image.to_json() for image in images]
        print_json({"schema": SCHEMA, "environment": environment.name, "releases_read": read, "images": rows})
    elif svg:
        click.echo(views.draw(images, f"Images of the environment {environment.name}", releases=read), nl=False)
    elif mermaid:
        click.echo("\n".join(views.mermaid(images, releases=read)))
    else:
        ascii_only = not (sys.stdout.encoding or "").lower().startswith("utf")
        click.echo("\n".join(views.lines(images, releases=read, ascii_only=ascii_only)))


def _images(environment: Environment, written: Sequence[Written], *, offline: bool) -> tuple[list[Image], bool]:
    """Return the images, and whether the catalog was read."""
    if not offline:
        try:
            catalog = open_catalog(environment).indexed()
            return [_released(one, catalog) for one in written], True
        except GoldenAmiError as error:
            click.echo(f"The releases are not shown, because the catalog cannot be read: {error.message}", err=True)
    return [_image(one) for one in written], False


def _image(one: Written, release: str | None = None, built_on: str | None = None, now: str | None = None) -> Image:
    from goldenami.report.graph import Image

    return Image(one.name, one.base, one.parent, one.parent_channel, one.channel, release, built_on, now)


def _released(one: Written, catalog: Catalog) -> Image:
    pointer = catalog.channel(one.name, one.channel)
    above = catalog.channel(one.parent, one.parent_channel) if one.parent is not None else None
    built_on = None
    if pointer is not None and one.parent is not None:
        parents = (parent.rpartition(" ") for parent in catalog.entry(one.name, pointer.current).parents)
        built_on = next((version for name, _, version in parents if name == one.parent), None)
    return _image(
        one, pointer.current if pointer is not None else None, built_on, above.current if above is not None else None
    )
