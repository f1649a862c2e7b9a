"""How long waits took is kept for the next command, for this user and environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from goldenami.stages import durations
from tests.worlds.builds import World


def test_the_next_command_knows_how_long_waits_took(
    build_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    build_world.fresh()
    environment, cloud = build_world.environment, build_world.cloud
    with durations.kept(environment, cloud):
        cloud.durations = {"image": 90.5}
    cloud.durations = {}
    with durations.kept(environment, cloud):
        assert cloud.durations == {"image": 90.5}
    (file,) = (tmp_path / "goldenami" / "durations").iterdir()
    damaged = ("no JSON", "[1]", '{"image": NaN, "stopped": -1, "running": "soon", "volume": true}')
    endless = (f'{{"image": 1{"0" * 400}}}', f'{{"image": 1{"0" * 5000}}}', f'{{"image": {"[" * 100_000}')
    for text in (*damaged, *endless):
        file.write_text(text)
        cloud.durations = {}
        with durations.kept(environment, cloud):
            assert cloud.durations == {}, text[:80]
