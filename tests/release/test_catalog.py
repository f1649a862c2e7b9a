from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from goldenami.errors import CatalogError, ManifestError, NotFound, UsageError
from goldenami.model import Place
from goldenami.release.catalog import Catalog
from goldenami.release.catalogfiles import Move
from goldenami.release.versions import Reference
from goldenami.store import DirectoryStore, Stored

from .conftest import APPS, HOME, PLACES, ManifestFactory, make_manifest

DAY = date(2026, 11, 24)
NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
NAME = "debian-12-web"


# --- releases ---------------------------------------------------------------------------------------------------------


def test_an_absent_directory_is_an_empty_catalog(catalog: Catalog, tmp_path: Path) -> None:
    assert catalog.names() == ()
    assert catalog.versions(NAME) == ()
    assert catalog.channels(NAME) == ()
    assert list(catalog.with_digest(NAME, "0")) == []
    assert not (tmp_path / "catalog").exists(), "reading makes nothing"


def test_a_release_is_read_as_it_was_written(catalog: Catalog, manifest: ManifestFactory) -> None:
    catalog.add(manifest())
    assert catalog.get(NAME, "1.4.20261124.1") == manifest()
    assert catalog.names() == (NAME,)


def test_a_release_never_changes(catalog: Catalog, manifest: ManifestFactory) -> None:
    catalog.add(manifest())
    catalog.add(manifest())
    with pytest.raises(CatalogError, match="released already"):
        catalog.add(replace(manifest(), digest="1" * 64))
    assert catalog.get(NAME, "1.4.20261124.1") == manifest()


def test_newest_first_by_number(catalog: Catalog, manifest: ManifestFactory) -> None:
    for version in ("1.4.20261124.2", "1.10.20261123.1", "1.4.20261124.10"):
        catalog.add(manifest(version))
    assert catalog.versions(NAME) == ("1.10.20261123.1", "1.4.20261124.10", "1.4.20261124.2")
    assert catalog.find(Reference(NAME)).version == "1.10.20261123.1"


def test_found_by_digest(catalog: Catalog, manifest: ManifestFactory) -> None:
    catalog.add(manifest("1.4.20261124.1", digest="a" * 64))
    catalog.add(manifest("1.4.20261124.2", digest="b" * 64))
    catalog.add(manifest("1.4.20261124.3", digest="a" * 64))
    catalog.add(replace(manifest("1.4.20261124.4", digest="c" * 64), inputs={"parent": "a" * 64}))
    assert [m.version for m in catalog.with_digest(NAME, "a" * 64)] == ["1.4.20261124.3", "1.4.20261124.1"]
    assert list(catalog.with_digest(NAME, "d" * 64)) == []
    assert list(catalog.with_digest("other", "a" * 64)) == []


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (b"", ManifestError),
        (b"\0" * 100, ManifestError),
        (b'{"schema": "goldenami.manifest/9"}', ManifestError),
        (b'{"schema": "goldenami.manifest/1"}', ManifestError),
    ],
)
def test_a_damaged_manifest_is_named(
    catalog: Catalog, manifest: ManifestFactory, tmp_path: Path, damage: bytes, error: type[CatalogError]
) -> None:
    catalog.add(manifest())
    path = tmp_path / "catalog" / "releases" / NAME / "1.4.20261124.1.json"
    path.write_bytes(damage)
    with pytest.raises(error, match=re.escape(str(path))) as caught:
        catalog.get(NAME, "1.4.20261124.1")
    assert caught.value.hint
    assert catalog.versions(NAME) == ("1.4.20261124.1",), "the rest of the catalog stays usable"


def test_a_manifest_in_the_place_of_another_is_refused(
    catalog: Catalog, manifest: ManifestFactory, tmp_path: Path
) -> None:
    catalog.add(manifest())
    folder = tmp_path / "catalog" / "releases" / NAME
    (folder / "1.4.20261124.1.json").rename(folder / "1.4.20261124.7.json")
    with pytest.raises(CatalogError, match=r"is the manifest of debian-12-web 1\.4\.20261124\.1"):
        catalog.get(NAME, "1.4.20261124.7")


