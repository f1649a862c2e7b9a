"""What a command learnt of its environment is kept for the next one of this user."""

from __future__ import annotations

from pathlib import Path

import pytest

from goldenami.stages import learnt
from tests.worlds.builds import World


@pytest.fixture
def world(build_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A user whose cache is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    build_world.fresh()
    return build_world


def test_the_next_command_knows_what_the_last_one_learnt(world: World, tmp_path: Path) -> None:
    environment, cloud = world.environment, world.cloud
    with learnt.kept(environment, cloud):
        cloud.durations, cloud.allowed = {"image": 90.5}, {"0123": 1.8e9}
    cloud.durations, cloud.allowed = {}, {}
    with learnt.kept(environment, cloud):
        assert (cloud.durations, cloud.allowed) == ({"image": 90.5}, {"0123": 1.8e9})
    (file,) = (tmp_path / "goldenami" / "learnt").iterdir()
    endless = (f'{{"image": 1{"0" * 400}}}', f'{{"image": 1{"0" * 5000}}}', f'{{"image": {"[" * 100_000}')
    numbers = ("[1]", '{"image": NaN, "stopped": -1, "running": "soon", "volume": true}', *endless)
    for part in ("durations", "allowed"):
        for text in ("no JSON", *numbers, *(f'{{"{part}": {text}}}' for text in numbers)):
            file.write_text(text)
            cloud.durations, cloud.allowed = {}, {}
            with learnt.kept(environment, cloud):
                assert (cloud.durations, cloud.allowed) == ({}, {}), text[:80]


def test_only_the_newest_simulations_are_kept(world: World) -> None:
    environment, cloud = world.environment, world.cloud
    with learnt.kept(environment, cloud):
        cloud.allowed = {str(number): 1.8e9 + number for number in reversed(range(5001))}
    cloud.allowed = {}
    with learnt.kept(environment, cloud):
        assert cloud.allowed.keys() == {str(number) for number in range(1, 5001)}
