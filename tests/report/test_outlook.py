"""What the views say about the rest of a build: the next stages, the time that is left, and many targets as counts."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from goldenami.errors import TestsFailed
from goldenami.events import Event
from goldenami.report import Lines, Live, progress, render_error, stderr_console
from goldenami.report.state import BuildState
from goldenami.report.text import about
from tests.worlds.builds import World

ARM = "arm64"
STAGES = [("launch", ARM, 20, 200), ("software", ARM, 60, 180), ("copy", "", 90, 110), ("verify", "", 10, 15)]


def started(*, known: bool = True, **fields: Any) -> Event:
    expected = [
        {"stage": stage, "architecture": architecture, **({"seconds": seconds, "left": left} if known else {})}
        for stage, architecture, seconds, left in STAGES
    ]
    given = {"recipe": "web", "version": "1.0.20261124.1", "build_id": "20261124-030000-abcd", "expected": expected}
    return Event("build.started", {**given, **fields})


def stage(kind: str, name: str, architecture: str = "", **fields: Any) -> Event:
    return Event(f"stage.{kind}", {"stage": name, "architecture": architecture, **fields})


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def drawn(events: list[tuple[float, Event]], at: float, width: int = 100) -> list[str]:
    """Return the lines of the running part at a time."""
    clock = Clock()
    live = Live(Console(file=io.StringIO(), width=width, force_terminal=True), clock=clock, refresh=False)
    for seconds, event in events:
        clock.now = 1000.0 + seconds
        live(event)
    clock.now = 1000.0 + at
    page = io.StringIO()
    Console(file=page, width=width, color_system=None).print(live._live.get_renderable())
    live.close()
    return [line.rstrip() for line in page.getvalue().splitlines()]


def printed(events: list[tuple[float, Event]], **how: Any) -> str:
    clock, stream = Clock(), io.StringIO()
    lines = Lines(stream, clock=clock, **how)
    for seconds, event in events:
        clock.now = 1000.0 + seconds
        lines(event)
    return stream.getvalue()


BEGUN = [
    (0.0, started()),
    (0.0, stage("started", "launch", ARM)),
    (9.0, Event("host.launched", {"purpose": "builder", "architecture": ARM, "instance_id": "i-0123456789abcdef0"})),
    (10.0, stage("finished", "launch", ARM, status="ok", seconds=10.0)),
    (10.0, stage("started", "software", ARM)),
]


def test_the_next_stages_the_time_and_the_ids_are_shown() -> None:
    running, following, facts = drawn(BEGUN, 40.0)
    assert running[1:] == " software (arm64)  30 s"
    assert following == "  next: copy, verify"
    assert facts == "  40 s · about 2 min left · builder i-0123456789abcdef0 · build 20261124-030000-abcd"


def test_a_narrow_terminal_shows_the_times() -> None:
    lines = drawn(BEGUN, 40.0, width=40)
    assert all(len(line) <= 40 for line in lines)
    assert lines[-1].startswith("  40 s · about 2 min left · builder")


def test_without_past_builds_there_is_no_estimate() -> None:
    events = [(0.0, started(known=False)), *BEGUN[1:]]
    assert drawn(events, 40.0)[1:] == [
        "  next: copy, verify",
        "  40 s · builder i-0123456789abcdef0 · build 20261124-030000-abcd",
    ]
    assert "left" not in printed(events)


def left(events: list[tuple[float, Event]], now: float) -> float | None:
    state = BuildState()
    for seconds, event in events:
        state.apply(event, seconds)
    return state.left(now)


def test_the_estimate_is_that_of_past_builds() -> None:
    assert left(BEGUN[:2], 0.0) == 200.0
    assert left(BEGUN, 40.0) == 150.0  # 180 after the start of the software
    # A stage that takes longer than usual: what follows it still takes 120 seconds.
    assert left(BEGUN, 10.0 + 60.0 + 500.0) == 120.0
    between = [*BEGUN, (70.0, stage("finished", "software", ARM, status="ok"))]
    assert left(between, 80.0) == 110.0
    assert left(between, 500.0) is None


def test_stages_that_a_resume_skips_are_not_next() -> None:
    state = BuildState()
    state.apply(started(), 0.0)
    state.apply(stage("started", "copy", beside=True), 1.0)
    assert [one.name for one in state.upcoming] == ["verify"]
    assert state.left(1.0) == 110.0


def test_a_stage_beside_others_leaves_those_that_run_at_the_same_time() -> None:
    state, image = BuildState(), ("boot image", "test image")
    names = [("launch", ARM), ("copy", ""), *((name, ARM) for name in image), ("verify", ""), ("publish", "")]
    state.apply(started(expected=[{"stage": name, "architecture": of} for name, of in names]), 0.0)
    state.apply(stage("started", "verify", beside=True), 1.0)
    assert [one.name for one in state.upcoming] == [*image, "publish"]
    state.apply(stage("started", "boot image", ARM), 2.0)
    state.apply(stage("started", "publish"), 3.0)
    assert state.upcoming == []


def test_the_images_are_read_back_beside_other_stages(build_world: World) -> None:
    build_world.fresh()
    build_world.built()
    begun = [event.fields for event in build_world.events if event.kind == "stage.started"]
    assert {fields["stage"] for fields in begun if fields.get("beside")} == {"copy", "verify"}


def test_an_instance_is_shown_until_its_last_stage_ends() -> None:
    state = BuildState()
    for at, event in BEGUN:
        state.apply(event, at)
    assert state.instances == {("builder", ARM): "i-0123456789abcdef0"}
    state.apply(stage("finished", "capture", ARM), 20.0)
    assert state.instances == {}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4, "a few seconds"), (38, "about 40 s"), (58, "about 1 min"), (200, "about 3 min"), (4200, "about 1 h 10 min")],
)
def test_estimates_are_coarse(seconds: float, text: str) -> None:
    assert about(seconds) == text


# --- targets ----------------------------------------------------------------------------------------------------------


def moved(number: int, state: str, percent: float | None, detail: str = "") -> Event:
    fields = {"target": f"apps/region-{number}", "architecture": ARM, "state": state, "percent": percent}
    return Event("target.progress", {**fields, "detail": detail})


MANY = [
    (0.0, started()),
    (1.0, stage("started", "copy", beside=True)),
    *((2.0, moved(number, "copying", 20.0 + number)) for number in range(300)),
    *((3.0, moved(number, "available", 100.0)) for number in range(43)),
    (4.0, moved(44, "failed", None, "the key is disabled")),
    (5.0, moved(45, "retrying", None, "the copy failed")),
]


def test_many_targets_are_counts_and_the_unusual_rows() -> None:
    _, summary, failed, again, *_ = drawn(MANY, 6.0)
    slowest = "slowest apps/region-43 (arm64) 63 %"
    assert summary == f"  copying 255 · retrying 1 · available 43 · failed 1 · {slowest}"
    assert failed.split() == ["apps/region-44", "(arm64)", "failed", "the", "key", "is", "disabled"]
    assert again.split()[:3] == ["apps/region-45", "(arm64)", "retrying"]
    failing = [(4.0, moved(number, "failed", None)) for number in range(50, 60)]
    assert "  and 8 more" in drawn([*MANY, *failing], 6.0)


def test_a_log_has_a_line_about_what_takes_long() -> None:
    told = [
        (0.0, 1.0),
        (299.0, 2.0),
        (301.0, 2.0),
        (400.0, 3.0),
        (699.0, 4.0),
        (700.0, 4.0),
        (701.0, 5.0),
        (702.0, 25.0),
    ]
    lines = printed([(0.0, started()), *((s, moved(1, "comparing", p, f"{s:.0f}")) for s, p in told)]).splitlines()[1:]
    assert [(line.split(" · ")[-2], line.split(" · ")[-1]) for line in lines] == [
        ("comparing 1 %", "0"),
        ("comparing 2 %", "301"),
        ("comparing 4 %", "699"),
        ("comparing 25 %", "702"),
    ]


def test_a_narrow_terminal_shows_all_counts_and_states() -> None:
    lines = drawn(MANY, 6.0, width=40)
    assert all(len(line) <= 40 for line in lines)
    text = " ".join(" ".join(lines).split())
    assert "copying 255 · retrying 1 · available 43 · failed 1 · slowest apps/region-43 (arm64) 63 %" in text
    assert any(" failed " in line for line in lines[2:])
    few = [(0.0, started()), *((1.0, moved(number, "copying", 33.0)) for number in range(2))]
    assert [line.split()[-3:] for line in drawn(few, 2.0, width=40)[:2]] == [["copying", "33", "%"]] * 2


def test_the_log_of_many_targets_is_short() -> None:
    lines = printed([*MANY, *((40.0, moved(number, "available", 100.0)) for number in range(60, 300))]).splitlines()
    assert len(lines) < 20
    assert [line.split()[1] for line in lines[10:]] == ["targets", "target", "target", "targets"]
    assert "failed · the key is disabled" in lines[-3]


# --- tests ------------------------------------------------------------------------------------------------------------

FAILING = [
    (0.0, stage("started", "test builder", ARM)),
    (0.0, Event("tests.started", {"gate": "builder", "architecture": ARM, "total": 2})),
    *(
        (1.0, Event("test.finished", {"gate": "builder", "architecture": ARM, "seconds": 1.0, **result}))
        for result in (
            {"name": "one", "outcome": "passed"},
            {"name": "two", "outcome": "failed", "place": "tests/a.py:3", "message": "no server\n> assert x"},
        )
    ),
    (2.0, Event("tests.finished", {"gate": "builder", "architecture": ARM, "passed": 1, "failed": 1, "seconds": 2.0})),
    (2.0, stage("finished", "test builder", ARM, status="failed", seconds=2.0)),
]
ERROR = TestsFailed(
    "1 of 2 tests failed at gate builder (arm64)", details=["  two (tests/a.py:3)", "      no server"], hint="Look."
)


def test_each_test_is_told_once() -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=100, force_terminal=False)
    live = Live(console, clock=Clock(), refresh=False)
    for _, event in FAILING:
        live(event)
    live.close()
    render_error(ERROR, console, tests=False)
    assert stream.getvalue().splitlines() == [
        "  ✗ two · tests/a.py:3",
        "      no server",
        "      > assert x",
        "✗ test builder (arm64) · 2.0 s · 1 failed, 1 passed",
        "error: 1 of 2 tests failed at gate builder (arm64)",
        "hint: Look.",
    ]
    assert "no server" in ERROR.message


def test_the_log_has_the_message_of_a_failed_test() -> None:
    assert printed(FAILING).splitlines() == [
        "00:00  stage    test builder (arm64)",
        "00:01  failed   two · tests/a.py:3",
        "               | no server",
        "               | > assert x",
        "00:02  failed   test builder (arm64) · 2.0 s · 1 failed, 1 passed",
    ]


# --- terminals --------------------------------------------------------------------------------------------------------


def test_forced_colours_off_a_terminal_are_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with progress(stderr_console(), environment={}) as emit:
        for _, event in FAILING:
            emit(event)
    shown = capsys.readouterr().err
    assert "\x1b[1;31mfailed  \x1b[0m two" in shown
    assert not re.search(r"\x1b\[[0-9;?]*[A-LN-Za-ln-z]|\r|[⠀-⣿]", shown)  # only colors, nothing that moves
    monkeypatch.setenv("NO_COLOR", "1")
    with progress(stderr_console(), environment={}) as emit:
        emit(FAILING[0][1])
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize("columns", ["0", "-3", "many", "1000000"])
def test_a_useless_width_is_not_used(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert stderr_console().width == 160
