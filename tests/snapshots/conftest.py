"""Volumes and snapshots on a cloud of paper, with the gate that can disturb any call."""

from __future__ import annotations

import pytest

from tests.crash.conftest import world as crash_world  # noqa: F401
from tests.crash.world import World
from tests.snapshots.world import Estate


@pytest.fixture
def estate(
    crash_world: World,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Estate:
    crash_world.fresh()
    monkeypatch.chdir(crash_world.path)
    return Estate(crash_world, capsys)
