"""A schedule in the words of Amazon Data Lifecycle Manager, or why it has none for it. Pure.

What DLM has (Amazon EBS user guide, "Amazon Data Lifecycle Manager", and the API's model): policies in one account and
region, that select by any of several tags; in each up to four schedules, in UTC, at most once an hour; each with
snapshots of its own, kept by count or by age; up to three copies of each in other regions, kept by age. It makes up for
nothing that it missed.

Each rule of a retention becomes a schedule of the policy. The moments that a tier keeps the first snapshot of are known
beforehand (the first day of a month, at the first hour), so the tier's own schedule makes just these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any, Final

from goldenami.model import Environment, Place
from goldenami.schedules.policy import SCHEDULE_TAG, Schedule
from goldenami.schedules.timing import Cron, Rate

Details = dict[str, Any]

SNAPSHOTS: Final = "EBS_SNAPSHOT_MANAGEMENT"
IMAGES: Final = "IMAGE_MANAGEMENT"
MOST_SCHEDULES: Final = 4
MOST_COPIES: Final = 3
MOST_COUNT: Final = 1000
_HOURS: Final = (1, 2, 3, 4, 6, 8, 12, 24)
_ROLES: Final = {
    SNAPSHOTS: "service-role/AWSDataLifecycleManagerDefaultRole",
    IMAGES: "service-role/AWSDataLifecycleManagerDefaultRoleForAMIManagement",
}
_DESCRIPTION: Final = 500
_WEEKDAYS: Final = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_WORKING_DAYS: Final = frozenset(range(5))


@dataclass(frozen=True, slots=True)
class Expressed:
    """``details``: PolicyDetails for each place; none if there are ``reasons`` why DLM cannot have the schedule.
    ``notes``: what is not quite the same."""

    schedule: Schedule
    details: Mapping[Place, Details]
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def owner_of(environment: Environment, schedule: Schedule) -> str:
    """The value of the tag goldenami:schedule on a policy."""
    return f"{environment.name}/{schedule.name}"


def description(environment: Environment, schedule: Schedule) -> str:
    """A policy's; DLM takes letters, digits, spaces, ``_`` and ``-``."""
    text = f"goldenami {environment.name} {schedule.name} {schedule.description}".strip()
    return "".join(c if c.isascii() and (c.isalnum() or c in " _-") else "-" for c in text)[:_DESCRIPTION]


def role_arn(details: Details, place: Place, role: str | None) -> str:
    """``role``: an ARN, or a name in the place's account; by default the role that DLM's console makes."""
    if role is not None and role.startswith("arn:"):
        return role
    partition = "aws-cn" if place.region.startswith("cn-") else "aws"
    partition = "aws-us-gov" if place.region.startswith("us-gov-") else partition
    return f"arn:{partition}:iam::{place.account}:role/{role or _ROLES[str(details['PolicyType'])]}"


def express(environment: Environment, schedule: Schedule, keys: Mapping[Place, Mapping[str, str]]) -> Expressed:
    """``keys``: for each of the schedule's places, the ARNs of the copies' keys by what names them."""
    reasons: list[str] = []
    notes: list[str] = []
    parts = _timed(schedule, reasons)
    _check_selection(schedule, reasons)
    _check_extras(schedule, parts, reasons)
    if schedule.missed != "none":
        notes.append("runs that DLM missed are not made up for (missed: none is all it has)")
    if len(parts) > 1:
        notes.append(f"{len(parts)} rules of retention are {len(parts)} schedules with snapshots of their own")
    if reasons:
        return Expressed(schedule, {}, tuple(reasons), tuple(notes))
    details = {place: _details(environment, schedule, parts, keys.get(place, {})) for place in schedule.places}
    return Expressed(schedule, details, (), tuple(notes))


# --- when, and for how long -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Part:
    """One schedule of a policy. ``base``: it fires whenever the schedule does."""

    name: str
    create: Details
    retain: Details
    base: bool


