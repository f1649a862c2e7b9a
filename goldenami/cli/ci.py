"""The commands for pipelines of continuous integration: ci generate, ci note."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from goldenami.cli import completing
from goldenami.cli.context import open_project
from goldenami.cli.options import environment_option
from goldenami.cli.output import write_file
from goldenami.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from goldenami.ci.gitlab import Node


@click.group()
def ci() -> None:
    """Pipelines of GitLab: write the child pipeline that builds recipes; write a note into a merge request."""


@ci.command()
@click.option("--night", is_flag=True, help="All recipes that are for the environment.")
@click.option(
    "--changed-since",
    "ref",
    metavar="REF",
    help="Recipes that the files change since this commit of Git, and those that follow. Zeros: all recipes.",
)
@environment_option
@click.option(
    "--promote-to",
    "channel",
    metavar="CHANNEL",
    shell_complete=completing.channels,
    default="stable",
    show_default=True,
    help="The channel of the manual jobs that promote.",
)
@click.option("--no-promote", is_flag=True, help="No jobs that promote.")
@click.option(
    "--include",
    metavar="FILE",
    help="Include this file of the project: settings for all jobs, such as image, tags and before_script.",
)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file. Default: stdout."
)
def generate(
    night: bool,
    ref: str | None,
    environment_name: str | None,
    channel: str,
    no_promote: bool,
    include: str | None,
    output: Path | None,
) -> None:
    """Write a child pipeline for GitLab: a job for each recipe, along their graph, and manual jobs that promote.

    Only reads files: no credentials are needed. A job builds one release with the images of all architectures. Its
    children start when it has ended. A recipe that is built again without a change costs a plan, and no build.

    --changed-since selects what `goldenami plan --diff` shows: recipes with other inputs, and those that follow their
    base. $CI_COMMIT_BEFORE_SHA of GitLab, the commit before a push, is zeros if there is none: then all recipes are
    selected.

    Without a recipe to build, the pipeline has one job that prints so.
    """
    if night == (ref is not None):
        raise UsageError(
            "expected either --night or --changed-since REF",
            hint="--night selects all recipes that are for the environment, --changed-since REF those that changed.",
        )
    from goldenami.ci import gitlab, selection
    from goldenami.recipe import words

    if not re.fullmatch(words.NAME, channel):
        raise UsageError(f"--promote-to {channel}: expected the name of a channel, such as stable")
    project, environment = open_project(environment_name)
    commit = ""
    if ref is None:
        nodes, notes = selection.every(project, environment)
    else:
        (nodes, notes), commit = selection.changed(project, environment, ref)
    for note in notes:
        click.echo(note, err=True)
    what = f"recipes that changed since {commit}, and those that follow" if commit else "all recipes"
    settings = gitlab.Settings(
        environment.name,
        f"{what}, for the environment {environment.name}",
        include=include,
        promote_to=None if no_promote else channel,
    )
    _write(gitlab.generate(nodes, settings), output)
    click.echo(_summary(nodes), err=True)


def _summary(nodes: Sequence[Node]) -> str:
    shown = ", ".join(node.name for node in nodes[:10]) + (", …" if len(nodes) > 10 else "")
    return f"{len(nodes)} recipe{'' if len(nodes) == 1 else 's'} to build: {shown}" if nodes else "nothing to build"


def _write(text: str, output: Path | None) -> None:
    if output is None:
        click.echo(text, nl=False)
        return
    write_file(output, text, "--output")


@ci.command("note")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--mark",
    metavar="NAME",
    help="The note with this mark is updated. Default: the mark in the first line of FILE; plans in Markdown have one.",
)
def write_note(file: Path, mark: str | None) -> None:
    """Write FILE (Markdown; - is stdin) as a note into the merge request of the pipeline, or update the note.

    Works in jobs of GitLab. The variable GOLDENAMI_GITLAB_TOKEN has a project access token with the scope api. Without
    it, and in pipelines without a merge request, nothing is written, and the exit code is 0.
    """
    from goldenami.ci import note

    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"{file} cannot be read: {reason}") from error
    where = note.MergeRequest.of_job(os.environ)
    if where is None:
        missing = f"{note.TOKEN} is not set" if os.environ.get("CI_MERGE_REQUEST_IID") else "there is no merge request"
        click.echo(f"no note is written: {missing}", err=True)
        return
    posted = note.post(where, text, mark)
    click.echo(f"note of merge request !{where.iid}: {posted}", err=True)
