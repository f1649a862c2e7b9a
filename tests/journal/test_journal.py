"""The journal: what it remembers, what a crash may do to it, who may hold it."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from goldenami.errors import JournalError, NotFound
from goldenami.journal import FILE, Header, Intent, Journal, Journals, Secret, new_build_id, replay, token
from goldenami.journal.records import Kept
from goldenami.model import Place

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
HOME = Place("111111111111", "eu-central-1")
APPS = Place("222222222222", "eu-west-1")


def header(build_id: str = "20261124-030000-abcd") -> Header:
    return Header(build_id, "debian-12-web", "d" * 64, "sandbox", NOW, {"version": "1.4.20261124.1"})


def create(directory: Path, build_id: str = "20261124-030000-abcd", **options: Any) -> Journal:
    return Journal.create(directory, header(build_id), now=lambda: NOW, **options)


def reopen(journal: Journal) -> Journal:
    journal.close()
    return Journal.open(journal.directory, now=lambda: NOW)


def intent(key: str, attempt: int = 1, *, kind: str = "image", action: Any = "create", place: Place = HOME) -> Intent:
    mark = token("20261124-030000-abcd", key, attempt)
    return Intent(key, action, kind, place, mark, "ec2", "CopyImage", {"Name": "é", "ClientToken": mark}, attempt)


def launch(key: str, user_data: str) -> Intent:
    mark = token("20261124-030000-abcd", key, 1)
    return Intent(
        key, "create", "instance", HOME, mark, "ec2", "RunInstances", {"UserData": Secret(user_data), "MinCount": 1}, 1
    )


# --- what it remembers ------------------------------------------------------------------------------------------------


def test_what_was_written_is_there_after_opening_again(tmp_path: Path) -> None:
    journal = create(tmp_path)
    first, second = intent("image/a"), intent("image/b", place=APPS)
    journal.intend(first)
    journal.record_success(first.token, id="ami-1", data={"ImageId": "ami-1"})
    journal.intend(second)
    journal.stage_done("capture", image="ami-1")
    journal.stage_done("provision")
    journal.stage_undone("provision")
    journal.note("hello", who="é")
    journal = reopen(journal)
    with journal:
        assert journal.header == header()
        assert [(r.kind, r.place, r.id, r.key) for r in journal.resources()] == [("image", HOME, "ami-1", "image/a")]
        assert journal.latest("image/a") == (first, journal.latest("image/a")[1])  # type: ignore[index]
        assert journal.unresolved() == (second,)
        assert journal.places() == (HOME, APPS)
        assert journal.stage("capture") == {"image": "ami-1"}
        assert journal.stage("provision") is None
        assert journal.stage("never") is None
        assert [n["data"] for n in journal.notes] == [{"who": "é"}]
        assert journal.ending is None
        assert journal.attempts("image/a") == 1
        assert journal.attempts("image/c") == 0


def test_a_journal_keeps_little_of_each_call(tmp_path: Path) -> None:
    """With thousands of targets, requests and answers would take most of the memory."""
    tags = [{"Key": f"goldenami:tag-{number}", "Value": f"the same value {number}"} for number in range(10)]
    every = [
        replace(intent(f"key/{n}"), request={"Name": f"name/{n}", "Tags": [{"Key": "Name", "Value": f"{n}"}, *tags]})
        for n in range(100)
    ]
    with create(tmp_path) as journal:
        for one in every:
            journal.intend(one)
            journal.record_success(one.token, id=f"id-{one.key}", data={"Version": 1, "Tier": "Standard"})
        kept = [journal.latest(one.key) for one in every]
        requests = [found[0].request for found in kept if found]
        sizes = [len(request._packed) for request in requests if isinstance(request, Kept)]
        assert len(sizes) == len(every)
        assert sum(sizes) < 100 * len(every)
        assert len({id(found[1].data) for found in kept if found and found[1]}) == 1
        assert len({id(found[0].place) for found in kept if found}) == 1
    with reopen(journal) as journal:
        assert [journal.latest(one.key) for one in every] == [
            (one, found[1]) for one, found in zip(every, kept, strict=True) if found
        ]
        request = journal.intents("key/7")[0].request
        assert (request["Name"], len(request), dict(request)) == ("name/7", 2, every[7].request)
        assert {**request} == every[7].request != journal.intents("key/8")[0].request


def test_deleted_spoiled_and_refused_resources(tmp_path: Path) -> None:
    with create(tmp_path) as journal:
        for key, id in (("a", "ami-1"), ("b", "ami-2"), ("c", "")):
            journal.intend(intent(key))
            if id:
                journal.record_success(intent(key).token, id=id)
            else:
                journal.record_refusal(intent(key).token, code="InvalidParameterValue", message="no")
        journal.record_deleted("image", HOME, "ami-1")
        size = (journal.directory / FILE).stat().st_size
        journal.record_deleted("image", HOME, "ami-1")
        assert (journal.directory / FILE).stat().st_size == size, "said once is enough"
        journal.record_spoiled("image", HOME, "ami-2", "the key is disabled")
        assert [(r.id, r.spoiled) for r in journal.resources()] == [("ami-2", "the key is disabled")]
        assert journal.spoiled("b") == journal.resources()[0]
        assert journal.spoiled("a") is None
        assert journal.is_gone(HOME, "ami-1")
        assert not journal.is_gone(APPS, "ami-1"), "ids are those of a place"
        assert journal.unresolved() == ()


def test_a_name_can_be_used_again_after_it_was_deleted(tmp_path: Path) -> None:
    with create(tmp_path) as journal:
        for attempt in (1, 2):
            journal.intend(intent("parameter", attempt, kind="parameter"))
            journal.record_success(intent("parameter", attempt).token, id="/golden-ami/web")
            if attempt == 1:
                journal.record_deleted("parameter", HOME, "/golden-ami/web")
        assert not journal.is_gone(HOME, "/golden-ami/web")


def test_an_ending_is_undone_by_the_next_intent(tmp_path: Path) -> None:
    with create(tmp_path) as journal:
        journal.finish("failed", error="no room")
        assert journal.ending == "failed"
        journal.intend(intent("again"))
        assert journal.ending is None


def test_a_closed_journal_takes_nothing(tmp_path: Path) -> None:
    journal = create(tmp_path)
    journal.close()
    journal.close()
    with pytest.raises(JournalError, match="closed"):
        journal.note("late")


def test_a_build_exists_once(tmp_path: Path) -> None:
    create(tmp_path).close()
    with pytest.raises(JournalError, match="already exists"):
        create(tmp_path)
    with pytest.raises(JournalError, match="cannot be the name"):
        create(tmp_path, "../elsewhere")
    with pytest.raises(NotFound):
        Journal.open(tmp_path / "nothing")


def test_build_ids_sort_by_time_and_differ() -> None:
    early, late = new_build_id(NOW), new_build_id(NOW.replace(hour=4))
    assert early < late
    assert new_build_id(NOW) != new_build_id(NOW)
    parts = [NOW.replace(microsecond=part) for part in (0, 250, 1_000, 17_000, 999_999)]
    ids = [new_build_id(moment) for moment in parts]
    assert ids == sorted(ids), "ids of one second sort too"
    assert all(len(one) == len("20260101-000000-12345678") for one in ids)


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_secrets_are_beside_the_journal_and_never_in_it(tmp_path: Path) -> None:
    journal = create(tmp_path)
    journal.intend(launch("builder", "PRIVATE KEY"))
    assert journal.secret("ssh", lambda: b"SECOND KEY") == b"SECOND KEY"
    assert "KEY" not in (journal.directory / FILE).read_text()
    assert "KEY" not in repr(journal.unresolved())
    files = list((journal.directory / "secrets").iterdir())
    assert len(files) == 2
    assert {stat.S_IMODE(f.stat().st_mode) for f in files} == {0o600}
    every = [path for path in journal.directory.parent.rglob("*") if not path.is_symlink()]
    assert {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in every} == {(True, 0o700), (False, 0o600)}
    assert stat.S_IMODE(journal.directory.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((journal.directory / "secrets").stat().st_mode) == 0o700

    journal = reopen(journal)
    with journal:
        again, _ = journal.latest("builder") or pytest.fail("it is there")
        assert again.request["UserData"] == Secret("PRIVATE KEY"), "the request can be sent again"
        assert journal.secret("ssh", lambda: b"another") == b"SECOND KEY"
        journal.record_success(launch("builder", "").token, id="i-1")
        journal.finish("released")
        assert not (journal.directory / "secrets").exists()
        assert journal.resources()[0].id == "i-1", "what is done needs no secrets to be read"
        journal.remove_secrets()


def test_a_missing_secret_is_told(tmp_path: Path) -> None:
    with create(tmp_path) as journal:
        journal.intend(launch("builder", "PRIVATE KEY"))
        journal.remove_secrets()
        with pytest.raises(JournalError, match=r"secret .* is missing") as caught:
            journal.latest("builder")
        assert "goldenami clean" in (caught.value.hint or "")


# --- crashes ----------------------------------------------------------------------------------------------------------


def busy(directory: Path) -> bytes:
    """The bytes of a journal with some of everything."""
    with create(directory) as journal:
        for key in ("a", "b", "c"):
            journal.intend(intent(key))
            journal.record_success(intent(key).token, id=f"ami-{key}")
        journal.record_deleted("image", HOME, "ami-a")
        journal.stage_done("capture", image="ami-b")
        journal.intend(intent("d"))
        return (journal.directory / FILE).read_bytes()


def test_cut_at_every_byte_it_is_read_up_to_there(tmp_path: Path) -> None:
    content = busy(tmp_path / "whole")
    first = content.index(b"\n")
    for cut in range(len(content) + 1):
        part = content[:cut]
        if cut < first:
            with pytest.raises(JournalError):
                replay(part, Path("journal.jsonl"))
            continue
        _, state, count, whole = replay(part, Path("journal.jsonl"))
        complete = part.count(b"\n")
        assert count in (complete, complete + 1), "a record may be whole without its newline"
        assert whole in (part.rfind(b"\n") + 1, cut)
        assert len(state.by_token) <= 4


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_torn_journal_goes_on_from_what_is_whole(tmp_path: Path, data: st.DataObject) -> None:
    place = tmp_path / new_build_id(NOW)
    content = busy(place)
    cut = data.draw(st.integers(content.index(b"\n") + 1, len(content)))
    tail = data.draw(st.sampled_from([b"", b"\0" * 7, b"\0\0\n"]) if cut < len(content) else st.just(b""))
    path = place / "20261124-030000-abcd" / FILE
    path.write_bytes(content[:cut] + tail)
    with Journal.open(path.parent, now=lambda: NOW, sync=lambda _: None) as journal:
        known = {r.id for r in journal.resources()}
        journal.intend(intent("next"))
    text = path.read_bytes()
    assert b"\0" not in text
    with Journal.open(path.parent, now=lambda: NOW, sync=lambda _: None) as journal:
        assert {r.id for r in journal.resources()} == known
        assert intent("next") in journal.unresolved()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_in_the_middle_is_refused_with_its_place(data: st.DataObject, tmp_path_factory: Any) -> None:
    content = busy(tmp_path_factory.mktemp("journal"))
    lines = content.split(b"\n")
    number = data.draw(st.integers(0, len(lines) - 3))
    kind = data.draw(st.sampled_from(["cut", "drop", "twice", "garbage"]))
    if kind == "cut":
        lines[number] = lines[number][: data.draw(st.integers(0, len(lines[number]) - 1))]
    elif kind == "drop":
        del lines[number]
    elif kind == "twice":
        lines.insert(number, lines[number])
    else:
        lines[number] = data.draw(st.binary(min_size=1, max_size=20)).replace(b"\n", b"?")
    with pytest.raises(JournalError, match=r"journal\.jsonl:\d+: .*damaged"):
        replay(b"\n".join(lines), Path("journal.jsonl"))


def test_a_journal_of_another_schema_is_refused(tmp_path: Path) -> None:
    with create(tmp_path) as journal:
        path = journal.directory / FILE
    path.write_text(path.read_text().replace("goldenami.journal/1", "goldenami.journal/9"))
    with pytest.raises(JournalError, match="another version"):
        Journal.open(path.parent)


def test_a_killed_process_loses_nothing_that_was_said(tmp_path: Path) -> None:
    """A real process, a real SIGKILL, while it appends as fast as it can."""
    program = (
        "import sys; from datetime import *; from pathlib import Path; from goldenami.journal import *\n"
        "from goldenami.model import Place\n"
        "j = Journal.create(Path(sys.argv[1]), Header('b', 'r', 'd', 'e', datetime.now(UTC)))\n"
        "n = 0\n"
        "while True:\n"
        "    t = token('b', 'k', n); n += 1\n"
        "    j.intend(Intent('k', 'create', 'image', Place('1', 'r'), t, 'ec2', 'CopyImage', {}, n))\n"
        "    print(t, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [process.stdout.readline().strip() for _ in range(25)]
    process.kill()
    said += [line.strip() for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    process.wait()
    process.stdout.close()
    with Journal.open(tmp_path / "b") as journal:
        known = [i.token for i in journal.intents("k")]
    assert known[: len(said)] == said
    assert len(known) - len(said) <= 1


class FullDisk:
    """A sync that fails as a full disk does (with delayed allocation, that is where ENOSPC may come)."""

    def __init__(self) -> None:
        self.full = False

    def __call__(self, descriptor: int) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_stops_the_call_and_leaves_the_journal_whole(tmp_path: Path) -> None:
    disk = FullDisk()
    journal = create(tmp_path, sync=disk)
    journal.intend(intent("a"))
    before = (journal.directory / FILE).read_bytes()
    disk.full = True
    with pytest.raises(JournalError, match="No space left") as caught:
        journal.intend(intent("b"))
    assert "Free some space" in (caught.value.hint or "")
    assert (journal.directory / FILE).read_bytes() == before
    disk.full = False
    journal.intend(intent("b"))
    with reopen(journal) as journal:
        assert [i.key for i in journal.unresolved()] == ["a", "b"]


# --- threads and processes --------------------------------------------------------------------------------------------


def test_many_threads_append_whole_lines(tmp_path: Path) -> None:
    with create(tmp_path, sync=lambda _: None) as journal:

        def work(name: int) -> None:
            for step in range(25):
                one = intent(f"{name}/{step}")
                journal.intend(one)
                journal.record_success(one.token, id=f"ami-{name}-{step}")

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lines = (journal.directory / FILE).read_text().splitlines()
        assert [json.loads(line)["n"] for line in lines] == list(range(1 + 8 * 25 * 2))
    with Journal.open(journal.directory) as journal:
        assert len(journal.resources()) == 200


def test_only_one_process_works_on_a_build(tmp_path: Path) -> None:
    with create(tmp_path) as journal:
        with pytest.raises(JournalError, match=f"process {os.getpid()} on ") as caught:
            Journal.open(journal.directory)
        assert "Wait for that process" in (caught.value.hint or "")
        assert Journals(tmp_path).list()[0].ending is None, "reading needs no lock"
    Journal.open(journal.directory).close()


def test_the_lock_goes_with_its_process(tmp_path: Path) -> None:
    program = (
        "import sys, time; from datetime import *; from pathlib import Path; from goldenami.journal import *\n"
        "j = Journal.create(Path(sys.argv[1]), Header('b', 'r', 'd', 'e', datetime.now(UTC)))\n"
        "print('held', flush=True); time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(JournalError, match=f"process {process.pid} "):
        Journal.open(tmp_path / "b")
    process.kill()
    process.wait()
    process.stdout.close()
    Journal.open(tmp_path / "b").close()


# --- listing ----------------------------------------------------------------------------------------------------------


def test_builds_are_listed_with_their_state(tmp_path: Path) -> None:
    assert Journals(tmp_path / "none").list() == ()
    with create(tmp_path, "a") as journal:
        journal.intend(intent("x"))
    with create(tmp_path, "b") as journal:
        journal.finish("released")
    with create(tmp_path, "c") as journal:
        journal.finish("failed")
    with create(tmp_path, "c2") as journal:
        journal.intend(intent("y"))
        journal.finish("failed")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / FILE).write_text("{}\n{}\n")
    builds = Journals(tmp_path)
    assert [(s.build_id, s.ending, s.unresolved, s.problem is None) for s in builds.list()] == [
        ("a", None, 1, True),
        ("b", "released", 0, True),
        ("c", "failed", 0, True),
        ("c2", "failed", 1, True),
        ("d", None, 0, False),
    ]
    assert [s.build_id for s in builds.unfinished(recipe="debian-12-web")] == ["a", "c2"]  # c left nothing
    assert builds.unfinished(recipe="other") == ()
    assert [s.build_id for s in builds.unfinished(plan_digest="d" * 64)] == ["a", "c2"]
    with pytest.raises(NotFound):
        builds.read("z")
