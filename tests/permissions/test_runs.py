"""Whole runs with exactly the permissions that `goldenami iam policy` prints; and the table has every call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from goldenami_sandbox.authorization import Use

from goldenami.aws.calls import Role, rows_of
from tests.worlds.builds import World
from tests.worlds.flows import FLOWS, play
from tests.worlds.roles import is_ours

NAMES = {"servicequotas": "service-quotas"}  # as requests are signed, and as botocore calls it


@dataclass
class Run:
    """A flow that was played: its calls, the permissions that it used, and how it failed."""

    calls: list[dict[str, Any]]
    used: set[Use]
    error: BaseException | None


@pytest.fixture(scope="module")
def runs(build_world: World) -> dict[str, Run]:
    """Every flow, played once."""
    made: dict[str, Run] = {}
    for name, flow in FLOWS.items():
        error: BaseException | None = None
        with pytest.MonkeyPatch.context() as patch:
            try:
                play(build_world, flow, patch)
            except (Exception, AssertionError) as problem:
                error = problem
        calls = [
            {**call, "service": NAMES.get(call["service"], call["service"])}
            for call in build_world.paper.calls
            if is_ours(call["principal"])
        ]
        made[name] = Run(calls, set(build_world.behind.authorization.used), error)
    return made


@pytest.mark.parametrize("name", FLOWS)
def test_a_run_has_all_permissions_that_it_needs(runs: dict[str, Run], name: str) -> None:
    run = runs[name]
    assert [call["denied"] for call in run.calls if "denied" in call] == []
    if run.error is not None:
        raise run.error
    assert run.calls


def role_of(principal: str, flow: str) -> Role:
    if ":assumed-role/" not in principal:
        return Role.CALLER
    if FLOWS[flow].planner:
        return Role.PLANNER
    return Role.BUILDER if "goldenami-builder" in principal else Role.PUBLISHER


def test_the_table_has_every_call_of_every_run(runs: dict[str, Run]) -> None:
    unknown = set()
    for name, run in runs.items():
        for call in run.calls:
            role = role_of(call["principal"], name)
            if not any(role in row.roles for row in rows_of(call["service"], call["action"])):
                unknown.add(f"{call['service']}:{call['action']} as {role} in the flow {name}")
    assert unknown == set(), "add a row to goldenami/aws/calls.py for each, with its permissions"
