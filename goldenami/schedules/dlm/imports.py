"""Converts existing DLM policies to schedules for goldenami.yaml. Pure.

A policy becomes one schedule for each of its schedules and tags. If this is one schedule without a warning, it matches
the policy, and the next ``dlm apply`` adopts the policy. Otherwise the warnings name the differences.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from goldenami.aws.lifecycle import LifecyclePolicy
from goldenami.model import Environment
from goldenami.schedules.calendar import fires
from goldenami.schedules.dlm.express import DEFAULT_KEY
from goldenami.schedules.timing import parse

_DESCRIPTION: Final = 255  # limits of the schema of schedules
_FAST: Final = 50
_LONGEST_KEY: Final = 127
_DAYS: Final = {"DAYS": 1, "WEEKS": 7, "MONTHS": 30, "YEARS": 365}


@dataclass(frozen=True, slots=True)
class Imported:
    """The conversion of a policy. ``schedules``: by name, in the form of ``schedules:``; empty if none matches."""

    policy: LifecyclePolicy
    schedules: Mapping[str, Mapping[str, Any]]
    warnings: tuple[str, ...]


def imported(policy: LifecyclePolicy, environment: Environment, taken: Sequence[str] = ()) -> Imported:
    """Convert a policy. ``taken``: names of existing schedules."""
    details, warnings = policy.details, []
    kind = details.get("PolicyType", "EBS_SNAPSHOT_MANAGEMENT")
    rules = details.get("Schedules") or ()
    if policy.default or not rules:
        what = "a default policy" if policy.default else f"a policy of type {kind} without schedules"
        return Imported(policy, {}, (f"{what} cannot be converted to a schedule",))
    if why := _not_here(details):
        return Imported(policy, {}, (why,))
    if policy.state != "ENABLED":
        warnings.append(f"the policy is {policy.state}; `dlm apply` would enable it")
    tags = [(str(t["Key"]), str(t["Value"])) for t in details.get("TargetTags") or ()]
    account = next((a.name for a in environment.accounts.values() if a.id == policy.place.account), "home")
    made: dict[str, dict[str, Any]] = {}
    for rule in rules:
        for key, value in tags:
            name = _name(policy, rule, key, value, several=(len(rules) > 1, len(tags) > 1))
            name = _free(name, {*taken, *made})
            if why := _no_time(_when(rule.get("CreateRule") or {}, [])["when"]):
                warnings.append(f"the schedule {rule.get('Name')} is not converted: {why}")
                continue
            made[name] = _schedule(policy, rule, {key: value}, account, warnings)
    if len(made) > 1:
        warnings.append(
            f"the policy becomes {len(made)} schedules and {len(made)} new policies: disable it after `dlm apply`"
        )
    return Imported(policy, made, tuple(dict.fromkeys(warnings)))


def _not_here(details: Mapping[str, Any]) -> str:
    """Return why a policy has no schedule: it is for an Outpost or a Local Zone. Empty for others."""
    places = {*(details.get("ResourceLocations") or ())}
    places |= {(rule.get("CreateRule") or {}).get("Location") for rule in details.get("Schedules") or ()}
    found = sorted(str(place) for place in places if place not in (None, "", "CLOUD"))
    return f"a policy with the location {found[0]} cannot be converted to a schedule" if found else ""


def as_yaml(found: Sequence[Imported]) -> str:
    """Return the YAML to add under an environment in goldenami.yaml, with the warnings as comments."""
    lines = ["schedules:"]
    for one in found:
        lines.append(f"  # {one.policy.id} in {one.policy.place}: {one.policy.description}")
        lines += [f"  #   {warning}" for warning in one.warnings]
        for name, schedule in one.schedules.items():
            text = yaml.safe_dump({name: dict(schedule)}, sort_keys=False, width=110, default_flow_style=None)
            lines += [f"  {line}" for line in text.splitlines()]
    return "\n".join(lines) + "\n"


def _name(policy: LifecyclePolicy, rule: Mapping[str, Any], key: str, value: str, *, several: tuple[bool, bool]) -> str:
    words = [policy.description or policy.id]
    words += [str(rule.get("Name", ""))] if several[0] else []
    words += [key, value] if several[1] else []
    name = re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")[:60].rstrip("-")
    return name if re.match(r"[a-z]", name) else f"policy-{name}"


def _free(name: str, taken: set[str]) -> str:
    number, free = 2, name
    while free in taken:
        free, number = f"{name}-{number}", number + 1
    return free


def _schedule(
    policy: LifecyclePolicy, rule: Mapping[str, Any], tags: dict[str, str], account: str, warnings: list[str]
) -> dict[str, Any]:
    details = policy.details
    parameters = details.get("Parameters") or {}
    images = details.get("PolicyType") == "IMAGE_MANAGEMENT"
    volumes = details.get("ResourceTypes") == ["VOLUME"]
    chosen: dict[str, Any] = {"tags": tags}
    if parameters.get("ExcludeBootVolume"):
        chosen["exclude_root"] = True
    if parameters.get("ExcludeDataVolumeTags"):
        chosen["exclude_tags"] = {t["Key"]: t["Value"] for t in parameters["ExcludeDataVolumeTags"]}
    if images and parameters.get("NoReboot") is False:
        warnings.append("the policy reboots instances to create images; goldenami does not")
    made: dict[str, Any] = {"description": policy.description[:_DESCRIPTION]} if policy.description else {}
    made |= {"what": {"volumes" if volumes else "instances": chosen}}
    made |= {"make": "images"} if images else {}
    made |= {"accounts": [account], "regions": [policy.place.region], **_when(rule.get("CreateRule") or {}, warnings)}
    made |= {"missed": "none", "retention": _retention(rule.get("RetainRule") or {}, warnings)}
    copies = [
        _copy(copy, warnings, images=images)
        for copy in rule.get("CrossRegionCopyRules") or ()
        if _to_region(copy, warnings)
    ]
    made |= {"copies": copies} if copies else {}
    if fast := rule.get("FastRestoreRule"):
        zones = list(fast.get("AvailabilityZones") or ())
        if not zones:
            warnings.append("fast restore in zones that are given by their ids is not converted")
        else:
            made["fast_restore"] = {"keep": min(fast.get("Count") or 1, _FAST), "zones": zones}
        if not fast.get("Count"):
            warnings.append("fast restore by age is not supported; it is converted to the newest snapshot")
        elif fast["Count"] > _FAST:
            warnings.append(f"fast restore of {fast['Count']} snapshots is converted to {_FAST}")
    for share in (rule.get("ShareRules") or ())[:1]:
        made["share"] = {"accounts": list(share["TargetAccounts"])}
        if share.get("UnshareInterval"):
            made["share"]["unshare_after"] = f"{share['UnshareInterval'] * _DAYS[share['UnshareIntervalUnit']]}d"
    added = {t["Key"]: t["Value"] for t in rule.get("TagsToAdd") or ()}
    for key in [key for key in added if key == "Name" or key.startswith("goldenami:") or len(key) > _LONGEST_KEY]:
        warnings.append(f"the tag {key} is not converted")
        del added[key]
    made |= {"tags": added} if added else {}
    made |= {} if rule.get("CopyTags") else {"copy_tags": False}
    for name, words in _LEFT_OUT.items():
        if rule.get(name) or parameters.get(name):
            warnings.append(words)
    return made


_LEFT_OUT: Final = {
    "ArchiveRule": "the archive rule is not converted: goldenami archives by age (archive: {after: …})",
    "DeprecateRule": "the deprecation rule is not converted",
    "VariableTags": "the variable tags are not converted",
    "Scripts": "the pre and post scripts are not converted",
}


def _no_time(when: str) -> str:
    try:
        return "" if fires(parse(when)) else f"{when} has no time any more"
    except ValueError as error:
        return str(error)


def _to_region(rule: Mapping[str, Any], warnings: list[str]) -> bool:
    target = str(rule.get("Target") or rule.get("TargetRegion"))
    if target.startswith("arn:"):
        warnings.append(f"the copy to {target} is not converted")
    return not target.startswith("arn:")


def _when(rule: Mapping[str, Any], warnings: list[str]) -> dict[str, str]:
    if rule.get("Scripts"):
        warnings.append(_LEFT_OUT["Scripts"])
    if "CronExpression" in rule:
        return {"when": str(rule["CronExpression"])}
    hours = int(rule.get("Interval", 24))
    at = (rule.get("Times") or ["09:00"])[0]
    return {"when": f"rate({hours} hour{'s' if hours != 1 else ''})", "start": f"2020-01-01T{at}"}


def _retention(rule: Mapping[str, Any], warnings: list[str]) -> dict[str, Any]:
    if rule.get("Count"):
        return {"keep": rule["Count"]}
    if not rule.get("Interval"):
        warnings.append("the retention of archived snapshots is not converted: check the retention")
        return {"keep": 1}
    unit = str(rule["IntervalUnit"])
    if unit in ("MONTHS", "YEARS"):
        warnings.append(f"{rule['Interval']} {unit.lower()} of the calendar are converted to days")
    return {"max_age": f"{rule['Interval'] * _DAYS[unit]}d"}


def _copy(rule: Mapping[str, Any], warnings: list[str], *, images: bool) -> dict[str, Any]:
    made: dict[str, Any] = {"region": rule.get("Target") or rule.get("TargetRegion")}
    if rule.get("CmkArn"):
        made["kms_key"] = rule["CmkArn"]
    elif rule.get("Encrypted"):
        made["kms_key"] = DEFAULT_KEY
    elif images:
        made["kms_key"] = DEFAULT_KEY
        warnings.append(f"the copies in {made['region']} are unencrypted; goldenami encrypts the copies of images")
    if not rule.get("CopyTags"):
        warnings.append(f"the copies in {made['region']} have no tags; copies of goldenami have tags")
    return {**made, "retention": _retention(rule.get("RetainRule") or {}, warnings)}
