"""Draws a lineage as SVG: a bar for each snapshot, divided by the snapshots that store its blocks. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from goldenami import svg
from goldenami.snapshots.lineage import Lineage, Member
from goldenami.snapshots.words import size

_WIDTH: Final = 720  # pixels; the width of the longest bar
_LEFT: Final = 330
_RIGHT: Final = 170
_ROW: Final = 58
_BAR: Final = 24
_TOP: Final = 64
# The palette of Okabe and Ito, which color-blind readers can distinguish.
_COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")
_UNKNOWN: Final = "#dddddd"


def draw(lineage: Lineage, title: str) -> str:
    """Return the SVG document. Own blocks are solid; blocks of an earlier snapshot have its color, but lighter."""
    members = lineage.members
    longest = max([m.full_bytes or 0 for m in members], default=0) or 1
    colour = {m.id: _COLOURS[i % len(_COLOURS)] for i, m in enumerate(members)}
    height = _TOP + _ROW * len(members) + 44
    width = _LEFT + _WIDTH + _RIGHT
    parts: list[str] = []
    for row, member in enumerate(members):
        parts.extend(_row(member, _TOP + row * _ROW, longest, colour))
    key = (
        "Solid: stored by this snapshot. Light: stored by the snapshot of that color. "
        "Right: bytes that the deletion of this snapshot alone frees."
    )
    parts.append(svg.text(16, height - 16, key, width=width - 32, fill=svg.GREY))
    return svg.document(width, height, title, summary(lineage), parts)


def summary(lineage: Lineage) -> str:
    """Return one line: the stored size, and the size of full copies."""
    count = len(lineage.members)
    unknown = sum(m.stored_bytes is None for m in lineage.members)
    text = f"{count} snapshot{'s' if count != 1 else ''}: {size(lineage.stored_bytes)} stored"
    text += f", full copies would be {size(lineage.full_bytes)}"
    return text + (f" ({unknown} of them cannot be read and count with their full size)" if unknown else "")


def _row(member: Member, top: int, longest: int, colour: dict[str, str]) -> Sequence[str]:
    snapshot = member.snapshot
    below = f"{snapshot.started}  {snapshot.id}" if snapshot.name else snapshot.started
    parts = [
        svg.text(16, top + 12, snapshot.name or snapshot.id, width=_LEFT - 24, bold=True),
        svg.text(16, top + 29, below, width=_LEFT - 24, size=11, fill=svg.GREY),
    ]
    x = float(_LEFT)

    def bar(amount: int, fill: str, opacity: float, label: str, tip: str) -> None:
        nonlocal x
        wide = amount / longest * _WIDTH
        parts.append(
            f'<g><title>{escape(tip)}</title><rect x="{x:.1f}" y="{top}" width="{wide:.1f}" height="{_BAR}" '
            f'fill="{fill}" fill-opacity="{opacity}" stroke="#ffffff"/>'
        )
        if wide > svg.width_of(label, 11):
            ink = "#ffffff" if opacity == 1 else "#222222"
            parts.append(
                f'<text x="{x + wide / 2:.1f}" y="{top + 16}" text-anchor="middle" font-size="11" '
                f'fill="{ink}">{escape(label)}</text>'
            )
        parts.append("</g>")
        x += wide

    if member.stored_bytes is None:
        bar(member.full_bytes or 0, _UNKNOWN, 0.6, "cannot be read", f"{snapshot.id}: {member.broken}")
    else:
        for id, amount in (member.refers or {}).items():
            bar(amount, colour.get(id, _UNKNOWN), 0.35, size(amount), f"{size(amount)} of {id}")
        bar(
            member.stored_bytes,
            colour[member.id],
            1,
            size(member.stored_bytes),
            f"{size(member.stored_bytes)} own blocks",
        )
    frees = "frees: unknown" if member.freed_bytes is None else f"frees {size(member.freed_bytes)}"
    parts.append(f'<text x="{_LEFT + _WIDTH + 12}" y="{top + 16}">{frees}</text>')
    if member.broken:
        parts.append(svg.text(_LEFT, top + 40, member.broken, width=_WIDTH + _RIGHT - 16, size=11, fill="#b00020"))
    return parts
