"""The recorded events of a failed build: (seconds since the start, event). One event has an unknown kind."""

from __future__ import annotations

from typing import Any

import pytest

from goldenami.events import Event


def at(moment: float, kind: str, /, **fields: Any) -> tuple[float, Event]:
    return moment, Event(kind, fields)


RECORDED = [
    at(
        0.0,
        "build.started",
        recipe="debian-12-web",
        version="1.4.20261124.1",
        environment="sandbox",
        digest="0f" * 32,
        targets=["home/eu-central-1", "apps/eu-west-1"],
    ),
    at(0.1, "stage.started", stage="launch builder"),
    at(0.2, "cloud.call", action="RunInstances", account="111111111111", region="eu-central-1"),
    at(2.1, "stage.finished", stage="launch builder", status="ok", seconds=2.0),
    at(2.1, "stage.started", stage="software", architecture="x86_64"),
    at(2.2, "operation.started", index=1, total=3, title="package nginx-light", place="web.yaml:21:5"),
    at(2.9, "operation.output", line="Unpacking nginx-light (1.22.1-9) ..."),
    at(
        5.3,
        "operation.finished",
        index=1,
        total=3,
        title="package nginx-light",
        place="web.yaml:21:5",
        status="changed",
        seconds=3.1,
        detail="installed 1.22.1-9",
    ),
    at(5.3, "operation.started", index=2, total=3, title="user deploy", place="web.yaml:22:5"),
    at(
        5.4,
        "operation.finished",
        index=2,
        total=3,
        title="user deploy",
        place="web.yaml:22:5",
        status="ok",
        seconds=0.1,
    ),
    at(5.5, "stage.finished", stage="software", architecture="x86_64", status="ok", seconds=3.4),
    at(5.5, "note", message="a kind that is not known follows"),
    at(5.5, "moon.phase", phase="full"),
    at(6.0, "tests.started", gate="builder", architecture="x86_64", total=3),
    at(6.0, "test.started", gate="builder", architecture="x86_64", name="base::test_boot_is_complete"),
    at(
        6.5,
        "test.finished",
        gate="builder",
        architecture="x86_64",
        name="base::test_boot_is_complete",
        outcome="passed",
        seconds=0.5,
    ),
    at(
        7.5,
        "test.finished",
        gate="builder",
        architecture="x86_64",
        name="tests/web_test.py::test_serves",
        outcome="flaky",
        seconds=1.0,
        place="tests/web_test.py:9",
        message="passed when it was run again; at first: refused\n> assert x",
    ),
    at(8.0, "test.started", gate="builder", architecture="x86_64", name="tests/web_test.py::test_user"),
    at(
        8.2,
        "tests.finished",
        gate="builder",
        architecture="x86_64",
        passed=2,
        failed=0,
        skipped=0,
        flaky=1,
        seconds=2.2,
    ),
    at(9.0, "stage.started", stage="copy"),
    at(9.1, "target.progress", target="home/eu-central-1", architecture="x86_64", state="pending", percent=0),
    at(9.2, "target.progress", target="apps/eu-west-1", architecture="x86_64", state="pending", percent=0),
    at(9.3, "target.progress", target="home/eu-central-1", architecture="x86_64", state="pending", percent=12),
    at(9.9, "target.progress", target="home/eu-central-1", architecture="x86_64", state="pending", percent=60),
    at(
        11.0,
        "target.progress",
        target="home/eu-central-1",
        architecture="x86_64",
        state="available",
        percent=100,
        image_id="ami-0123456789abcdef0",
    ),
    at(
        69.0,
        "target.progress",
        target="apps/eu-west-1",
        architecture="x86_64",
        state="failed",
        percent=None,
        detail="Client.InvalidKMSKey.InvalidState: the key is disabled",
    ),
    at(70.0, "stage.finished", stage="copy", status="failed", seconds=61.0, detail="1 of 2 targets failed"),
    at(3725.0, "build.finished", status="failed", seconds=3725.0, error="1 of 2 targets failed"),
]


@pytest.fixture
def recorded() -> list[tuple[float, Event]]:
    return list(RECORDED)
