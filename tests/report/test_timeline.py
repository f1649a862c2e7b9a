"""The timeline of recorded events: stages with their times, also of a process that was killed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

from goldenami.events import Event
from goldenami.journal import Recorded
from goldenami.report.timeline import draw, lines, timeline

START = datetime(2026, 11, 24, 3, tzinfo=UTC)


def recorded(seconds: float, kind: str, run: str = "a", **fields: str) -> Recorded:
    return Recorded(run, START + timedelta(seconds=seconds), Event(kind, fields))


EVENTS = [
    recorded(0, "build.started"),
    recorded(0, "stage.started", stage="launch", architecture="x86_64"),
    recorded(20, "stage.finished", stage="launch", architecture="x86_64", status="ok"),
    recorded(20, "stage.started", stage="software", architecture="x86_64"),
    recorded(60, "note"),
    recorded(100, "stage.started", "b", stage="<verify>"),
    recorded(160, "stage.finished", "b", stage="<verify>", status="failed"),
    recorded(160, "stage.finished", "b", stage="never begun", status="ok"),
    recorded(170, "stage.started", "b", stage="copy"),
    recorded(200, "note", "b"),
]


def test_stages_have_their_times_and_endings() -> None:
    found = timeline(EVENTS, running=True)
    assert [(s.label, s.status, s.seconds, s.run) for s in found.spans] == [
        ("launch (x86_64)", "ok", 20.0, 1),
        ("software (x86_64)", "lost", 40.0, 1),
        ("<verify>", "failed", 60.0, 2),
        ("copy", "running", None, 2),
    ]
    assert (found.started, found.ended, found.runs) == (START, START + timedelta(seconds=200), 2)
    assert timeline(EVENTS, running=False).spans[-1].status == "lost"
    assert found.spans[0].to_json() == {
        "run": 1,
        "stage": "launch",
        "architecture": "x86_64",
        "status": "ok",
        "started": "2026-11-24T03:00:00Z",
        "ended": "2026-11-24T03:00:20Z",
        "seconds": 20.0,
    }


def test_the_text_has_a_bar_for_each_stage() -> None:
    assert lines(timeline(EVENTS, running=True)) == [
        "  00:00  launch (x86_64)    ok               20 s  |####                                    |",
        "  00:20  software (x86_64)  lost             40 s  |    ########                            |",
        "  01:40  <verify>           failed     1 min 00 s  |                    ############        |",
        "  02:50  copy               running                |                                  ######|",
    ]
    assert lines(timeline(EVENTS, running=True), bars=False)[0].endswith("20 s")
    assert lines(timeline([], running=False)) == []


def test_the_drawing_is_valid_and_escaped() -> None:
    root = ElementTree.fromstring(draw(timeline(EVENTS, running=True), "web <1>"))
    bars = root.findall(".//{http://www.w3.org/2000/svg}g/{http://www.w3.org/2000/svg}g")
    assert len(bars) == 4
    assert "<verify>: failed" in "".join(bars[2].itertext())
    assert ElementTree.fromstring(draw(timeline([], running=False), "nothing")) is not None
