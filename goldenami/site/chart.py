"""The chart of a recipe: packages and size of each release, over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from goldenami import svg

WIDTH, HEIGHT = 760, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 690, 76, 196
_BLUE, _ORANGE = "#0b57a4", "#9a4d00"


@dataclass(frozen=True, slots=True)
class Point:
    """One release. ``size``: GiB of its volumes."""

    version: str
    created: datetime
    packages: int
    size: int


def draw(points: Sequence[Point], title: str) -> str:
    """Return an SVG document. ``points``: oldest first; at least one."""
    first, last = points[0].created, points[-1].created
    span = (last - first).total_seconds()

    def x(point: Point) -> float:
        part = (point.created - first).total_seconds() / span if span > 0 else 0.5
        return _LEFT + part * (_RIGHT - _LEFT)

    parts = [f'<path d="M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}V{_TOP}" fill="none" stroke="#b6bcc6"/>']
    for values, color, left in (
        ([point.packages for point in points], _BLUE, True),
        ([point.size for point in points], _ORANGE, False),
    ):
        low, high = min(values), max(values)
        room = max(high - low, 1)

        def y(value: float, low: int = low, room: int = room) -> float:
            return _BOTTOM - 12 - (value - low) / room * (_BOTTOM - _TOP - 24)

        dots = [(x(point), y(value)) for point, value in zip(points, values, strict=True)]
        path = "".join(f"{'L' if number else 'M'}{px:.1f} {py:.1f}" for number, (px, py) in enumerate(dots))
        parts.append(f'<path d="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        unit = "" if left else " GiB"
        for (px, py), point, value in zip(dots, points, values, strict=True):
            tip = f"{point.version}: {value}{unit or ' packages'}"
            parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{color}"><title>{tip}</title></circle>')
        for value in sorted({low, high}):
            label = f"{value}{unit}"
            width = svg.width_of(label, 11)
            at = _LEFT - 8 - width if left else _RIGHT + 8
            parts.append(svg.text(at, y(value) + 4, label, width=62, size=11, fill=color))
    parts.append(svg.text(_LEFT, _BOTTOM + 20, f"{first:%Y-%m-%d}", width=90, size=11, fill=svg.GREY))
    if span > 0:
        end = f"{last:%Y-%m-%d}"
        parts.append(svg.text(_RIGHT - svg.width_of(end, 11), _BOTTOM + 20, end, width=90, size=11, fill=svg.GREY))
    summary = "packages (blue, left) and GiB of the volumes (orange, right) of each release"
    return svg.document(WIDTH, HEIGHT, title, summary, parts)
