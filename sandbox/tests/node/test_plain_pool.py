"""The pool in a directory, on a filesystem that cannot clone files, and what runs beside a deletion."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from goldenami_sandbox.errors import NoRoom, SandboxError
from goldenami_sandbox.node import blocks
from goldenami_sandbox.node.api import BLOCK_SIZE, DataKey
from goldenami_sandbox.node.pool import PlainPool
from goldenami_sandbox.node.rootless import RootlessGuest, RootlessNode
from goldenami_sandbox.node.snapshots import Snapshots
from goldenami_sandbox.node.volumes import Volumes

KEY, OTHER = DataKey(bytes(32)), DataKey(bytes([1]) * 32)


def cannot_clone(source: int, target: int) -> None:
    raise SandboxError("the pool's filesystem cannot clone files")


@pytest.fixture
def snapshots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Snapshots:
    """Snapshots with ``snap-1``, which is encrypted, and ``vol-1``, from which it was made. It has 3 blocks."""
    monkeypatch.setattr(blocks, "clone", cannot_clone)  # the machine of the test may be able to
    pool = PlainPool(tmp_path / "pool")
    pool.open()
    volumes = Volumes(pool)
    volumes.create_empty("vol-1", 20 * BLOCK_SIZE)
    with volumes.path("vol-1").open("r+b") as file:
        for index in (2, 5, 7):
            blocks.write(file.fileno(), index, os.urandom(BLOCK_SIZE))
    made = Snapshots(pool, volumes)
    made.freeze("snap-1", "vol-1")
    made.store("snap-1", None, KEY)
    return made


def test_equal_ciphertext_is_stored_once(snapshots: Snapshots) -> None:
    pool = snapshots._pool
    before, contents = pool.space().used, snapshots.read_block("snap-1", 5, KEY)
    snapshots.copy("snap-1", KEY, "snap-2", OTHER, None)
    assert pool.space().used - before < BLOCK_SIZE
    snapshots.delete("snap-1")
    assert snapshots.read_block("snap-2", 5, OTHER) == contents != blocks.ZERO
    assert (pool.snapshots / "snap-2/data").stat().st_nlink == 1


def test_a_copy_that_has_no_room_leaves_nothing(snapshots: Snapshots) -> None:
    pool = snapshots._pool
    snapshots.freeze("snap-3", "vol-1")
    snapshots.store("snap-3", None, None)
    pool.limit(pool.space().used + BLOCK_SIZE)
    with pytest.raises(NoRoom):
        snapshots.restore("snap-3", None)
    with pytest.raises(NoRoom):
        snapshots.freeze("snap-4", "vol-1")
    assert not list(pool.scratch.iterdir())
    assert {path.name for path in pool.snapshots.iterdir()} == {"snap-1", "snap-3"}


def test_a_full_disk_leaves_no_scratch_file(snapshots: Snapshots, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshots.freeze("snap-3", "vol-1")
    snapshots.store("snap-3", None, None)

    def full(source: int, target: int) -> None:
        os.write(target, b"some")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(blocks, "copy", full)
    with pytest.raises(OSError, match="No space left"):
        snapshots.restore("snap-3", None)
    assert not list(snapshots._pool.scratch.iterdir())


def test_the_room_can_be_asked_for_while_a_snapshot_is_deleted(
    snapshots: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk, pool = os.walk, snapshots._pool

    def deleting(top: Path) -> Iterator[tuple[str, list[str], list[str]]]:
        for found in walk(top):
            if found[0].endswith("snap-1"):
                snapshots.delete("snap-1")
            yield found

    whole = pool.space().used
    monkeypatch.setattr(os, "walk", deleting)
    assert 0 < pool.space().used < whole


def test_a_file_that_becomes_shorter_is_copied_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "one").open("w+b") as one, (tmp_path / "two").open("w+b") as two:
        blocks.write(one.fileno(), 0, b"x" * BLOCK_SIZE)
        allocated = blocks.allocated

        def shortened(file: int) -> list[int]:
            found = allocated(file)
            os.truncate(one.name, 100)
            return found

        monkeypatch.setattr(blocks, "allocated", shortened)
        blocks.copy(one.fileno(), two.fileno())
        assert blocks.read(two.fileno(), 0) == b"x" * 100 + bytes(BLOCK_SIZE - 100)


def test_an_image_is_exported_without_root_as_a_filesystem(tmp_path: Path) -> None:
    node = RootlessNode(tmp_path / "state", tmp_path / "cache")
    node._pool.open()
    image = tmp_path / "image"
    image.write_bytes(b"contents" * (BLOCK_SIZE // 8))
    node._snapshots.import_file("snap-1", image)
    for form in ("dir", "tar"):
        with pytest.raises(SandboxError, match="needs a mount") as refused:
            node.export("snap-1", None, tmp_path / "out", form)
        assert ".raw" in str(refused.value.hint)
    assert not (tmp_path / "out").exists()
    node.export("snap-1", None, tmp_path / "out.raw", "raw")
    assert (tmp_path / "out.raw").read_bytes() == image.read_bytes()


def test_the_number_of_an_ended_process_is_not_killed() -> None:
    guest = RootlessGuest.__new__(RootlessGuest)
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            ended.pid = other.pid  # the kernel gave the number again
            guest.process = ended
            guest._kill_cgroup()
            with pytest.raises(subprocess.TimeoutExpired):
                other.wait(0.2)
            guest.process = other
            guest._kill_cgroup()
            assert other.wait() == -9
        finally:
            other.kill()
