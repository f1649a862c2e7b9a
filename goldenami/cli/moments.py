"""The values of options that name a time: an age (``7d``) or a date (``2026-11-01``)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

_AGE = re.compile(r"([0-9]{1,6})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """Convert an age before now, or a date or time in ISO 8601 (UTC by default), to a time in UTC: a callback of
    options. Raises click.BadParameter for other text."""
    if value is None:
        return None
    age = _AGE.fullmatch(value)
    try:
        if age is not None:
            return datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
        found = datetime.fromisoformat(value)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"found {value[:60]!r}, expected an age (30m, 12h, 7d, 4w) or a date or time (2026-11-01, "
            "2026-11-01T12:00:00Z)",
            ctx,
            param,
        ) from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
