"""The catalog in a bucket: the same promises as in a directory, between machines that have nothing else in common."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pytest

from goldenami.aws.bucketstore import BucketStore
from goldenami.aws.lease import Terms
from goldenami.aws.s3 import Bucket
from goldenami.errors import CatalogError, NotFound
from goldenami.model import MANIFEST_SCHEMA, ImageManifest
from goldenami.release.catalog import Catalog
from goldenami.release.versions import Reference
from goldenami.store import Stored
from tests.worlds.ledgers import HOME_PLACE, have_only, make_cloud, new_session

if TYPE_CHECKING:
    from goldenami_sandbox.testing import PaperCloud

NAME, LINE = "web", "1.4"
DAY, NOW = date(2026, 11, 24), datetime(2026, 11, 24, 3, tzinfo=UTC)
URL = "s3://releases/golden/catalog"

Open = Callable[..., Catalog]


@pytest.fixture
def machine(paper_cloud: Callable[..., PaperCloud], monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens the catalog as another machine does."""
    paper = paper_cloud()
    have_only(paper.variables(), monkeypatch)
    s3: Any = new_session().create_client("s3", **paper.client())
    s3.create_bucket(Bucket="releases", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})

    def catalog(**options: Any) -> Catalog:
        terms = options.pop("terms", Terms())
        store = BucketStore(Bucket(make_cloud(), HOME_PLACE, URL, HOME_PLACE.account), terms=terms)
        made = Catalog(URL, store=store, **options)
        made.fault = lambda **fault: paper.set(faults=[fault] if fault else [])  # type: ignore[attr-defined]
        return made

    yield catalog
    assert not [t for t in threading.enumerate() if t.name.startswith("lease")]


def manifest(version: str = "1.4.20261124.1", build_id: str = "b-1") -> ImageManifest:
    return ImageManifest(
        MANIFEST_SCHEMA, NAME, version, build_id, "d" * 64, "test", "2026-11-24T03:00:00Z", {}, (), (), {}, {}
    )


def test_a_release_is_seen_by_every_machine_and_never_changes(machine: Open) -> None:
    one, other = machine(), machine()
    assert other.names() == ()
    assert other.versions(NAME) == ()
    assert other.channel(NAME, "stable") is None
    version = one.reserve(NAME, LINE, DAY, build_id="b-1", now=NOW)
    assert version == "1.4.20261124.1"
    assert other.reserve(NAME, LINE, DAY, build_id="b-1", now=NOW) == version, "the same build gets the same"
    one.add(manifest())
    one.add(manifest())
    one.move(NAME, "stable", version, now=NOW, build_id="b-1")
    assert other.names() == (NAME,)
    assert other.versions(NAME) == (version,)
    assert other.find(Reference(NAME, channel="stable")) == manifest()
    with pytest.raises(CatalogError, match="released already, with another manifest") as caught:
        other.add(replace(manifest(), digest="e" * 64))
    assert "s3://releases/golden/catalog/releases/web/1.4.20261124.1.json" in (caught.value.hint or "")
    with pytest.raises(CatalogError, match="reserved by build b-1"):
        other.add(manifest(build_id="b-2"))
    with pytest.raises(NotFound):
        other.move(NAME, "stable", "1.4.20261124.9", now=NOW)


def test_machines_never_share_a_version(machine: Open) -> None:
    catalogs = [machine(sleep=lambda _: threading.Event().wait(0.05)) for _ in range(4)]
    got: list[str] = []

    def take(number: int) -> None:
        for step in range(3):
            got.append(catalogs[number].reserve(NAME, LINE, DAY, build_id=f"b-{number}-{step}", now=NOW))

    threads = [threading.Thread(target=take, args=(n,)) for n in range(len(catalogs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got, key=lambda v: int(v.rpartition(".")[2])) == [f"1.4.20261124.{n}" for n in range(1, 13)]


def test_a_lock_that_failed_loses_no_move(machine: Open) -> None:
    """The lease ran out on a mover that was asleep, and somebody else moved: its write is refused, and says so."""
    one, other = machine(), machine()
    for number in (1, 2, 3):
        one.add(manifest(f"1.4.20261124.{number}"))
    one.move(NAME, "stable", "1.4.20261124.1", now=NOW)
    store = one._store
    plain = store.replace

    def slow(key: str, data: bytes, before: Stored | None) -> Stored | None:
        # What the other one does while this one sleeps: it cannot have the lock, so it writes as a taker-over would.
        now = other._store.read(key)
        assert now is not None
        other._store.replace(key, now.data.replace(b"20261124.1", b"20261124.2"), now)
        return plain(key, data, before)

    store.replace = slow  # type: ignore[method-assign]
    with pytest.raises(CatalogError, match="moved by another process"):
        one.move(NAME, "stable", "1.4.20261124.3", now=NOW)
    pointer = other.channel(NAME, "stable")
    assert pointer is not None
    assert pointer.current == "1.4.20261124.2"


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_move_whose_reply_is_lost_is_one_move(machine: Open, when: str) -> None:
    one = machine()
    for number in (1, 2):
        one.add(manifest(f"1.4.20261124.{number}"))
    one.move(NAME, "stable", "1.4.20261124.1", now=NOW)
    one.fault(action="PutObject", when=when, how="drop", nth=2)  # type: ignore[attr-defined]  # the first is the lock's
    one.move(NAME, "stable", "1.4.20261124.2", now=NOW)
    one.fault()  # type: ignore[attr-defined]
    pointer = machine().channel(NAME, "stable")
    assert pointer is not None
    assert [m.version for m in pointer.history] == ["1.4.20261124.1", "1.4.20261124.2"]


def test_of_two_publishers_the_second_waits(machine: Open) -> None:
    with machine().publishing(NAME, "stable", timeout=0):
        with machine().publishing(NAME, "candidate", timeout=0):
            pass
        waiting = machine(terms=Terms()).publishing(NAME, "stable", timeout=0.2)
        with pytest.raises(CatalogError, match=r"still locked after 0\.2 s: .* by process"):
            waiting.__enter__()
    with machine().publishing(NAME, "stable", timeout=0):
        pass
