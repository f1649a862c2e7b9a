"""The moments at which a schedule fires, between two others. Pure; everything that is returned is in UTC.

What the clocks on the wall do twice a year:

- A local time that does not exist (clocks go forward) fires once, at the first moment after the gap. Several of them in
  one gap, or one that the schedule has there anyway, are one.
- A local time that exists twice (clocks go back) fires once, the first time.

A ``Rate`` counts real time from its anchor, so it knows neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from goldenami.schedules.timing import Cron, Rate, Timing

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Longer than any pause of a cron expression that fires at all: a 29 February that has to be one certain weekday can be
# 40 years away.
HORIZON: Final = timedelta(days=366 * 41)
_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)


def occurrences(
    timing: Timing, zone: ZoneInfo, after: datetime, until: datetime, *, anchor: datetime = EPOCH
) -> Iterator[datetime]:
    """Every moment after ``after`` and up to ``until``, that one included, in order. Both carry a time zone.

    ``anchor``: from where a rate counts, and before which nothing fires.
    """
    if isinstance(timing, Rate):
        yield from _of_rate(timing, after, until, anchor)
        return
    last: datetime | None = None
    # A time in a gap moves to its end, never past it into another day's times: days in order give moments in order.
    day, end = _local_date(after, zone) - _DAY, _local_date(until, zone) + _DAY
    while day <= end:
        for moment in sorted(_of_day(timing, zone, day)):
            if moment > until:
                return
            if moment > after and moment >= anchor and (last is None or moment > last):
                yield moment
                last = moment
        day += _DAY


def following(
    timing: Timing, zone: ZoneInfo, after: datetime, count: int, *, anchor: datetime = EPOCH
) -> tuple[datetime, ...]:
    """The next ``count`` moments; fewer where the expression ends (a year that is over)."""
    found = []
    for moment in occurrences(timing, zone, after, after + HORIZON * max(count, 1), anchor=anchor):
        found.append(moment)
        if len(found) >= count:
            break
    return tuple(found)


def latest(timing: Timing, zone: ZoneInfo, at: datetime, *, anchor: datetime = EPOCH) -> datetime | None:
    """The last moment that is not after ``at``; None if there was none yet."""
    if isinstance(timing, Rate):
        if at < anchor:
            return None
        return anchor + (at - anchor) // timing.every * timing.every
    span, end = _DAY, at
    while at - end < HORIZON:
        found = None
        for found in occurrences(timing, zone, end - span, end, anchor=anchor):  # noqa: B007  the last one
            pass
        if found is not None:
            return found
        end -= span
        if end < anchor:
            return None
        span *= 2
    return None


def fires(timing: Timing, start: date = date(2024, 1, 1)) -> bool:
    """Whether there is any day at all on which a cron expression fires, from ``start`` on (30 February is none)."""
    if isinstance(timing, Rate):
        return True
    return any(timing.on(start + timedelta(days=n)) for n in range(HORIZON.days))


def moment_of(local: datetime, zone: ZoneInfo) -> datetime:
    """The moment, in UTC, of a local time without a zone: by the rules at the top."""
    before = local.replace(tzinfo=zone, fold=0)
    moment = before.astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == local:
        return moment
    # In a gap: by the offset before it the moment lies behind the change, by the offset after it, in front of it.
    early, late = local.replace(tzinfo=zone, fold=1).astimezone(UTC), moment
    offset = late.astimezone(zone).utcoffset()
    while late - early > _SECOND:
        middle = early + ((late - early) // 2 // _SECOND or 1) * _SECOND
        if middle.astimezone(zone).utcoffset() == offset:
            late = middle
        else:
            early = middle
    return late


def _of_day(cron: Cron, zone: ZoneInfo, day: date) -> set[datetime]:
    if not cron.on(day):
        return set()
    return {moment_of(datetime.combine(day, time(h, m)), zone) for h in cron.hours for m in cron.minutes}


def _of_rate(rate: Rate, after: datetime, until: datetime, anchor: datetime) -> Iterator[datetime]:
    steps = max((after - anchor) // rate.every + 1, 0)
    moment = anchor + steps * rate.every
    while moment <= until:
        yield moment.astimezone(UTC)
        moment += rate.every


def _local_date(moment: datetime, zone: ZoneInfo) -> date:
    return moment.astimezone(zone).date()
