"""The definition of a schedule as frozen data: sources, times, retention and copies."""

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

# After an outage: no snapshot for missed slots, one for the latest slot, or one for each. See ``due``.
Missed = Literal["none", "latest", "each"]
Make = Literal["snapshots", "images"]


@dataclass(frozen=True, slots=True)
class Selection:
    """Selects the sources of a schedule: volumes, or instances with all their volumes at the same moment.

    A source has *all* of ``tags``, or is an instance that runs an image of ``recipe``. ``exclude_root``: omit the root
    volumes of instances. ``exclude_tags``: omit volumes that have *any* of these tags.
    """

    resource: Literal["volumes", "instances"]
    tags: Mapping[str, str] = field(default_factory=dict)
    recipe: str | None = None
    exclude_root: bool = False
    exclude_tags: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        criteria = [f"{k}={v}" for k, v in self.tags.items()]
        if self.recipe is not None:
            criteria.append(f"recipe {self.recipe}")
        return f"{self.resource} with {', '.join(criteria)}"


@dataclass(frozen=True, slots=True)
class Retention:
    """The rules that keep snapshots, applied to each volume separately.

    A snapshot is kept if *any* rule keeps it. Without a rule, all snapshots are kept. ``keep``: the number of newest
    snapshots. ``max_age``: snapshots younger than this. The tiers ``hourly`` to ``yearly``: the first snapshot of each
    of the last N hours, days, ISO weeks, months or years that have a snapshot, in the schedule's time zone.
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
        rules = [f"the newest {self.keep}"] if self.keep else []
        if self.max_age is not None:
            rules.append(f"younger than {format_duration(self.max_age)}")
        rules += [f"{count} {name}" for name, count in self.tiers.items()]
        return ", ".join(rules) or "everything"


@dataclass(frozen=True, slots=True)
class Copy:
    """Copies of all snapshots of a schedule in another region, with a separate retention.

    ``kms_key``: a key in that region. If it is empty, an unencrypted snapshot is copied unencrypted, and the copy of an
    encrypted snapshot is refused.
    """

    region: str
    retention: Retention
    kms_key: str = ""


@dataclass(frozen=True, slots=True)
class FastRestore:
    """Fast snapshot restore for the newest ``count`` snapshots of each volume, in these Availability Zones."""

    count: int
    zones: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """One schedule of snapshots.

    ``places``: the places of its sources. ``archive_after``: the age at which snapshots move to the archive tier.
    ``owner``: the recipe that defines it; empty for a schedule of goldenami.yaml. ``start``: nothing fires before this
    time, and a rate counts from it. ``mark``: the position of its definition.
    """

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
    """Return the name of a slot: its time in UTC, to the second. It is used in tags and file names."""
    return moment.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def parse_slot(text: str) -> datetime | None:
    """Return the time of a slot's name, or None if the text is not such a name."""
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def start_of(text: str, zone: ZoneInfo) -> datetime:
    """Parse ``2026-01-01`` or ``2026-01-01T03:00`` in a time zone. Raises ValueError for other text."""
    given = datetime.fromisoformat(text)
    if given.tzinfo is not None:
        return given.astimezone(UTC)
    return moment_of(given, zone)


def format_duration(span: timedelta) -> str:
    """Format a duration in its largest unit without a remainder: ``14 days``, ``6 hours``."""
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
    "format_duration",
    "parse_slot",
    "slot_of",
    "start_of",
]
