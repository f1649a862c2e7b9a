"""The entry point ``sandbox`` of the group ``goldenami.plugins``: the only interface between goldenami and the sandbox.

goldenami imports this module by its entry point. It uses ``command``, ``variables``, ``is_up``, ``directory``,
``instances`` and ``Error``. The import is fast: only the functions import moto, boto3 and the other modules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from goldenami_sandbox.errors import SandboxError as Error
from goldenami_sandbox.errors import called

if TYPE_CHECKING:
    from pathlib import Path

    import click

__all__ = ["Error", "command", "directory", "instances", "is_up", "variables"]

_CALLED_AS = "goldenami sandbox"


def command() -> click.Command:
    """Return the group of commands that goldenami lists as ``sandbox``. It raises its errors as click exceptions."""
    from goldenami_sandbox.cli import sandbox

    return sandbox


def is_up() -> bool:
    """Return whether the sandbox is running. It starts nothing."""
    from goldenami_sandbox import control

    return control.find() is not None


def directory(endpoint_url: str | None) -> Path | None:
    """Return the directory for clients' files that must live and end with a sandbox: a restart keeps it, and a reset
    deletes it.

    ``endpoint_url``: the endpoint of a sandbox of this machine; None is the default sandbox. Returns None if no sandbox
    has that endpoint. The directory may not exist yet.
    """
    from goldenami_sandbox import state

    return state.clients_directory(endpoint_url)


def instances(endpoint_url: str) -> tuple[str, str, str, tuple[str, ...]] | None:
    """Return how instances run in the running sandbox of this machine that has an endpoint ("systemd", "namespace",
    "none"), what this machine lacks for a better way, what to do about it, and the program whose standard input and
    output is the connection to the SSH server of an instance (without the id, its last argument; empty: TCP to its
    address). None if no such sandbox has the endpoint.
    """
    from goldenami_sandbox import control, ways

    found = control.at_endpoint(endpoint_url)
    if found is None:
        return None
    program = ways.WAYS[found.instances].connection(found.directory)
    return found.instances, found.lacks, called(found.hint, _CALLED_AS), tuple(program)


def variables(region: str, progress: Callable[[str], None]) -> dict[str, str]:
    """Return the environment variables that direct an AWS client in ``region`` to a running sandbox.

    Starts the sandbox if it is not running, and calls ``progress`` with messages about the start. Raises ``Error``,
    which has a message, a hint and an exit code.
    """
    from goldenami_sandbox import control

    try:
        return control.ensure_up(progress=progress).variables(region=region)
    except Error as error:
        error.message = called(error.message, _CALLED_AS)
        error.hint = called(error.hint, _CALLED_AS) if error.hint else None
        raise
