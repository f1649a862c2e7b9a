"""``goldenami watch``: a build of another process, until it ends, whatever way that is."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from goldenami.aws.session import Cloud
from goldenami.cli import watch
from goldenami.cli.main import main
from goldenami.errors import GoldenAmiError, TestsFailed
from goldenami.events import Event
from goldenami.journal import Header, Journals
from goldenami.model import Architecture
from goldenami.stages.build import BuildContext, Host, Prepared
from tests.worlds.builds import PaperHostWork, World, logged_in
from tests.worlds.recordings import calls
from tests.worlds.terminal import Terminal


class Waiting(PaperHostWork):
    """Holds a build until somebody watches it."""

    def __init__(self, error: GoldenAmiError | None = None) -> None:
        super().__init__()
        self.begun, self.watched = threading.Event(), threading.Event()
        self.error = error

    def prepare(self, build: BuildContext, architecture: Architecture, host: Host) -> Prepared:
        self.begun.set()
        assert self.watched.wait(120)
        if self.error is not None:
            raise self.error
        return super().prepare(build, architecture, host)


@pytest.fixture
def world(build_world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    build_world.fresh()
    monkeypatch.chdir(build_world.path)
    monkeypatch.setattr(Cloud, "of", logged_in)
    return build_world


def watched(world: World, hosts: Waiting) -> int:
    """Watch a build while it runs in another thread, and return the exit code of the watching."""
    world.host_work = hosts

    def build() -> None:
        with suppress(GoldenAmiError):
            world.build()

    def pause(_: float) -> None:
        """The watching has read all that is there, and comes again."""
        hosts.watched.set()
        time.sleep(0.02)

    building = threading.Thread(target=build)
    building.start()
    assert hosts.begun.wait(120)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch, "time", SimpleNamespace(sleep=pause, time=time.time))
        code = main(["watch", "-e", "test"])
    building.join(300)
    return code


def test_a_build_is_shown_until_it_is_released(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert watched(world, Waiting()) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    (build_id,) = world.builds
    version = world.catalog.versions("web")[0]
    first, *lines = shown.err.splitlines()
    assert first.startswith("process ")
    assert first.endswith(f" works on build {build_id}")
    assert lines[0].endswith(f"build {build_id}")
    assert sum(" ok       copy · " in line for line in lines) == 1
    assert f"channel stable: none → {version}" in lines
    assert "parameter /golden-ami/web/x86_64/stable/image-id" in lines
    assert lines[-1] == "to get its image id: goldenami resolve web@stable --region eu-central-1"

    assert main(["watch", build_id, "-e", "test"]) == 0, "an ended build is shown, too"
    assert capsys.readouterr().err.splitlines() == lines


def test_the_exit_code_is_that_of_the_build(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    error = TestsFailed("1 of 2 tests failed", details=["  a test"])
    assert watched(world, Waiting(error)) == 5
    shown = capsys.readouterr().err
    assert shown.count("error: 1 of 2 tests failed") == 1
    (build_id,) = world.builds
    assert main(["watch", build_id, "-e", "test"]) == 5


def test_a_dead_build_is_told_with_the_next_step(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.build_until(next(x for x in calls("build") if x.action == "CopyImage"), "after")
    (build_id,) = world.builds
    assert main(["watch", build_id, "-e", "test"]) == 1
    shown = capsys.readouterr().err
    assert f"error: no process works on build {build_id} any more, and it has not ended" in shown
    assert f"to continue: goldenami resume {build_id}" in shown
    assert main(["watch", "-e", "test"]) == 3
    assert main(["watch", "20200101-000000-abcd", "-e", "test"]) == 3


def events(*given: tuple[str, dict[str, Any]]) -> list[Event]:
    return [Event(kind, fields) for kind, fields in given]


def test_ctrl_c_ends_only_the_watching(tmp_path: Path) -> None:
    """On a narrow terminal, with the journal of a build that this process has."""
    (tmp_path / "goldenami.yaml").write_text(
        "environments:\n  test:\n    home: {account: '111111111111', region: eu-central-1}\n    catalog: catalog\n"
        "    builds: builds\n    targets: [{account: home, regions: [eu-central-1], kms_key: alias/x}]\n"
    )
    build_id = "20261124-030000-abcd"
    journals = Journals(tmp_path / "builds")
    variables = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8", "NO_COLOR": "1"}
    variables.pop("COLUMNS", None)
    script = "import sys; from goldenami.cli.main import main; sys.exit(main())"
    with journals.create(Header(build_id, "web", "d", "test", datetime.now(UTC))) as journal:
        with journals.storage.events(build_id).recording(lambda _: None) as emit:
            expected = [{"stage": name, "architecture": "", "seconds": 60, "left": 90} for name in ("software", "seal")]
            for event in events(
                ("build.started", {"recipe": "web", "version": "1.0.1", "build_id": build_id, "expected": expected}),
                ("stage.started", {"stage": "software"}),
                ("operation.started", {"index": 1, "total": 2, "title": "package a-name-that-is-longer-than-a-line"}),
            ):
                emit(event)
            terminal = Terminal(
                lambda stderr: subprocess.Popen(
                    [sys.executable, "-c", script, "watch"],
                    cwd=tmp_path,
                    env=variables,
                    stdin=subprocess.DEVNULL,
                    stderr=stderr,
                ),
                columns=40,
            )
            ends = time.monotonic() + 120
            while not re.search("about [12] min left", terminal.text) and time.monotonic() < ends:
                time.sleep(0.05)
            os.kill(terminal.process.pid, signal.SIGINT)
            status, screen = terminal.end()
            assert status == 130
            assert f"build {build_id} goes on" in screen.text
            assert any("next: seal" in line for line in screen.seen)
            assert any("software  " in line and "1/2 package" in line for line in screen.seen)
            moving = [line for line in screen.seen if "left" in line or "1/2" in line]
            assert moving
            assert all(len(line) <= 40 for line in moving)
            assert not screen.colours
        journal.finish("released")
