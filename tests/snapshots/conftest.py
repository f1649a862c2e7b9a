"""Volumes and snapshots on a cloud of paper, with the gate that can disturb any call."""

from __future__ import annotations

from typing import Any

import pytest

from goldenami.aws.session import Cloud
from tests.crash.conftest import world as crash_world  # noqa: F401
from tests.crash.world import World, _session
from tests.snapshots.world import Estate


def _logged_in(environment: Any, **options: Any) -> Cloud:
    return Cloud(environment.accounts, environment.home_place, **{"caller": _session(), **options})


@pytest.fixture
def estate(
    crash_world: World,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Estate:
    crash_world.fresh()
    # Each command logs in anew; what takes half a second of it is reading botocore's service descriptions again.
    monkeypatch.setattr(Cloud, "of", _logged_in)
    monkeypatch.chdir(crash_world.path)
    return Estate(crash_world, capsys)
