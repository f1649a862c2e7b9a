"""What a schedule says, as frozen data: what, when, how long, and where else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

from goldenami.model import Mark, Place
from goldenami.schedules.calendar import EPOCH, moment_of
from goldenami.schedules.timing import Timing

SCHEDULE_TAG: Final = "goldenami:schedule"
SLOT_TAG: Final = "goldenami:slot"
SOURCE_TAG: Final = "goldenami:source"

NOWHERE: Final = Mark("", 0, 0)

# After an outage: nothing for what was missed, one snapshot for the latest moment, or one for each.
Missed = Literal["none", "latest", "each"]
Make = Literal["snapshots", "images"]


@dataclass(frozen=True, slots=True)
class Selection:
    """What is saved: volumes, or instances (all their volumes at one moment), that have *all* of ``tags``, or that run
    an image of ``recipe``. ``exclude_root``: with instances, without their root volumes. ``exclude_tags``: volumes with
    any of these are left out."""

    resource: Literal["volumes", "instances"]
    tags: Mapping[str, str] = field(default_factory=dict)
    recipe: str | None = None
    exclude_root: bool = False
    exclude_tags: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        said = [f"{k}={v}" for k, v in self.tags.items()]
        if self.recipe is not None:
            said.append(f"recipe {self.recipe}")
        return f"{self.resource} with {', '.join(said)}"


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept, of each volume for itself: whatever *any* of the rules keeps. With no rule, everything.

    ``keep``: the newest so many. ``max_age``: what is younger. The tiers: of each of the last so many hours, days, ISO
    weeks, months and years (in the schedule's time zone) that have a snapshot, the first one in it.
    """

    keep: int = 0
    max_age: timedelta | None = None
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0

    @property
    def tiers(self) -> Mapping[str, int]:
        every = {
            "hourly": self.hourly,
            "daily": self.daily,
            "weekly": self.weekly,
            "monthly": self.monthly,
            "yearly": self.yearly,
        }
        return {name: count for name, count in every.items() if count}

    @property
    def everything(self) -> bool:
        return not self.keep and self.max_age is None and not self.tiers

    def __str__(self) -> str:
        said = [f"the newest {self.keep}"] if self.keep else []
        if self.max_age is not None:
            said.append(f"younger than {days(self.max_age)}")
        said += [f"{count} {name}" for name, count in self.tiers.items()]
        return ", ".join(said) or "everything"


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of every snapshot in another region, with a life of its own. ``kms_key``: in that region; empty leaves the
    copy as its source is (encrypted ones then go under the region's default key)."""

    region: str
    retention: Retention
    kms_key: str = ""


@dataclass(frozen=True, slots=True)
class FastRestore:
    """Fast snapshot restore for the newest ``count`` of each volume, in these Availability Zones."""

    count: int
    zones: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """One schedule. ``places``: where its volumes are. ``archive_after``: snapshots go to the archive tier at that age.
    ``owner``: the recipe that it was written in, if it was. ``start``: nothing fires before; a rate counts from it."""

    name: str
    selection: Selection
    timing: Timing
    zone: ZoneInfo
    places: tuple[Place, ...]
    retention: Retention
    make: Make = "snapshots"
    missed: Missed = "latest"
    copies: tuple[Copy, ...] = ()
    fast_restore: FastRestore | None = None
    archive_after: timedelta | None = None
    share_accounts: tuple[str, ...] = ()
    unshare_after: timedelta | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    copy_tags: bool = True
    description: str = ""
    start: datetime | None = None
    owner: str = ""
    mark: Mark = NOWHERE

    @property
    def anchor(self) -> datetime:
        return self.start if self.start is not None else EPOCH

    def local(self, moment: datetime) -> datetime:
        return moment.astimezone(self.zone)


def slot_of(moment: datetime) -> str:
    """The name of a slot: its moment in UTC, to the second. A tag value, and part of a file's name."""
    return moment.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def parse_slot(text: str) -> datetime | None:
    """The moment of a slot's name; None if it is not one of ours."""
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def start_of(text: str, zone: ZoneInfo) -> datetime:
    """``2026-01-01`` or ``2026-01-01T03:00`` in a zone, as a moment. Raises ValueError."""
    given = datetime.fromisoformat(text)
    if given.tzinfo is not None:
        return given.astimezone(UTC)
    return moment_of(given, zone)


def days(span: timedelta) -> str:
    """A span in the largest unit that leaves no rest."""
    seconds = int(span.total_seconds())
    for unit, size in (("week", 604800), ("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds % size == 0 and (unit != "week" or seconds >= 4 * size):
            count = seconds // size
            return f"{count} {unit}{'s' if count != 1 else ''}"
    return f"{seconds} seconds"


__all__ = [
    "SCHEDULE_TAG",
    "SLOT_TAG",
    "SOURCE_TAG",
    "Copy",
    "FastRestore",
    "Make",
    "Missed",
    "Retention",
    "Schedule",
    "Selection",
    "days",
    "parse_slot",
    "slot_of",
    "start_of",
]
