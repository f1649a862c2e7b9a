"""A report of vulnerabilities (`goldenami scan --all --json`), read from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from goldenami.errors import InvalidInput, Problem
from goldenami.model import utc_text
from goldenami.nextstep import step
from goldenami.site.reports import read_report

SCHEMA: Final = "goldenami.scan/1"


@dataclass(frozen=True, slots=True)
class Found:
    """A vulnerability. ``verdict``: "not accepted", "accepted", or "waived: " and the reason."""

    id: str
    severity: str
    package: str
    version: str
    fixed: str
    verdict: str


@dataclass(frozen=True, slots=True)
class ImageScan:
    """What a report says about one image. ``unknown``: why it could not be judged; ``remarks``: what it does not say,
    such as packages that no feed covers."""

    architecture: str
    found: tuple[Found, ...]
    unknown: tuple[str, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReadFeed:
    """A feed. ``updated``: its date as text; empty if it is not known. ``problem``: why it proves nothing; empty if it
    does."""

    address: str
    updated: str
    problem: str


@dataclass(frozen=True, slots=True)
class Scanned:
    """The contents of a report. ``images``: by label of their release."""

    feeds: tuple[ReadFeed, ...]
    images: Mapping[str, tuple[ImageScan, ...]]


def read_scan(
    path: Path, data: bytes, now: datetime, max_age: timedelta, ages: Mapping[str, timedelta] = {}
) -> Scanned:
    """Return the contents of a report. A feed that is older than ``max_age`` now proves nothing, also if it did when
    the report was made. ``ages``: the same for feeds that have their own, by address. Raises InvalidInput if the file
    is no such report."""
    document = read_report(path, data, SCHEMA, step("scan", "--all", "--json"))
    try:
        images: dict[str, list[ImageScan]] = {}
        for row in document["releases"]:
            found = [
                *(_found(one, "not accepted") for one in row["failing"]),
                *(_found(one, f"waived: {one['reason']}") for one in row["waived"]),
                *(_found(one, "accepted") for one in row["accepted"]),
            ]
            unknown = tuple(map(str, row["unknown"]))
            remarks = tuple(map(str, row["remarks"]))
            image = ImageScan(str(row["architecture"]), tuple(found), unknown, remarks)
            images.setdefault(f"{row['name']} {row['version']}", []).append(image)
        feeds = tuple(_feed(one, now, ages.get(str(one["address"]), max_age)) for one in document["feeds"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InvalidInput([Problem(str(path), 1, 1, "is damaged: a release or a feed lacks its data")]) from None
    return Scanned(feeds, {label: tuple(every) for label, every in images.items()})


def _found(one: Mapping[str, Any], verdict: str) -> Found:
    id, severity, package, version, fixed = (
        str(one[key] or "") for key in ("id", "severity", "package", "version", "fixed")
    )
    return Found(id, severity, package, version, fixed, verdict)


def _feed(one: Mapping[str, Any], now: datetime, max_age: timedelta) -> ReadFeed:
    problem = str(one["problem"] or "")
    updated = datetime.fromisoformat(one["updated"]) if one["updated"] else None
    if updated is None:
        return ReadFeed(str(one["address"]), "", problem or "it does not say how old it is")
    age = now - updated
    if not problem and age > max_age:
        problem = f"it is {_hours(age)} old now, expected {_hours(max_age)} at most"
    return ReadFeed(str(one["address"]), utc_text(updated, seconds=False), problem)


def _hours(time: timedelta) -> str:
    hours = int(time.total_seconds()) // 3600
    return f"{hours // 24} days" if hours >= 48 else f"{hours} hours"
