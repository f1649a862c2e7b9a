"""The values of options that name a time: an age (``7d``) or a date (``2026-11-01``)."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import click

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
Convert = Callable[[click.Context, click.Parameter, str | None], datetime | None]


def to_moment(text: str, units: str = "mhdw") -> datetime:
    """Return the time of an age (``3h``) or of a date or time, in UTC. Without an offset, a time is in UTC: commands
    print all times in UTC. Raises ValueError for other text."""
    found = re.fullmatch(rf"([0-9]{{1,6}})([{units}])", text)
    try:
        if found is not None:
            return datetime.now(UTC) - timedelta(**{_UNITS[found[2]]: int(found[1])})
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text!r} is out of range") from error


def moments(units: str, expected: str) -> Convert:
    """Return a callback of options that converts an age before now, or a date or time in ISO 8601 (UTC by default), to
    a time in UTC. ``units``: the letters that an age may end with. ``expected``: the forms, for the error.

    The callback raises click.BadParameter for other text.
    """

    def convert(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
        if value is None:
            return None
        try:
            return to_moment(value, units)
        except ValueError:
            raise click.BadParameter(f"found {value[:60]!r}, expected {expected}", ctx, param) from None

    return convert


moment = moments("mhdw", "an age (30m, 12h, 7d, 4w) or a date or time (2026-11-01, 2026-11-01T12:00:00Z)")
