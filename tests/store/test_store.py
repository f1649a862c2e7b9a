"""The promises of a store, held by every implementation: whole, durable, no write lost, locks that end."""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from goldenami.errors import Busy, CatalogError
from goldenami.store import DirectoryStore, Holder, Store, Stored

if TYPE_CHECKING:
    from goldenami_sandbox.testing import PaperCloud

Open = Callable[[], Store]


@pytest.fixture(params=["directory", "bucket"])
def open_store(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    paper_cloud: Callable[..., PaperCloud],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Open]:
    """Opens one store again and again, as processes do that have nothing else in common."""
    if request.param == "directory":
        yield lambda: DirectoryStore(tmp_path / "store", error=CatalogError)
        return
    from goldenami.aws.bucketstore import BucketStore
    from goldenami.aws.s3 import Bucket
    from tests.worlds.ledgers import HOME_PLACE, make_cloud, new_session

    paper = paper_cloud()
    for name, value in paper.variables().items():
        monkeypatch.setenv(name, value)
    s3: Any = new_session().create_client("s3", **paper.client())
    s3.create_bucket(Bucket="team", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    yield lambda: BucketStore(Bucket(make_cloud(), HOME_PLACE, "s3://team/golden", HOME_PLACE.account))
    assert not [t for t in threading.enumerate() if t.name.startswith("lease")], "a lease that was not given back"


def test_objects(open_store: Open) -> None:
    one, other = open_store(), open_store()
    assert one.read("a/b.json") is None
    assert one.names("a") == ()
    made = one.create("a/b.json", b"1")
    assert made == other.read("a/b.json")
    assert other.create("a/b.json", b"2") is None
    assert other.replace("a/b.json", b"2", None) is None, "it must not exist"
    one.create("a/c/d.json", b"")
    assert other.names("a") == ("b.json", "c")
    assert other.names("") == ("a",)
    one.delete("a/b.json")
    one.delete("a/b.json")
    assert other.read("a/b.json") is None
    one.delete_folder("a")
    one.delete_folder("a")
    assert other.names("a") == ()


def test_a_replacement_needs_what_was_read(open_store: Open) -> None:
    one, other = open_store(), open_store()
    first = one.create("a", b"1")
    assert first is not None
    second = other.replace("a", b"2", first)
    assert second is not None
    assert second.version != first.version
    assert one.replace("a", b"3", first) is None
    assert one.replace("missing", b"3", first) is None
    assert one.read("a") == Stored(b"2", second.version)
    assert one.replace("a", b"3", one.read("a")) is not None


def test_of_many_writers_none_is_lost(open_store: Open) -> None:
    """Each reads a number and writes the next one, until it succeeds; without a lock."""
    open_store().create("count", b"0")

    def count(_: int) -> None:
        store = open_store()
        for _ in range(5):
            while True:
                now = store.read("count")
                assert now is not None
                if store.replace("count", str(int(now.data) + 1).encode(), now) is not None:
                    break

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(count, range(6)))
    end = open_store().read("count")
    assert end is not None
    assert end.data == b"30"


def test_of_many_that_create_one_succeeds(open_store: Open) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: open_store().create("once", str(n).encode()), range(8)))
    assert len([one for one in made if one is not None]) == 1
    assert open_store().read("once") in made


def test_a_lock_is_one_processs_and_says_whose(open_store: Open) -> None:
    one, other = open_store(), open_store()
    held = one.lock("locks/web", "web", "Wait.")
    held.check()
    assert held.taken_over is None
    with pytest.raises(Busy, match=f"web is locked by process {os.getpid()} on ") as caught:
        other.lock("locks/web", "web", "Wait.")
    assert "Wait." in (caught.value.hint or "")
    holder = other.holder("locks/web")
    assert holder is not None
    assert holder.pid == os.getpid()
    other.lock("locks/another", "another", "").give_back()
    held.give_back()
    held.give_back()
    assert other.holder("locks/web") is None
    other.lock("locks/web", "web", "").give_back()


def test_a_log(open_store: Open) -> None:
    one, other = open_store(), open_store()
    key, what = "builds/b/journal.jsonl", "the journal of build b"
    assert not one.has_log(key)
    assert one.read_log(key) is None
    lock = one.lock("builds/b/lock", "b", "")
    log = one.create_log(key, b"0\n", lock, what)
    assert log is not None
    assert one.create_log(key, b"other\n", lock, what) is None
    for number in range(1, 12):
        assert log.append(number, f"{number}\n".encode())
    assert log.recover_appended() == ()
    everything = b"".join(f"{n}\n".encode() for n in range(12))
    assert log.content() == everything
    assert other.has_log(key)
    assert other.read_log(key) == everything, "reading needs no lock"
    log.close()
    log.close()
    again = one.open_log(key, lock, what)
    again.append(12, b"12\n")
    assert other.read_log(key) == everything + b"12\n", "what was copied together, and the record after it"
    again.close()
    lock.give_back()


def test_a_torn_last_line_is_cut(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path, error=CatalogError)
    lock = store.lock("lock", "b", "")
    log = store.create_log("log", b"0\n1\n{tor", lock, "the log")
    assert log is not None
    log.cut(4)
    log.append(2, b"2\n")
    assert log.content() == b"0\n1\n2\n"
    log.close()
    lock.give_back()


def test_private_files_are_the_users_alone(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path, error=CatalogError)
    store.create("b/secrets/login", b"KEY", private=True)
    assert stat.S_IMODE((tmp_path / "b/secrets/login").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "b/secrets").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) & 0o055, "the folder above is as any other"


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    """A disk that is full when the contents are flushed: neither half a file nor a hidden one stays."""
    full = False

    def sync(descriptor: int) -> None:
        if full:
            raise OSError(28, os.strerror(28))

    store = DirectoryStore(tmp_path, error=CatalogError, sync=sync)
    before = store.create("a.json", b"1")
    full = True
    with pytest.raises(CatalogError, match=r"cannot write .*: No space left") as caught:
        store.replace("a.json", b"2", before)
    assert "Free some space" in (caught.value.hint or "")
    with pytest.raises(CatalogError):
        store.create("b.json", b"2")
    assert store.read("a.json") == before
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["a.json"]


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(95, os.strerror(95))

    monkeypatch.setattr(os, "link", no_links)
    store = DirectoryStore(tmp_path, error=CatalogError)
    made = store.create("a.json", b"1")
    assert made == store.read("a.json")
    assert store.create("a.json", b"2") is None
    assert store.read("a.json") == made


def test_a_holder_does_not_tell_values_of_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["/usr/bin/goldenami", "build", "web", "--var", "password=hunter2", "--var=token=abc", "--var", "x"]
    monkeypatch.setattr(sys, "argv", arguments)
    command = Holder.this_process(datetime.now(UTC)).command
    assert command == "goldenami build web --var password=*** --var=token=*** --var ***"


def test_a_holder_that_cannot_be_read_is_nobody() -> None:
    assert Holder.parse(b"") is None
    assert Holder.parse(b'{"pid": "x"}') is None
    assert str(Holder(7, "ci", "goldenami build", "2026-11-24T03:00:00.000Z")).startswith("process 7 on ci")
