"""Which releases stay and which go, and the rule that decided: pure functions over facts that others read.

A release is judged as a whole: if one of its images has to stay, all of it stays. What is asked, in this order; the
first answer counts:

    pinned · current or previous in a channel · in use · use cannot be determined · shared where nobody can be asked
    · protected from deregistration · younger than the minimum age · one of the newest N · one of a channel's newest N
    · one of its month · its time to be deprecated, disabled, deleted
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
    """For the releases that a channel ever pointed to: the newest ``keep`` of them stay, and of each of the last
    ``monthly`` months that have any, the first. The times replace the recipe's for them; None leaves the recipe's."""

    keep: int = 0
    monthly: int = 0
    deprecate_after: timedelta | None = None
    disable_after: timedelta | None = None
    delete_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """How long the releases of a recipe are kept. Ages count from the build. ``minimum_age``: nothing younger is
    touched. With neither ``disable_after`` nor ``delete_after`` a release is deleted as soon as no other rule keeps
    it; with ``disable_after`` alone it is disabled, and stays. ``monthly``: of each of the last so many months (in UTC)
    that have a release, the first one stays. ``unused_for``: one that was launched more recently counts as in use."""

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
    """What is known of a release that has not been retired. ``pointed``: how channels point to it now ("current of
    stable"); ``channels``: all that ever did. ``uses``: what uses its images, for people; ``children``: releases
    ("name version") that are built on it. ``unknown``: why its use cannot be determined. ``protected``: images that may
    not be deregistered. ``retiring``: an earlier run began to delete it, and died."""

    manifest: ImageManifest
    created: datetime
    pin: str | None = None
    pointed: tuple[str, ...] = ()
    channels: frozenset[str] = frozenset()
    uses: tuple[str, ...] = ()
    launched: datetime | None = None  # EC2 reports it with up to a day's delay
    children: frozenset[str] = frozenset()
    unknown: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    retiring: bool = False

    @property
    def label(self) -> str:
        return self.manifest.label


@dataclass(frozen=True, slots=True)
class RetentionDecision:
    release: ReleaseFacts
    fate: Fate
    rule: str


def decide(
    releases: Iterable[ReleaseFacts], rules: Mapping[str, Rules], now: datetime, *, only: Collection[str] = ()
) -> tuple[RetentionDecision, ...]:
    """The decision on each release, by recipe and version, newest first.

    ``rules``: by recipe; a release of a recipe that has none (its file is gone) is kept. ``only``: the recipes that are
    judged; none means all. A base goes only if everything that is built on it goes in the same decision, or went
    before.
    """
    every = list(releases)
    by_recipe: dict[str, list[ReleaseFacts]] = {}
    for one in every:
        by_recipe.setdefault(one.manifest.recipe, []).append(one)
    decisions: dict[str, RetentionDecision] = {}
    for name, of_recipe in by_recipe.items():
        ordered = sorted(of_recipe, key=lambda r: Version.parse(r.manifest.version), reverse=True)
        if only and name not in only:
            found = [RetentionDecision(one, "keep", "its recipe was not asked for") for one in ordered]
        elif name not in rules:
            found = [RetentionDecision(one, "keep", f"there is no recipe {name} here, so no rule") for one in ordered]
        else:
            found = _decide_recipe(ordered, rules[name], now)
        decisions.update((v.release.label, v) for v in found)
    _keep_bases(decisions)
    return tuple(v for name in sorted(by_recipe) for v in decisions.values() if v.release.manifest.recipe == name)


def _keep_bases(decisions: dict[str, RetentionDecision]) -> None:
    """Until nothing changes: what a kept release is built on is kept. A disabled base serves nobody either."""
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
    deprecate, disable, delete = _times(one, rules)
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
    """What promise 5 of the product keeps: no rule of age or number can overrule it."""
    if one.pin is not None:
        return f"pinned: {one.pin}"
    if one.pointed:
        return ", ".join(one.pointed)
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
    """Label -> the rule of number that keeps it, the first one that does."""
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
    for one in ordered:  # newest first: the last one of a month that is met is its first
        firsts[one.created.strftime(_MONTH_FORMAT)] = one
    return [firsts[month] for month in sorted(firsts, reverse=True)[:count]]


def _times(one: ReleaseFacts, rules: Rules) -> tuple[timedelta | None, timedelta | None, timedelta | None]:
    """When it is deprecated, disabled and deleted: by the channels it was in, the longest of them, else the recipe."""
    own = [rules.channels[c] for c in one.channels if c in rules.channels]
    found: list[timedelta | None] = []
    for name in ("deprecate_after", "disable_after", "delete_after"):
        given = [value for value in (getattr(rules_of, name) for rules_of in own) if value is not None]
        found.append(max(given) if given else getattr(rules, name))
    return found[0], found[1], found[2]


def _days(span: timedelta) -> str:
    if span.total_seconds() % 86400 == 0:
        return f"{span.days} day{'s' if span.days != 1 else ''}"
    return f"{span.total_seconds() / 3600:g} hours"
