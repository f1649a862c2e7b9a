"""AWS's cron expressions: ``cron(minutes hours day-of-month month day-of-week year)``, in UTC.

Days of the week are 1 (Sunday) to 7, or SUN to SAT. One of the two day fields is ``?``. ``L``, ``W`` and ``#`` are
refused. (EventBridge Scheduler and DLM user guides.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_MONTHS = {
    n: i for i, n in enumerate(["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"], 1)
}
_DAYS = {n: i for i, n in enumerate(["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"], 1)}


class BadCron(ValueError):
    """The expression cannot be read. The message is the reason."""


@dataclass(frozen=True, slots=True)
class Cron:
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]  # of the month
    months: frozenset[int]
    weekdays: frozenset[int]
    years: frozenset[int]

    @staticmethod
    def parse(text: str) -> Cron:
        """Parse a cron expression. Raises BadCron."""
        match = re.fullmatch(r"cron\((.*)\)", text.strip())
        fields = match.group(1).split() if match else []
        if len(fields) != 6:
            raise BadCron(f"{text!r} is not cron(minutes hours day-of-month month day-of-week year)")
        if fields[2] != "?" and fields[4] != "?":
            raise BadCron(f"{text!r}: either the day of the month or the day of the week must be ?")
        return Cron(
            _field(fields[0], 0, 59),
            _field(fields[1], 0, 23),
            _field(fields[2], 1, 31),
            _field(fields[3], 1, 12, _MONTHS),
            _field(fields[4], 1, 7, _DAYS),
            _field(fields[5], 1970, 2199),
        )

    def between(self, after: float, until: float) -> Iterator[float]:
        """Yield the times after one time, up to and including another, in order. All are seconds since the epoch."""
        day = datetime.fromtimestamp(after, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        while day.timestamp() <= until:
            weekday = day.isoweekday() % 7 + 1
            if (
                day.day in self.days
                and day.month in self.months
                and weekday in self.weekdays
                and day.year in self.years
            ):
                for hour in sorted(self.hours):
                    for minute in sorted(self.minutes):
                        moment = day.replace(hour=hour, minute=minute).timestamp()
                        if after < moment <= until:
                            yield moment
            day += timedelta(days=1)


def _field(text: str, first: int, last: int, names: dict[str, int] | None = None) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        begin, dash, end = span.partition("-")
        if span in ("*", "?"):
            low, high = first, last
        else:
            low = _number(begin, text, names)
            high = _number(end, text, names) if dash else last if step else low
        if not first <= low <= high <= last or (step and not (step.isdigit() and int(step))):
            raise BadCron(f"{part!r} is not between {first} and {last}")
        found |= set(range(low, high + 1, int(step or 1)))
    return frozenset(found)


def _number(text: str, field: str, names: dict[str, int] | None) -> int:
    if names and text.upper() in names:
        return names[text.upper()]
    if not text.isdigit():
        raise BadCron(f"{text!r} in {field!r} cannot be read")
    return int(text)
