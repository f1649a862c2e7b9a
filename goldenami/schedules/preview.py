"""Computes the next runs of a schedule and the snapshots that exist after each. Pure: it makes no API call.

The preview assumes that the schedule has run without a missed slot for the whole time that its rules cover.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from goldenami.schedules.calendar import following, occurrences
from goldenami.schedules.policy import Schedule
from goldenami.schedules.retention import Saved, SnapshotDecision, decide

_MOST = 5000  # past slots; for a rule that covers more, the preview shows only these


@dataclass(frozen=True, slots=True)
class Preview:
    """One future run: the slots it deletes, and the snapshots that exist afterwards with the rules that keep them."""

    moment: datetime
    deleted: tuple[datetime, ...]
    kept: tuple[SnapshotDecision, ...]


def preview(schedule: Schedule, now: datetime, count: int) -> tuple[Preview, ...]:
    """Return the next ``count`` runs after ``now``."""
    coming = following(schedule.timing, schedule.zone, now, count, anchor=schedule.anchor)
    if not coming:
        return ()
    start = max(now - _reach(schedule), schedule.anchor)
    past = list(occurrences(schedule.timing, schedule.zone, start, now, anchor=schedule.anchor))[-_MOST:]
    existing = [_saved(slot) for slot in past]
    existing = [d.saved for d in decide(existing, schedule.retention, now, schedule.zone) if d.keep]
    runs = []
    for moment in coming:
        decisions = decide([*existing, _saved(moment)], schedule.retention, moment, schedule.zone)
        kept = tuple(d for d in decisions if d.keep)
        runs.append(Preview(moment, tuple(d.saved.slot for d in decisions if not d.keep), kept))
        existing = [d.saved for d in kept]
    return tuple(runs)


def _saved(slot: datetime) -> Saved:
    return Saved(slot.isoformat(), "", slot)


def _reach(schedule: Schedule) -> timedelta:
    """Return a duration that is longer than the time that the rules cover."""
    retention = schedule.retention
    spans = {"hourly": 1 / 24, "daily": 1, "weekly": 7, "monthly": 31, "yearly": 366}
    longest = max((spans[tier] * count for tier, count in retention.tiers.items()), default=0.0)
    moments = following(schedule.timing, schedule.zone, schedule.anchor, 2, anchor=schedule.anchor)
    step = (moments[1] - moments[0]) if len(moments) > 1 else timedelta(days=1)
    # An interval within the pattern (a weekend, a month) may be longer than the first one.
    return max(timedelta(days=longest + 32), (retention.max_age or timedelta()) * 2, step * retention.keep * 4)
