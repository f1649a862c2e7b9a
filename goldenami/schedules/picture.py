"""The calendar of a schedule: the days on which it runs, as text and as SVG. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import takewhile
from typing import Any, Final

from goldenami import svg
from goldenami.schedules.calendar import occurrences
from goldenami.schedules.policy import Schedule
from goldenami.schedules.preview import preview

MOST_RUNS: Final = 1000  # of a calendar
_CELL: Final = 92.0  # pixels
_HIGH: Final = 60.0
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True, slots=True)
class Day:
    """A day in the schedule's own time zone. ``runs``: its local times. ``kept``: how many of their snapshots exist
    after the last run of the calendar."""

    date: date
    runs: tuple[datetime, ...] = ()
    kept: int = 0

    @property
    def times(self) -> str:
        """Its runs in a few words: "03:00", "03:00 15:00", "24 runs"."""
        if len(self.runs) > 2:
            return f"{len(self.runs)} runs"
        return " ".join(f"{one:%H:%M}" for one in self.runs)

    @property
    def fate(self) -> str:
        """What is left of its snapshots at the end: "kept", "removed", "3 kept"; "" without runs."""
        if not self.runs:
            return ""
        if self.kept == len(self.runs):
            return "kept"
        return f"{self.kept} kept" if self.kept else "removed"

    def to_json(self) -> dict[str, Any]:
        return {"date": self.date.isoformat(), "runs": [one.isoformat() for one in self.runs], "kept": self.kept}


@dataclass(frozen=True, slots=True)
class Calendar:
    """Whole weeks, from Monday. ``more``: the calendar ends before its last day, because there are too many runs."""

    schedule: Schedule
    days: tuple[Day, ...]
    more: bool

    @property
    def head(self) -> str:
        one = self.schedule
        return f"{one.name}: {one.timing.text}, {one.zone}, keeps {one.retention}"


def calendar(schedule: Schedule, now: datetime, weeks: int) -> Calendar:
    """Return the weeks from that of ``now`` on, with the runs after ``now``."""
    today = schedule.local(now).date()
    monday = today - timedelta(days=today.weekday())
    after = monday + timedelta(weeks=weeks)
    until = now + timedelta(weeks=weeks, days=1)
    coming = occurrences(schedule.timing, schedule.zone, now, until, anchor=schedule.anchor)
    slots = list(takewhile(lambda slot: schedule.local(slot).date() < after, coming))
    runs = preview(schedule, now, min(len(slots), MOST_RUNS)) if slots else ()
    kept = {one.saved.slot for one in runs[-1].kept} if runs else set()
    by_day: dict[date, list[datetime]] = {}
    for slot in slots[:MOST_RUNS]:
        by_day.setdefault(schedule.local(slot).date(), []).append(slot)
    days = (monday + timedelta(days=n) for n in range(weeks * 7))
    return Calendar(
        schedule,
        tuple(
            Day(
                day,
                tuple(schedule.local(slot) for slot in by_day.get(day, ())),
                sum(slot in kept for slot in by_day.get(day, ())),
            )
            for day in days
        ),
        len(slots) > MOST_RUNS,
    )


def _limit(found: Calendar) -> list[str]:
    return [f"Only the first {MOST_RUNS} runs are shown."] if found.more else []


def lines(found: Calendar) -> list[str]:
    """Return the calendar as text: a row for each week, two lines high."""
    cells = [(day.times or "-", day.fate) for day in found.days]
    width = max([3, *(len(text) for cell in cells for text in cell)]) + 2
    result = [found.head, f"{'':12}" + "".join(f"{day:<{width}}" for day in _DAYS).rstrip()]
    for week in range(0, len(cells), 7):
        for line in range(2):
            head = found.days[week].date.isoformat() if line == 0 else ""
            row = f"{head:<12}" + "".join(f"{cell[line]:<{width}}" for cell in cells[week : week + 7])
            if row.strip():
                result.append(row.rstrip())
    return [*result, *_limit(found)]


def draw(calendars: Sequence[Calendar], title: str) -> str:
    """Return the calendars of some schedules as one SVG document, one below the other."""
    width = 7 * _CELL + 2 * svg.MARGIN
    parts: list[str] = []
    y = 0.0
    for found in calendars:
        head = svg.wrapped(found.head, width - 2 * svg.MARGIN, bold=True)
        parts += svg.block(svg.MARGIN, y + 13, head, bold=True)
        y += len(head) * svg.LEAD + 6
        parts += [
            svg.text(svg.MARGIN + n * _CELL + 6, y + 12, day, size=svg.SMALL, fill=svg.GREY)
            for n, day in enumerate(_DAYS)
        ]
        y += 18
        for number, day in enumerate(found.days):
            parts += _cell(day, svg.MARGIN + number % 7 * _CELL, y + number // 7 * _HIGH)
        y += len(found.days) / 7 * _HIGH + 8
        parts += svg.block(svg.MARGIN, y + 12, _limit(found), size=svg.SMALL, fill=svg.GREY)
        y += svg.LEAD + 8
    summary = "Kept or removed: whether the snapshots of a day exist after the last run that is shown."
    return svg.document(width, y + 4, title, summary, parts)


def _cell(day: Day, x: float, y: float) -> list[str]:
    fill = svg.PALE_BLUE if day.kept else svg.PALE_GREY if day.runs else svg.PAPER
    number = f"{day.date.day} {day.date:%b}" if day.date.day == 1 or day.date.weekday() == 0 else str(day.date.day)
    return [
        svg.rect(x, y, _CELL, _HIGH, fill=fill, stroke=svg.LINE),
        svg.text(x + 6, y + 15, number, size=svg.SMALL, fill=svg.GREY),
        *([svg.text(x + 6, y + 33, day.times, size=svg.SMALL, bold=True)] if day.runs else []),
        *([svg.text(x + 6, y + 50, day.fate, size=svg.SMALL)] if day.runs else []),
    ]
