"""Which slots lack their snapshot: pure.

What was missed while nothing ran is caught up as the schedule says: ``latest`` (the default) makes one snapshot, for
the latest slot, since earlier moments cannot be saved any more; ``each`` makes one for every missed slot, for who
counts them; ``none`` makes one only if the latest slot is younger than the grace. A volume that is new to the schedule
has missed nothing: its first slot is the latest one.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from goldenami.schedules.calendar import latest, occurrences
from goldenami.schedules.policy import Schedule

# How late a runner may be without having missed the slot: it is started by cron every few minutes, or each hour.
GRACE: Final = timedelta(hours=1)
# "each" after a year's outage must not flood an account.
MOST_AT_ONCE: Final = 24


def due_slots(schedule: Schedule, filled: Collection[datetime], now: datetime) -> tuple[datetime, ...]:
    """The slots of one volume that are to be filled now, oldest first. ``filled``: those it has snapshots for."""
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