@dataclass(frozen=True, slots=True)
class _Times:
    """At one minute of these hours, on these days (all of ``weekdays``, or those of the month, as cron says)."""

    minute: int
    hours: tuple[int, ...]
    weekdays: frozenset[int]  # from Monday, 0
    days: str = "?"  # of the month; then the weekdays say nothing
    months: str = "*"
    years: str = "*"

    def cron(self, **other: Any) -> str:
        hours = other.get("hours", self.hours)
        days, months = other.get("days", self.days), other.get("months", self.months)
        weekdays = other.get("weekdays", self.weekdays)
        week = "?" if days != "?" else weekdays if isinstance(weekdays, str) else _week(weekdays)
        if week == "*":
            days, week = "*", "?"
        hour = "*" if len(hours) == 24 else ",".join(map(str, hours))
        return f"cron({self.minute} {hour} {days} {months} {week} {self.years})"


def _timed(schedule: Schedule, reasons: list[str]) -> list[_Part]:
    if schedule.zone.key not in ("UTC", "Etc/UTC", "Etc/GMT"):
        reasons.append(f"DLM keeps to UTC, and the schedule to {schedule.zone.key}")
    times = _times(schedule, reasons)
    rules = schedule.retention
    if rules.everything:
        reasons.append("DLM keeps nothing for ever: give a retention")
    if times is None:
        return []
    parts: list[_Part] = []
    base = _create(schedule, times)

    def part(name: str, create: Details, retain: Details, *, at_all: bool) -> None:
        parts.append(_Part(name, create, retain, at_all))

    if rules.keep:
        part(schedule.name, base, _count(rules.keep, "keep", reasons), at_all=True)
    if rules.max_age is not None:
        part(f"{schedule.name} by age", base, _age(rules.max_age, "max_age", reasons), at_all=True)
    for tier, count in rules.tiers.items():
        cron = _tier(times, tier, reasons)
        same = cron == times.cron()
        create = base if same else {"CronExpression": cron}
        part(f"{schedule.name} {tier}", create, _count(count, tier, reasons), at_all=same)
    if len(parts) > MOST_SCHEDULES:
        reasons.append(f"its retention has {len(parts)} rules, and a policy {MOST_SCHEDULES} schedules")
    return parts


def _times(schedule: Schedule, reasons: list[str]) -> _Times | None:
    timing = schedule.timing
    every_day = frozenset(range(7))
    if isinstance(timing, Rate):
        hours = timing.every / timedelta(hours=1)
        anchor = schedule.anchor.astimezone(UTC)
        if hours not in _HOURS or anchor.second:
            reasons.append(f"{timing.text}: DLM's intervals are {', '.join(map(str, _HOURS))} hours")
            return None
        at = tuple(sorted({(anchor.hour + n) % 24 for n in range(0, 24, int(hours))}))
        return _Times(anchor.minute, at, every_day)
    if len(timing.minutes) != 1:
        reasons.append(f"{timing.text}: DLM runs a schedule once an hour at most")
        return None
    if timing.aws:
        _, _, days, months, week, years = timing.text[timing.text.index("(") + 1 : -1].split()
        if any(sign in days + week for sign in "LW#"):
            reasons.append(f"{timing.text}: L, W and # are left to `goldenami schedule run`")
            return None
        weekdays = timing.days.weekdays if week not in ("?", "*") else None
        days = "?" if days in ("?", "*") else days
        return _Times(timing.minutes[0], timing.hours, weekdays or every_day, days, months, years)
    days = "?" if timing.days.numbers is None else ",".join(map(str, sorted(timing.days.numbers)))
    if days != "?" and timing.days.weekdays is not None:
        reasons.append(f"{timing.text}: a day of the month or one of the week, not either of them")
        return None
    months = "*" if len(timing.months) == 12 else ",".join(map(str, sorted(timing.months)))
    return _Times(timing.minutes[0], timing.hours, timing.days.weekdays or every_day, days, months)


