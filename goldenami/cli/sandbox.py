"""`goldenami sandbox`: the commands that the sandbox's own distribution brings; without it, how to install it."""

from __future__ import annotations

import click

from goldenami import plugins
from goldenami.errors import UsageError


def command(find: plugins.Find = plugins.installed) -> click.Command:
    """The sandbox's commands. Where it is not installed, a command that takes any arguments and raises UsageError."""
    try:
        return plugins.sandbox(find).command()
    except UsageError as error:
        return _missing(error)


def _missing(error: UsageError) -> click.Command:
    """Listing and completing commands goes on working: only running it is refused."""

    def refuse() -> None:
        raise error

    return click.Command(
        "sandbox",
        callback=refuse,
        add_help_option=False,
        params=[click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED, expose_value=False)],
        context_settings={"ignore_unknown_options": True},
    )
