"""Finds the slots that have no snapshot. Pure.

The schedule's ``missed`` defines how missed slots are handled:

- ``latest`` (the default): one snapshot, for the latest slot. The contents at earlier slots no longer exist.
- ``each``: one snapshot for every missed slot, for users that count snapshots.
- ``none``: one snapshot, but only if the latest slot is younger than ``GRACE``.

A volume that is new to the schedule has no missed slots. Its first slot is the latest one.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from goldenami.schedules.calendar import latest, occurrences
from goldenami.schedules.policy import Schedule

# The delay after which a slot counts as missed. Runs are started by cron every few minutes, or every hour.
GRACE: Final = timedelta(hours=1)
# Limits the snapshots of "each" after a long outage, for example of one year.
MOST_AT_ONCE: Final = 24


def due_slots(schedule: Schedule, filled: Collection[datetime], now: datetime) -> tuple[datetime, ...]:
    """Return the slots of one volume that need a snapshot now, the oldest first. ``filled``: slots with a snapshot."""
    newest = latest(schedule.timing, schedule.zone, now, anchor=schedule.anchor)
    if newest is None or newest in filled or any(slot > newest for slot in filled):
        return ()
    if schedule.missed == "each" and filled:
        last = max(slot for slot in filled)
        missed = tuple(occurrences(schedule.timing, schedule.zone, last, now, anchor=schedule.anchor))
        return missed[-MOST_AT_ONCE:]
    if schedule.missed == "none" and now - newest > GRACE:
        return ()
    return (newest,)
