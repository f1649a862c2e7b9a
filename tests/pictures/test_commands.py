"""The commands that write pictures: schedules and histories. tests/snapshots has that of lineages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from goldenami.cli.main import main
from tests.pictures import boxes
from tests.site import world

SCHEDULES = """\
    schedules:
      nightly:
        what: {volumes: {tags: {backup: nightly}}}
        when: "0 3 * * MON-FRI"
        time_zone: Europe/Berlin
        retention: {keep: 5}
"""
NOW = ("--now", "2026-10-22T12:00")


def test_a_calendar_of_schedules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "goldenami.yaml").write_text(world.PROJECT + SCHEDULES)
    monkeypatch.chdir(tmp_path)
    assert main(["schedule", "calendar", *NOW, "--weeks", "2", "--svg", "calendar.svg"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "nightly: 0 3 * * MON-FRI, Europe/Berlin, keeps the newest 5",
        "            Mon      Tue      Wed      Thu      Fri      Sat      Sun",
        "2026-10-19  -        -        -        -        03:00    -        -",
        "                                                removed",
        "2026-10-26  03:00    03:00    03:00    03:00    03:00    -        -",
        "            kept     kept     kept     kept     kept",
    ]
    shown = [box.text for box in boxes.texts(Path("calendar.svg").read_text())]
    assert (shown.count("03:00"), shown.count("kept"), shown.count("removed")) == (6, 5, 1)
    assert main(["schedule", "calendar", *NOW, "--weeks", "1", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["schedules"]
    assert found["complete"] is True
    assert found["days"][4] == {"date": "2026-10-23", "runs": ["2026-10-23T03:00:00+02:00"], "kept": 1}


def test_a_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["history", "image-0", "--svg", "history.svg"]) == 0
    document = Path("history.svg").read_text()
    shown = [box.text for box in boxes.texts(document)]
    assert "stable is 1.0.20261103.1: promote" in shown
    assert shown.index("candidate is 1.0.20261104.1: build") < shown.index("candidate is 1.0.20261101.1: build")
    assert "1.0.20261101.1: revoke" in shown
    assert boxes.problems(document) == []
    assert main(["images", "history", "image-0@stable", "--svg", "stable.svg"]) == 0
    assert "candidate" not in Path("stable.svg").read_text()
