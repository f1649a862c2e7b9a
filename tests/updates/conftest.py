from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.updates.archives import Archive, serve


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    root = tmp_path / "archive"
    root.mkdir()
    with serve(root) as archive:
        yield archive
