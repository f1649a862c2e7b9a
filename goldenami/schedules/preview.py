"""What a schedule will do, without a cloud: its next moments, and what is there after each. Pure.

The preview begins as if the schedule had run for as long as its rules look back, without a miss.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from goldenami.schedules.calendar import following, occurrences
from goldenami.schedules.policy import Schedule
from goldenami.schedules.retention import Saved, SnapshotDecision, decide

_MOST = 5000  # slots of the past; a rule that looks back further is shown as far as these go


@dataclass(frozen=True, slots=True)
class Preview:
    """One run: what it makes, what it deletes, and what is there then with the rule that keeps it."""

    moment: datetime
    deleted: tuple[datetime, ...]
    kept: tuple[SnapshotDecision, ...]


def preview(schedule: Schedule, now: datetime, count: int) -> tuple[Preview, ...]:
    """The next ``count`` runs after ``now``."""
    coming = following(schedule.timing, schedule.zone, now, count, anchor=schedule.anchor)
    if not coming:
        return ()
    start = max(now - _reach(schedule), schedule.anchor)
    past = list(occurrences(schedule.timing, schedule.zone, start, now, anchor=schedule.anchor))[-_MOST:]
    there = [_saved(slot) for slot in past]
    there = [v.saved for v in decide(there, schedule.retention, now, schedule.zone) if v.keep]
    runs = []
    for moment in coming:
        verdicts = decide([*there, _saved(moment)], schedule.retention, moment, schedule.zone)
        kept = tuple(v for v in verdicts if v.keep)
        runs.append(Preview(moment, tuple(v.saved.slot for v in verdicts if not v.keep), kept))
        there = [v.saved for v in kept]
    return tuple(runs)


def _saved(slot: datetime) -> Saved:
    return Saved(slot.isoformat(), "", slot)


def _reach(schedule: Schedule) -> timedelta:
    """How far back the rules look, a little more."""
    retention = schedule.retention
    spans = {"hourly": 1 / 24, "daily": 1, "weekly": 7, "monthly": 31, "yearly": 366}
    longest = max((spans[tier] * count for tier, count in retention.tiers.items()), default=0.0)
    moments = following(schedule.timing, schedule.zone, schedule.anchor, 2, anchor=schedule.anchor)
    step = (moments[1] - moments[0]) if len(moments) > 1 else timedelta(days=1)
    # A pause within the pattern (a weekend, a month) may be longer than its first step.
    return max(timedelta(days=longest + 32), (retention.max_age or timedelta()) * 2, step * retention.keep * 4)
