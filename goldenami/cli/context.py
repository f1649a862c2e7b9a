"""What the commands share: the project, its environment, a cloud to call, and output."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from goldenami.errors import NotFound, UsageError
from goldenami.nextstep import use_environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from goldenami.journal import Journals
    from goldenami.model import Environment
    from goldenami.recipe import Project
    from goldenami.release.catalog import Catalog
    from goldenami.schedules.policy import Schedule


NO_SCHEDULES = "There are no schedules: add some under schedules: in goldenami.yaml."


def open_project(environment_name: str | None) -> tuple[Project, Environment]:
    """Load the project that contains the working directory, and one of its environments. Raises InvalidInput or
    NotFound."""
    from goldenami import recipe

    project = recipe.load_project(Path.cwd())
    return project, choose_environment(project, environment_name)


def choose_environment(project: Project, name: str | None) -> Environment:
    """Return an environment of a project. Commands in messages name it, unless it is the default one."""
    from goldenami import recipe

    every = recipe.environments(project)
    environment = recipe.choose(project, every, name)
    use_environment(None if name is None or _is_default(project, every, environment) else environment.name)
    return environment


def _is_default(project: Project, every: Mapping[str, Environment], environment: Environment) -> bool:
    from goldenami import recipe

    try:
        return recipe.choose(project, every, None).name == environment.name
    except (NotFound, UsageError):  # there is no default
        return False


def recipes_for(project: Project, environment: Environment) -> list[str]:
    """Return the names of all recipes that are for an environment. Those that are left out are told on stderr."""
    from goldenami import recipe

    allowed, others = recipe.allowed_in(project, environment.name, project.recipe_names())
    for line in recipe.skipped(others, environment.name):
        click.echo(line, err=True)
    return allowed


def reach(environment: Environment) -> None:
    """Make sure that the environment's cloud can be called.

    In a sandbox environment without AWS_ENDPOINT_URL, the sandbox is started if it is down, and the AWS_* variables of
    this process are set to it. All code below the command line reads these variables only. Raises UsageError if the
    sandbox is not installed, SandboxError if it does not start.
    """
    if not environment.sandbox or os.environ.get("AWS_ENDPOINT_URL"):
        return
    from goldenami import plugins

    os.environ.update(plugins.sandbox_variables(environment.home_region, lambda text: click.echo(text, err=True)))
    # A profile would win over the keys.
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        os.environ.pop(name, None)


def is_up(environment: Environment) -> bool:
    """Whether a cloud can be called without starting the sandbox. False only for a sandbox that is down."""
    if not environment.sandbox or os.environ.get("AWS_ENDPOINT_URL"):
        return True
    from goldenami import plugins

    return plugins.sandbox_is_up()


def open_schedules(
    environment_name: str | None, names: tuple[str, ...] = ()
) -> tuple[tuple[Schedule, ...], Environment]:
    """Return the schedules with these names, or all of them. Raises NotFound for an unknown name."""
    from goldenami import recipe

    project, environment = open_project(environment_name)
    return recipe.choose_schedules(recipe.schedules(project, environment), names), environment


def in_bucket(where: str) -> bool:
    """Whether journals or a catalog are in a bucket, so that credentials are needed to read them."""
    return where.startswith("s3://")


def open_journals(environment: Environment) -> Journals:
    """Open the journals of an environment for reading. For journals in a bucket, the cloud is made callable first."""
    from goldenami.aws import journals

    if in_bucket(environment.builds):
        reach(environment)
    return journals.open_journals(environment)


def open_catalog(environment: Environment) -> Catalog:
    """Open the catalog of an environment in the same way."""
    from goldenami.release.catalog import Catalog

    if in_bucket(environment.catalog):
        reach(environment)
    return Catalog.of(environment)


def account_id(environment: Environment, account: str | None) -> str:
    """Return the id of an account, given by its name in goldenami.yaml or by 12 digits. None is home. Raises
    NotFound."""
    from goldenami import recipe

    return recipe.account_id(environment, account)


@contextmanager
def keeping_memory() -> Iterator[None]:
    """Do not look for unreachable objects meanwhile, for a command that makes very many objects and needs nearly all of
    them until it ends. ``main`` makes them known to the collector again if the process goes on."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.freeze()  # else the first look goes through all that was made, which takes a tenth of the command
            gc.enable()


_INDENTED = 256 << 10  # characters; a larger document is for programs, and indentation takes many times as long


def print_json(value: object) -> None:
    """Print one JSON document on stdout: indented, or on one line if it is large."""
    text = _json(value)
    if len(text) < _INDENTED:
        text = _json(value, indent=2)
    sys.stdout.write(f"{text}\n")


def print_long_json(document: Mapping[str, object], key: str, items: Iterable[Mapping[str, object]]) -> None:
    """Print a document as :func:`print_json` does, with ``items`` as its list ``key``, which is empty in ``document``.

    The items are made and printed one after the other, because together they can take gigabytes. What they have in
    common is encoded once (``sharedjson``).
    """
    from goldenami.sharedjson import Encoder

    first: list[Mapping[str, object]] = []
    size, source = 0, iter(items)
    for item in source:
        first.append(item)
        size += len(_json(item))
        if size >= _INDENTED:
            break
    else:
        print_json({**document, key: first})
        return
    before, empty, after = _json(document).partition(f'"{key}": []')  # not in a text: its quotes would be escaped
    assert empty
    sys.stdout.write(f'{before}"{key}": [')
    encoder = Encoder(_json)
    for number, item in enumerate(chain(first, source)):
        if number:
            sys.stdout.write(", ")
        sys.stdout.writelines(encoder.texts(item))
    sys.stdout.write(f"]{after}\n")


def _json(value: object, indent: int | None = None) -> str:
    import json

    from goldenami.sharedjson import plain

    ascii_only = not (sys.stdout.encoding or "").lower().startswith("utf")
    return json.dumps(value, indent=indent, ensure_ascii=ascii_only, default=plain)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines on stdout. On a terminal, a line that is too wide is broken between words."""
    from goldenami.report.text import wrapped

    if sys.stdout.isatty():
        import shutil

        columns = shutil.get_terminal_size().columns
        lines = [part for line in lines for part in (wrapped(line, columns) if len(line) > columns else [line])]
    click.echo("\n".join(lines))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout; each column is as wide as its longest cell."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    line = "  ".join(f"{{:<{width}}}" for width in widths).format
    click.echo("\n".join(line(*row).rstrip() for row in (header, *rows)))
