"""Draws lineages as SVG: a bar for each snapshot, divided by the snapshots that store its blocks. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from goldenami import svg
from goldenami.snapshots import prices
from goldenami.snapshots.lineage import Lineage, Member
from goldenami.snapshots.prices import Rate
from goldenami.snapshots.words import size

_WIDTH: Final = 520.0  # pixels; the width of the longest bar
_NAME: Final = 300.0  # a longer name of a snapshot goes on in the next line
_BAR: Final = 18
_SWATCH: Final = 16
_GAP: Final = 16
_TICKS: Final = 5
# The palette of Okabe and Ito, which color-blind readers can distinguish, with a pattern for every eight snapshots.
_COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#c9b800", "#7f7f7f")
_PATTERNS: Final = (
    "",
    "M0 8L8 0M-2 2L2 -2M6 10L10 6",
    "M0 0L8 8M-2 6L2 10M6 -2L10 2",
    "M0 4H8",
    "M4 0V8",
)
_UNKNOWN: Final = svg.LINE


@dataclass(frozen=True, slots=True)
class Section:
    """A lineage in one place. ``place``: its label. ``rate``: the prices there; None if they are unknown."""

    place: str
    lineage: Lineage
    rate: Rate | None


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where the columns start, and the width of the picture. ``ends``: where the numbers on the right end."""

    names: float
    bars: float
    ends: tuple[float, float, float]
    width: float


def draw(sections: Sequence[Section], title: str, currency: str) -> str:
    """Return the SVG document. Each snapshot has a number, a color and a pattern within its place."""
    members = [member for one in sections for member in one.lineage.members]
    longest = max([m.full_bytes or 0 for m in members], default=0) or 1
    columns = _columns(sections, currency)
    parts = ["<defs>", *_patterns(max((len(one.lineage.members) for one in sections), default=0)), "</defs>"]
    y = 0.0
    for section in sections:
        title_of_place = f"{section.place}: {summary(section.lineage)}"
        if section.rate is not None:
            cost, certain = prices.total(section.lineage, section.rate)
            title_of_place += f", {'' if certain else 'at most '}{cost:.4f} {currency} a month"
        head = svg.wrapped(title_of_place, columns.width - 2 * svg.MARGIN)
        parts += svg.block(svg.MARGIN, y + 13, head)
        y += len(head) * svg.LEAD + 22
        parts += _heads(columns, y, currency)
        top, y = y, y + 10
        rows: list[str] = []
        numbers = {member.id: number for number, member in enumerate(section.lineage.members)}
        for member in section.lineage.members:
            drawn, high = _row(member, y, longest, numbers, columns, section.rate)
            rows += drawn
            y += high
        parts += [*_axis(longest, top + 4, y, columns.bars), *rows]
        y += 34
    key = (
        "Strong: blocks that this snapshot stores. Pale: blocks that an earlier snapshot stores, in its color and "
        "pattern, with its number below where there is room. Frees: bytes that the deletion of this snapshot alone "
        "frees."
    )
    lines = svg.wrapped(key, columns.width - 2 * svg.MARGIN)
    parts += svg.block(svg.MARGIN, y + 10, lines, fill=svg.GREY)
    count = len(sections)
    everything = f"{len(members)} snapshots in {count} places" if count != 1 else f"{len(members)} snapshots"
    if len(members) == 1:
        everything = "1 snapshot"
    return svg.document(columns.width, y + len(lines) * svg.LEAD + 10, title, everything, parts)


def summary(lineage: Lineage) -> str:
    """Return one line: the stored size, and the size of full copies."""
    count = len(lineage.members)
    unknown = sum(m.stored_bytes is None for m in lineage.members)
    text = f"{count} snapshot{'s' if count != 1 else ''}: {size(lineage.stored_bytes)} stored"
    text += f", full copies would be {size(lineage.full_bytes)}"
    return text + (f" ({unknown} of them cannot be read and count with their full size)" if unknown else "")


def _columns(sections: Sequence[Section], currency: str) -> _Columns:
    members = [(member, one.rate) for one in sections for member in one.lineage.members]
    number = svg.width_of(str(max((len(one.lineage.members) for one in sections), default=1)), bold=True)
    names = svg.MARGIN + number + 6 + _SWATCH + 8
    below = [line for member, _ in members for line in _below(member)]
    titles = [member.snapshot.name or member.id for member, _ in members]
    left = max(min(_NAME, svg.widest(titles, bold=True)), svg.widest(below, svg.SMALL), 60.0)
    bars = names + left + _GAP
    texts = [("stored", "frees", _money(currency)), *(_numbers(member, rate) for member, rate in members)]
    at, ends = bars + _WIDTH, []
    for column in range(3):
        at += svg.widest([row[column] for row in texts], svg.SMALL) + _GAP
        ends.append(at)
    return _Columns(names, bars, (ends[0], ends[1], ends[2]), at + svg.MARGIN)


def _money(currency: str) -> str:
    return f"{currency} a month"


def _numbers(member: Member, rate: Rate | None) -> tuple[str, str, str]:
    cost = prices.monthly(member, rate) if rate is not None else None
    return (
        "unknown" if member.stored_bytes is None else size(member.stored_bytes),
        "unknown" if member.freed_bytes is None else size(member.freed_bytes),
        "unknown" if cost is None else f"{cost:.4f}",
    )


