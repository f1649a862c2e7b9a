"""Volumes and snapshots on a cloud of paper, with the gate that can disturb any call."""

from __future__ import annotations

import pytest

from goldenami.aws.session import Cloud
from tests.worlds.builds import World, logged_in
from tests.worlds.volumes import Estate


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
    monkeypatch.setattr(Cloud, "of", logged_in)
    monkeypatch.chdir(build_world.path)
    return Estate(build_world, capsys, public=public)
