"""The logs of events beside the journals: complete, bounded, in order over several runs, and on other machines."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from goldenami.errors import JournalError
from goldenami.events import Event
from goldenami.journal import EventLogs, Header, Journals, Storage
from goldenami.journal import eventlog as module
from goldenami.journal.storage import IN_A_BUCKET
from goldenami.store import DirectoryStore

BUILD = "20261124-030000-abcd"
NOW = datetime(2026, 11, 24, 3, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now


def note(text: str) -> Event:
    return Event("note", {"message": text})


def messages(logs: EventLogs) -> list[str]:
    return [str(recorded.event.fields["message"]) for recorded in logs.read()]


def test_the_events_of_all_runs_are_kept_in_order_and_private(tmp_path: Path) -> None:
    storage = Storage.in_directory(tmp_path / "builds", now=Clock())
    seen: list[Event] = []
    for run in ("first", "second"):
        with storage.events(BUILD).recording(seen.append) as emit:
            emit(note(f"{run} 1"))
            emit(note(f"{run} 2"))
    logs = storage.events(BUILD)
    assert messages(logs) == ["first 1", "first 2", "second 1", "second 2"] == [e.fields["message"] for e in seen]
    assert len(logs.runs()) == 2
    files = list((tmp_path / "builds" / BUILD / "events").iterdir())
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert storage.names() == (), "a folder with events only is no build"


def test_an_unreadable_line_is_left_out_and_the_last_one_may_be_torn(tmp_path: Path) -> None:
    storage = Storage.in_directory(tmp_path, now=Clock())
    with storage.events(BUILD).recording(lambda _: None) as emit:
        emit(note("whole"))
    (file,) = (tmp_path / BUILD / "events").iterdir()
    file.write_bytes(b'{"x": 1}\n[]\n' + file.read_bytes() + b'{"schema": "goldenami.ev')
    assert messages(storage.events(BUILD)) == ["whole"]


def test_a_log_is_bounded_and_keeps_what_is_not_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_OUTPUT_BYTES", 2 << 20)
    monkeypatch.setattr(module, "_BYTES", 3 << 20)
    storage = Storage.in_directory(tmp_path, now=Clock())
    with storage.events(BUILD).recording(lambda _: None) as emit:
        for _ in range(2000):
            emit(Event("operation.output", {"line": "x" * 3000}))
        emit(note("the end"))
        emit(Event("note", {"message": "y" * 100_000}))
    (file,) = (tmp_path / BUILD / "events").iterdir()
    assert file.stat().st_size < 2.1 * (1 << 20)
    last = [r.event.fields["message"] for r in storage.events(BUILD).read() if r.event.kind == "note"]
    assert last[0] == "this log has 2 MiB: the output of operations is left out from here on"
    assert last[1:] == ["the end", "y" * 1000]


def test_a_log_that_cannot_be_written_does_not_stop_the_build(tmp_path: Path) -> None:
    storage = Storage.in_directory(tmp_path, now=Clock())
    (tmp_path / BUILD).mkdir()
    (tmp_path / BUILD / "events").write_text("no folder")
    seen: list[Event] = []
    with storage.events(BUILD).recording(seen.append) as emit:
        emit(note("done"))
    assert [event.fields["message"] for event in seen] == ["done"]
    assert messages(storage.events(BUILD)) == []


def test_another_machine_reads_what_was_copied_into_the_store(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "shared", error=JournalError)
    clock = Clock()

    def machine(name: str) -> EventLogs:
        return Storage(store, IN_A_BUCKET, tmp_path / name, now=clock).events(BUILD)

    with machine("one").recording(lambda _: None) as emit:
        emit(note("one"))
        assert messages(machine("one")) == ["one"]
        assert messages(machine("two")) == [], "it runs on another machine"
    assert messages(machine("two")) == ["one"]

    def killed() -> None:
        with machine("two").recording(lambda _: None) as emit:
            emit(note("killed"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    assert messages(machine("one")) == ["one"]
    with machine("two").recording(lambda _: None) as emit:
        emit(note("resumed"))
    assert messages(machine("one")) == ["one", "killed", "resumed"], "the next run on that machine copied both"
    assert machine("one").delete() == 3
    assert store.names(f"events/{BUILD}") == ()


def test_a_log_is_followed_until_the_build_ends(tmp_path: Path) -> None:
    storage = Storage.in_directory(tmp_path, now=Clock())
    with storage.events(BUILD).recording(lambda _: None) as emit:
        emit(note("1"))
        todo = ["2", "3"]

        def pause() -> None:
            emit(note(todo.pop(0)))

        found = storage.events(BUILD).follow(lambda: bool(todo), pause)
        assert [r.event.fields["message"] for r in found] == ["1", "2", "3"]


def test_old_logs_of_ended_builds_are_deleted_and_journals_stay(tmp_path: Path) -> None:
    clock = Clock()
    journals = Journals(tmp_path, now=clock)
    ids = {"released": "20261124-030000-aaaa", "failed": "20261124-030000-bbbb", "recent": "20261126-030000-cccc"}
    for ending, build_id in ids.items():
        clock.now = datetime.strptime(build_id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
        with journals.create(Header(build_id, "web", "d", "test", clock.now)) as journal:
            with journals.storage.events(build_id).recording(lambda _: None) as emit:
                emit(note("x"))
            journal.finish("failed" if ending == "failed" else "released")
    before = datetime(2026, 11, 25, tzinfo=UTC)
    assert journals.forget_events(before, dry_run=True) == (ids["released"],)
    assert journals.forget_events(before) == (ids["released"],)
    assert journals.forget_events(before) == ()
    assert [s.build_id for s in journals.newest()] == sorted(ids.values(), reverse=True)
    assert [s.build_id for s in journals.newest(before)] == [ids["recent"]]
    assert journals.storage.events(ids["failed"]).runs()


def test_another_machine_follows_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sees what was shared so far, and at the end the rest, each event once. Output comes with the complete file."""
    monkeypatch.setattr(module, "_LIVE_SECONDS", 0.01)
    store = DirectoryStore(tmp_path / "shared", error=JournalError)
    clock = Clock()
    one, two = (Storage(store, IN_A_BUCKET, tmp_path / name, now=clock).events(BUILD) for name in ("one", "two"))
    recording = one.recording(lambda _: None)
    emit = recording.__enter__()
    steps: list[Callable[[], object]] = [
        lambda: (emit(note("1")), emit(Event("operation.output", {"line": "a"})), emit(note("2"))),
        lambda: emit(note("3")),
        lambda: (emit(Event("operation.output", {"line": "b"})), emit(note("4")), recording.__exit__(None, None, None)),
    ]
    counts = [2, 3]

    def shared() -> int:
        names = store.names(f"events/{BUILD}")
        live = [store.read(f"events/{BUILD}/{name}") for name in names if name.endswith(".live")]
        return sum(found.data.count(b"\n") for found in live if found is not None)

    def pause() -> None:
        steps.pop(0)()
        if steps:
            wanted = counts.pop(0)
            while shared() < wanted:
                time.sleep(0.005)

    found = [recorded.event for recorded in two.follow(lambda: bool(steps), pause)]
    assert [event.fields.get("message") or event.fields["line"] for event in found] == ["1", "2", "3", "b", "4"]
    assert len(two.runs()) == 1
    assert [name for name in store.names(f"events/{BUILD}") if name.endswith(".live")] == []


def test_only_some_kinds_are_read(tmp_path: Path) -> None:
    storage = Storage.in_directory(tmp_path, now=Clock())
    with storage.events(BUILD).recording(lambda _: None) as emit:
        emit(note("x"))
        emit(Event("stage.started", {"stage": "copy"}))
    assert [recorded.event.kind for recorded in storage.events(BUILD).read(("stage.started",))] == ["stage.started"]
