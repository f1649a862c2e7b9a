"""Which releases go: each rule, and random estates against the words of promise 5."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goldenami.model import MANIFEST_SCHEMA, Architecture, BaseImage, ImageManifest, ManifestImage
from goldenami.release.retention import ChannelRules, ReleaseFacts, RetentionDecision, Rules, decide, lifetime

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def release(days: float, name: str = "web", *, base: str | None = None, **facts: Any) -> ReleaseFacts:
    """One that was built so many days ago; ``base``: "name version"."""
    created = NOW - timedelta(days=days)
    version = f"1.0.{created:%Y%m%d}.{int(created.strftime('%H%M')) + 1}"
    image = ManifestImage("x86_64", "1" * 12, "eu-central-1", f"ami-{int(days * 1000):017x}", version, "copy", True, ())
    bases: dict[Architecture, BaseImage] = {}
    if base is not None:
        bases["x86_64"] = BaseImage("ami-0", "b", "1" * 12, "x86_64", "/dev/xvda", 8, "", "", release=base)
    manifest = ImageManifest(
        MANIFEST_SCHEMA,
        name,
        version,
        "b",
        "d",
        "test",
        created.isoformat(),
        bases,
        (image,),
        (),
        {},
        {},
    )
    return ReleaseFacts(manifest, created, **facts)


def fates(*releases: ReleaseFacts, **rules: Any) -> list[str]:
    found = decide(releases, {"web": Rules(**rules)}, NOW)
    return [v.fate for v in found]


def one(release: ReleaseFacts, **rules: Any) -> RetentionDecision:
    """The decision on a release that no number keeps."""
    found = decide([release, *DECOYS], {"web": Rules(keep=1, **rules)}, NOW)
    return next(v for v in found if v.release is release)


DECOYS = [release(0.5)]


def test_the_newest_stay() -> None:
    assert fates(*(release(n * 10) for n in range(1, 7)), keep=3) == ["keep"] * 3 + ["delete"] * 3


@pytest.mark.parametrize(
    ("facts", "rule"),
    [
        ({"pin": "audit"}, "pinned: audit"),
        ({"pointed": ("current of the channel stable",)}, "current of the channel stable"),
        ({"pointed": ("previous of the channel stable",)}, "previous of the channel stable"),
        ({"uses": ("instance i-1", "instance i-2", "parameter /x")}, "in use: instance i-1 and 2 more"),
        ({"unknown": ("2/eu did not answer: no",)}, "its use cannot be determined: 2/eu did not answer: no"),
        ({"protected": ("ami-1",)}, "protected from deregistration: ami-1"),
        ({"launched": NOW - 2 * DAY}, "launched less than 7 days ago, on 2026-11-22"),
    ],
)
def test_what_no_rule_can_overrule(facts: dict[str, Any], rule: str) -> None:
    decision = one(release(500, **facts), delete_after=DAY)
    assert (decision.fate, decision.rule) == ("keep", rule)
    # Not even that an earlier run began to delete it.
    assert one(release(500, retiring=True, **facts)).fate == "keep"


def test_ages() -> None:
    rules = {"deprecate_after": 30 * DAY, "disable_after": 60 * DAY, "delete_after": 90 * DAY}
    assert one(release(3), **rules).rule == "younger than the minimum age of 7 days"
    assert (one(release(20), **rules).fate, one(release(20), **rules).rule) == ("keep", "its time has not come")
    assert (one(release(40), **rules).fate, one(release(40), **rules).rule) == ("deprecate", "older than 30 days")
    assert (one(release(70), **rules).fate, one(release(70), **rules).rule) == ("disable", "older than 60 days")
    assert one(release(95), **rules).rule == "older than 90 days, and no rule keeps it"
    assert one(release(95), disable_after=60 * DAY).fate == "disable"
    assert one(release(9)).rule == "no rule keeps it"
    assert one(release(1, retiring=True)).rule == "an earlier run began to delete it"


def test_one_a_month_for_a_year() -> None:
    weekly = [release(7 * n + 8) for n in range(80)]
    found = decide(weekly, {"web": Rules(keep=1, monthly=12)}, NOW)
    kept = [v.release.created for v in found if v.fate == "keep"]
    months = sorted({c.strftime("%Y-%m") for c in (r.created for r in weekly)}, reverse=True)[:12]
    firsts = [min(r.created for r in weekly if r.created.strftime("%Y-%m") == month) for month in months]
    assert sorted(kept) == sorted({*firsts, weekly[0].created})


def test_rules_of_a_channel() -> None:
    every = [release(10 * n, channels=frozenset({"stable"} if n % 2 else ())) for n in range(1, 9)]
    found = decide(every, {"web": Rules(keep=1, channels={"stable": ChannelRules(keep=3)})}, NOW)
    assert [v.fate for v in found] == ["keep", "delete", "keep", "delete", "keep", "delete", "delete", "delete"]
    assert found[2].rule == "one of the newest 3 of the channel stable"
    slow = Rules(keep=1, delete_after=20 * DAY, channels={"stable": ChannelRules(delete_after=60 * DAY)})
    assert [v.fate for v in decide(every, {"web": slow}, NOW)] == [
        "keep",
        "delete",
        "keep",
        "delete",
        "keep",
        "delete",
        "delete",
        "delete",
    ]


def test_a_base_goes_with_the_last_that_is_built_on_it() -> None:
    base = release(100, "base")
    old, older = release(50, base=base.label), release(60, base=base.label)
    newest_base = release(20, "base")
    base = replace(base, children=frozenset({old.label, older.label}))
    rules = {"base": Rules(keep=1), "web": Rules(keep=1)}

    def decision(*releases: ReleaseFacts) -> RetentionDecision:
        return next(v for v in decide(releases, rules, NOW) if v.release is base)

    assert decision(base, newest_base, old, older).rule == f"{old.label} is built on it"
    newest = release(40)
    assert decision(base, newest_base, old, older, newest).fate == "delete"
    assert decision(base, newest_base, replace(old, pin="x"), older, newest).fate == "keep"


def test_a_recipe_that_is_not_there_has_no_rules() -> None:
    (decision,) = decide([release(900, "gone")], {"web": Rules()}, NOW)
    assert (decision.fate, decision.rule) == ("keep", "there is no recipe gone here, so no rule")
    (decision,) = decide([release(900)], {"web": Rules(keep=1)}, NOW, only=["base"])
    assert decision.fate == "keep"


# --- random estates ---------------------------------------------------------------------------------------------------

CHANNELS = ("candidate", "stable")
SPANS = st.one_of(st.none(), st.integers(1, 400).map(lambda n: n * DAY))
CHANNEL_RULES = st.builds(ChannelRules, st.integers(0, 4), st.integers(0, 6), SPANS, SPANS, SPANS)
RULES = st.builds(
    Rules,
    keep=st.integers(1, 6),
    minimum_age=st.integers(0, 40).map(lambda n: n * DAY),
    deprecate_after=SPANS,
    disable_after=SPANS,
    delete_after=SPANS,
    monthly=st.integers(0, 13),
    channels=st.dictionaries(st.sampled_from(CHANNELS), CHANNEL_RULES),
)


@st.composite
def estates(draw: st.DrawFn) -> list[ReleaseFacts]:
    found: list[ReleaseFacts] = []
    for name in ("base", "web", "db"):
        ages = draw(st.lists(st.integers(0, 900), unique=True, max_size=60))
        for age in ages:
            parents = [r.label for r in found if r.manifest.recipe == "base"]
            base = draw(st.sampled_from(parents)) if name != "base" and parents else None
            chance = draw(st.integers(0, 30))
            chances: dict[int, dict[str, Any]] = {
                1: {"pin": "x"},
                2: {"pointed": ("current of the channel stable",)},
                3: {"uses": ("instance i-1",)},
                4: {"unknown": ("somewhere did not answer",)},
                5: {"protected": ("ami-1",)},
                6: {"retiring": True},
                7: {"launched": NOW - DAY},
            }
            facts = chances.get(chance, {})
            found.append(
                release(age, name, base=base, channels=frozenset(draw(st.sets(st.sampled_from(CHANNELS)))), **facts)
            )
    children: dict[str, set[str]] = {}
    for one in found:
        for parent in one.manifest.base.values():
            children.setdefault(str(parent.release), set()).add(one.label)
    return [replace(r, children=frozenset(children.get(r.label, ()))) for r in found]


@settings(max_examples=60, deadline=None)
@given(estates(), RULES, RULES)
def test_random_estates(estate: list[ReleaseFacts], first: Rules, second: Rules) -> None:
    rules = {"base": first, "web": second, "db": second}
    decisions = decide(estate, rules, NOW)
    assert {v.release.label for v in decisions} == {r.label for r in estate}
    assert all(v.rule for v in decisions)
    gone = {v.release.label for v in decisions if v.fate == "delete"}
    off = gone | {v.release.label for v in decisions if v.fate == "disable"}
    for decision in decisions:
        one, own = decision.release, rules[decision.release.manifest.recipe]
        if one.label in off:
            # Promise 5, word by word.
            assert not any((one.pin, one.pointed, one.uses, one.unknown, one.protected, one.launched))
            assert one.children <= gone
            newer = [r for r in estate if r.manifest.recipe == one.manifest.recipe and r.created > one.created]
            if not one.retiring:
                assert len(newer) >= own.keep
                assert NOW - one.created >= own.minimum_age
    # What is left is judged the same way: a second run finds nothing to delete.
    left = [r for r in estate if r.label not in gone]
    again = decide([replace(r, children=r.children - gone) for r in left], rules, NOW)
    assert [v.release.label for v in again if v.fate == "delete"] == []


@pytest.mark.parametrize(
    ("rules", "days"),
    [
        (Rules(minimum_age=40 * DAY, disable_after=30 * DAY, delete_after=90 * DAY), (None, 40, 90)),
        (Rules(minimum_age=40 * DAY, disable_after=20 * DAY, delete_after=30 * DAY), (None, None, 40)),
        (Rules(minimum_age=40 * DAY, deprecate_after=10 * DAY, disable_after=50 * DAY), (10, 50, None)),
        (
            Rules(minimum_age=40 * DAY, channels={"stable": ChannelRules(deprecate_after=20 * DAY)}),
            (40, None, 40),
        ),
    ],
    ids=["disabled", "deleted", "EC2-deprecates", "retire-deprecates"],
)
def test_no_date_of_a_lifetime_is_before_retire_acts(rules: Rules, days: tuple[int | None, ...]) -> None:
    """EC2 alone deprecates before the minimum age: the recipe's own time is in the image."""
    created = datetime(2026, 1, 1, tzinfo=UTC)
    life = lifetime(created, {"stable"}, rules)
    found = tuple(None if at is None else (at - created).days for at in (life.deprecated, life.disabled, life.deleted))
    assert found == days
