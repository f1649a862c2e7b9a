"""Conditions for moving a channel, without a cloud."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from goldenami.model import ChannelRules, ImageManifest
from goldenami.release.catalogfiles import Channel, Move
from goldenami.release.conditions import identity, unmet, unmet_by_rollback

VERSION = "1.4.20261124.1"
OTHER = "1.4.20261125.1"
NOW = datetime(2026, 11, 26, 3, 0, tzinfo=UTC)  # two days after the build
ROLE = "arn:aws:iam::111111111111:role/builder"
BUILDER = "arn:aws:sts::111111111111:assumed-role/builder/night"
SSO = "arn:aws:sts::111111111111:assumed-role/AWSReservedSSO_Admin_0123456789abcdef/ann@example.com"


def channel(name: str, *moves: Move) -> Channel:
    return Channel("debian-12-web", name, moves[-1].version, moves[-2].version if len(moves) > 1 else None, moves)


IN = Move(VERSION, "2026-11-25T03:00:00Z", "b-1", "build", BUILDER)
CANDIDATE = {"candidate": channel("candidate", IN)}


@pytest.fixture
def check(manifest: Callable[..., ImageManifest]) -> Callable[..., list[str]]:
    def do(rules: ChannelRules, channels: Any = CANDIDATE, caller: str = SSO, reason: str | None = None) -> list[str]:
        return unmet(rules, manifest(VERSION), channels, caller=caller, reason=reason, now=NOW)

    return do


def test_without_rules_everything_is_met(check: Callable[..., list[str]]) -> None:
    assert check(ChannelRules(), {}) == []


@pytest.mark.parametrize(
    ("sources", "channels", "expected"),
    [
        (("candidate",), CANDIDATE, []),
        (("candidate",), {}, ["it was never in candidate"]),
        (("beta", "candidate"), CANDIDATE, []),
        (("beta", "gamma"), CANDIDATE, ["it was never in beta or gamma"]),
        (("candidate",), {"candidate": channel("candidate", IN, Move(OTHER, "2026-11-26T01:00:00Z"))}, []),
        (
            ("candidate",),
            {"candidate": channel("candidate", IN, Move(OTHER, "2026-11-26T01:00:00Z", None, "rollback", None, "bad"))},
            ["it was moved out of candidate by a rollback: bad"],
        ),
        (
            ("candidate",),
            {
                "candidate": channel(
                    "candidate", IN, Move(OTHER, "2026-11-26T01:00:00Z", None, "rollback"),
                    Move(VERSION, "2026-11-26T02:00:00Z", None, "promote"),
                )
            },
            [],
        ),
    ],
)  # fmt: skip
def test_sources(check: Callable[..., list[str]], sources: Any, channels: Any, expected: list[str]) -> None:
    assert check(ChannelRules(sources=sources), channels) == expected


def test_soak_counts_from_the_first_move_or_the_build(check: Callable[..., list[str]]) -> None:
    day = timedelta(days=1)
    assert check(ChannelRules(sources=("candidate",), soak=day)) == []
    assert check(ChannelRules(sources=("candidate",), soak=day + timedelta(minutes=30))) == [
        "it came into candidate 1 d ago, expected at least 1 d 30 min (30 min are left)"
    ]
    assert check(ChannelRules(soak=2 * day)) == []
    assert check(ChannelRules(soak=3 * day)) == ["it was built 2 d ago, expected at least 3 d (1 d are left)"]


@pytest.mark.parametrize(
    ("caller", "pattern", "met"),
    [
        (BUILDER, ROLE, True),  # as IAM writes it
        (BUILDER, "arn:aws:sts::111111111111:assumed-role/builder/*", True),
        (BUILDER, "arn:aws:iam::111111111111:role/release-*", False),
        (BUILDER, "arn:aws:iam::222222222222:role/builder", False),
        ("arn:aws:iam::111111111111:user/ann", "arn:aws:iam::111111111111:user/*", True),
        (SSO, "arn:aws:sts::111111111111:assumed-role/AWSReservedSSO_Admin_*/ann@example.com", True),
        (SSO, "arn:aws:sts::111111111111:assumed-role/AWSReservedSSO_Admin_*/eve@example.com", False),
    ],
)
def test_approvers(check: Callable[..., list[str]], caller: str, pattern: str, met: bool) -> None:
    rules = ChannelRules(approvers=(pattern,))
    assert (check(rules, caller=caller) == []) == met
    assert (unmet_by_rollback(rules, caller=caller, reason=None) == []) == met


def test_a_second_person_is_nobody_with_another_session_of_the_builders_role(check: Callable[..., list[str]]) -> None:
    rules = ChannelRules(second_person=True)
    assert check(rules) == []
    assert check(rules, caller=BUILDER.replace("night", "somebody-else")) == [
        f"a second person is required, and {ROLE} built it"
    ]
    unknown = {"candidate": channel("candidate", Move(VERSION, IN.moved, "b-1"))}
    assert check(rules, unknown) == ["a second person is required, and no record says who built it"]
    other = {"candidate": channel("candidate", Move(VERSION, IN.moved, "b-2", "build", SSO))}
    assert check(rules, other) == ["a second person is required, and no record says who built it"]


def test_the_sessions_of_identity_center_are_people() -> None:
    assert identity(SSO) == SSO
    assert identity(BUILDER) == ROLE
    assert identity("arn:aws:iam::111111111111:root") == "arn:aws:iam::111111111111:root"


def test_a_reason(check: Callable[..., list[str]]) -> None:
    rules = ChannelRules(reason=True)
    assert check(rules, reason=" ") == ["a reason is required (--reason)"]
    assert check(rules, reason="tested by hand") == []
