"""Whole runs with exactly the permissions that `goldenami iam policy` prints."""

from __future__ import annotations

import pytest

from tests.worlds.builds import World
from tests.worlds.flows import FLOWS, play


@pytest.mark.parametrize("name", FLOWS)
def test_a_run_has_all_permissions_that_it_needs(
    build_world: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    restricted = play(build_world, FLOWS[name], monkeypatch)
    calls = restricted.calls()
    assert calls
    assert [call["denied"] for call in calls if "denied" in call] == []