def _create(schedule: Schedule, times: _Times) -> Details:
    timing = schedule.timing
    if isinstance(timing, Cron):
        return {"CronExpression": times.cron()}
    hours = int(timing.every / timedelta(hours=1))
    start = schedule.anchor.astimezone(UTC).strftime("%H:%M")
    return {"Interval": hours, "IntervalUnit": "HOURS", "Times": [start]}


def _tier(times: _Times, tier: str, reasons: list[str]) -> str:
    """The moments of the first run of each hour, day, week, month or year."""
    if tier == "hourly":
        return times.cron()
    first = times.hours[:1]
    if tier == "daily":
        return times.cron(hours=first)
    if times.days != "?" or times.months != "*":
        reasons.append(f"{tier}: with days of the month or months chosen, the first run of each is not one expression")
        return times.cron()
    if tier == "weekly":
        return times.cron(hours=first, weekdays=frozenset({min(times.weekdays)}))
    months = "1" if tier == "yearly" else "*"
    if len(times.weekdays) == 7:
        return times.cron(hours=first, days="1", months=months)
    reasons.append(f"{tier}: the first of the chosen days of the week in a month is left to `goldenami schedule run`")
    return times.cron()


def _week(weekdays: frozenset[int]) -> str:
    if len(weekdays) == 7:
        return "*"
    if weekdays == _WORKING_DAYS:
        return "MON-FRI"
    return ",".join(_WEEKDAYS[day] for day in sorted(weekdays))


def _count(count: int, rule: str, reasons: list[str]) -> Details:
    if count > MOST_COUNT:
        reasons.append(f"{rule}: {count} is more than the {MOST_COUNT} that DLM keeps")
    return {"Count": count}


def _age(age: timedelta, rule: str, reasons: list[str]) -> Details:
    days, rest = divmod(age, timedelta(days=1))
    if rest or not days:
        reasons.append(f"{rule}: DLM counts whole days")
    return {"Interval": days, "IntervalUnit": "DAYS"}


# --- what -------------------------------------------------------------------------------------------------------------


def _check_selection(schedule: Schedule, reasons: list[str]) -> None:
    selection = schedule.selection
    if selection.recipe is not None:
        reasons.append(f"DLM selects by tags, and does not know what runs an image of {selection.recipe}")
    if len(selection.tags) > 1:
        reasons.append("DLM takes what has any of several tags, and the schedule what has all of them")
    if selection.exclude_tags and (selection.resource == "volumes" or schedule.make == "images"):
        reasons.append("exclude_tags: DLM leaves volumes out only of snapshots of instances")
    if selection.exclude_root and schedule.make == "images":
        reasons.append("exclude_root: an image has its root volume")


def _check_extras(schedule: Schedule, parts: Sequence[_Part], reasons: list[str]) -> None:
    extras = {
        "copies": schedule.copies,
        "fast_restore": schedule.fast_restore,
        "share": schedule.share_accounts,
    }
    given = [name for name, value in extras.items() if value]
    if given and parts and not parts[0].base:
        what = ", ".join(given)
        reasons.append(f"{what}: no one schedule of the policy makes every snapshot; give keep or max_age as well")
    if len(schedule.copies) > MOST_COPIES:
        regions = ", ".join(copy.region for copy in schedule.copies)
        reasons.append(f"copies in {len(schedule.copies)} regions ({regions}); DLM makes {MOST_COPIES}")
    for copy in schedule.copies:
        kept = copy.retention
        if kept.max_age is None or kept.keep or kept.tiers:
            reasons.append(f"the copy in {copy.region}: DLM keeps copies by age (max_age) only")
        else:
            _age(kept.max_age, f"the copy in {copy.region}", reasons)
    if schedule.archive_after is not None:
        reasons.append("archive: DLM archives what its retention would delete, and never at an age of its own")
    if schedule.share_accounts and schedule.make == "images":
        reasons.append("share: DLM does not share images")


