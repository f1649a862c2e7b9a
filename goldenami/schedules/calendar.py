"""The times at which a schedule fires in an interval. Pure. All returned times are in UTC.

Rules for daylight saving time:

- A local time that does not exist (clocks go forward) fires once, at the first moment after the gap. Several such times
  in one gap fire once, also together with a scheduled time at the end of the gap.
- A local time that exists twice (clocks go back) fires once, the first time.
- An expression for every hour follows the hours that pass: it fires in both of a repeated hour, and does not make up
  for an hour that does not exist.

A ``Rate`` counts elapsed time from its anchor. Daylight saving time does not change it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from goldenami.schedules.timing import Cron, Rate, Timing

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Longer than any interval between two times of a cron expression. The longest is 40 years: a 29 February that is a
# given weekday.
HORIZON: Final = timedelta(days=366 * 41)
_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)


def occurrences(
    timing: Timing, zone: ZoneInfo, after: datetime, until: datetime, *, anchor: datetime = EPOCH
) -> Iterator[datetime]:
    """Yield every time after ``after``, up to and including ``until``, in order. Both have a time zone.

    ``anchor``: the start of a rate. Nothing fires before it.
    """
    if isinstance(timing, Rate):
        yield from _of_rate(timing, after, until, anchor)
        return
    last: datetime | None = None
    # A time in a gap moves to the end of the gap, and never past times of the next day. So the times stay in order.
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
    """Return the next ``count`` times, or fewer if the expression ends (its last year is over)."""
    found = []
    for moment in occurrences(timing, zone, after, after + HORIZON * max(count, 1), anchor=anchor):
        found.append(moment)
        if len(found) >= count:
            break
    return tuple(found)


def latest(timing: Timing, zone: ZoneInfo, at: datetime, *, anchor: datetime = EPOCH) -> datetime | None:
    """Return the last time at or before ``at``, or None if there is none."""
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
    """Return whether an expression fires on any day from ``start`` on. An expression for 30 February does not."""
    if isinstance(timing, Rate):
        return True
    return any(timing.matches_day(start + timedelta(days=n)) for n in range(HORIZON.days))


def moment_of(local: datetime, zone: ZoneInfo) -> datetime:
    """Convert a local time without a zone to UTC, by the rules in the docstring of this module."""
    before = local.replace(tzinfo=zone, fold=0)
    moment = before.astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == local:
        return moment
    # The local time is in a gap. With the UTC offset from before the gap, the moment is after the change; with the
    # offset from after the gap, it is before the change. Search the change between both.
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
    if not cron.matches_day(day):
        return set()
    local = [datetime.combine(day, time(h, m)) for h in cron.hours for m in cron.minutes]
    if not cron.every_hour:
        return {moment_of(one, zone) for one in local}
    both = (one.replace(tzinfo=zone, fold=fold).astimezone(UTC) for one in local for fold in (0, 1))
    return {one for one in both if one.astimezone(zone).date() == day and one.astimezone(zone).minute in cron.minutes}


def _of_rate(rate: Rate, after: datetime, until: datetime, anchor: datetime) -> Iterator[datetime]:
    steps = max((after - anchor) // rate.every + 1, 0)
    moment = anchor + steps * rate.every
    while moment <= until:
        yield moment.astimezone(UTC)
        moment += rate.every


def _local_date(moment: datetime, zone: ZoneInfo) -> date:
    return moment.astimezone(zone).date()
