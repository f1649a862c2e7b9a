"""Texts and documents of SVG. A text never leaves its room: it is cut, and its tooltip has the whole of it."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from html import escape
from typing import Final

FONT: Final = "system-ui, sans-serif"
SIZE: Final = 13  # pixels, of a text without another size
GREY: Final = "#555555"

# Upper bounds of the widths of characters, in parts of the font size: no usual sans-serif font is wider.
_NARROW: Final = frozenset("iljtfrI.,:;'|!()[]`- ")
_WIDE: Final = frozenset("MWmw@%&")
_BOLD: Final = 1.15


def width_of(text: str, size: float = SIZE, *, bold: bool = False) -> float:
    """Return an upper bound of the width of a text in pixels."""
    return sum(map(_part, text)) * size * (_BOLD if bold else 1.0)


def _part(character: str) -> float:
    if character in _NARROW:
        return 0.42
    if character in _WIDE:
        return 1.0
    if character.isascii():
        return 0.76 if character.isupper() else 0.65
    return 1.1 if unicodedata.east_asian_width(character) in "WF" else 0.85


def fitted(text: str, width: float, size: float = SIZE, *, bold: bool = False) -> str:
    """Return a text, or its beginning with "…" if it is wider than ``width`` pixels."""
    if width_of(text, size, bold=bold) <= width:
        return text
    room, cut = width - width_of("…", size, bold=bold), ""
    for character in text:
        room -= width_of(character, size, bold=bold)
        if room < 0:
            break
        cut += character
    return f"{cut.rstrip()}…"


def text(
    x: float, y: float, content: str, *, width: float, size: float = SIZE, fill: str = "", bold: bool = False
) -> str:
    """Return a text of at most ``width`` pixels that starts at ``x``. ``fill``: its color, by default black."""
    shown = fitted(content, width, size, bold=bold)
    tip = f"<title>{escape(content)}</title>" if shown != content else ""
    font = f' font-size="{size:g}"' if size != SIZE else ""
    more = (f' fill="{fill}"' if fill else "") + (' font-weight="600"' if bold else "")
    return f'<text x="{x:g}" y="{y:g}"{font}{more}>{tip}{escape(shown)}</text>'


def document(width: float, height: float, title: str, summary: str, parts: Sequence[str]) -> str:
    """Return an SVG document on white, with a title and a line below it. ``parts`` start below 60 pixels."""
    room = width - 32
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{FONT}" font-size="{SIZE}" role="img">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>',
            text(16, 28, title, width=room, size=17, bold=True),
            text(16, 48, summary, width=room, fill=GREY),
            *parts,
            "</svg>",
            "",
        ]
    )
