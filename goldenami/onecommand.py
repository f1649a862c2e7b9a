"""Whether this process runs one command of the command line, and ends with it.

Such a process keeps more in the user's cache than one that goes on: what it makes is needed once only.
"""

from __future__ import annotations


class _Process:
    one = False


def install() -> None:
    """Note that this process runs one command."""
    _Process.one = True


def here() -> bool:
    """Return whether this process runs one command."""
    return _Process.one