def _below(member: Member) -> list[str]:
    """Return the lines below the name of a snapshot."""
    started = member.snapshot.started
    return [started, member.id] if member.snapshot.name else [started]


def _heads(columns: _Columns, y: float, currency: str) -> list[str]:
    heads = ("stored", "frees", _money(currency))
    return [
        svg.text(end, y, head, size=svg.SMALL, fill=svg.GREY, anchor="end")
        for end, head in zip(columns.ends, heads, strict=True)
    ]


def _axis(longest: int, top: float, bottom: float, left: float) -> Iterator[str]:
    """Yield the lines and the sizes below them: steps are powers of two."""
    step = 1 << 19
    while longest / step > _TICKS:
        step *= 2
    room = 0.0
    for number in range(longest // step + 1):
        x = left + number * step / longest * _WIDTH
        yield svg.path(f"M{x:.1f} {top:.1f}V{bottom:.1f}", svg.LINE, more='stroke-dasharray="2 3"')
        label = size(number * step)
        if x >= room:
            yield svg.text(x, bottom + 14, label, size=svg.SMALL, fill=svg.GREY)
            room = x + svg.width_of(label, svg.SMALL) + 6


def _row(
    member: Member, top: float, longest: int, numbers: dict[str, int], columns: _Columns, rate: Rate | None
) -> tuple[list[str], float]:
    """Return a row, and its height."""
    snapshot, own = member.snapshot, numbers[member.id]
    titles = svg.wrapped(snapshot.name or snapshot.id, max(_NAME, columns.bars - columns.names - _GAP), bold=True)
    below = _below(member)
    parts = [
        svg.text(columns.names - 8 - _SWATCH - 6, top + 13, str(own + 1), bold=True, anchor="end"),
        *_filled(own, columns.names - 8 - _SWATCH, top, _SWATCH, _SWATCH, strong=True, tip=snapshot.id),
        *svg.block(columns.names, top + 13, titles, bold=True),
        *svg.block(columns.names, top + 13 + len(titles) * svg.LEAD, below, size=svg.SMALL, fill=svg.GREY),
    ]
    for end, words in zip(columns.ends, _numbers(member, rate), strict=True):
        parts.append(svg.text(end, top + 13, words, size=svg.SMALL, anchor="end"))
    pieces: list[tuple[int | None, int, str]] = []
    if member.stored_bytes is None:
        pieces.append((None, member.full_bytes or 0, f"{snapshot.id}: cannot be read: {member.broken}"))
    else:
        for id, amount in (member.refers or {}).items():
            pieces.append((numbers.get(id), amount, f"{size(amount)} of {id}"))
        pieces.append((own, member.stored_bytes, f"{size(member.stored_bytes)} own blocks"))
    x, room = columns.bars, columns.bars
    for number, amount, tip in pieces:
        wide = amount / longest * _WIDTH
        parts += _filled(number, x, top, wide, _BAR, strong=number == own, tip=tip)
        label = "cannot be read" if number is None and member.stored_bytes is None else str((number or 0) + 1)
        half = svg.width_of(label, svg.SMALL) / 2
        middle = x + wide / 2 if number is not None else x + half
        if number != own and middle - half >= room and half * 2 <= max(wide, _WIDTH * (number is None)):
            parts.append(svg.text(middle, top + _BAR + 12, label, size=svg.SMALL, fill=svg.GREY, anchor="middle"))
            room = middle + half + 3
        x += wide
    high = max((len(titles) + len(below)) * svg.LEAD + 8.0, _BAR + 24.0)
    if member.broken and member.stored_bytes is not None:
        lines = svg.wrapped(member.broken, _WIDTH, svg.SMALL)
        parts += svg.block(columns.bars, top + _BAR + 28, lines, size=svg.SMALL, fill=svg.RED)
        high = max(high, _BAR + 28.0 + len(lines) * svg.LEAD)
    return parts, high


def _filled(
    number: int | None, x: float, y: float, width: float, height: float, *, strong: bool, tip: str
) -> Iterator[str]:
    """Yield a rectangle in the color and the pattern of a snapshot."""
    if number is None:
        yield svg.rect(x, y, width, height, fill=_UNKNOWN, stroke=svg.PAPER, tip=tip)
        return
    colour = _COLOURS[number % len(_COLOURS)]
    kind = number // len(_COLOURS) % len(_PATTERNS)
    faint = "" if strong else 'fill-opacity="0.45"'
    edge = svg.PAPER if width > 4 else ""  # which would hide a narrow one
    yield svg.rect(x, y, width, height, fill=colour, stroke=edge, tip=tip, more=faint)
    if kind:
        yield svg.rect(x, y, width, height, fill=f"url(#pattern-{kind})", more='pointer-events="none"')


def _patterns(count: int) -> Iterator[str]:
    kinds = min((count - 1) // len(_COLOURS) + 1, len(_PATTERNS))
    for kind in range(1, kinds):
        yield (
            f'<pattern id="pattern-{kind}" width="8" height="8" patternUnits="userSpaceOnUse">'
            f"{svg.path(_PATTERNS[kind], svg.PAPER, width=2)}</pattern>"
        )
