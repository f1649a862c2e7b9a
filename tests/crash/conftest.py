"""The room's world: whole builds that can be disturbed and killed."""

from __future__ import annotations

import pytest

from tests.worlds.builds import World


@pytest.fixture
def world(build_world: World) -> World:
    return build_world
