"""Converts a schedule to a policy of Amazon Data Lifecycle Manager (DLM), or returns why DLM cannot run it. Pure.

The limits of DLM (Amazon EBS user guide, "Amazon Data Lifecycle Manager", and the API's model):

- A policy is in one account and region. It selects resources that have any of several tags.
- A policy has up to four schedules, in UTC, that run at most once an hour and at least once a year. They all keep by
  count, or all by age.
- Each schedule has its own snapshots, and keeps them by count or by age.
- Each schedule has up to three copies in other regions, which are kept by age.
- DLM does not repeat missed runs.

Each rule of a retention becomes a schedule of the policy. The times of the snapshots that a tier keeps are known in
advance (for example the first hour of the first day of a month), so the schedule of the tier creates only these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, timedelta
from itertools import pairwise
from typing import Any, Final

from goldenami.aws.lifecycle import IMAGE_ROLE, SNAPSHOT_ROLE
from goldenami.aws.tags import CATALOG, ENVIRONMENT
from goldenami.model import Environment, Place
from goldenami.schedules.policy import SCHEDULE_TAG, Schedule, format_duration
from goldenami.schedules.timing import Cron, Rate, parse

Details = dict[str, Any]

SNAPSHOTS: Final = "EBS_SNAPSHOT_MANAGEMENT"
IMAGES: Final = "IMAGE_MANAGEMENT"
DEFAULT_KEY: Final = "alias/aws/ebs"  # what `dlm import` writes for copies that are encrypted without a key
MOST_SCHEDULES: Final = 4
MOST_COPIES: Final = 3
MOST_COUNT: Final = 1000
MOST_DAYS: Final = 36500
MOST_TAGS: Final = 45  # that a schedule adds
_LONGEST_CRON: Final = 106
_LONGEST_NAME: Final = 120
_WEEK: Final = 7 * 24  # hours; a rate of a week is a cron expression of DLM
_HOURS: Final = (1, 2, 3, 4, 6, 8, 12, 24)
_ROLES: Final = {SNAPSHOTS: SNAPSHOT_ROLE, IMAGES: IMAGE_ROLE}
_DESCRIPTION: Final = 500
_WEEKDAYS: Final = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_WORKING_DAYS: Final = frozenset(range(5))


@dataclass(frozen=True, slots=True)
class Expressed:
    """The conversion of a schedule.

    ``details``: PolicyDetails for each place; empty if there are ``reasons`` why DLM cannot run the schedule.
    ``notes``: differences from ``goldenami schedule run``.
    """

    schedule: Schedule
    details: Mapping[Place, Details]
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def owner_of(environment: Environment, schedule: Schedule) -> str:
    """Return the value of the tag goldenami:schedule on a policy."""
    return f"{environment.name}/{schedule.name}"


def description(environment: Environment, schedule: Schedule) -> str:
    """Return the description of a policy. DLM accepts letters, digits, spaces, ``_`` and ``-``."""
    return _plain_text(f"goldenami {environment.name} {schedule.name} {schedule.description}".strip(), _DESCRIPTION)


def _plain_text(text: str, length: int) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in " _-") else "-" for c in text)[:length]


def role_arn(details: Details, place: Place, role: str | None) -> str:
    """Return the ARN of the role of a policy.

    ``role``: an ARN, or a name in the account of the place. The default is the role that DLM's console creates.
    """
    if role is not None and role.startswith("arn:"):
        return role
    partition = "aws-cn" if place.region.startswith("cn-") else "aws"
    partition = "aws-us-gov" if place.region.startswith("us-gov-") else partition
    return f"arn:{partition}:iam::{place.account}:role/{role or _ROLES[str(details['PolicyType'])]}"


def express(
    environment: Environment,
    schedule: Schedule,
    keys: Mapping[Place, Mapping[str, str]],
    catalog: str | None = None,
) -> Expressed:
    """Convert a schedule. ``keys``: for each place of the schedule, the ARNs of the copies' keys by ``kms_key``.
    ``catalog``: the id of the catalog, for the tags of what DLM creates; None if the catalog has no id yet."""
    reasons: list[str] = []
    notes: list[str] = []
    parts = _timed(schedule, reasons)
    _check_selection(schedule, reasons)
    _check_extras(schedule, parts, reasons)
    if schedule.missed != "none":
        notes.append("DLM does not repeat missed runs: it works as missed: none")
    if len(parts) > 1:
        notes.append(f"{len(parts)} rules of retention become {len(parts)} schedules, each with its own snapshots")
    if reasons:
        return Expressed(schedule, {}, tuple(reasons), tuple(notes))
    owner = {ENVIRONMENT: environment.name, **({CATALOG: catalog} if catalog else {})}
    every = {**environment.tags, **schedule.tags, **owner}
    if len(every) > MOST_TAGS:
        reason = f"tags: found {len(every)}, with those of the environment; DLM adds at most {MOST_TAGS}"
        return Expressed(schedule, {}, (reason,), tuple(notes))
    details = {place: _details(schedule, parts, keys.get(place, {}), every) for place in schedule.places}
    return Expressed(schedule, details, (), tuple(notes))


# --- when, and for how long -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Part:
    """One schedule of a policy. ``base``: it creates a snapshot at every time of the goldenami schedule."""

    name: str
    create: Details
    retain: Details
    base: bool


@dataclass(frozen=True, slots=True)
class _Times:
    """One minute of these hours, on these days: ``weekdays``, or ``days`` of the month in the syntax of cron."""

    minute: int
    hours: tuple[int, ...]
    weekdays: frozenset[int]  # from Monday, 0
    days: str = "?"  # of the month; unless this is "?", the weekdays are ignored
    months: str = "*"
    years: str = "*"
    week: str = ""  # in AWS's form, if it is no set of weekdays: 6L, 6#3

    def cron(self, **other: Any) -> str:
        hours = other.get("hours", self.hours)
        days, months = other.get("days", self.days), other.get("months", self.months)
        weekdays = other.get("weekdays", self.weekdays)
        week = "?" if days != "?" else self.week or _week(weekdays)
        if week == "*":
            days, week = "*", "?"
        hour = "*" if len(hours) == 24 else ",".join(map(str, hours))
        return f"cron({self.minute} {hour} {days} {months} {week} {self.years})"


def _timed(schedule: Schedule, reasons: list[str]) -> list[_Part]:
    if schedule.zone.key not in ("UTC", "Etc/UTC", "Etc/GMT"):
        reasons.append(f"time_zone: found {schedule.zone.key}; DLM supports only UTC")
    times = _times(schedule, reasons)
    rules = schedule.retention
    if rules.everything:
        reasons.append("retention: it is missing; DLM requires a count or an age")
    if rules.max_age is not None and (rules.keep or rules.tiers):
        reasons.append("retention: found counts and max_age; DLM supports one kind in all schedules of a policy")
    if times is None:
        return []
    if len(times.cron()) > _LONGEST_CRON:
        reasons.append(f"when: {times.cron()} has {len(times.cron())} characters; DLM supports {_LONGEST_CRON}")
    if isinstance(schedule.timing, Cron) and _is_rare(schedule.timing):
        reasons.append(f"when: found {schedule.timing.text}; DLM needs a run at least once a year")
    parts: list[_Part] = []
    base = _create(schedule, times)

    def part(name: str, create: Details, retain: Details, *, at_all: bool) -> None:
        parts.append(_Part(_plain_text(name, _LONGEST_NAME), create, retain, at_all))

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
        reasons.append(f"retention: found {len(parts)} rules; DLM supports {MOST_SCHEDULES}")
    return parts


def _times(schedule: Schedule, reasons: list[str]) -> _Times | None:
    timing = schedule.timing
    every_day = frozenset(range(7))
    if isinstance(timing, Rate):
        hours = timing.every / timedelta(hours=1)
        anchor = schedule.anchor.astimezone(UTC)
        if hours == _WEEK and not anchor.second:
            return _Times(anchor.minute, (anchor.hour,), frozenset({anchor.weekday()}))
        if hours not in _HOURS or anchor.second:
            intervals = ", ".join(map(str, _HOURS))
            reasons.append(f"when: found {timing.text}; DLM supports intervals of {intervals} hours, and of a week")
            return None
        at = tuple(sorted({(anchor.hour + n) % 24 for n in range(0, 24, int(hours))}))
        return _Times(anchor.minute, at, every_day)
    if len(timing.minutes) != 1:
        reasons.append(f"when: found {timing.text}; DLM runs a schedule at most once an hour")
        return None
    if timing.aws:
        _, _, days, months, week, years = timing.text[timing.text.index("(") + 1 : -1].split()
        weekdays = timing.days.weekdays if week not in ("?", "*") else None
        days = "?" if days in ("?", "*") else days
        special = week if timing.days.last or timing.days.nth else ""
        return _Times(timing.minutes[0], timing.hours, weekdays or every_day, days, months, years, special)
    days = "?" if timing.days.numbers is None else ",".join(map(str, sorted(timing.days.numbers)))
    if days != "?" and timing.days.weekdays is not None:
        reasons.append(f"when: found {timing.text}; DLM supports days of the month or days of the week, not both")
        return None
    months = "*" if len(timing.months) == 12 else ",".join(map(str, sorted(timing.months)))
    return _Times(timing.minutes[0], timing.hours, timing.days.weekdays or every_day, days, months)


def _create(schedule: Schedule, times: _Times) -> Details:
    timing = schedule.timing
    if isinstance(timing, Cron) or timing.every == timedelta(hours=_WEEK):
        return {"CronExpression": times.cron()}
    hours = int(timing.every / timedelta(hours=1))
    start = schedule.anchor.astimezone(UTC).strftime("%H:%M")
    return {"Interval": hours, "IntervalUnit": "HOURS", "Times": [start]}


def _tier(times: _Times, tier: str, reasons: list[str]) -> str:
    """Return the cron expression for the first run of each hour, day, week, month or year."""
    if tier == "hourly":
        return times.cron()
    first = times.hours[:1]
    if tier == "daily":
        return times.cron(hours=first)
    if times.days != "?" or times.months != "*" or times.week:
        reasons.append(f"{tier}: not supported by DLM if when selects days of the month or months")
        return times.cron()
    if tier == "weekly":
        return times.cron(hours=first, weekdays=frozenset({min(times.weekdays)}))
    months = "1" if tier == "yearly" else "*"
    if len(times.weekdays) == 7:
        return times.cron(hours=first, days="1", months=months)
    reasons.append(f"{tier}: not supported by DLM if when selects days of the week")
    return times.cron()


def _is_rare(timing: Cron) -> bool:
    """Return whether more than a year can pass between two days of an expression that is for all years."""
    if timing.years is not None or len(timing.months) == 12:
        return False
    first = date(2001, 1, 1)
    days = [day for day in (first + timedelta(days=n) for n in range(9 * 365)) if timing.matches_day(day)]
    return any((after - before).days > 366 for before, after in pairwise(days)) or len(days) < 2


def _week(weekdays: frozenset[int]) -> str:
    if len(weekdays) == 7:
        return "*"
    if weekdays == _WORKING_DAYS:
        return "MON-FRI"
    return ",".join(_WEEKDAYS[day] for day in sorted(weekdays))


def _count(count: int, rule: str, reasons: list[str]) -> Details:
    if count > MOST_COUNT:
        reasons.append(f"{rule}: found {count}; DLM keeps at most {MOST_COUNT}")
    return {"Count": count}


def _age(age: timedelta, rule: str, reasons: list[str]) -> Details:
    days, rest = divmod(age, timedelta(days=1))
    if rest or not days:
        reasons.append(f"{rule}: found {format_duration(age)}; DLM supports whole days")
    if days > MOST_DAYS:
        reasons.append(f"{rule}: found {days} days; DLM supports {MOST_DAYS}")
    return {"Interval": days, "IntervalUnit": "DAYS"}


# --- what -------------------------------------------------------------------------------------------------------------


def _check_selection(schedule: Schedule, reasons: list[str]) -> None:
    selection = schedule.selection
    if selection.recipe is not None:
        reasons.append(f"what: found recipe {selection.recipe}; DLM selects only by tags")
    if len(selection.tags) > 1:
        reasons.append("what: several tags; DLM selects resources with any of them, and the schedule those with all")
    if selection.exclude_tags and (selection.resource == "volumes" or schedule.make == "images"):
        reasons.append("exclude_tags: DLM excludes volumes only from snapshots of instances")
    if selection.exclude_root and schedule.make == "images":
        reasons.append("exclude_root: an image always contains its root volume")


def _check_extras(schedule: Schedule, parts: Sequence[_Part], reasons: list[str]) -> None:
    extras = {
        "copies": schedule.copies,
        "fast_restore": schedule.fast_restore,
        "share": schedule.share_accounts,
    }
    given = [name for name, value in extras.items() if value]
    if given and parts and not parts[0].base:
        what = ", ".join(given)
        reasons.append(f"{what}: DLM needs one rule that keeps every snapshot; add keep or max_age to the retention")
    if len(schedule.copies) > MOST_COPIES:
        regions = ", ".join(copy.region for copy in schedule.copies)
        reasons.append(f"copies: found {len(schedule.copies)} regions ({regions}); DLM supports {MOST_COPIES}")
    for copy in schedule.copies:
        kept = copy.retention
        if kept.max_age is None or kept.keep or kept.tiers:
            reasons.append(f"the copy in {copy.region}: DLM keeps copies only by age (max_age)")
        else:
            _age(kept.max_age, f"the copy in {copy.region}", reasons)
    if schedule.archive_after is not None:
        reasons.append("archive: DLM archives only snapshots that its retention would delete")
    if schedule.share_accounts and schedule.make == "images":
        reasons.append("share: DLM does not share images")
    if schedule.fast_restore is not None and schedule.make == "images":
        reasons.append("fast_restore: DLM enables it only for snapshots, not for those of images")


def _details(schedule: Schedule, parts: Sequence[_Part], keys: Mapping[str, str], every: Mapping[str, str]) -> Details:
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
        "Schedules": [_schedule(schedule, part, keys, every, first=part is parts[0]) for part in parts],
        **({"Parameters": parameters} if parameters else {}),
    }


def _schedule(
    schedule: Schedule, part: _Part, keys: Mapping[str, str], every: Mapping[str, str], *, first: bool
) -> Details:
    """``every``: the tags of what DLM creates."""
    made: Details = {
        "Name": part.name,
        "CopyTags": schedule.copy_tags,
        "TagsToAdd": _pairs(every),
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

# Defaults that DLM adds to PolicyDetails.
_DEFAULTS: Final[Mapping[str, object]] = {
    "PolicyType": SNAPSHOTS,
    "PolicyLanguage": "STANDARD",
    "ResourceLocations": ["CLOUD"],
    "Location": "CLOUD",
    "Scripts": [],
    "NoReboot": True,
}
_ONE_UNIT: Final = {"WEEKS": (7, "DAYS"), "YEARS": (12, "MONTHS")}


def plain(value: Any) -> Any:
    """Return details in one form, so that equivalent details are equal.

    Empty values, false values and defaults are left out. The rules of creation are cron expressions in one spelling,
    units of time are days and months, and lists without an order are sorted.
    """
    if isinstance(value, Mapping):
        cleaned = {str(k): _rule(v) if k == "CreateRule" else plain(v) for k, v in value.items()}
        if cleaned.get("IntervalUnit") in _ONE_UNIT:
            factor, unit = _ONE_UNIT[cleaned["IntervalUnit"]]
            cleaned |= {"Interval": cleaned["Interval"] * factor, "IntervalUnit": unit}
        if "TargetRegion" in cleaned:  # the older name for copies of snapshots, and the name for those of images
            cleaned["Target"] = cleaned.pop("TargetRegion")
        return {k: v for k, v in cleaned.items() if _tells(k, v)}
    if isinstance(value, list | tuple):
        return sorted((plain(item) for item in value), key=_place_in_list)
    return value


def _tells(key: str, value: object) -> bool:
    if key == "NoReboot" and value is False:
        return True
    return value not in (None, False, [], {}, "") and _DEFAULTS.get(key) != value


def _place_in_list(item: Any) -> str:
    """Return where an item belongs: tags by key, copies by region, texts by themselves; schedules keep their order."""
    if isinstance(item, Mapping):
        return "" if "CreateRule" in item else str((item.get("Key"), item.get("Value"), item.get("Target")))
    return str(item)


def _rule(rule: Any) -> Any:
    """Return a CreateRule with one spelling of its times: ``Interval`` and ``Times`` as a cron expression, too."""
    if not isinstance(rule, Mapping):
        return rule
    rest = {k: v for k, v in rule.items() if k not in ("CronExpression", "Interval", "IntervalUnit", "Times")}
    text = str(rule.get("CronExpression") or "")
    if not text and rule.get("Times") and rule.get("Interval") in _HOURS:
        hour, minute = map(int, str(rule["Times"][0]).split(":"))
        hours = ",".join(str(h) for h in sorted({(hour + n) % 24 for n in range(0, 24, rule["Interval"])}))
        text = f"cron({minute} {hours} * * ? *)"
    if not text:
        return plain(rule)
    return plain({**rest, "CronExpression": _spelled(text)})


def _spelled(text: str) -> str:
    """Return a cron expression in one spelling: equal expressions have equal texts. Unknown forms stay as they are."""
    try:
        timing = parse(text)
    except ValueError:
        return text
    if not isinstance(timing, Cron) or not timing.aws:
        return text
    _, _, days, _, week, years = timing.text[timing.text.index("(") + 1 : -1].upper().split()
    if timing.days.weekdays is not None:
        week = _week(timing.days.weekdays)
    elif timing.days.numbers is not None:
        every = timing.days.numbers == frozenset(range(1, 32))
        days = "*" if every else ",".join(map(str, sorted(timing.days.numbers)))
    if "*" in (days, week):
        days, week = "*", "?"
    minutes, hours = (",".join(map(str, field)) for field in (timing.minutes, timing.hours))
    hours = "*" if len(timing.hours) == 24 else hours
    months = "*" if len(timing.months) == 12 else ",".join(map(str, sorted(timing.months)))
    return f"cron({minutes} {hours} {days} {months} {week} {years})"


def differences(wanted: Any, actual: Any, path: str = "") -> list[str]:
    """Return the differences for users: the path in PolicyDetails, and both values."""
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
