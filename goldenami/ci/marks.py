"""The marks of notes: comments that pages do not show, by which a job finds its own earlier note and updates it."""

from __future__ import annotations

import re
from typing import Final

_MARK: Final = re.compile(r"<!-- goldenami:[^<>]{1,300} -->")


def mark(*names: str) -> str:
    """Return the mark with a name of one or several parts: ``<!-- goldenami:plan:production -->``."""
    return f"<!-- goldenami:{':'.join(names)} -->"


def split(text: str) -> tuple[tuple[str, ...], str]:
    """Return the marks in the first lines of a text, and the text after them."""
    found: list[str] = []
    while True:
        first, end, rest = text.partition("\n")
        if not _MARK.fullmatch(first.strip()):
            return tuple(found), text
        found.append(first.strip())
        text = rest if end else ""
