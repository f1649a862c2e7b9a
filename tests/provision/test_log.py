"""The log of a program on a host: much output, and programs that die, each with its reason and within seconds."""

from __future__ import annotations

import contextlib
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from goldenami import ssh
from goldenami.errors import OperationFailed
from goldenami.events import Event
from goldenami.provision import BoundOperation, Stage, follower, progress, run_stage
from tests.provision.container import container
from tests.provision.examples import bind

CHATTY = "yes 'cc -O2 -c -o some/object/file.o some/source/file.c -Wall -Wextra' | head -c {}"


@pytest.fixture
def limit() -> Iterator[None]:
    """No test here may wait: a hang is a failure."""

    def over(*_: object) -> None:
        raise AssertionError("the wait has no end")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(600)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


pytestmark = [pytest.mark.root, pytest.mark.usefixtures("limit")]


@contextlib.contextmanager
def connected(folder: Path, **options: Any) -> Iterator[ssh.Connection]:
    with container(folder, **options) as endpoint, ssh.connect(endpoint, timeout=60) as connection:
        yield connection


def run(connection: ssh.Connection, *operations: BoundOperation, events: list[Event] | None = None) -> Any:
    seen = events if events is not None else []
    return run_stage(connection, Stage("s", operations), seen.append, timeout=300)


def left(connection: ssh.Connection) -> str:
    return connection.run("ls -d /run/goldenami.* /var/tmp/goldenami* 2>/dev/null || :").text


@pytest.mark.parametrize(
    ("run_size", "root_size", "size"),
    [
        pytest.param("4m", "256m", 12_000_000, id="more than /run holds"),
        pytest.param("380m", "2g", 400_000_000, id="as on a t3.small", marks=pytest.mark.nightly),
    ],
)
def test_output_may_be_larger_than_run(tmp_path: Path, run_size: str, root_size: str, size: int) -> None:
    with connected(tmp_path, run_size=run_size, root_size=root_size) as connection:
        events: list[Event] = []
        result = run(
            connection,
            bind("command", shell=CHATTY.format(size)),
            bind("file", dest="/srv/after", content="x"),
            events=events,
        )
        assert result.changed == 2
        shown = sum(event.kind == "operation.output" for event in events)
        assert shown <= progress._SHOWN_LINES + 10
        assert any("further lines are not shown" in str(event.fields.get("message")) for event in events)
        assert left(connection) == "", "nothing is left of the log"


def test_output_without_an_end_ends_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "LOG_BYTES", 8 << 20)  # a disk may fill up before the program is ended
    with connected(tmp_path) as connection:
        start = time.monotonic()
        with pytest.raises(OperationFailed, match=r"it printed \d+ MiB, and its log may .* while running") as caught:
            run(connection, bind("command", shell=f"yes {'x' * 2000}"))
        assert time.monotonic() - start < 300
        assert "to a file" in (caught.value.hint or "")
        assert connection.run("pgrep yes || echo none").text == "none"
        assert left(connection) == ""


def test_a_full_disk_is_the_reason(tmp_path: Path) -> None:
    """The log cannot be written any more, so the program cannot tell its end."""
    fill = "head -c 1G /dev/zero >/srv/full 2>/dev/null || :; yes | head -c 4000000 || :; echo on"
    with connected(tmp_path, root_size="100m") as connection:
        start = time.monotonic()
        with pytest.raises(OperationFailed, match=r"no space is left on the host|No space left") as caught:
            run(connection, bind("command", shell=fill))
        assert time.monotonic() - start < 300
        assert "size_gib" in (caught.value.hint or "")


@pytest.mark.parametrize(("name", "match"), [("KILL", "SIGKILL"), ("TERM", "SIGTERM")])
def test_a_killed_program_is_noticed_within_seconds(tmp_path: Path, name: str, match: str) -> None:
    with connected(tmp_path) as connection:
        start = time.monotonic()
        kill = f"kill -{name} $(cat /run/goldenami.*/pid); sleep 300"
        with pytest.raises(OperationFailed, match=f"another process ended the program .{match}. while running"):
            run(connection, bind("command", shell=kill))
        assert time.monotonic() - start < 120


def test_the_end_of_what_prints_the_log_is_not_the_end_of_the_program(tmp_path: Path) -> None:
    with connected(tmp_path) as connection:
        # What prints the log may begin later than the operation.
        shell = "echo begun; until pkill -9 -x tail; do sleep 0.1; done; sleep 2; echo done"
        events: list[Event] = []
        result = run(connection, bind("command", shell=shell), events=events)
        assert result.changed == 1
        assert [e.fields["line"] for e in events if e.kind == "operation.output"] == ["begun", "done"]


def test_a_silent_operation_is_told_to_be_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goldenami.ssh.connection._SILENCE_SECONDS", 1.0)
    with connected(tmp_path) as connection:
        events: list[Event] = []
        run(connection, bind("command", shell="sleep 6"), events=events)
        notes = [str(e.fields["message"]) for e in events if e.kind == "note"]
        assert any(re.search(r"no output for \d+ s while running command sleep 6", note) for note in notes), notes
