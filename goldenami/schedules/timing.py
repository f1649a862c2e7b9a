"""Parses the time expressions of schedules: cron with five fields, AWS's ``cron(…)`` with six, or a rate.

::

    0 3 * * 1-5                  minute hour day-of-month month day-of-week; Sunday is 0 or 7 (crontab(5))
    cron(0 3 ? * MON-FRI *)      the same and a year; Sunday is 1; ? L W # as in Amazon EventBridge Scheduler
    rate(12 hours)  or  12h      a fixed interval of elapsed time, independent of daylight saving time

If both day-of-month and day-of-week are restricted in the five-field form, a day has to match only one of them; if one
begins with ``*`` (``*/2``), it has to match both (crontab(5)). In AWS's form, one of the two is ``?``. What is not
understood is an error with its column in the expression.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

_NAMES: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_MONTHS: Final = {name: number for number, name in enumerate(_NAMES, 1)}
_DAYS: Final = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")  # as date.weekday() counts
_NICKNAMES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_CRONTAB_NICKNAMES: Final = ("@reboot", *_NICKNAMES)
# For cron itself, Sunday as the start of a range is 0: SUN-TUE is 0-2.
_CRONTAB_FIELDS: Final[tuple[tuple[str, int, int, Mapping[str, int] | None], ...]] = (
    ("minute", 0, 59, None),
    ("hour", 0, 23, None),
    ("day-of-month", 1, 31, None),
    ("month", 1, 12, _MONTHS),
    ("day-of-week", 0, 7, {name: (number + 1) % 7 for number, name in enumerate(_DAYS)}),
)
_UNITS: Final = {"minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_SHORT_UNITS: Final = {"m": 60, "h": 3600, "d": 86400, "w": 604800}
_YEARS: Final = (1970, 2199)


@dataclass(frozen=True, slots=True)
class Days:
    """The days of a month that an expression matches.

    - ``numbers``: days of the month. ``None``: the field does not restrict the days.
    - ``before_last``: days counted back from the last day of the month (L is 0, L-2 is 2).
    - ``nearest``: the weekday from Monday to Friday nearest to this day of the month (W); 0 is the last day.
    - ``weekdays``: days of the week, from Monday (0). ``None``: the field does not restrict the days.
    - ``last``: the last such weekday of the month (6L).
    - ``nth``: the n-th such weekday of the month (6#3).
    - ``both``: a day has to match the day of the month and the day of the week, not only one of them.
    """

    numbers: frozenset[int] | None = None
    before_last: frozenset[int] = frozenset()
    nearest: frozenset[int] = frozenset()
    weekdays: frozenset[int] | None = None
    last: frozenset[int] = frozenset()
    nth: frozenset[tuple[int, int]] = frozenset()
    both: bool = False

    def matches(self, day: date) -> bool:
        length = calendar.monthrange(day.year, day.month)[1]
        by_number = self._by_number(day, length)
        by_weekday = self._by_weekday(day, length)
        restrictions = [matches for matches in (by_number, by_weekday) if matches is not None]
        return (all if self.both else any)(restrictions) or not restrictions

    def _by_number(self, day: date, length: int) -> bool | None:
        if self.numbers is None and not self.before_last and not self.nearest:
            return None
        return (
            day.day in (self.numbers or ())
            or length - day.day in self.before_last
            or any(day.day == _working_day(day, number or length, length) for number in self.nearest)
        )

    def _by_weekday(self, day: date, length: int) -> bool | None:
        if self.weekdays is None and not self.last and not self.nth:
            return None
        weekday = day.weekday()
        return (
            weekday in (self.weekdays or ())
            or (weekday in self.last and day.day + 7 > length)
            or (weekday, (day.day - 1) // 7 + 1) in self.nth
        )


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression: all local times whose minute, hour and day match. ``aws``: the expression has AWS's form."""

    text: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: Days
    months: frozenset[int]
    years: frozenset[int] | None = None
    aws: bool = False

    @property
    def every_hour(self) -> bool:
        return len(self.hours) == 24

    def matches_day(self, day: date) -> bool:
        return day.month in self.months and (self.years is None or day.year in self.years) and self.days.matches(day)


@dataclass(frozen=True, slots=True)
class Rate:
    """A fixed interval of elapsed time, counted from the start of the schedule."""

    text: str
    every: timedelta


Timing = Cron | Rate


def parse(text: str) -> Timing:
    """Parse an expression. Raises ValueError with a message for the author of the expression."""
    stripped = " ".join(text.split())
    if match := re.fullmatch(r"rate\((.*)\)", stripped, re.IGNORECASE):
        return _rate(stripped, match[1].strip())
    if match := re.fullmatch(r"([0-9]+)([mhdw])", stripped):
        return _made_rate(stripped, int(match[1]) * _SHORT_UNITS[match[2]])
    if match := re.fullmatch(r"cron\((.*)\)", stripped, re.IGNORECASE):
        return _aws_cron(stripped, match[1].split())
    if stripped.lower() in _NICKNAMES:
        return _cron(stripped, _NICKNAMES[stripped.lower()].split())
    return _cron(stripped, stripped.split())


def check_crontab(text: str) -> str:
    """Return a schedule of crontab(5) with single spaces. Raises ValueError that names the wrong field.

    This form is for cron itself: it has ``@reboot``, and no range may wrap (``fri-mon``), since cron refuses these.
    """
    if text.startswith("@"):
        if text not in _CRONTAB_NICKNAMES:
            raise ValueError(f"found {text!r}, expected five fields or one of {', '.join(_CRONTAB_NICKNAMES)}")
        return text
    fields = text.split()
    if len(fields) != len(_CRONTAB_FIELDS):
        names = " ".join(name for name, *_ in _CRONTAB_FIELDS)
        raise ValueError(f"{text!r} has {len(fields)} fields, expected five fields: {names}")
    stripped = " ".join(fields)
    for number, (value, (name, low, high, values)) in enumerate(zip(fields, _CRONTAB_FIELDS, strict=True)):
        with _column(stripped, fields, number):
            if any("/" in part and not part.startswith("*") and "-" not in part for part in value.split(",")):
                raise ValueError(
                    f"{name}: found {value!r}, expected a range or * before the step: cron refuses a number"
                )
            _numbers(name, value, low, high, values, wraps=False)
    return stripped


@contextmanager
def _column(text: str, fields: Sequence[str], number: int) -> Iterator[None]:
    """Add the column of a field, from 1, to a ValueError. ``text``: the expression, with single spaces."""
    try:
        yield
    except ValueError as error:
        start = text.find("(") + 1 + len(" ".join(fields[:number])) + (1 if number else 0)
        raise ValueError(f"{error} (column {start + 1} of {text!r})") from None


def _rate(text: str, inside: str) -> Rate:
    match = re.fullmatch(r"([0-9]+) (minute|hour|day|week)(s?)", inside, re.IGNORECASE)
    if match is None:
        raise ValueError(f"found {text!r}, expected a rate, for example rate(12 hours) or rate(1 day)")
    number, unit = int(match[1]), match[2].lower()
    # EventBridge refuses the others ("Rate expressions reference" in its user guide), so they may be slips of the pen.
    if (number == 1) == bool(match[3]):
        right = f"rate({number} {unit}{'' if number == 1 else 's'})"
        raise ValueError(
            f"found {text!r}, expected {right}: the unit is singular after 1, and plural after other numbers"
        )
    return _made_rate(text, number * _UNITS[unit])


def _made_rate(text: str, seconds: int) -> Rate:
    if seconds < 60:
        raise ValueError(f"{text!r}: expected a rate of at least one minute")
    return Rate(text, timedelta(seconds=seconds))


def _cron(text: str, fields: list[str]) -> Cron:
    if len(fields) != 5:
        raise ValueError(
            f"{text!r} has {len(fields)} fields, expected five: minute hour day-of-month month day-of-week; or AWS's "
            "cron(…), or rate(…)"
        )
    minutes, hours, numbers, months, weekdays = (_column(text, fields, n) for n in range(5))
    names = {name: number for number, name in enumerate(_DAYS, 1)}
    with minutes:
        found_minutes = tuple(sorted(_numbers("minute", fields[0], 0, 59)))
    with hours:
        found_hours = tuple(sorted(_numbers("hour", fields[1], 0, 23)))
    with numbers:
        by_number = None if fields[2] == "*" else _numbers("day-of-month", fields[2], 1, 31)
    with months:
        found_months = _numbers("month", fields[3], 1, 12, _MONTHS)
    with weekdays:
        found = None if fields[4] == "*" else _numbers("day-of-week", fields[4], 0, 7, names)
    by_weekday = frozenset((n - 1) % 7 for n in found) if found is not None else None
    days = Days(numbers=by_number, weekdays=by_weekday, both=any(f.startswith("*") for f in (fields[2], fields[4])))
    return Cron(text, found_minutes, found_hours, days, found_months)


def _aws_cron(text: str, fields: list[str]) -> Cron:
    if len(fields) != 6:
        raise ValueError(
            f"{text!r} has {len(fields)} fields, expected the six of AWS's form: "
            "cron(minutes hours day-of-month month day-of-week year)"
        )
    minutes, hours, numbers, months, weekdays, years = fields
    if (numbers == "?") == (weekdays == "?"):
        raise ValueError(f"{text!r}: expected ? for exactly one of day-of-month and day-of-week")
    columns = [_column(text, fields, n) for n in range(6)]
    with columns[0]:
        found_minutes = tuple(sorted(_numbers("minutes", minutes, 0, 59)))
    with columns[1]:
        found_hours = tuple(sorted(_numbers("hours", hours, 0, 23, past_midnight=True)))
    with columns[2 if weekdays == "?" else 4]:
        days = _aws_numbers(numbers) if weekdays == "?" else _aws_weekdays(weekdays)
    with columns[3]:
        found_months = _numbers("month", months, 1, 12, _MONTHS)
    with columns[5]:
        found_years = None if years == "*" else _numbers("year", years, *_YEARS)
    return Cron(text, found_minutes, found_hours, days, found_months, found_years, aws=True)


def _aws_numbers(field: str) -> Days:
    if field == "*":
        return Days()
    if field == "L":
        return Days(before_last=frozenset({0}))
    if field == "LW":
        return Days(nearest=frozenset({0}))
    if match := re.fullmatch(r"L-([0-9]{1,2})", field):
        return Days(before_last=frozenset({_within("day-of-month", int(match[1]), 1, 30)}))
    if match := re.fullmatch(r"([0-9]{1,2})W", field):
        return Days(nearest=frozenset({_within("day-of-month", int(match[1]), 1, 31)}))
    return Days(numbers=_numbers("day-of-month", field, 1, 31))


def _aws_weekdays(field: str) -> Days:
    names = {name: (number + 1) % 7 + 1 for number, name in enumerate(_DAYS)}  # Sunday is 1
    if field == "*":
        return Days()
    if match := re.fullmatch(r"([1-7]|[A-Za-z]{3})L", field):
        return Days(last=frozenset({_weekday(match[1], names)}))
    if field == "L":
        return Days(weekdays=frozenset({5}))  # the last day of the week: Saturday
    if match := re.fullmatch(r"([1-7]|[A-Za-z]{3})#([0-9])", field):
        return Days(nth=frozenset({(_weekday(match[1], names), _within("day-of-week", int(match[2]), 1, 5))}))
    return Days(weekdays=frozenset((n - 2) % 7 for n in _numbers("day-of-week", field, 1, 7, names)))


def _weekday(text: str, names: Mapping[str, int]) -> int:
    (number,) = _numbers("day-of-week", text, 1, 7, names)
    return (number - 2) % 7


def _numbers(
    what: str,
    field: str,
    low: int,
    high: int,
    names: Mapping[str, int] | None = None,
    *,
    wraps: bool = True,
    past_midnight: bool = False,
) -> frozenset[int]:
    """Return the values of a field: numbers, ranges and steps, separated by commas.

    ``wraps``: a range of days of the week may go past the end of the week. ``past_midnight``: a range of hours may
    end on the next day, as ``20-2`` in the examples of AWS; its hours after midnight are those of the matching days.
    """
    found: set[int] = set()
    for part in field.split(","):
        span, slash, step_text = part.partition("/")
        if slash and not (step_text.isascii() and step_text.isdecimal() and int(step_text) > 0):
            raise ValueError(f"{what}: found {part!r}, expected a step above 0")
        step = int(step_text) if slash else 1
        if span == "*":
            first, last = low, high
        elif "-" in span:
            one, _, other = span.partition("-")
            first, last = _number(what, one, low, high, names), _number(what, other, low, high, names)
            if wraps and low == 0 and high == 7 and last == 0:  # SUN as the end of a week
                last = 7
        else:
            first = _number(what, span, low, high, names)
            last = high if slash else first
        # A range of days of the week may wrap, as in AWS's form: FRI-MON. In other fields that is a mistake.
        if first > last and wraps and names is not None and high == 7:
            found.update(n for n in (*range(first, 8), *range(1, last + 1)))
        elif first > last and past_midnight:
            found.update(hour % 24 for hour in range(first, last + 25, step))
        elif first > last:
            raise ValueError(f"{what}: found {span!r}, expected a range that begins before its end")
        else:
            found.update(range(first, last + 1, step))
    return frozenset(found)


def _number(what: str, text: str, low: int, high: int, names: Mapping[str, int] | None) -> int:
    if names is not None and text.upper() in names:
        return names[text.upper()]
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(
            f"{what}: found {text!r}, expected a number from {low} to {high}" + (" or a name" if names else "")
        )
    return _within(what, int(text), low, high)


def _within(what: str, number: int, low: int, high: int) -> int:
    if not low <= number <= high:
        raise ValueError(f"{what}: found {number}, expected {low} to {high}")
    return number


def _working_day(day: date, number: int, length: int) -> int:
    """Return the weekday from Monday to Friday nearest to a day of the month, in the same month; 0 for no such day."""
    if number > length:
        return 0
    weekday = date(day.year, day.month, number).weekday()
    if weekday == 5:
        return number - 1 if number > 1 else number + 2
    if weekday == 6:
        return number + 1 if number < length else number - 2
    return number
