"""What the views of plans and changes have in common: places in files, and Markdown for a note in a merge request."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from goldenami.printable import escaped

if TYPE_CHECKING:
    from goldenami.recipe.places import Place

_SHOWN: Final = 20  # places of one recipe in text and Markdown


def signed(places: Sequence[Place]) -> Iterator[str]:
    """Yield a line for each place: "~ recipes/web.yaml:14:17 software[2].setting.value"."""
    yield from (f"{place.sign} {place}" for place in places[:_SHOWN])
    if len(places) > _SHOWN:
        yield f"and {len(places) - _SHOWN} more; --json has all of them"


def place_json(place: Place) -> dict[str, Any]:
    """Return a place as JSON values; a place without a line is a whole file."""
    return {
        "sign": place.sign,
        "file": place.mark.file,
        "line": place.mark.line or None,
        "column": place.mark.column or None,
        "end_line": place.end or None,
        "what": place.what,
    }


def safe(words: str) -> str:
    """Return text of others for one line of Markdown: no HTML, no link, and no end of a cell."""
    line = html.escape(escaped(" ".join(words.split())), quote=False)
    return "".join(f"\\{c}" if c in "|*_`[]~#\\" else c for c in line)


def folded(title: str, details: Iterable[str]) -> list[str]:
    """Return a list of details that is folded up under a title."""
    # The line of the title is HTML, in which Markdown has no meaning: it would show a backslash.
    head = f"<details><summary>{html.escape(escaped(' '.join(title.split())), quote=False)}</summary>"
    return ["", head, "", *(f"- {_item(line)}" for line in details), "", "</details>"]


def _item(line: str) -> str:
    """Return a line for an item of a list. A sign at its start would begin another list."""
    text = safe(line)
    return f"\\{text}" if text[:1] in ("-", "+") else text


def listed(remarks: Sequence[str]) -> list[str]:
    """Return remarks as a list after the rest; nothing if there are none."""
    return ["", *(f"- {safe(remark)}" for remark in remarks)] if remarks else []
