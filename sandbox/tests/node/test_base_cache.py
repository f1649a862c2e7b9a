"""The cache of base images: of one definition each, and those of older definitions are neither used nor left."""

from __future__ import annotations

from pathlib import Path

import pytest
from goldenami_sandbox.node import baseimage


def test_an_old_cache_under_another_hash_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def make(release: baseimage.Release, target: Path) -> None:
        made.append(target)
        target.write_text(f"{release.suite} of this definition")

    monkeypatch.setattr(baseimage, "_make", make)  # a root takes 30 seconds
    old, other = tmp_path / "debian-12-amd64-0123456789ab.ext4", tmp_path / "debian-13-amd64-0123456789ab.ext4"
    for path in (old, other):
        path.write_text("of an older definition")
    found = baseimage.image("debian-12", tmp_path)
    assert (found.read_text(), made) == ("bookworm of this definition", [found])
    assert not old.exists()
    assert other.exists(), "of a release that nobody asked for"
    assert baseimage.image("debian-12", tmp_path) == found
    assert made == [found], "it was made a second time"