@pytest.mark.parametrize("name", ["..", "../../etc", "a/b", "", ".hidden", "Ä"])
def test_names_cannot_leave_the_directory(catalog: Catalog, manifest: ManifestFactory, name: str) -> None:
    for use in (
        lambda: catalog.get(name, "1.4.20261124.1"),
        lambda: catalog.versions(name),
        lambda: catalog.channel(NAME, name),
        lambda: catalog.channel(name, "stable"),
        lambda: catalog.reserve(name, "1.4", DAY, build_id="b", now=NOW),
        lambda: catalog.add(manifest(name=name)),
        lambda: catalog.get(NAME, f"{name}/1.4.20261124.1"),
    ):
        with pytest.raises(UsageError):
            use()


# --- channels ---------------------------------------------------------------------------------------------------------


def test_a_channel_knows_where_it_was(catalog: Catalog, manifest: ManifestFactory) -> None:
    for number in (1, 2):
        catalog.add(manifest(f"1.4.20261124.{number}"))
    first = catalog.move(NAME, "stable", "1.4.20261124.1", now=NOW, build_id="b-1")
    assert (first.current, first.previous) == ("1.4.20261124.1", None)
    second = catalog.move(NAME, "stable", "1.4.20261124.2", now=NOW)
    assert (second.current, second.previous) == ("1.4.20261124.2", "1.4.20261124.1")
    assert second.history == (
        Move("1.4.20261124.1", "2026-11-24T03:00:00Z", "b-1"),
        Move("1.4.20261124.2", "2026-11-24T03:00:00Z"),
    )
    assert catalog.channel(NAME, "stable") == second
    assert catalog.channels(NAME) == (second,)
    assert catalog.move(NAME, "stable", "1.4.20261124.2", now=NOW) == second, "a second move to the same does nothing"


def test_a_channel_points_to_a_release_only(catalog: Catalog, manifest: ManifestFactory) -> None:
    catalog.add(manifest())
    with pytest.raises(NotFound):
        catalog.move(NAME, "stable", "1.4.20261124.2", now=NOW)
    assert catalog.channel(NAME, "stable") is None


def test_a_damaged_channel_is_named(catalog: Catalog, manifest: ManifestFactory, tmp_path: Path) -> None:
    catalog.add(manifest())
    catalog.move(NAME, "stable", "1.4.20261124.1", now=NOW)
    path = tmp_path / "catalog" / "channels" / NAME / "stable.json"
    whole = json.loads(path.read_text())
    for damage in ("", "{", "[]", json.dumps(whole | {"current": 7}), json.dumps(whole | {"schema": "x/2"})):
        path.write_text(damage)
        with pytest.raises(CatalogError, match=re.escape(str(path))):
            catalog.find(Reference(NAME, channel="stable"))
    path.write_text(json.dumps(whole | {"channel": "other"}))
    with pytest.raises(CatalogError, match="is the file of debian-12-web@other"):
        catalog.channel(NAME, "stable")


# --- resolving --------------------------------------------------------------------------------------------------------


def test_resolving(catalog: Catalog, manifest: ManifestFactory) -> None:
    catalog.add(manifest())
    catalog.move(NAME, "stable", "1.4.20261124.1", now=NOW)
    for tail in ("stable", "1.4.20261124.1"):
        image = catalog.resolve(Reference.parse(f"{NAME}@{tail}"), Place(APPS, "eu-west-1"))
        assert image.image_id == "ami-222-eu-west-1-x86_64"


@pytest.mark.parametrize(
    ("reference", "hint"),
    [
        ("debian-12-wev@stable", "debian-12-web"),
        ("nothing-like-it@stable", "The names of releases are debian-12-web."),
        ("debian-12-web@stabel", "stable"),
        ("debian-12-web@zz", "Its channels are stable."),
        ("debian-12-web@1.4.20261124.2", "1.4.20261124.1"),
        ("debian-12-wev", "debian-12-web"),
    ],
)
def test_what_is_not_there_says_what_is(catalog: Catalog, manifest: ManifestFactory, reference: str, hint: str) -> None:
    catalog.add(manifest())
    catalog.move(NAME, "stable", "1.4.20261124.1", now=NOW)
    with pytest.raises(NotFound) as caught:
        catalog.resolve(Reference.parse(reference), PLACES[0])
    assert hint in (caught.value.hint or "")
    assert caught.value.exit_code == 3


