"""The views of a recorded build: their text, and that no event breaks them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from rich.console import Console

from goldenami.errors import UsageError
from goldenami.events import Emit, Event, masked
from goldenami.report import EventFile, Lines, Live, paused, progress, tee
from tests.worlds.terminal import Screen

Recorded = list[tuple[float, Event]]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def play(recorded: Iterable[tuple[float, Event]], consumer: Emit, clock: Clock) -> None:
    for seconds, event in recorded:
        clock.now = 1000.0 + seconds
        consumer(event)


PLAIN = """\
00:00  build    debian-12-web 1.4.20261124.1 · environment sandbox · 2 targets
00:00  stage    launch builder
00:02  ok       launch builder · 2.0 s
00:02  stage    software (x86_64)
00:05  changed  1/3 package nginx-light · 3.1 s · installed 1.22.1-9 · web.yaml:21:5
00:05  ok       software (x86_64) · 3.4 s · 1 changed, 1 ok
00:05  note     a kind that is not known follows
00:07  flaky    tests/web_test.py::test_serves · tests/web_test.py:9 · passed when it was run again; at first: refused
00:08  ok       tests at gate builder (x86_64) · 2.2 s · 2 passed, 1 flaky
00:09  stage    copy
00:09  target   home/eu-central-1 (x86_64) · pending 0 %
00:09  target   apps/eu-west-1 (x86_64) · pending 0 %
00:09  target   home/eu-central-1 (x86_64) · pending 60 %
00:11  target   home/eu-central-1 (x86_64) · available · ami-0123456789abcdef0
01:09  target   apps/eu-west-1 (x86_64) · failed · Client.InvalidKMSKey.InvalidState: the key is disabled
01:10  failed   copy · 1 min 01 s · 1 of 2 targets failed
1:02:05  failed   after 1 h 02 min · 1 of 2 targets failed
"""


def test_plain_lines(recorded: Recorded) -> None:
    clock, stream = Clock(), io.StringIO()
    play(recorded, Lines(stream, clock=clock), clock)
    assert stream.getvalue() == PLAIN


def test_a_stage_with_a_failed_test_is_shown_with_the_counts_of_its_tests() -> None:
    of = {"architecture": "x86_64"}
    events = [
        Event("stage.started", {"stage": "test image", **of}),
        Event("tests.started", {"gate": "image", "total": 3, **of}),
        Event("tests.finished", {"gate": "image", "passed": 1, "failed": 1, "skipped": 1, "not_executed": 1, **of}),
        Event("stage.finished", {"stage": "test image", "status": "failed", "seconds": 2.0, **of}),
    ]
    recorded = [(float(number), event) for number, event in enumerate(events)]
    stream, clock = io.StringIO(), Clock()
    play(recorded, Lines(stream, clock=clock), clock)
    line = "test image (x86_64) · 2.0 s · 1 failed, 1 passed, 1 skipped, of which 1 not executed\n"
    assert stream.getvalue().endswith(f"00:03  failed   {line}")
    screen = io.StringIO()
    live = Live(Console(file=screen, width=120, color_system=None), clock=clock, refresh=False)
    play(recorded, live, clock)
    live.close()
    assert f"x {line}" in screen.getvalue() or f"✗ {line}" in screen.getvalue()


def test_gitlab_sections_are_never_nested(recorded: Recorded) -> None:
    clock, stream = Clock(), io.StringIO()
    lines = Lines(stream, clock=clock, sections=True, wall_clock=lambda: 1700000000.5)
    play([*recorded, (4000.0, Event("stage.started", {"stage": "left open"}))], lines, clock)
    lines.close()
    markers = [part.split("\r")[0] for part in stream.getvalue().split("\x1b[0Ksection_")[1:]]
    names = ["launch_builder", "software__x86_64_", "copy", "left_open"]
    assert markers == [f"{what}:1700000000:{name}" for name in names for what in ("start", "end")]


LASTING = """\
debian-12-web 1.4.20261124.1 · environment sandbox · 2 targets
✓ launch builder · 2.0 s
✓ software (x86_64) · 3.4 s · 1 changed, 1 ok
  a kind that is not known follows
  ! flaky · tests/web_test.py::test_serves · tests/web_test.py:9 · passed when it was run again; at first: refused
