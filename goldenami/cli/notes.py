"""Markdown for a note in a merge request: text of others made safe, folded details, and the marker of a note."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from goldenami.printable import escaped


def marker(kind: str, environment: str) -> str:
    """Return a comment that a page does not show. A pipeline finds its own earlier note by it, and updates it."""
    return f"<!-- goldenami:{kind}:{environment} -->"


def safe(words: str) -> str:
    """Return text of others for one line of Markdown: no HTML, no link, and no end of a cell."""
    line = html.escape(escaped(" ".join(words.split())), quote=False)
    return "".join(f"\\{c}" if c in "|*_`[]~#\\" else c for c in line)


def folded(title: str, details: Iterable[str]) -> list[str]:
    """Return a list of details that is folded up under a title."""
    head = f"<details><summary>{safe(title)}</summary>"
    return ["", head, "", *(f"- {safe(line)}" for line in details), "", "</details>"]


def listed(remarks: Sequence[str]) -> list[str]:
    """Return remarks as a list after the rest; nothing if there are none."""
    return ["", *(f"- {safe(remark)}" for remark in remarks)] if remarks else []
