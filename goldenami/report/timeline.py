"""The timeline of a build: when each stage ran, for how long, and how it ended; as text and as SVG. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from html import escape
from typing import Any, Final

from goldenami import svg
from goldenami.journal import Recorded
from goldenami.model import timestamp
from goldenami.report.text import duration, elapsed

_CELLS: Final = 40  # of a bar in the text
_WIDTH: Final = 720  # pixels
_LEFT: Final = 260
_RIGHT: Final = 130
_ROW: Final = 26
_TOP: Final = 64
_COLOURS: Final = {"ok": "#0072b2", "failed": "#d55e00", "running": "#009e73", "lost": "#999999"}


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


def timeline(events: Iterable[Recorded], *, running: bool) -> Timeline:
    """Return the timeline of the recorded events of a build. ``running``: a process works on the build now."""
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
    """Return the timeline as an SVG document: a bar for each stage."""
    rows = found.spans
    height, width = _TOP + _ROW * len(rows) + 24, _LEFT + _WIDTH + _RIGHT
    total = 0.0
    if found.started is not None and found.ended is not None:
        total = (found.ended - found.started).total_seconds()
    summary = f"{timestamp(found.started)}, {duration(total)}" if found.started is not None else "no events"
    parts: list[str] = []
    for row, span in enumerate(rows):
        parts += _bar(span, found, _TOP + row * _ROW, total or 0.001)
    return svg.document(width, height, title, summary, parts)


def _bar(span: Span, found: Timeline, top: int, total: float) -> Sequence[str]:
    assert found.started is not None
    assert found.ended is not None
    begin = (span.started - found.started).total_seconds() / total * _WIDTH
    end = ((span.ended or found.ended) - found.started).total_seconds() / total * _WIDTH
    took = duration(span.seconds) if span.seconds is not None else span.status
    tip = f"{span.label}: {span.status}, {took}, from {timestamp(span.started)}"
    box = f'x="{_LEFT + begin:.1f}" y="{top}" width="{max(2.0, end - begin):.1f}" height="18"'
    fill = _COLOURS.get(span.status, _COLOURS["lost"])
    return [
        svg.text(16, top + 14, span.label, width=_LEFT - 24),
        f'<g><title>{escape(tip)}</title><rect {box} fill="{fill}"/></g>',
        svg.text(_LEFT + end + 6, top + 14, took, width=_RIGHT - 8, size=11, fill=svg.GREY),
    ]
