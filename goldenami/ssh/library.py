"""Loads paramiko, for the modules of this package.

paramiko loads the package ``invoke`` for conditions in files of ssh's settings, which it does not read here. That takes
nearly half of its time, in each process that connects to a host.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def _without(name: str) -> Iterator[None]:
    """Let a module look as if it was not installed, unless it is loaded already."""
    if name in sys.modules:
        yield
        return
    vars(sys)["modules"][name] = None
    try:
        yield
    finally:
        del sys.modules[name]


with _without("invoke"):
    import paramiko as paramiko

# What a channel raises if its other side is gone. paramiko also sends while it receives and closes, and raises EOFError
# if it cannot.
GONE = (OSError, EOFError, paramiko.SSHException)


def end_channel(channel: paramiko.Channel) -> None:
    """Close a channel, whose connection may have ended."""
    with contextlib.suppress(*GONE):
        channel.close()
