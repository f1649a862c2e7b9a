"""Texts and documents of SVG, for every picture that this program draws.

The widths of texts are measured by a table of upper bounds, so a test finds a text outside of its picture, or on
another one, without a browser. A text is never cut: it goes on in the next line. Every color here has a partner for
dark mode, which the reader's browser chooses.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final, Literal

FONT: Final = "system-ui, sans-serif"
SIZE: Final = 13  # pixels, of a text without another size
SMALL: Final = 11
LEAD: Final = 17  # from one line of a text to the next one
MARGIN: Final = 16
INK: Final = "#1b1f27"
PAPER: Final = "#ffffff"
GREY: Final = "#525a68"
LINE: Final = "#b6bcc6"
BLUE: Final = "#0b57a4"
ORANGE: Final = "#9a4d00"
RED: Final = "#a11221"
GREEN: Final = "#14692f"
PALE_BLUE: Final = "#e3eefa"
PALE_ORANGE: Final = "#fdebdd"
PALE_GREY: Final = "#f0f2f5"
DARK: Final[Mapping[str, str]] = {
    INK: "#e7eaf0",
    PAPER: "#14171c",
    GREY: "#a5aebd",
    LINE: "#586273",
    BLUE: "#8cc2ff",
    ORANGE: "#ffb86b",
    RED: "#ffacb4",
    GREEN: "#8fe0a8",
    PALE_BLUE: "#16304d",
    PALE_ORANGE: "#4a2c10",
    PALE_GREY: "#262c36",
}
"""The colors, and what dark mode has in their place."""

# Upper bounds of the widths of characters, in parts of the font size: no usual sans-serif font is wider.
_NARROW: Final = frozenset("iljtfrI.,:;'|!()[]`- ")
_WIDE: Final = frozenset("MWmw@%&")
_BOLD: Final = 1.15
_TITLE: Final = 17
_NAME: Final = "goldenami-picture"


def width_of(text: str, size: float = SIZE, *, bold: bool = False) -> float:
    """Return an upper bound of the width of a text in pixels."""
    return sum(map(_part, text)) * size * (_BOLD if bold else 1.0)


def widest(texts: Sequence[str], size: float = SIZE, *, bold: bool = False) -> float:
    """Return the width of the widest of these texts; 0 for none."""
    return max((width_of(one, size, bold=bold) for one in texts), default=0.0)


def _part(character: str) -> float:
    if character in _NARROW:
        return 0.42
    if character in _WIDE:
        return 1.0
    if character.isascii():
        return 0.76 if character.isupper() else 0.65
    return 1.1 if unicodedata.east_asian_width(character) in "WF" else 0.85


def wrapped(text: str, width: float, size: float = SIZE, *, bold: bool = False) -> list[str]:
    """Return the lines of a text that are at most ``width`` pixels wide; at least one. A word that is wider than a line
    is divided, if possible behind a hyphen, a dot, a slash or an @."""
    lines, line, used = [], "", 0.0
    space = width_of(" ", size, bold=bold)
    for word in text.split():
        pieces = [word]
        if width_of(word, size, bold=bold) > width:
            pieces = [
                part for piece in re.findall(r"[^-/._@]*[-/._@]?", word) for part in _cut(piece, width, size, bold)
            ]
        for number, piece in enumerate(pieces):
            wide = width_of(piece, size, bold=bold)
            gap = " " if line and number == 0 else ""
            if line and used + (space if gap else 0.0) + wide > width:
                lines.append(line)
                line, used, gap = "", 0.0, ""
            line += gap + piece
            used += (space if gap else 0.0) + wide
    return [*lines, line] if line or not lines else lines


def _cut(word: str, width: float, size: float, bold: bool) -> list[str]:
    """Return the parts of a word that fit into a line."""
    parts, part, used = [], "", 0.0
    for character in word:
        wide = width_of(character, size, bold=bold)
        if part and used + wide > width:
            parts.append(part)
            part, used = "", 0.0
        part += character
        used += wide
    return [*parts, part] if part else parts


def text(
    x: float,
    y: float,
    content: str,
    *,
    size: float = SIZE,
    fill: str = INK,
    bold: bool = False,
    anchor: Literal["start", "middle", "end"] = "start",
) -> str:
    """Return a text on one line. ``x``: where it starts, or its middle or end, as ``anchor`` says."""
    font = (f' font-size="{size:g}"' if size != SIZE else "") + (' font-weight="600"' if bold else "")
    at = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x:.6g}" y="{y:.6g}"{font} fill="{fill}"{at}>{escape(content)}</text>'


def block(
    x: float, y: float, lines: Sequence[str], *, size: float = SIZE, fill: str = INK, bold: bool = False
) -> list[str]:
    """Return the lines of a text. ``y``: of the first one."""
    return [text(x, y + n * LEAD, one, size=size, fill=fill, bold=bold) for n, one in enumerate(lines)]


def rect(
    x: float, y: float, width: float, height: float, *, fill: str, stroke: str = "", tip: str = "", more: str = ""
) -> str:
    """Return a rectangle. ``tip``: shown by a browser at the pointer. ``more``: further attributes."""
    line = f' stroke="{stroke}"' if stroke else ""
    inside = f"<title>{escape(tip)}</title>" if tip else ""
    where = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {where} fill="{fill}"{line}{f" {more}" if more else ""}>{inside}</rect>'


def path(steps: str, stroke: str, *, width: float = 1, more: str = "") -> str:
    """Return a line. ``steps``: as the attribute d has them."""
    return f'<path d="{steps}" fill="none" stroke="{stroke}" stroke-width="{width:g}"{f" {more}" if more else ""}/>'


def document(width: float, height: float, title: str, summary: str, parts: Sequence[str]) -> str:
    """Return an SVG document with a title and a summary above ``parts``, which have ``width`` and ``height`` for
    themselves, from 0. It has a color for each background: in dark mode, its reader's browser uses ``DARK``."""
    room = width - 2 * MARGIN
    titles = wrapped(title, room, _TITLE, bold=True)
    words = wrapped(summary, room)
    below = MARGIN + 12 + (len(titles) - 1) * 22
    top = below + len(words) * LEAD + 14
    whole = top + height
    size = f'width="{width:g}" height="{whole:g}" viewBox="0 0 {width:g} {whole:g}"'
    font = f'font-family="{FONT}" font-size="{SIZE}"'
    rules = "".join(
        f'.{_NAME} [{key}="{light}"]{{{key}:{dark}}}' for light, dark in DARK.items() for key in ("fill", "stroke")
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="{_NAME}" role="img" {size} {font}>',
            f"<title>{escape(title)}</title>",
            f"<style>@media (prefers-color-scheme:dark){{{rules}}}</style>",
            rect(0, 0, width, whole, fill=PAPER),
            *(text(MARGIN, MARGIN + 12 + n * 22, one, size=_TITLE, bold=True) for n, one in enumerate(titles)),
            *block(MARGIN, below + 20, words, fill=GREY),
            f'<g transform="translate(0 {top:g})">',
            *parts,
            "</g>",
            "</svg>",
            "",
        ]
    )
