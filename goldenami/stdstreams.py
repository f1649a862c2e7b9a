"""Writes at the end of a process what its standard streams still hold."""

from __future__ import annotations

from contextlib import suppress
from typing import TextIO


def flush(stream: TextIO | None) -> None:
    """Write what a standard stream holds. One that is closed, detached or was never open holds nothing. Raises OSError
    if it cannot be written."""
    if stream is not None:
        with suppress(ValueError):  # it is closed or detached
            stream.flush()
