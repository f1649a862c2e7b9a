"""The timeline of a build: when each stage ran, for how long, and how it ended; as text and as SVG. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from goldenami import svg
from goldenami.journal import Recorded
from goldenami.model import timestamp
from goldenami.report.text import duration, elapsed

KINDS: Final = ("stage.started", "stage.finished")
"""The events that a timeline is made of. Of the others, it has the times of the first and the last one."""
_CELLS: Final = 40  # of a bar in the text
_WIDTH: Final = 640.0  # pixels, of the bars
_NAME: Final = 240.0  # a longer name of a stage goes on in the next line
_BAR: Final = 18
_COLOURS: Final = {"ok": svg.BLUE, "failed": svg.RED, "running": svg.GREEN, "lost": svg.GREY}
_STEPS: Final = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400)  # of the axis
_TICKS: Final = 8


@dataclass(frozen=True, slots=True)
class Span:
    """One stage. ``run``: from 1. ``ended``: None while it runs. ``status``: "ok", "failed", "running", or "lost": its
    process was killed, and its end is the last event of that process."""

    run: int
    stage: str
    architecture: str
    started: datetime
    ended: datetime | None
    status: str

    @property
    def label(self) -> str:
        return f"{self.stage} ({self.architecture})" if self.architecture else self.stage

    @property
    def seconds(self) -> float | None:
        return (self.ended - self.started).total_seconds() if self.ended is not None else None

    def to_json(self) -> dict[str, Any]:
        return {
            "run": self.run,
            "stage": self.stage,
            "architecture": self.architecture or None,
            "status": self.status,
            "started": timestamp(self.started),
            "ended": timestamp(self.ended) if self.ended is not None else None,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, slots=True)
class Timeline:
    """All stages in the order in which they began. ``started`` and ``ended``: of the first and the last event; None
    without events."""

    spans: tuple[Span, ...]
    started: datetime | None
    ended: datetime | None
    runs: int


def timeline(events: Iterable[Recorded], *, running: bool, now: datetime | None = None) -> Timeline:
    """Return the timeline of the recorded events of a build. ``running``: a process works on the build, and its stages
    last until ``now``, or until the last event without it."""
    spans: list[Span] = []
    active: dict[tuple[str, str], int] = {}
    runs: list[str] = []
    started = ended = None
    for recorded in events:
        if recorded.run not in runs:
            runs.append(recorded.run)
            _lose(spans, active, ended)
        started, ended = started or recorded.at, recorded.at
        key = str(recorded.event.fields.get("stage", "")), str(recorded.event.fields.get("architecture", ""))
        if recorded.event.kind == "stage.started":
            active[key] = len(spans)
            spans.append(Span(len(runs), *key, recorded.at, None, "running"))
        elif recorded.event.kind == "stage.finished" and key in active:
            at = active.pop(key)
            status = str(recorded.event.fields.get("status", "ok"))
            spans[at] = replace(spans[at], ended=recorded.at, status=status)
    if not running:
        _lose(spans, active, ended)
    elif now is not None and ended is not None:
        ended = max(ended, now)
    return Timeline(tuple(spans), started, ended, len(runs))


def _lose(spans: list[Span], active: dict[tuple[str, str], int], ended: datetime | None) -> None:
    """End the stages of a process that was killed. ``ended``: its last event."""
    for at in active.values():
        spans[at] = replace(spans[at], status="lost", ended=ended)
    active.clear()


def lines(found: Timeline, *, bars: bool = True) -> list[str]:
    """Return the timeline as text, one line for each stage. ``bars``: False omits the bars, for narrow terminals."""
    if found.started is None or found.ended is None:
        return []
    total = max((found.ended - found.started).total_seconds(), 0.001)
    width = max((len(span.label) for span in found.spans), default=0)
    result = []
    for span in found.spans:
        begin = (span.started - found.started).total_seconds()
        end = ((span.ended or found.ended) - found.started).total_seconds()
        took = duration(span.seconds) if span.seconds is not None else ""
        row = f"{elapsed(begin):>7}  {span.label:<{width}}  {span.status:<7}  {took:>12}"
        if bars:
            first = min(_CELLS - 1, int(begin / total * _CELLS))
            cells = max(1, min(_CELLS - first, round((end - begin) / total * _CELLS)))
            row += f"  |{' ' * first}{'#' * cells}{' ' * (_CELLS - first - cells)}|"
        result.append(row.rstrip())
    return result


def draw(found: Timeline, title: str) -> str:
    """Return the timeline as an SVG document: a bar for each stage, to the end of the timeline if it still runs."""
    total = 0.0
    if found.started is not None and found.ended is not None:
        total = (found.ended - found.started).total_seconds()
    summary = f"{timestamp(found.started)}, {duration(total)}" if found.started is not None else "no events"
    if any(span.status == "running" for span in found.spans):
        summary += ", and it still runs"
    if found.runs > 1:
        summary += f", in {found.runs} runs"
    left = svg.MARGIN + min(_NAME, svg.widest([span.label for span in found.spans])) + 12
    right = svg.widest([_took(span) for span in found.spans], svg.SMALL) + 6 + svg.MARGIN
    width = max(left + _WIDTH + right, 480.0)
    bars: list[str] = []
    y = 4.0
    for span in found.spans:
        lines = svg.wrapped(span.label, left - svg.MARGIN - 12)
        bars += _bar(span, found, y, total or 0.001, left, lines)
        y += max(_BAR, len(lines) * svg.LEAD) + 8
    parts = [*_axis(total, y, left), *bars] if bars else []
    return svg.document(width, y + 28, title, summary, parts)


def _took(span: Span) -> str:
    took = duration(span.seconds) if span.seconds is not None else ""
    return ", ".join(filter(None, (took, "" if span.status == "ok" else span.status)))


def _bar(span: Span, found: Timeline, top: float, total: float, left: float, lines: Sequence[str]) -> Sequence[str]:
    assert found.started is not None
    assert found.ended is not None
    begin = (span.started - found.started).total_seconds() / total * _WIDTH
    end = ((span.ended or found.ended) - found.started).total_seconds() / total * _WIDTH
    tip = f"{span.label}: {span.status}, {_took(span)}, from {timestamp(span.started)}"
    fill = _COLOURS.get(span.status, svg.GREY)
    return [
        *svg.block(svg.MARGIN, top + 14, lines),
        f"<g>{svg.rect(left + begin, top, max(2.0, end - begin), _BAR, fill=fill, tip=tip)}</g>",
        svg.text(left + max(end, begin + 2) + 6, top + 14, _took(span), size=svg.SMALL, fill=svg.GREY),
    ]


def _axis(total: float, bottom: float, left: float) -> Iterator[str]:
    """Yield lines at round times since the start, and the times below them."""
    step = next((step for step in _STEPS if total / step <= _TICKS), total / _TICKS)
    room = 0.0
    for number in range(int(total / step) + 1 if step else 1):
        x = left + (number * step / total * _WIDTH if total else 0.0)
        yield svg.path(f"M{x:.1f} 0V{bottom:.1f}", svg.LINE, more='stroke-dasharray="2 3"')
        if x >= room:
            label = elapsed(number * step)
            yield svg.text(x, bottom + 14, label, size=svg.SMALL, fill=svg.GREY)
            room = x + svg.width_of(label, svg.SMALL) + 6
