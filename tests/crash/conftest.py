"""The matrices: a sample of their cases by default, every case with GOLDENAMI_WHOLE_MATRIX=1 (``make test-crash``)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from goldenami_sandbox.credentials import admin_key

from tests.crash.world import HOME, World, open_world


@pytest.fixture(scope="session")
def whole() -> bool:
    """Whether every case is to run."""
    return os.environ.get("GOLDENAMI_WHOLE_MATRIX", "") not in ("", "0")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with a_world(tmp_path, monkeypatch) as world:
        yield world


@contextmanager
def a_world(path: Path, patch: pytest.MonkeyPatch, *, wire: bool = False) -> Iterator[World]:
    # Thousands of journals are flushed to the disk: in memory that costs nothing.
    memory = Path("/dev/shm")
    base = memory if os.access(memory, os.W_OK) else path
    base = base / f"goldenami-test-{os.getpid()}-{path.name}"
    base.mkdir()
    try:
        with open_world(base, wire=wire) as world:
            for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
                patch.delenv(name, raising=False)
            key = admin_key(HOME)
            patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{world.server.port}")
            patch.setenv("AWS_ACCESS_KEY_ID", key.access_key_id)
            patch.setenv("AWS_SECRET_ACCESS_KEY", key.secret_access_key)
            patch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
            yield world
    finally:
        base.rmdir()


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