def _details(environment: Environment, schedule: Schedule, parts: Sequence[_Part], keys: Mapping[str, str]) -> Details:
    selection = schedule.selection
    images = schedule.make == "images"
    parameters: Details = {"NoReboot": True} if images else {}
    if selection.exclude_root:
        parameters["ExcludeBootVolume"] = True
    if selection.exclude_tags:
        parameters["ExcludeDataVolumeTags"] = _pairs(selection.exclude_tags)
    return {
        "PolicyType": IMAGES if images else SNAPSHOTS,
        "ResourceTypes": ["VOLUME" if selection.resource == "volumes" else "INSTANCE"],
        "TargetTags": _pairs(selection.tags),
        "Schedules": [_schedule(environment, schedule, part, keys, first=part is parts[0]) for part in parts],
        **({"Parameters": parameters} if parameters else {}),
    }


def _schedule(
    environment: Environment, schedule: Schedule, part: _Part, keys: Mapping[str, str], *, first: bool
) -> Details:
    made: Details = {
        "Name": part.name,
        "CopyTags": schedule.copy_tags,
        "TagsToAdd": _pairs({**environment.tags, **schedule.tags}),
        "CreateRule": part.create,
        "RetainRule": part.retain,
    }
    if not first:
        return made
    if schedule.copies:
        target = "TargetRegion" if schedule.make == "images" else "Target"
        made["CrossRegionCopyRules"] = [
            {
                target: copy.region,
                "Encrypted": bool(copy.kms_key),
                **({"CmkArn": keys[copy.kms_key]} if copy.kms_key else {}),
                "CopyTags": True,
                "RetainRule": _age(copy.retention.max_age or timedelta(), "", []),
            }
            for copy in schedule.copies
        ]
    if schedule.fast_restore is not None:
        zones = list(schedule.fast_restore.zones)
        made["FastRestoreRule"] = {"Count": schedule.fast_restore.count, "AvailabilityZones": zones}
    if schedule.share_accounts:
        rule: Details = {"TargetAccounts": list(schedule.share_accounts)}
        if schedule.unshare_after is not None:
            age = _age(schedule.unshare_after, "unshare_after", [])
            rule |= {"UnshareInterval": age["Interval"], "UnshareIntervalUnit": age["IntervalUnit"]}
        made["ShareRules"] = [rule]
    return made


def _pairs(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


# --- comparing --------------------------------------------------------------------------------------------------------

# What DLM adds by itself.
_DEFAULTS: Final[Mapping[str, object]] = {
    "PolicyLanguage": "STANDARD",
    "ResourceLocations": ["CLOUD"],
    "Location": "CLOUD",
    "Scripts": [],
}


def plain(value: Any) -> Any:
    """The same details without what is empty, off, or a default: two that mean the same are equal then."""
    if isinstance(value, Mapping):
        cleaned = {str(k): plain(v) for k, v in value.items()}
        if cleaned.get("IntervalUnit") == "WEEKS":
            cleaned |= {"Interval": cleaned["Interval"] * 7, "IntervalUnit": "DAYS"}
        return {k: v for k, v in cleaned.items() if v not in (None, False, [], {}, "") and _DEFAULTS.get(k) != v}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def differences(wanted: Any, actual: Any, path: str = "") -> list[str]:
    """What has to change, for people: the path in PolicyDetails, and both values."""
    if isinstance(wanted, Mapping) and isinstance(actual, Mapping):
        keys = sorted({*wanted, *actual})
        return [
            line
            for key in keys
            for line in differences(wanted.get(key), actual.get(key), f"{path}.{key}" if path else str(key))
        ]
    if isinstance(wanted, list) and isinstance(actual, list) and len(wanted) == len(actual):
        return [
            line
            for n, (a, b) in enumerate(zip(wanted, actual, strict=True))
            for line in differences(a, b, f"{path}[{n}]")
        ]
    return [] if wanted == actual else [f"{path}: {actual!r} → {wanted!r}"]


__all__ = [
    "SCHEDULE_TAG",
    "Details",
    "Expressed",
    "description",
    "differences",
    "express",
    "owner_of",
    "plain",
    "role_arn",
]
