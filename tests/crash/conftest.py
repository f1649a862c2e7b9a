"""The room's world: whole builds that can be disturbed and killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worlds import events
from tests.worlds.builds import World, a_world


@pytest.fixture
def world(build_world: World) -> World:
    return build_world


@pytest.fixture
def timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """One whose clock does not add up what threads sleep beside each other, for tests of how long something takes."""
    with events.running() as clock, a_world(tmp_path, monkeypatch, clock=clock) as made:
        yield made
