"""The timeline of a build that runs: drawn until no process works on it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from goldenami import recipe
from goldenami.cli.context import open_journals
from goldenami.cli.main import main
from goldenami.events import Event
from goldenami.journal import Header
from tests.site import world

BUILD = "20261128-205708-239239b5"


def test_a_running_build_is_drawn_until_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "goldenami.yaml").write_text(world.PROJECT)
    monkeypatch.chdir(tmp_path)
    journals = open_journals(recipe.environment(recipe.load_project(tmp_path), "production"))
    journal = journals.create(Header(BUILD, "web", "d", "production", datetime.now(UTC)))
    stage = {"stage": "launch", "architecture": "x86_64"}
    drawn = []
    with journals.storage.events(BUILD).recording(lambda _: None) as emit:
        emit(Event("stage.started", stage))

        def pause(seconds: float) -> None:
            drawn.append(Path("live.svg").read_text())
            emit(Event("stage.finished", {**stage, "status": "ok"}))
            journal.finish("failed")
            journal.close()

        monkeypatch.setattr(time, "sleep", pause)
        assert main(["builds", "show", BUILD, "--follow", "--svg", "live.svg"]) == 0
    assert "and it still runs" in drawn[0]
    assert "running" in drawn[0]
    assert len(drawn) == 1
    assert "and it still runs" not in Path("live.svg").read_text()
    assert "launch (x86_64)  ok" in capsys.readouterr().out
