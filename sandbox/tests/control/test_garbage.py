"""What `gc` deletes, and what it must not."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from goldenami_sandbox import daemon, garbage, ways
from goldenami_sandbox.cli import sandbox
from goldenami_sandbox.controlpoint import ControlPoint
from goldenami_sandbox.ec2.paper import PaperNode
from goldenami_sandbox.http import Request
from goldenami_sandbox.node import usage

PaperCloud = Any
OLD = 7200  # seconds


def written(path: Path, size: int = 8192) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


def of_a_sandbox(root: Path, *, age: float = OLD) -> Path:
    """Write the directory of a sandbox that was killed."""
    for name in ("format.json", "node/pool.xfs"):
        written(root / name)
    then = (root / "format.json").stat().st_mtime - age
    for path in (root / "format.json", root / "node"):
        os.utime(path, (then, then))
    return root


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path, Path]:
    """The directories of sandboxes, of the cache, and of temporary files."""
    home, cache, temporary = tmp_path / "home", tmp_path / "cache", tmp_path / "tmp"
    for path in (home, cache, temporary):
        path.mkdir()
    return home, cache, temporary


def found(places: tuple[Path, Path, Path]) -> dict[str, set[Path]]:
    result: dict[str, set[Path]] = {}
    for one in garbage.find(*places):
        assert one.size >= 4096
        result.setdefault(one.kind, set()).add(one.path)
    return result


def test_base_images_of_this_version_are_kept(places: tuple[Path, Path, Path]) -> None:
    cache = places[1]
    kept = written(garbage.current_base("debian-12", cache))
    assert kept.name.startswith("debian-12-amd64-")
    old = written(cache / "debian-12-amd64-000000000000.ext4")
    unfinished, made_now = cache / ".debian-12-abc", cache / ".debian-13-abc"
    for one in (unfinished, made_now):
        written(one / "root/etc/hostname")
    with (cache / ".debian-13.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert found(places) == {"base images of older versions": {old}, "unfinished base images": {unfinished}}
    for rubbish in garbage.find(*places):
        garbage.remove(rubbish)
    assert kept.exists()
    assert not old.exists()
    assert found(places) == {}


def test_a_sandbox_that_runs_is_left_alone(places: tuple[Path, Path, Path]) -> None:
    root = places[0] / "default"
    files = {written(root / name) for name in (".state.zip.new", "node/pool.new")}
    logs = {written(root / name) for name in ("calls.jsonl.1", "daemon.log.1")}
    for name in ("calls.jsonl", "state.zip", "node/pool.xfs"):
        written(root / name)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert found(places) == {"old logs": logs}
    assert found(places) == {"old logs": logs, "unfinished files": files}


def test_only_sandboxes_of_tests_that_ended_are_found(places: tuple[Path, Path, Path]) -> None:
    run = places[2] / "pytest-of-root"
    killed = of_a_sandbox(run / "pytest-1/sandbox0/tests")
    young = of_a_sandbox(run / "pytest-1/sandbox1/tests", age=0)
    of_a_sandbox(run / "pytest-2/sandbox0/tests")
    (run / "pytest-2/.lock").write_text(str(os.getpid()))  # this one runs
    (run / "pytest-1/.lock").write_text("999999999")
    of_a_sandbox(places[2] / "somebody/else")
    outside = of_a_sandbox(places[2].parent / "linked")
    (run / "pytest-1/link").symlink_to(outside)
    assert found(places) == {"sandboxes of tests that were killed": {killed}}
    with (killed / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert found(places) == {}
    young.rename(killed.with_name("other"))
    assert len(found(places)["sandboxes of tests that were killed"]) == 1


class Noted(ways.NoInstances):
    """A way that notes what is removed."""

    name = "noted"

    def __init__(self) -> None:
        self.calls: list[tuple[str, Path]] = []

    def sweep(self, root: Path) -> None:
        self.calls.append(("sweep", root))

    def clear(self, root: Path) -> None:
        self.calls.append(("clear", root))


def test_a_sandbox_is_removed_in_the_way_that_it_was_made(
    places: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = Noted()
    monkeypatch.setattr(ways, "WAYS", {"noted": noted})  # asking any other is an error
    killed = of_a_sandbox(places[2] / "pytest-of-root/pytest-1/sandbox0")
    (killed / "instances").write_text("noted")
    (rubbish,) = garbage.find(*places)
    garbage.remove(rubbish)
    assert noted.calls == [("sweep", killed), ("clear", killed)]
    assert not killed.exists()


def test_a_dry_run_deletes_nothing(
    places: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GOLDENAMI_SANDBOX_HOME", str(places[0]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(places[1]))
    monkeypatch.setattr("tempfile.tempdir", str(places[2]))
    old = written(places[1] / "goldenami/debian-12-amd64-000000000000.ext4")

    def gc(*options: str) -> Any:
        sandbox.main(["gc", *options], prog_name="goldenami-sandbox", standalone_mode=False)
        return capsys.readouterr()

    told = json.loads(gc("--dry-run", "--json").out)
    assert (told["dry_run"], told["freed_bytes"]) == (True, 8192)
    assert [(row["kind"], row["what"], row["bytes"]) for row in told["found"]] == [
        ("base images of older versions", str(old), 8192)
    ]
    assert old.exists()
    assert "8 KiB would be free" in gc("--dry-run").err
    assert "8 KiB are free" in gc().err
    assert not old.exists()
    assert json.loads(gc("--json").out)["found"] == []


def test_contents_without_a_record_are_deleted(paper_cloud: Callable[..., PaperCloud]) -> None:
    cloud = paper_cloud()
    point = ControlPoint(cloud.cloud, cloud.node, "test", "token", lambda: 0.0)

    def collect(*, dry_run: bool) -> Any:
        body = json.dumps({"dry_run": dry_run}).encode()
        return json.loads(
            point(Request("POST", "/_sandbox/gc", "", {"x-sandbox-token": "token", "host": "127.0.0.1"}, [], body)).body
        )

    kept = cloud.cloud.ec2.unreachable()
    assert kept == {"volumes": [], "snapshots": []}
    cloud.node.base("debian-12")
    cloud.node.create_volume("vol-lost", 1, None, None)
    cloud.node.freeze_snapshot("snap-lost", "vol-lost")
    lost = {"volumes": ["vol-lost"], "snapshots": ["snap-lost"], "bytes": 0}
    assert collect(dry_run=True) == lost
    assert "vol-lost" in cloud.node.volumes
    assert collect(dry_run=False) == lost
    assert cloud.node.stored() == (set(), {"base-debian-12"})


def test_a_restart_keeps_what_is_in_the_recycle_bin() -> None:
    node = PaperNode()
    node.create_volume("vol-1", 1, None, None)
    for snapshot in ("snap-kept", "snap-binned", "snap-lost"):
        node.freeze_snapshot(snapshot, "vol-1")
    records: dict[str, Any] = {"instances": {}, "volumes": {"vol-1": {}}, "snapshots": {"snap-kept": {}}}
    daemon._clear_orphans(node, {**records, "binned_snapshots": {"snap-binned": {}}})
    assert node.stored() == ({"vol-1"}, {"snap-kept", "snap-binned"})


def test_ranges_are_counted_once() -> None:
    assert usage.merged([(5, 9), (0, 3), (2, 4), (9, 10), (6, 7)]) == [(0, 4), (5, 10)]
    assert usage.merged([]) == []
