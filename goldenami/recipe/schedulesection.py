"""Converts written schedules to ``schedules.policy.Schedule``: resolves the names of accounts, and reports problems."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from zoneinfo import ZoneInfo

from goldenami.model import Account, Place
from goldenami.recipe.document import Document, NodePath
from goldenami.recipe.problems import Problems
from goldenami.recipe.schedulespec import KeepSpec, ScheduleSpec
from goldenami.recipe.similar import suggestion
from goldenami.recipe.words import ACCOUNT_ID, seconds
from goldenami.schedules.policy import Copy, FastRestore, Retention, Schedule, Selection, start_of
from goldenami.schedules.timing import parse

# Amazon bills a snapshot in the archive tier for 90 days at least ("Archive Amazon EBS snapshots").
ARCHIVE_MINIMUM = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class _Reading:
    document: Document
    accounts: Mapping[str, Account]
    home_region: str
    problems: Problems


def read_schedules(
    specs: Mapping[str, ScheduleSpec],
    at: NodePath,
    document: Document,
    accounts: Mapping[str, Account],
    home_region: str,
    problems: Problems,
    *,
    recipe: str = "",
) -> tuple[Schedule, ...]:
    """Return the valid schedules. Every problem is added to ``problems``.

    ``recipe``: the recipe that has the schedules. Its name is the prefix of their names, and its instances are the
    default of ``what``.
    """
    reading = _Reading(document, accounts, home_region, problems)
    found = (_schedule(reading, name, spec, (*at, name), recipe) for name, spec in specs.items())
    return tuple(one for one in found if one is not None)


def _schedule(reading: _Reading, name: str, spec: ScheduleSpec, at: NodePath, recipe: str) -> Schedule | None:
    document, problems = reading.document, reading.problems
    before = len(problems.found)
    selection = _selection(spec, recipe)
    if selection is None:
        problems.add(document.key_mark(at), f"{name}: the key 'what' is missing", "Add volumes or instances.")
    regions = spec.regions or (reading.home_region,)
    places = [
        Place(account.id, region)
        for index, given in enumerate(spec.accounts)
        for account in [_account(reading, given, (*at, "accounts", index))]
        if account is not None
        for region in regions
    ]
    retention = _retention(spec.retention)
    copies: list[Copy] = []
    for index, copy in enumerate(spec.copies):
        here = (*at, "copies", index)
        if copy.region in regions:
            problems.add(document.mark((*here, "region")), f"region: the snapshots are already in {copy.region}")
        if copy.region in [c.region for c in copies]:
            problems.add(document.mark((*here, "region")), f"region: there is already a copy in {copy.region}")
        if spec.make == "images" and copy.kms_key is None:
            problems.add(document.mark(here), "the key 'kms_key' is missing: it encrypts the copies of images")
        own = _retention(copy.retention) if copy.retention else retention
        copies.append(Copy(copy.region, own, copy.kms_key or ""))
    zone = ZoneInfo(spec.time_zone)
    fast = spec.fast_restore
    if fast is not None:
        for index, az in enumerate(fast.zones):
            if not any(re.fullmatch(rf"{re.escape(region)}[a-z]|{re.escape(region)}-.+", az) for region in regions):
                mark = document.mark((*at, "fast_restore", "zones", index))
                problems.add(mark, f"zones: {az} is not in {' or '.join(regions)}")
    if spec.archive is not None:
        _check_archive(reading, spec, retention, at)
    shared = tuple(
        account_id
        for index, given in enumerate(spec.share.accounts if spec.share else ())
        for account_id in [_account_id(reading, given, (*at, "share", "accounts", index))]
        if account_id
    )
    if len(problems.found) > before or selection is None:
        return None
    return Schedule(
        name=f"{recipe}.{name}" if recipe else name,
        selection=selection,
        timing=parse(spec.when),
        zone=zone,
        places=tuple(dict.fromkeys(places)),
        retention=retention,
        make=spec.make,
        missed=spec.missed,
        copies=tuple(copies),
        fast_restore=FastRestore(fast.keep, fast.zones) if fast else None,
        archive_after=timedelta(seconds=seconds(spec.archive.after)) if spec.archive else None,
        share_accounts=shared,
        unshare_after=_span(spec.share.unshare_after) if spec.share else None,
        tags=dict(spec.tags),
        copy_tags=spec.copy_tags,
        description=spec.description,
        start=start_of(spec.start, zone) if spec.start else None,
        owner=recipe,
        mark=document.key_mark(at),
    )


def _selection(spec: ScheduleSpec, recipe: str) -> Selection | None:
    what = spec.what
    if what is None:
        return Selection("instances", recipe=recipe) if recipe else None
    if what.volumes is not None:
        return Selection("volumes", dict(what.volumes.tags), exclude_tags=dict(what.volumes.exclude_tags))
    assert what.instances is not None  # the model requires exactly one
    chosen = what.instances
    return Selection("instances", dict(chosen.tags), chosen.recipe, chosen.exclude_root, dict(chosen.exclude_tags))


def _retention(spec: KeepSpec) -> Retention:
    return Retention(
        keep=spec.keep or 0,
        max_age=_span(spec.max_age),
        hourly=spec.hourly or 0,
        daily=spec.daily or 0,
        weekly=spec.weekly or 0,
        monthly=spec.monthly or 0,
        yearly=spec.yearly or 0,
    )


def _span(duration: str | None) -> timedelta | None:
    return timedelta(seconds=seconds(duration)) if duration is not None else None


def _check_archive(reading: _Reading, spec: ScheduleSpec, retention: Retention, at: NodePath) -> None:
    assert spec.archive is not None
    after = timedelta(seconds=seconds(spec.archive.after))
    only_age = retention.max_age is not None and not retention.keep and not retention.tiers
    if only_age and retention.max_age is not None and retention.max_age < after + ARCHIVE_MINIMUM:
        reading.problems.add(
            reading.document.mark((*at, "archive", "after")),
            f"archive: snapshots are archived after {spec.archive.after} and deleted after {spec.retention.max_age}, "
            "but AWS bills 90 days or more in the archive tier",
            "Set max_age to 90 days more than archive.after, or remove archive.",
        )


def _account(reading: _Reading, given: str, at: NodePath) -> Account | None:
    account = reading.accounts.get(given)
    if account is None:
        hint = suggestion(given, list(reading.accounts), f"Accounts: {', '.join(reading.accounts)}.")
        reading.problems.add(reading.document.mark(at), f"accounts: there is no account {given!r}", hint)
    return account


def _account_id(reading: _Reading, given: str, at: NodePath) -> str:
    if re.fullmatch(ACCOUNT_ID, given):
        return given
    account = _account(reading, given, at)
    return account.id if account is not None else ""
