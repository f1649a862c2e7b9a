"""Commands of goldenami in messages: the next step for the user, which works in a shell as it is printed.

Every message with a command gets it from here, so that it has quotes where a shell needs them, and ``-e`` if the
command line works on an environment that is not the default one. A test runs the argument parser over all of them.
"""

from __future__ import annotations

import shlex
from typing import Final

# Commands, and groups of commands, that need no environment of a project. All others have the option -e.
WITHOUT_ENVIRONMENT: Final = (
    "agents",
    "ci note",
    "harden explain",
    "harden list",
    "harden copy",
    "import image-builder",
    "init",
    "recipes",
    "sandbox",
    "schema",
)

_environment: list[str] = []


def use_environment(name: str | None) -> None:
    """Add ``-e NAME`` to all commands from now on; None: add nothing. Only the command line calls it, once: a process
    of it works on one environment."""
    _environment[:] = [name] if name is not None else []


def needs_environment(path: str) -> bool:
    """Return whether a command has the option -e. ``path``: its words, "images list"."""
    return not any(f"{path} ".startswith(f"{one} ") for one in WITHOUT_ENVIRONMENT)


def command(path: str, *arguments: str) -> str:
    """Return a command for a shell. ``path``: the words of the command, "snapshot restore". ``arguments``: one word
    each; they are quoted."""
    words = ["goldenami", *path.split(), *arguments]
    if _environment and needs_environment(path):
        words += ["-e", *_environment]
    return shlex.join(words)


def step(path: str, *arguments: str) -> str:
    """Return :func:`command` in backticks, for the middle of a sentence."""
    return f"`{command(path, *arguments)}`"
