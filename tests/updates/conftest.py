from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.updates.archives import Archive, serve


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    root = tmp_path / "archive"
    root.mkdir()
    with serve(root) as archive:
        yield archive
