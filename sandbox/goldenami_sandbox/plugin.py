"""The entry point ``sandbox`` of the group ``goldenami.plugins``: all that goldenami knows of the sandbox.

goldenami imports this module by its entry point and uses ``command``, ``variables``, ``is_up`` and ``Error``. Importing
it is cheap: moto, boto3 and the rest are imported by the functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from goldenami_sandbox.errors import SandboxError as Error
from goldenami_sandbox.errors import called

if TYPE_CHECKING:
    import click

__all__ = ["Error", "command", "is_up", "variables"]

_CALLED_AS = "goldenami sandbox"


def command() -> click.Command:
    """The group of commands that goldenami lists as ``sandbox``. Its errors are click exceptions."""
    from goldenami_sandbox.cli import sandbox

    return sandbox


def is_up() -> bool:
    """Whether the sandbox runs now. Starts nothing."""
    from goldenami_sandbox import control

    return control.find() is not None


def variables(region: str, progress: Callable[[str], None]) -> dict[str, str]:
    """The environment variables that point an AWS client at a running sandbox, with ``region`` as its region.

    Starts the sandbox where it does not run, and tells ``progress`` about it. Raises ``Error``, which has a message, a
    hint and an exit code.
    """
    from goldenami_sandbox import control

    try:
        return control.ensure_up(progress=progress).variables(region=region)
    except Error as error:
        error.message = called(error.message, _CALLED_AS)
        error.hint = called(error.hint, _CALLED_AS) if error.hint else None
        raise