✓ tests at gate builder (x86_64) · 2.2 s · 2 passed, 1 flaky
✗ apps/eu-west-1 (x86_64) · failed · Client.InvalidKMSKey.InvalidState: the key is disabled
✗ copy · 1 min 01 s · 1 of 2 targets failed
✗ failed · 1 h 02 min
"""


def test_the_permanent_lines_of_live_are_a_log(recorded: Recorded) -> None:
    """On a console that is not a terminal, rich draws only the permanent lines."""
    clock, stream = Clock(), io.StringIO()
    live = Live(Console(file=stream, width=130, force_terminal=False), clock=clock, refresh=False)
    play(recorded, live, clock)
    assert stream.getvalue() == LASTING


def moving(recorded: Recorded, until: float, width: int = 78) -> str:
    """Return the running part after the events of the first ``until`` seconds, as text without styles."""
    clock = Clock()
    live = Live(Console(file=io.StringIO(), width=width, force_terminal=True), clock=clock, refresh=False)
    play([entry for entry in recorded if entry[0] <= until], live, clock)
    output = io.StringIO()
    page = Console(file=output, width=width, color_system=None)
    page.print(live._live.get_renderable())
    live.close()
    return output.getvalue()


def test_live_shows_the_running_operation_and_its_last_line(recorded: Recorded) -> None:
    first, second = moving(recorded, 3.0).splitlines()
    assert first[1:].rstrip() == " software (x86_64)  0.8 s  1/3 package nginx-light"
    assert second.rstrip() == "    Unpacking nginx-light (1.22.1-9) ..."


def test_live_counts_tests(recorded: Recorded) -> None:
    (line,) = moving(recorded, 8.0).splitlines()
    assert line[1:].rstrip() == " tests at gate builder (x86_64)  2/3  1 flaky  tests/web_test.py::test_user"


def test_live_has_a_row_for_each_target(recorded: Recorded) -> None:
    _, home, apps = moving(recorded, 9.9).splitlines()
    assert home.split() == ["home/eu-central-1", "(x86_64)", "pending", "━" * 12 + "─" * 8, "60", "%"]
    assert apps.split()[:3] == ["apps/eu-west-1", "(x86_64)", "pending"]
    _, home, _ = moving(recorded, 11.0).splitlines()
    assert home.split()[2:] == ["available", "ami-0123456789abcdef0"]


@pytest.mark.parametrize("width", [20, 40, 200])
def test_live_fits_the_width(recorded: Recorded, width: int) -> None:
    for until in (3.0, 8.0, 9.9, 69.0):
        assert all(len(line) <= width for line in moving(recorded, until, width).splitlines())


STRANGE = [
    Event(kind, fields)
    for kind in (
        *("build.started", "build.skipped", "build.finished", "stage.started", "stage.finished", "operation.started"),
        *("operation.finished", "operation.output", "target.progress", "tests.started", "test.started"),
        *("test.finished", "tests.finished", "cloud.call", "note", "unheard.of", ""),
    )
    for fields in (
        {},
        {"stage": None, "title": 3, "seconds": None, "percent": "many", "total": "x", "targets": None},
        {"stage": "[red]", "title": "[/red]", "line": "\x1b[2J\r\n[bold", "message": "\x1b]0;x\x07", "target": "[x]"},
    )
]


def test_no_event_breaks_a_view(tmp_path: Path) -> None:
    warnings: list[Event] = []
    stream = io.StringIO()
    live = Live(Console(file=stream, force_terminal=True, width=80), refresh=False)
    page = io.StringIO()
    with EventFile(tmp_path / "events") as file:
        emit = tee(live, Lines(page), file, lambda e: warnings.append(e) if e.fields.get("level") else None)
        for event in STRANGE:
            emit(event)
            live.draw()
    live.close()
    assert warnings == []
    assert "\x1b[2J" not in stream.getvalue() + page.getvalue()
    assert "\x1b]0" not in stream.getvalue() + page.getvalue()


def test_event_file_is_json_lines(recorded: Recorded, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for _ in range(2):  # a resumed build appends to the same file
        with EventFile(path, wall_clock=lambda: 1795487400.25) as file:
            for _, event in recorded:
                file(event)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(records) == 2 * len(recorded)
    assert records[1] == {
        "schema": "goldenami.events/1",
        "time": "2026-11-24T02:30:00.250Z",
        "kind": "stage.started",
        "stage": "launch builder",
    }


def test_event_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        EventFile(tmp_path / "missing" / "events")


def test_tee_goes_on_without_a_consumer_that_fails() -> None:
    seen: list[Event] = []

    def broken(event: Event) -> None:
        raise BrokenPipeError("closed")

    emit = tee(broken, seen.append)
    emit(Event("note", {"message": "one"}))
    emit(Event("note", {"message": "two"}))
    assert [event.fields["message"] for event in seen] == [
        (
            "test_tee_goes_on_without_a_consumer_that_fails.<locals>.broken failed and receives no more events: "
            "BrokenPipeError: closed"
        ),
        "one",
        "two",
    ]


def test_tee_calls_a_consumer_from_one_thread_at_a_time() -> None:
    inside: list[int] = []
    most: list[int] = []

    def consumer(event: Event) -> None:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.001)
        inside.pop()

    emit = tee(consumer)
    threads = [threading.Thread(target=lambda: [emit(Event("note")) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(most), max(most)) == (80, 1)


def test_live_and_threads(recorded: Recorded) -> None:
    """Events and redraws from many threads at the same time do not block each other and do not fail."""
    live = Live(Console(file=io.StringIO(), force_terminal=True, width=80))
    emit = tee(live)
    threads = [threading.Thread(target=lambda: [emit(event) for _, event in recorded * 3]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
    assert not any(thread.is_alive() for thread in threads)
    live.close()
    live.close()


def test_progress_prints_lines_without_a_terminal(recorded: Recorded, tmp_path: Path) -> None:
    stream = io.StringIO()
    with progress(Console(file=stream), events=tmp_path / "events", environment={}) as emit:
        for _, event in recorded:
            emit(event)
    assert "stage    launch builder" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()
    assert (tmp_path / "events").read_text().count("\n") == len(recorded)


def test_progress_respects_no_color_on_a_terminal(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = io.StringIO()
    with progress(Console(file=stream, force_terminal=True, width=80)) as emit:
        for _, event in recorded:
            emit(event)
    assert "\x1b[32m" not in stream.getvalue()
    assert "✓ launch builder" in stream.getvalue().replace("\x1b[0m", "")


def test_live_on_a_real_terminal_ends_with_the_permanent_lines(recorded: Recorded) -> None:
    """On a pseudo-terminal, the cursor is visible again at the end, and the running part is removed."""
    leader, follower = os.openpty()
    shown = bytearray()

    def read() -> None:  # continuously, because a terminal buffers only 4 KiB
        with contextlib.suppress(OSError):  # Linux raises this error when the other side is closed
            while data := os.read(leader, 1 << 16):
                shown.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(follower, "w", encoding="utf-8") as terminal:
        console = Console(file=terminal, force_terminal=True, width=130, color_system=None)
        with progress(console) as emit:
            for _, event in recorded:
                emit(event)
    reader.join(timeout=60)
    os.close(leader)
    text = shown.decode()
    assert "\x1b[?25h" in text.rsplit("\x1b[?25l", 1)[1]
    for line in LASTING.splitlines()[1:3]:
        assert line in text


def test_masked_events() -> None:
    seen: list[Event] = []
    emit = masked(seen.append, ["hunter22", "abc"])
    emit(Event("note", {"message": "hunter22 and abc", "list": ["x hunter22"], "map": {"deep": ("hunter22",)}, "n": 1}))
    assert seen[0].fields == {
        "message": "******** and abc",  # secrets of three letters are not masked, because they occur in many words
        "list": ["x ********"],
        "map": {"deep": ["********"]},
        "n": 1,
    }


def test_the_next_build_of_a_run_starts_without_targets(recorded: Recorded) -> None:
    """A base recipe is built before its child: the child's targets do not have the base's images."""
    clock, stream = Clock(), io.StringIO()
    again = Event(
        "target.progress",
        {"target": "home/eu-central-1", "architecture": "x86_64", "state": "available", "percent": 0.0},
    )
    play([*recorded, (4000.0, recorded[0][1]), (4001.0, again)], Lines(stream, clock=clock), clock)
    last = stream.getvalue().splitlines()[-1]
    assert "home/eu-central-1" in last
    assert "ami-" not in last


@pytest.mark.parametrize("round", range(4))
def test_threads_do_not_erase_each_others_lines(round: int) -> None:
    """Stages of two architectures and copies end in threads, and the view is drawn in another one."""
    stream, switched = io.StringIO(), sys.getswitchinterval()
    live = Live(Console(file=stream, force_terminal=True, width=100, height=60), refresh=False)
    over = threading.Event()

    def draw() -> None:
        while not over.wait(0.002):
            live.draw()

    def run(thread: int) -> None:
        for number in range(60):
            live(Event("stage.started", {"stage": f"stage {thread}.{number}"}))
            live(Event("stage.finished", {"stage": f"stage {thread}.{number}", "status": "ok", "seconds": 1.0}))

    drawing = threading.Thread(target=draw)
    threads = [threading.Thread(target=run, args=[number]) for number in range(4)]
    sys.setswitchinterval(1e-5)
    try:
        drawing.start()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        over.set()
        drawing.join()
        live.close()
        sys.setswitchinterval(switched)
    screen = Screen()
    screen.feed(stream.getvalue())
    expected = [f"✓ stage {thread}.{number} · 1.0 s" for thread in range(4) for number in range(60)]
    assert sorted(screen.text.splitlines()) == sorted(expected)


def test_the_live_view_is_removed_for_a_question_and_drawn_again() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, color_system=None)
    live = Live(console, refresh=False)
    emit = tee(live)
    emit(Event("stage.started", {"stage": "software"}))
    live.draw()

    def shown() -> str:
        screen = Screen()
        screen.feed(stream.getvalue())
        return screen.text

    assert "software" in shown()
    with paused(emit):
        assert "software" not in shown()
        stream.write("Clean? keep\n")
    live.draw()
    assert "Clean? keep\n" in shown()
    assert "software" in shown()
    live.close()
    with paused(lambda event: None):
        pass
