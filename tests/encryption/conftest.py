"""The room's world: whole builds without hosts."""

from __future__ import annotations

import pytest

from tests.worlds.builds import World


@pytest.fixture
def world(build_world: World) -> World:
    build_world.fresh()
    return build_world
