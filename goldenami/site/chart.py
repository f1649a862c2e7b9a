"""The chart of a recipe: packages and size of each release, over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from goldenami import svg

WIDTH = 720.0
_HIGH = 90.0  # of each of the two lines
_LEFT = 90.0
_RIGHT = WIDTH - svg.MARGIN


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
    places = [
        _LEFT + ((one.created - first).total_seconds() / span if span > 0 else 0.5) * (_RIGHT - _LEFT) for one in points
    ]
    parts: list[str] = []
    top = 4.0
    for unit, color, values in (
        ("packages", svg.BLUE, [point.packages for point in points]),
        ("GiB", svg.ORANGE, [point.size for point in points]),
    ):
        tips = [f"{point.version}: {value} {unit}" for point, value in zip(points, values, strict=True)]
        parts += _line(unit, color, values, places, tips, top)
        top += _HIGH + 34
    parts.append(svg.text(_LEFT, top - 6, f"{first:%Y-%m-%d}", size=svg.SMALL, fill=svg.GREY))
    if f"{first:%Y-%m-%d}" != f"{last:%Y-%m-%d}":
        parts.append(svg.text(_RIGHT, top - 6, f"{last:%Y-%m-%d}", size=svg.SMALL, fill=svg.GREY, anchor="end"))
    return svg.document(WIDTH, top + 8, title, "packages of each release, and GiB of its volumes", parts)


def _line(
    unit: str, color: str, values: Sequence[int], places: Sequence[float], tips: Sequence[str], top: float
) -> Iterator[str]:
    low, high = min(values), max(values)
    bottom = top + 18 + _HIGH

    def y(value: float) -> float:
        return bottom - 10 - (value - low) / max(high - low, 1) * (_HIGH - 20)

    yield svg.text(_LEFT, top + 12, unit, size=svg.SMALL, fill=color, bold=True)
    yield svg.path(f"M{_LEFT:g} {top + 18:g}V{bottom:g}H{_RIGHT:g}", svg.LINE)
    dots = [(x, y(value)) for x, value in zip(places, values, strict=True)]
    yield svg.path("".join(f"{'L' if n else 'M'}{px:.1f} {py:.1f}" for n, (px, py) in enumerate(dots)), color, width=2)
    for (px, py), tip in zip(dots, tips, strict=True):
        yield f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" fill="{color}"><title>{tip}</title></circle>'
    for value in sorted({low, high}):
        yield svg.text(_LEFT - 8, y(value) + 4, str(value), size=svg.SMALL, fill=color, anchor="end")