def test_no_image_in_that_place(catalog: Catalog, manifest: ManifestFactory) -> None:
    catalog.add(manifest(places=PLACES[:4]))
    with pytest.raises(NotFound, match="no image in 222222222222/us-east-1") as caught:
        catalog.resolve(Reference(NAME), Place(APPS, "us-east-1"))
    assert "222222222222/eu-central-1" in (caught.value.hint or "")
    assert "111111111111" not in (caught.value.hint or ""), "the account's own places are the useful ones"


def test_the_architecture_is_asked_for_where_it_matters(catalog: Catalog, manifest: ManifestFactory) -> None:
    catalog.add(manifest(architectures=("x86_64", "arm64")))
    with pytest.raises(UsageError, match="arm64 and x86_64"):
        catalog.resolve(Reference(NAME), PLACES[0])
    assert catalog.resolve(Reference(NAME), PLACES[0], "arm64").architecture == "arm64"
    catalog.add(manifest("1.4.20261124.2"))
    with pytest.raises(NotFound, match="no arm64 image"):
        catalog.resolve(Reference(NAME), PLACES[0], "arm64")


# --- versions ---------------------------------------------------------------------------------------------------------


def test_versions_are_given_out_once(catalog: Catalog, manifest: ManifestFactory) -> None:
    assert catalog.next_version(NAME, "1.4", DAY) == "1.4.20261124.1"
    assert catalog.reserve(NAME, "1.4", DAY, build_id="b-1", now=NOW) == "1.4.20261124.1"
    assert catalog.reserve(NAME, "1.4", DAY, build_id="b-2", now=NOW) == "1.4.20261124.2"
    later = date(2026, 11, 25)
    assert catalog.reserve(NAME, "1.4", later, build_id="b-1", now=NOW) == "1.4.20261124.1", "resumed on another day"
    catalog.add(manifest())
    assert catalog.reserve(NAME, "1.4", later, build_id="b-1", now=NOW) == "1.4.20261124.1", "resumed after its release"
    assert catalog.reserve(NAME, "1.4", DAY, build_id="b-3", now=NOW) == "1.4.20261124.3"
    assert catalog.reserve(NAME, "1.5", DAY, build_id="b-4", now=NOW) == "1.5.20261124.1"
    assert catalog.reserve("other", "1.4", DAY, build_id="b-5", now=NOW) == "1.4.20261124.1"
    assert [r.build_id for r in catalog.reservations(NAME)] == ["b-1", "b-2", "b-3", "b-4"]


def test_a_release_without_a_reservation_takes_its_number_too(catalog: Catalog, manifest: ManifestFactory) -> None:
    catalog.add(manifest("1.4.20261124.4"))
    assert catalog.reserve(NAME, "1.4", DAY, build_id="b", now=NOW) == "1.4.20261124.5"


def test_the_version_of_another_build_cannot_be_released(catalog: Catalog, manifest: ManifestFactory) -> None:
    catalog.reserve(NAME, "1.4", DAY, build_id="b-2", now=NOW)
    with pytest.raises(CatalogError, match="reserved by build b-2"):
        catalog.add(manifest(build_id="b-1"))


RESERVE = """
import sys
from datetime import UTC, date, datetime
from goldenami.release.catalog import Catalog
catalog = Catalog(sys.argv[1])
for n in range(int(sys.argv[3])):
    now = datetime.now(UTC)
    print(catalog.reserve("web", "1.4", date(2026, 11, 24), build_id=f"{sys.argv[2]}-{n}", now=now), flush=True)
"""


