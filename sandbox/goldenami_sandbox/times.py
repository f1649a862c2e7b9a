"""Reads the two usual forms of a time. botocore and moto read every form, with dateutil, which takes twenty times as
long."""

from __future__ import annotations

import re
from datetime import datetime

from botocore.utils import parse_timestamp

_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z", re.ASCII)
_HTTP = re.compile(r"[A-Z][a-z]{2}, (\d\d) ([A-Z][a-z]{2}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT", re.ASCII)
_MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
    )
}
_UTC = parse_timestamp("1970-01-01T00:00:00Z").tzinfo  # the object that botocore uses


def iso_time(value: object) -> datetime | None:
    """Return the time of a text like "2026-11-30T12:00:00.000Z", and None for everything else."""
    if isinstance(value, str) and _ISO.fullmatch(value):
        return datetime.fromisoformat(value).replace(tzinfo=_UTC)
    return None


def http_time(value: object) -> datetime | None:
    """Return the time of a text like "Mon, 30 Nov 2026 12:00:00 GMT", and None for everything else."""
    found = _HTTP.fullmatch(value) if isinstance(value, str) else None
    if found is None or found[2] not in _MONTHS:
        return None
    day, month, year, hour, minute, second = found.groups()
    return datetime(int(year), _MONTHS[month], int(day), int(hour), int(minute), int(second), tzinfo=_UTC)
