"""What the commands share: the project around them, its environment, and a cloud that answers."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from goldenami.journal import Journals
    from goldenami.model import Environment
    from goldenami.recipe import Project


def open_project(environment_name: str | None) -> tuple[Project, Environment]:
    """The project around the working directory and one of its environments. Raises InvalidInput or NotFound."""
    from goldenami import recipe

    project = recipe.load_project(Path.cwd())
    return project, recipe.environment(project, environment_name)


def reach(environment: Environment) -> None:
    """Make sure that there is a cloud to talk to.

    For an environment that is the sandbox, and unless AWS_ENDPOINT_URL says where to go, the sandbox is started if need
    be, and AWS_* variables of this process point to it. Everything below the command line sees these variables only.
    """
    if not environment.sandbox or os.environ.get("AWS_ENDPOINT_URL"):
        return
    from goldenami.sandbox import control

    info = control.ensure_up(progress=lambda text: click.echo(text, err=True))
    os.environ.update(info.variables(region=environment.home_region))
    # A profile would win over the keys.
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        os.environ.pop(name, None)


def in_bucket(where: str) -> bool:
    """Whether journals or a catalog are kept where it takes a cloud to read them."""
    return where.startswith("s3://")


def open_journals(environment: Environment) -> Journals:
    """The journals of an environment, to be looked at; if they are in a bucket, of a cloud that answers."""
    from goldenami.aws import journals

    if in_bucket(environment.builds):
        reach(environment)
    return journals.of(environment)


def print_json(value: object) -> None:
    """One JSON document on stdout."""
    import json

    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
