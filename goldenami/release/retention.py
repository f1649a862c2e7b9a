"""Retention rules: decide which releases are kept, deprecated, disabled or deleted, with the reason. Pure functions.

All images of a release have the same fate: if one image must be kept, the release is kept. These conditions are checked
in this order, and the first one that is true decides::

    pinned · current or previous in a channel · of another or an unknown owner · in use · use cannot be determined
    · shared outside the environment · protected from deregistration · younger than the minimum age
    · one of the newest N · one of a channel's newest N · first of its month · time to be deprecated, disabled, deleted
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from goldenami.model import ImageManifest
from goldenami.release.versions import Version

Fate = Literal["keep", "deprecate", "disable", "delete"]
_MONTH_FORMAT: Final = "%Y-%m"


@dataclass(frozen=True, slots=True)
class ChannelRules:
    """Rules for the releases that a channel has ever pointed to.

    The newest ``keep`` releases are kept, and the first release of each of the last ``monthly`` months that have one.
    The times replace the recipe's times; None keeps the recipe's time.
    """

    keep: int = 0
    monthly: int = 0
    deprecate_after: timedelta | None = None
    disable_after: timedelta | None = None
    delete_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """How long the releases of a recipe are kept. Ages count from the start of the build.

    ``minimum_age``: younger releases are not changed. Without ``disable_after`` and ``delete_after``, a release is
    deleted as soon as no other rule keeps it. With ``disable_after`` alone, it is disabled and not deleted.
    ``monthly``: the first release of each of the last ``monthly`` months (in UTC) that have one is kept.
    ``unused_for``: a release that was launched more recently is in use.
    """

    keep: int = 5
    minimum_age: timedelta = timedelta(days=7)
    unused_for: timedelta = timedelta(days=7)
    deprecate_after: timedelta | None = None
    disable_after: timedelta | None = None
    delete_after: timedelta | None = None
    monthly: int = 0
    channels: Mapping[str, ChannelRules] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReleaseFacts:
    """The facts of a release that is not retired.

    ``pointed``: the channels that point to it now ("current of stable"). ``channels``: all channels that ever pointed
    to it. ``uses``: what uses its images, as text. ``children``: releases ("name version") that are built on it.
    ``others``: its images that are not of this catalog and environment, or whose owner cannot be determined, with the
    reason. ``unknown``: why its use cannot be determined. ``protected``: images with deregistration protection.
    ``retiring``: an earlier run began to delete it and was killed.
    """

    manifest: ImageManifest
    created: datetime
    pin: str | None = None
    pointed: tuple[str, ...] = ()
    channels: frozenset[str] = frozenset()
    uses: tuple[str, ...] = ()
    launched: datetime | None = None  # EC2 reports it with up to a day's delay
    children: frozenset[str] = frozenset()
    others: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    retiring: bool = False

    @property
    def label(self) -> str:
        return self.manifest.label


@dataclass(frozen=True, slots=True)
class RetentionDecision:
    """The fate of a release, and the rule that decided it."""

    release: ReleaseFacts
    fate: Fate
    rule: str


@dataclass(frozen=True, slots=True)
class Lifetime:
    """When the rules end the use of a release, at the earliest. None: not at a time.

    What keeps a release is not in these times: a channel, a pin, a use, a release that is built on it, and a month
    whose first release it is. ``newer``: how many newer releases there must be. ``disabled``: None if it is deleted
    then.
    """

    deprecated: datetime | None
    disabled: datetime | None
    deleted: datetime | None
    newer: int


def lifetime(created: datetime, channels: Collection[str], rules: Rules) -> Lifetime:
    """Return the lifetime of a release. ``channels``: all that ever pointed to it.

    EC2 deprecates an image at the recipe's own time, and `retire` at that of its channels: the first one counts.
    """
    deprecate, disable, delete = _ages(channels, rules)
    if delete is None and disable is None:
        delete = rules.minimum_age
    # `retire` changes no release that is younger than the minimum age.
    deprecate, disable, delete = (
        None if age is None else max(age, rules.minimum_age) for age in (deprecate, disable, delete)
    )
    first = min((age for age in (deprecate, rules.deprecate_after) if age is not None), default=None)
    if disable is not None and delete is not None and delete <= disable:
        disable = None
    keep = max((rules.keep, *(rules.channels[one].keep for one in channels if one in rules.channels)))
    return Lifetime(
        created + first if first is not None else None,
        created + disable if disable is not None else None,
        created + delete if delete is not None else None,
        keep,
    )


def decide(
    releases: Iterable[ReleaseFacts], rules: Mapping[str, Rules], now: datetime, *, only: Collection[str] = ()
) -> tuple[RetentionDecision, ...]:
    """The decision on each release, by recipe and version, newest first.

    ``rules``: by recipe. A release of a recipe without rules (its file was deleted) is kept. ``only``: the recipes to
    decide about; empty means all. A base is deleted only if all releases that are built on it are deleted too.
    """
    every = list(releases)
    by_recipe: dict[str, list[ReleaseFacts]] = {}
    for one in every:
        by_recipe.setdefault(one.manifest.recipe, []).append(one)
    decisions: dict[str, RetentionDecision] = {}
    for name, of_recipe in by_recipe.items():
        ordered = sorted(of_recipe, key=lambda r: Version.parse(r.manifest.version), reverse=True)
        if only and name not in only:
            found = [RetentionDecision(one, "keep", "its recipe was not chosen") for one in ordered]
        elif name not in rules:
            found = [RetentionDecision(one, "keep", f"there is no recipe {name} here, so no rule") for one in ordered]
        else:
            found = _decide_recipe(ordered, rules[name], now)
        decisions.update((v.release.label, v) for v in found)
    _keep_bases(decisions)
    return tuple(v for name in sorted(by_recipe) for v in decisions.values() if v.release.manifest.recipe == name)


def _keep_bases(decisions: dict[str, RetentionDecision]) -> None:
    """Keep the bases of all releases that are not deleted, also if the base would only be disabled."""
    changed = True
    while changed:
        changed = False
        for label, decision in decisions.items():
            if decision.fate in ("keep", "deprecate"):
                continue
            staying = sorted(c for c in decision.release.children if c in decisions and decisions[c].fate != "delete")
            if staying:
                more = f" and {len(staying) - 1} more" if len(staying) > 1 else ""
                decisions[label] = replace(decision, fate="keep", rule=f"{staying[0]}{more} is built on it")
                changed = True


def _decide_recipe(ordered: Sequence[ReleaseFacts], rules: Rules, now: datetime) -> list[RetentionDecision]:
    """``ordered``: the releases of one recipe, newest first."""
    kept_by = _ranked(ordered, rules)
    return [_decide_one(one, rules, kept_by.get(one.label), now) for one in ordered]


def _decide_one(one: ReleaseFacts, rules: Rules, rank: str | None, now: datetime) -> RetentionDecision:
    protection = _protection(one)
    if protection is not None:
        return RetentionDecision(one, "keep", protection)
    if one.launched is not None and now - one.launched < rules.unused_for:
        return RetentionDecision(
            one, "keep", f"launched less than {_days(rules.unused_for)} ago, on {one.launched:%Y-%m-%d}"
        )
    if one.retiring:
        return RetentionDecision(one, "delete", "an earlier run began to delete it")
    age = now - one.created
    if age < rules.minimum_age:
        return RetentionDecision(one, "keep", f"younger than the minimum age of {_days(rules.minimum_age)}")
    if rank is not None:
        return RetentionDecision(one, "keep", rank)
    deprecate, disable, delete = _ages(one.channels, rules)
    if delete is not None and age >= delete:
        return RetentionDecision(one, "delete", f"older than {_days(delete)}, and no rule keeps it")
    if delete is None and disable is None:
        return RetentionDecision(one, "delete", "no rule keeps it")
    if disable is not None and age >= disable:
        return RetentionDecision(one, "disable", f"older than {_days(disable)}")
    if deprecate is not None and age >= deprecate:
        return RetentionDecision(one, "deprecate", f"older than {_days(deprecate)}")
    return RetentionDecision(one, "keep", "its time has not come")


def _protection(one: ReleaseFacts) -> str | None:
    """Return why a release is protected, or None. Protection has priority over all rules of age and number."""
    if one.pin is not None:
        return f"pinned: {one.pin}"
    if one.pointed:
        return ", ".join(one.pointed)
    if one.others:
        more = f" and {len(one.others) - 1} more" if len(one.others) > 1 else ""
        return f"not ours: {one.others[0]}{more}"
    if one.uses:
        more = f" and {len(one.uses) - 1} more" if len(one.uses) > 1 else ""
        return f"in use: {one.uses[0]}{more}"
    if one.unknown:
        more = f" and {len(one.unknown) - 1} more" if len(one.unknown) > 1 else ""
        return f"its use cannot be determined: {one.unknown[0]}{more}"
    if one.protected:
        return f"protected from deregistration: {', '.join(one.protected)}"
    return None


def _ranked(ordered: Sequence[ReleaseFacts], rules: Rules) -> dict[str, str]:
    """Return label -> the first rule of number that keeps the release."""
    kept: dict[str, str] = {}
    for one in ordered[: rules.keep]:
        kept[one.label] = f"one of the newest {rules.keep}"
    for channel, own in sorted(rules.channels.items()):
        of_channel = [one for one in ordered if channel in one.channels]
        for one in of_channel[: own.keep]:
            kept.setdefault(one.label, f"one of the newest {own.keep} of the channel {channel}")
        for one in _first_of_months(of_channel, own.monthly):
            kept.setdefault(one.label, f"the first of {one.created:%B %Y} in the channel {channel}")
    for one in _first_of_months(ordered, rules.monthly):
        kept.setdefault(one.label, f"the first of {one.created:%B %Y}")
    return kept


def _first_of_months(ordered: Sequence[ReleaseFacts], count: int) -> list[ReleaseFacts]:
    firsts: dict[str, ReleaseFacts] = {}
    for one in ordered:  # newest first, so the last release of a month in this order is its first one
        firsts[one.created.strftime(_MONTH_FORMAT)] = one
    return [firsts[month] for month in sorted(firsts, reverse=True)[:count]]


def _ages(channels: Collection[str], rules: Rules) -> tuple[timedelta | None, timedelta | None, timedelta | None]:
    """Return the ages at which a release is deprecated, disabled and deleted.

    Each is the longest time of the release's channels, or the recipe's time if no channel sets one.
    """
    own = [rules.channels[c] for c in channels if c in rules.channels]
    found: list[timedelta | None] = []
    for name in ("deprecate_after", "disable_after", "delete_after"):
        given = [value for value in (getattr(rules_of, name) for rules_of in own) if value is not None]
        found.append(max(given) if given else getattr(rules, name))
    return found[0], found[1], found[2]


def _days(span: timedelta) -> str:
    if span.total_seconds() % 86400 == 0:
        return f"{span.days} day{'s' if span.days != 1 else ''}"
    return f"{span.total_seconds() / 3600:g} hours"
