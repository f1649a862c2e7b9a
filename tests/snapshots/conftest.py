"""Volumes and snapshots on a cloud of paper, with the gate that can disturb any call."""

from __future__ import annotations

from typing import Any

import pytest

from goldenami.aws.session import Cloud
from tests.worlds.builds import World, _session
from tests.worlds.volumes import Estate


def _logged_in(environment: Any, **options: Any) -> Cloud:
    return Cloud(environment.accounts, environment.home_place, **{"caller": _session(), **options})


@pytest.fixture
def public() -> bool:
    """Whether the instance has a public address. A file of tests may override it."""
    return False


@pytest.fixture
def estate(
    build_world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    public: bool,
) -> Estate:
    build_world.fresh()
    # Each command logs in anew; what takes half a second of it is reading botocore's service descriptions again.
    monkeypatch.setattr(Cloud, "of", _logged_in)
    monkeypatch.chdir(build_world.path)
    return Estate(build_world, capsys, public=public)
