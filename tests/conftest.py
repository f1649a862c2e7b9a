"""What all tests share: how hypothesis draws, and a world to build in.

The worlds are in ``tests/worlds``; the clouds are fixtures of ``goldenami_sandbox.fixtures``. The fixtures that open a
world import it: loading the cloud takes a third of a second, which most tests do not need.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.worlds.builds import World

# A busy machine is no failure; and in CI, one commit has one verdict.
settings.register_profile("goldenami", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("goldenami")


@pytest.fixture(scope="session")
def whole() -> bool:
    """Whether every case of the matrices runs (``make test-crash``), or a sample of them."""
    return os.environ.get("GOLDENAMI_WHOLE_MATRIX", "") not in ("", "0")


@pytest.fixture
def build_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Whole builds without hosts; each case begins with ``fresh``."""
    from tests.worlds.builds import a_world

    with a_world(tmp_path, monkeypatch) as world:
        yield world


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How many cases the matrices had: a matrix that lost its cases would pass as well."""
    counts: dict[str, int] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) != "call":  # what a test recorded is in the report of its end as well
                continue
            for name, value in getattr(report, "user_properties", ()):
                if name.startswith("cases of "):
                    counts[name] = counts.get(name, 0) + value
    if counts:
        terminalreporter.section("crash and fault cases")
        for name, count in sorted(counts.items()):
            terminalreporter.write_line(f"{count:5} {name}")
