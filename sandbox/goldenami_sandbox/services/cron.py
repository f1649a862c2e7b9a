"""AWS's cron expressions: ``cron(minutes hours day-of-month month day-of-week year)``, in UTC.

Days of the week are 1 (Sunday) to 7, or SUN to SAT. Exactly one of the two day fields is ``?``. ``L`` is the last day
of the month, or with a weekday its last one; ``W`` is the working day nearest to a day of the month; ``6#3`` is the
third Friday. (EventBridge user guide, "Cron expressions reference".)
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

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
    special: str = ""  # a day field with L, W or #: the sets of days are ignored

    @staticmethod
    def parse(text: str) -> Cron:
        """Parse a cron expression. Raises BadCron."""
        match = re.fullmatch(r"cron\((.*)\)", text.strip())
        fields = match.group(1).split() if match else []
        if len(fields) != 6:
            raise BadCron(f"{text!r} is not cron(minutes hours day-of-month month day-of-week year)")
        if (fields[2] == "?") == (fields[4] == "?"):
            raise BadCron(f"{text!r}: either the day of the month or the day of the week must be ?")
        special = next((field for field in (fields[2], fields[4]) if re.fullmatch(_SPECIAL, field.upper())), "").upper()
        return Cron(
            _field(fields[0], 0, 59),
            _field(fields[1], 0, 23, wraps=True),
            _field("*" if fields[2].upper() == special else fields[2], 1, 31),
            _field(fields[3], 1, 12, _MONTHS),
            _field("*" if fields[4].upper() == special else fields[4], 1, 7, _DAYS, wraps=True),
            _field(fields[5], 1970, 2199),
            f"week {special}" if special and fields[2] == "?" else special,
        )

    def on(self, day: date) -> bool:
        """Return whether the expression has times on a day."""
        if day.month not in self.months or day.year not in self.years:
            return False
        if self.special:
            return _is_special(self.special, day)
        return day.day in self.days and day.isoweekday() % 7 + 1 in self.weekdays

    def between(self, after: float, until: float) -> Iterator[float]:
        """Yield the times after one time, up to and including another, in order. All are seconds since the epoch."""
        day = datetime.fromtimestamp(after, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        while day.timestamp() <= until:
            if self.on(day.date()):
                for hour in sorted(self.hours):
                    for minute in sorted(self.minutes):
                        moment = day.replace(hour=hour, minute=minute).timestamp()
                        if after < moment <= until:
                            yield moment
            day += timedelta(days=1)


_SPECIAL = r"L|L-\d+|LW|\d+W|[1-7A-Z]+L|[1-7A-Z]+#[1-5]"


def _is_special(text: str, day: date) -> bool:
    last = calendar.monthrange(day.year, day.month)[1]
    week, _, field = text.rpartition("week ")
    if not week and text == field:
        if field == "LW" or field.endswith("W"):
            return day.day == _working_day(day, last if field == "LW" else int(field[:-1]), last)
        return day.day == last - int(field[2:] or 0)
    name, sharp, number = field.partition("#")
    if field == "L":
        return day.isoweekday() == 6
    weekday = _number(name if sharp else name[:-1], field, _DAYS)
    if weekday != day.isoweekday() % 7 + 1:
        return False
    return (day.day - 1) // 7 + 1 == int(number) if sharp else day.day > last - 7


def _working_day(day: date, number: int, last: int) -> int:
    """Return the working day nearest to a day of the month, in the same month; 0 if the month has no such day."""
    if number > last:
        return 0
    weekday = day.replace(day=number).isoweekday()
    if weekday == 6:
        return number - 1 if number > 1 else number + 2
    if weekday == 7:
        return number + 1 if number < last else number - 2
    return number


def _field(
    text: str, first: int, last: int, names: dict[str, int] | None = None, *, wraps: bool = False
) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        begin, dash, end = span.partition("-")
        if span in ("*", "?"):
            low, high = first, last
        else:
            low = _number(begin, text, names)
            high = _number(end, text, names) if dash else last if step else low
        if step and not (step.isdigit() and int(step)):
            raise BadCron(f"{step!r} in {part!r} is no step")
        if not (first <= low <= last and first <= high <= last) or (low > high and not wraps):
            raise BadCron(f"{part!r} is not between {first} and {last}")
        span_length = (high - low) % (last - first + 1)  # 20-2 and FRI-MON go past the end
        found |= {first + (low - first + n) % (last - first + 1) for n in range(0, span_length + 1, int(step or 1))}
    return frozenset(found)


def _number(text: str, field: str, names: dict[str, int] | None) -> int:
    if names and text.upper() in names:
        return names[text.upper()]
    if not text.isdigit():
        raise BadCron(f"{text!r} in {field!r} cannot be read")
    return int(text)