def test_processes_and_threads_never_share_a_version(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", RESERVE, tmp_path, f"p{p}", "15"], stdout=subprocess.PIPE, text=True)
        for p in range(3)
    ]
    catalog = Catalog(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        ours = list(pool.map(lambda n: catalog.reserve("web", "1.4", DAY, build_id=f"t-{n}", now=NOW), range(30)))
    theirs = [line for p in processes for line in p.communicate(timeout=300)[0].split()]
    assert len(theirs) == 45
    assert sorted(int(v.rsplit(".", 1)[1]) for v in ours + theirs) == list(range(1, 76))


# --- locks ------------------------------------------------------------------------------------------------------------


def test_a_lock_that_is_held_is_waited_for_and_then_refused(tmp_path: Path) -> None:
    moments = iter(range(100))
    waited: list[float] = []
    with (
        Catalog(tmp_path).publishing("web", "stable", timeout=0),
        pytest.raises(CatalogError, match="still locked") as caught,
        Catalog(tmp_path, clock=lambda: float(next(moments)), sleep=waited.append).publishing(
            "web", "stable", timeout=3
        ),
    ):
        raise AssertionError("two hold the lock")
    assert caught.value.hint
    assert 1 <= len(waited) <= 4
    with Catalog(tmp_path).publishing("web", "stable", timeout=0):
        pass


def test_another_channel_is_another_lock(catalog: Catalog) -> None:
    with catalog.publishing("web", "stable", timeout=0), catalog.publishing("web", "candidate", timeout=0):
        pass


def test_a_lock_dies_with_its_holder(tmp_path: Path) -> None:
    program = (
        "import sys, time; from goldenami.release.catalog import Catalog\n"
        "with Catalog(sys.argv[1]).publishing('web', 'stable', timeout=60):\n"
        "    print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    with holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(CatalogError), Catalog(tmp_path).publishing("web", "stable", timeout=0):
            pass
        holder.kill()
        holder.wait()
        with Catalog(tmp_path).publishing("web", "stable", timeout=60):
            pass


# --- crashes ----------------------------------------------------------------------------------------------------------

WRITE = """
import sys
from dataclasses import replace
from datetime import UTC, datetime
from goldenami import manifest as codec
from goldenami.release.catalog import Catalog
catalog = Catalog(sys.argv[1])
manifest = codec.loads(sys.stdin.read())
print("ready", flush=True)
for number in range(int(sys.argv[2]), 1_000_000):
    version = f"1.4.20261124.{number}"
    catalog.add(replace(manifest, version=version))
    catalog.move(manifest.recipe, "stable", version, now=datetime.now(UTC))
    print(version, flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_a_whole_catalog(tmp_path: Path, manifest: ManifestFactory) -> None:
    from goldenami import manifest as codec

    catalog = Catalog(tmp_path)
    # Large enough that a write takes a while.
    text = codec.dumps(replace(manifest(), description="x" * 300_000))
    start, confirmed = 1, ""
    for delay_ms in (0, 1, 3, 7, 13, 29, 61, 97, 193, 389, None):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITE, tmp_path, str(start)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdin is not None
        assert writer.stdout is not None
        with writer:
            writer.stdin.write(text)
            writer.stdin.close()
            assert writer.stdout.readline() == "ready\n"
            if delay_ms is None:  # a whole release, however long it takes
                confirmed = writer.stdout.readline().strip()
            else:
                time.sleep(delay_ms / 1000)
            os.kill(writer.pid, signal.SIGKILL)
            confirmed = ([confirmed, *writer.stdout.read().splitlines(keepends=True)])[-1].strip() or confirmed
        versions = catalog.versions(NAME)
        assert all(catalog.get(NAME, version).version == version for version in versions)
        pointer = catalog.channel(NAME, "stable")
        if confirmed:
            assert confirmed in versions
            assert pointer is not None
            assert pointer.current in versions, "the last one, or an earlier one if writers were killed between the two"
            assert int(pointer.current.rsplit(".", 1)[1]) >= int(confirmed.rsplit(".", 1)[1])
        start = int(versions[0].rsplit(".", 1)[1]) + 1 if versions else 1
    assert confirmed, "no writer ever got as far as a whole release"


def test_what_a_killed_writer_left_is_removed_later(
    catalog: Catalog, manifest: ManifestFactory, tmp_path: Path
) -> None:
    folder = tmp_path / "catalog" / "releases" / NAME
    folder.mkdir(parents=True)
    old, fresh = folder / ".unfinished-1", folder / ".unfinished-2"
    for path in (old, fresh):
        path.write_bytes(b"{")
    os.utime(old, (time.time() - 7200,) * 2)
    assert catalog.versions(NAME) == ()
    catalog.add(manifest())
    assert not old.exists()
    assert fresh.exists(), "its writer may still be at work"


def test_a_directory_that_cannot_be_written_is_a_clear_error(tmp_path: Path, manifest: ManifestFactory) -> None:
    (tmp_path / "catalog").write_text("a file where the directory should be")
    catalog = Catalog(tmp_path / "catalog")
    with pytest.raises(CatalogError, match="cannot read"):
        catalog.add(manifest())
    with pytest.raises(CatalogError, match="cannot write"):
        DirectoryStore(tmp_path / "catalog", error=CatalogError).create("releases/web/1.json", b"")
    with pytest.raises(CatalogError, match="cannot lock"):
        catalog.reserve(NAME, "1.4", DAY, build_id="b", now=NOW)
    with pytest.raises(CatalogError, match="cannot list"):
        catalog.names()


def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path, error=CatalogError)
    done = threading.Event()

    def write() -> None:
        before = None
        for n in range(60):
            before = store.replace("a/b.json", bytes([n]) * 200_000, before)
            assert before is not None
        assert store.replace("a/b.json", b"", Stored(b"something else", "0")) is None
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = 0
    while not done.is_set():
        found = store.read("a/b.json")
        if found is not None:
            data = found.data
            assert len(data) == 200_000
            assert len(set(data)) == 1
            seen += 1
    writer.join()
    assert seen


# --- against a plain model --------------------------------------------------------------------------------------------


class CatalogAgainstDictionaries(RuleBasedStateMachine):
    """Random histories, compared with what dictionaries say. A fresh Catalog reads each time: all is on disk."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.directory = tempfile.TemporaryDirectory()
        self.reserved: dict[str, dict[str, int]] = {}  # name -> build -> number
        self.released: dict[str, dict[int, str]] = {}  # name -> number -> digest
        self.moves: dict[tuple[str, str], list[int]] = {}

    def teardown(self) -> None:
        self.directory.cleanup()

    @property
    def catalog(self) -> Catalog:
        return Catalog(self.directory.name)

    @rule(name=st.sampled_from(["web", "base"]), build=st.sampled_from("abcdef"))
    def reserve(self, name: str, build: str) -> None:
        taken = self.reserved.setdefault(name, {})
        expected = taken.setdefault(build, len(taken) + 1)
        got = self.catalog.reserve(name, "1.4", DAY, build_id=build, now=NOW)
        assert got == f"1.4.20261124.{expected}"

    @precondition(lambda self: any(self.reserved.values()))
    @rule(data=st.data(), digest=st.sampled_from("12"))
    def release(self, data: st.DataObject, digest: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.reserved)))
        build, number = data.draw(st.sampled_from(sorted(self.reserved[name].items())))
        new = make_manifest(f"1.4.20261124.{number}", name=name, digest=digest * 64, build_id=build)
        if self.released.setdefault(name, {}).setdefault(number, digest * 64) == digest * 64:
            self.catalog.add(new)
        else:
            with pytest.raises(CatalogError):
                self.catalog.add(new)

    @precondition(lambda self: any(self.released.values()))
    @rule(data=st.data(), channel=st.sampled_from(["stable", "candidate"]))
    def move(self, data: st.DataObject, channel: str) -> None:
        name = data.draw(st.sampled_from(sorted(n for n, r in self.released.items() if r)))
        number = data.draw(st.sampled_from(sorted(self.released[name])))
        moves = self.moves.setdefault((name, channel), [])
        if not moves or moves[-1] != number:
            moves.append(number)
        self.catalog.move(name, channel, f"1.4.20261124.{number}", now=NOW)

    @invariant()
    def agrees(self) -> None:
        catalog = self.catalog
        assert catalog.names() == tuple(sorted(n for n, r in self.released.items() if r))
        for name in ("web", "base"):
            released = self.released.get(name, {})
            assert catalog.versions(name) == tuple(f"1.4.20261124.{n}" for n in sorted(released, reverse=True))
            for digest in ("1" * 64, "2" * 64):
                found = [int(m.version.rsplit(".", 1)[1]) for m in catalog.with_digest(name, digest)]
                assert found == sorted((n for n, d in released.items() if d == digest), reverse=True)
            for channel in ("stable", "candidate"):
                moves = self.moves.get((name, channel), [])
                pointer = catalog.channel(name, channel)
                seen = [m.version for m in pointer.history] if pointer else []
                assert seen == [f"1.4.20261124.{n}" for n in moves]
                if pointer is not None:
                    assert pointer.current == f"1.4.20261124.{moves[-1]}"
                    assert pointer.previous == (f"1.4.20261124.{moves[-2]}" if len(moves) > 1 else None)
                    image = catalog.resolve(Reference(name, channel=channel), Place(HOME, "us-east-1"))
                    assert image.image_id == "ami-111-us-east-1-x86_64"


TestCatalogAgainstDictionaries = CatalogAgainstDictionaries.TestCase
TestCatalogAgainstDictionaries.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)
