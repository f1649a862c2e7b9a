"""Projects made of text, for tests of recipes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

SANDBOX = "environments: {sandbox: {sandbox: true}}\n"


@pytest.fixture
def write_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], Path]:
    """Write files below a fresh directory and go there; goldenami.yaml has the sandbox unless it is given."""

    def write(files: dict[str, str]) -> Path:
        for name, text in {"goldenami.yaml": SANDBOX, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        return tmp_path

    return write
