"""What a policy accepts, and when an image cannot be judged."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from goldenami.evidence.packages import Component, Inventory
from goldenami.evidence.vulnerabilities import Ecosystem, Feed, Range, Statement, Verdict, judge
from goldenami.model import Severity, VulnerabilityPolicy, VulnerabilityWaiver

NOW = datetime(2026, 11, 24, 3, tzinfo=UTC)
DEBIAN = Ecosystem("debian", "12")
INVENTORY = Inventory("debian", "12", "bookworm", (Component("deb", "x", "1.0-1", source="x", source_version="1.0-1"),))
FIXED, OPEN = (Range(fixed="1.0-2"),), (Range(),)


def feed(*statements: Statement, **more: object) -> Feed:
    one = Feed("tracker", statements, frozenset({DEBIAN}), NOW - timedelta(hours=5))
    return replace(one, **more)  # type: ignore[arg-type]


def told(severity: Severity = "high", ranges: tuple[Range, ...] = FIXED, **more: object) -> Statement:
    one = Statement("CVE-2026-0001", DEBIAN, "x", ranges, severity=severity, aliases=("DSA-1-1",))
    return replace(one, **more)  # type: ignore[arg-type]


def verdict(*feeds: Feed, inventory: Inventory = INVENTORY, **policy: object) -> Verdict:
    return judge(inventory, feeds, VulnerabilityPolicy(**policy), NOW)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("statement", "policy", "fails"),
    [
        (told("high"), {}, True),
        (told("critical"), {}, True),
        (told("medium"), {}, False),
        (told("medium"), {"severity": "low"}, True),
        (told("negligible"), {"severity": "low"}, False),
        (told("unknown"), {"severity": "critical"}, True),  # nobody said that it is not severe
        (told("high", OPEN), {}, False),
        (told("high", OPEN), {"fixable": False}, True),
        (told("high", OPEN, state="end of life"), {}, True),  # no fix will come: a newer release has it
        (told("high", OPEN, state="undetermined"), {}, False),
        (told("high", OPEN, state="undetermined"), {"fixable": False}, True),
        (told("unknown", OPEN), {}, False),
    ],
)
def test_what_counts(statement: Statement, policy: dict[str, Any], fails: bool) -> None:
    found = verdict(feed(statement), **policy)
    assert (len(found.failing), len(found.accepted)) == ((1, 0) if fails else (0, 1))
    assert found.ok is not fails


@pytest.mark.parametrize(
    ("waiver", "valid"),
    [
        (VulnerabilityWaiver("CVE-2026-0001", "r", date(2026, 11, 24)), True),
        (VulnerabilityWaiver("DSA-1-1", "r", date(2026, 12, 1)), True),
        (VulnerabilityWaiver("CVE-2026-0001", "r", date(2026, 11, 23)), False),
        (VulnerabilityWaiver("CVE-2026-0002", "r", date(2026, 12, 1)), False),
        (VulnerabilityWaiver("CVE-2026-0001", "r", date(2026, 12, 1), ("x",)), True),
        (VulnerabilityWaiver("CVE-2026-0001", "r", date(2026, 12, 1), ("y",)), False),
    ],
)
def test_waivers_end(waiver: VulnerabilityWaiver, valid: bool) -> None:
    found = verdict(feed(told()), waivers=(waiver,))
    assert [reason for _, reason in found.waived] == (["r"] if valid else [])
    assert found.ok is valid


@pytest.mark.parametrize(
    ("feeds", "reason"),
    [
        ((), "no feed of vulnerabilities"),
        ((feed(updated=NOW - timedelta(days=4)),), "it is 4 d old, expected 3 d at most"),
        ((feed(updated=NOW + timedelta(hours=25)),), "it is dated 25 h in the future"),
        ((feed(updated=None),), "does not say how old"),
        ((feed(covers=frozenset(), problem="No such file"),), "No such file"),
        ((feed(covers=frozenset({Ecosystem("debian", "11")})),), "no usable feed covers debian 12"),
        (
            (feed(), feed(name="other", updated=NOW - timedelta(hours=9), max_age=timedelta(hours=8))),
            "feed other: it is 9 h",
        ),
    ],
)
def test_a_feed_that_is_missing_or_stale_is_never_good(feeds: tuple[Feed, ...], reason: str) -> None:
    found = verdict(*feeds)
    assert found.failing == ()
    assert not found.ok
    assert any(reason in text for text in found.unknown)


def test_a_stale_feed_still_tells_nothing_that_another_hides() -> None:
    stale = feed(name="stale", updated=NOW - timedelta(days=30))
    found = verdict(stale, feed(told()))
    assert [one.id for one in found.failing] == ["CVE-2026-0001"]
    assert len(found.unknown) == 1


def test_a_part_of_an_inventory_is_never_good() -> None:
    assert verdict(feed(), inventory=replace(INVENTORY, complete=False)).unknown == (
        "the inventory of the image is not complete",
    )
    assert not verdict(feed(), inventory=replace(INVENTORY, components=())).ok


def test_languages_without_a_feed_are_told() -> None:
    more = (Component("npm", "a", "1"), Component("npm", "b", "1"), Component("golang", "c", "v1"))
    found = verdict(feed(), inventory=replace(INVENTORY, components=(*INVENTORY.components, *more)))
    assert found.remarks == (
        "no usable feed covers 1 package of the type golang",
        "no usable feed covers 2 packages of the type npm",
    )
    assert found.ok
