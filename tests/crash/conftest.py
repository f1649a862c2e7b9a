"""The room's world: whole builds that can be disturbed and killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worlds import events
from tests.worlds.builds import World


@pytest.fixture
def world(build_world: World) -> World:
    return build_world


@pytest.fixture
def timed(tmp_path: Path) -> Iterator[World]:
    with events.timed_world(tmp_path) as made:
        yield made
