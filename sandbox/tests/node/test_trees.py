"""Volumes as directories: what is unpacked, what is written back, and which blocks of the image that changes."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from goldenami_sandbox.errors import SandboxError
from goldenami_sandbox.node import blocks, trees
from goldenami_sandbox.node.api import BLOCK_SIZE
from goldenami_sandbox.node.instances import CLOSE_PATIENCE
from goldenami_sandbox.node.pool import PlainPool
from goldenami_sandbox.node.rootless import RootlessGuest, RootlessNode, _NoNetwork
from goldenami_sandbox.node.snapshots import Snapshots
from goldenami_sandbox.node.trees import TreeVolumes
from goldenami_sandbox.ways import WAYS

pytestmark = [
    pytest.mark.root,  # files of an image have owners
    pytest.mark.skipif(shutil.which("debugfs") is None, reason="needs debugfs of e2fsprogs"),
]
SIZE = 24 << 20


@pytest.fixture
def volumes(tmp_path: Path) -> TreeVolumes:
    pool = PlainPool(tmp_path / "pool")
    pool.open()
    volumes = TreeVolumes(pool, tmp_path / "trees")
    files = tmp_path / "files"
    (files / "etc").mkdir(parents=True)
    (files / "etc/motd").write_text("hello")
    (files / "etc/old").mkdir()
    (files / "etc/old/file").write_text("old")
    (files / "etc/link").symlink_to("motd")
    for number in range(8):
        (files / f"data{number}").write_bytes(os.urandom(1 << 20))
    (files / "sudo").write_text("program")
    os.chown(files / "sudo", 0, 7)
    (files / "sudo").chmod(0o4755)
    image = volumes.path("vol-1")
    with image.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(files), str(image)], check=True)
    return volumes


def unpacked(volumes: TreeVolumes, volume: str = "vol-1") -> Path:
    root = volumes.tree(volume)
    volumes.mount(volume, root)
    return root


def test_files_have_their_contents_owners_and_modes(volumes: TreeVolumes) -> None:
    root = unpacked(volumes)
    assert (root / "etc/motd").read_text() == "hello"
    assert (root / "etc/link").readlink() == Path("motd")
    facts = (root / "sudo").stat()
    assert (facts.st_mode & 0o7777, facts.st_uid, facts.st_gid) == (0o4755, 0, 7)


def test_changes_are_written_back_and_all_other_blocks_stay(volumes: TreeVolumes, tmp_path: Path) -> None:
    snapshots = Snapshots(volumes._pool, volumes)
    root = unpacked(volumes)
    snapshots.freeze("snap-1", "vol-1")
    snapshots.store("snap-1", None, None)

    (root / "etc/motd").write_text("changed")
    shutil.rmtree(root / "etc/old")
    (root / "etc/old").write_text("now a file")
    (root / "etc/link").unlink()
    (root / "etc/link").symlink_to("somewhere else")
    (root / 'a "new" one').mkdir(mode=0o700)
    (root / 'a "new" one/file').write_text("new")
    os.chown(root / 'a "new" one/file', 12, 34)
    os.setxattr(root / 'a "new" one/file', "user.mark", b"\x00value")
    os.mkfifo(root / "pipe")
    (root / "sudo").chmod(0o755)
    snapshots.freeze("snap-2", "vol-1")
    facts = snapshots.store("snap-2", "snap-1", None)

    whole = len(snapshots.index("snap-2").tokens)
    assert 0 < facts.changed_blocks < whole / 2, "the blocks of files that did not change stay"
    volumes.unmount("vol-1")
    assert not volumes.tree("vol-1").exists()
    volumes.adopt("vol-2", snapshots.restore("snap-2", None), SIZE)
    checked = subprocess.run(
        ["e2fsck", "-f", "-n", str(volumes.path("vol-2"))], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
    again = unpacked(volumes, "vol-2")
    assert (again / "etc/motd").read_text() == "changed"
    assert (again / "etc/old").read_text() == "now a file"
    assert (again / "etc/link").readlink() == Path("somewhere else")
    new = (again / 'a "new" one/file').stat()
    assert ((again / 'a "new" one/file').read_text(), new.st_uid, new.st_gid) == ("new", 12, 34)
    assert stat.S_IMODE((again / 'a "new" one').stat().st_mode) == 0o700
    names = subprocess.run(
        ["debugfs", "-R", "ls -p /", str(volumes.path("vol-2"))], capture_output=True, text=True, check=True
    ).stdout
    modes = {line.split("/")[5]: line.split("/")[2] for line in names.splitlines() if line.startswith("/")}
    assert modes["pipe"].startswith("010"), "a pipe, by its name and not by its path"
    assert stat.S_IMODE((again / "sudo").stat().st_mode) == 0o755
    shown = subprocess.run(
        ["debugfs", "-R", 'ea_list "/a ""new"" one/file"', str(volumes.path("vol-2"))],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "user.mark (6)" in shown.stdout


def test_files_that_a_killed_sandbox_left_are_used(volumes: TreeVolumes) -> None:
    root = unpacked(volumes)
    (root / "etc/motd").write_text("written before the kill")
    successor = TreeVolumes(volumes._pool, root.parent.parent)
    assert (unpacked(successor) / "etc/motd").read_text() == "written before the kill"
    successor.unmount("vol-1")
    assert (unpacked(successor) / "etc/motd").read_text() == "written before the kill"


def test_a_tree_that_was_half_deleted_at_a_kill_is_unpacked_again(
    volumes: TreeVolumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = unpacked(volumes)
    (root / "etc/motd").write_text("written before the kill")

    rmtree = shutil.rmtree

    def killed(directory: Path, **options: Any) -> None:
        if directory != root.parent:
            return rmtree(directory, **options)
        (root / "sudo").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            volumes.unmount("vol-1")
    successor = TreeVolumes(volumes._pool, root.parent.parent)
    assert (unpacked(successor) / "sudo").read_text() == "program"
    assert (root / "etc/motd").read_text() == "written before the kill"


def test_a_sandbox_has_time_to_write_its_files_back_at_its_end() -> None:
    assert WAYS["namespace"].stop_seconds > RootlessGuest.patience + CLOSE_PATIENCE + 60, (
        "after the shutdown, and with the rest"
    )


def test_an_instance_that_ends_during_a_snapshot_waits_for_it(volumes: TreeVolumes, tmp_path: Path) -> None:
    root = unpacked(volumes)
    (root / "etc/motd").write_text("changed")
    end = threading.Thread(target=volumes.unmount, args=("vol-1",))

    @contextmanager
    def still() -> Iterator[None]:
        end.start()
        end.join(0.2)  # long enough for one that does not wait
        yield
        assert root.exists()

    volumes.stand_still("vol-1", still)
    volumes.clone("vol-1", volumes.path("vol-2"))
    end.join()
    assert not root.exists()
    assert (unpacked(volumes, "vol-2") / "etc/motd").read_text() == "changed"


def test_a_name_that_cannot_be_stored_is_an_error_until_it_is_gone(volumes: TreeVolumes, tmp_path: Path) -> None:
    root = unpacked(volumes)
    (root / "another").write_text("new")
    (root / "two\nlines").touch()
    with pytest.raises(SandboxError, match="line break"):
        volumes.clone("vol-1", tmp_path / "clone")
    (root / "two\nlines").unlink()
    volumes.clone("vol-1", volumes.path("vol-2"))
    assert (unpacked(volumes, "vol-2") / "another").read_text() == "new"


def test_a_change_that_fails_half_way_changes_nothing(
    volumes: TreeVolumes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = unpacked(volumes)
    (root / "new").mkdir()
    (root / "etc/motd").unlink()
    original = trees._changes
    with monkeypatch.context() as patch:
        patch.setattr(trees, "_changes", lambda *given: [*original(*given), "rm /what-is-not-there"])
        with pytest.raises(SandboxError, match="not found"):
            volumes.clone("vol-1", tmp_path / "clone")
    assert not list(volumes._pool.scratch.iterdir())
    volumes.clone("vol-1", volumes.path("vol-2"))
    again = unpacked(volumes, "vol-2")
    assert (again / "new").is_dir()
    assert not (again / "etc/motd").exists()


def test_a_pipe_is_unpacked_and_can_be_made_again(volumes: TreeVolumes) -> None:
    root = unpacked(volumes)
    os.mkfifo(root / "etc/pipe")
    os.chown(root / "etc/pipe", 12, 34)
    (root / "etc/pipe").chmod(0o620)
    os.utime(root / "etc", (1_000_000, 1_000_000))
    volumes.unmount("vol-1")
    facts = (unpacked(volumes) / "etc/pipe").stat()
    assert stat.S_ISFIFO(facts.st_mode)
    assert (stat.S_IMODE(facts.st_mode), facts.st_uid, facts.st_gid) == (0o620, 12, 34)
    assert (root / "etc").stat().st_mtime == 1_000_000
    (root / "etc/pipe").unlink()
    os.mkfifo(root / "etc/pipe", 0o600)  # as a service does at its start
    volumes.unmount("vol-1")
    assert stat.S_IMODE((unpacked(volumes) / "etc/pipe").stat().st_mode) == 0o600
    subprocess.run(["e2fsck", "-f", "-n", str(volumes.path("vol-1"))], check=True, capture_output=True)


def test_a_filesystem_that_would_be_damaged_is_not_stored(volumes: TreeVolumes, tmp_path: Path) -> None:
    root = unpacked(volumes)
    subprocess.run(["debugfs", "-w", "-R", "mknod other p", str(volumes.path("vol-1"))], check=True)
    os.mkfifo(root / "other")  # the image has one that is not known
    before = volumes.path("vol-1").read_bytes()
    with pytest.raises(SandboxError, match="Duplicate entry"):
        volumes.clone("vol-1", tmp_path / "clone")
    assert volumes.path("vol-1").read_bytes() == before


def test_a_kill_when_the_image_was_replaced_is_no_failure_later(
    volumes: TreeVolumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = unpacked(volumes)
    (root / "new").mkdir()
    rename = Path.rename

    def killed(path: Path, target: Path) -> Path:
        if path.name == "known.next":
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            volumes.unmount("vol-1")
    (root / "new/file").write_text("later")
    successor = TreeVolumes(volumes._pool, root.parent.parent)
    unpacked(successor)
    successor.unmount("vol-1")
    assert (unpacked(successor) / "new/file").read_text() == "later"


def test_names_are_bytes_in_any_encoding(volumes: TreeVolumes) -> None:
    root = unpacked(volumes)
    name = os.fsdecode(b"caf\xe9\x85\xe2\x80\xa8")  # no UTF-8, and what Unicode takes for line breaks
    (root / name).mkdir()
    (root / name / "file").write_text("new")
    (root / name / "file").chmod(0o2755)
    volumes.unmount("vol-1")
    file = unpacked(volumes) / name / "file"
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("new", 0o2755)


def test_an_instance_whose_files_cannot_be_written_back_has_stopped(volumes: TreeVolumes, tmp_path: Path) -> None:
    node = RootlessNode(tmp_path / "state", tmp_path / "cache")
    node._network, node._volumes = _NoNetwork("here"), volumes
    (unpacked(volumes) / "two\nlines").touch()
    guest = RootlessGuest(
        "i-1", volumes.tree("vol-1"), "one", tmp_path / "console", lambda: None, lambda _: None, dict, lambda *_: None
    )
    node._guests["i-1"] = guest
    told: list[tuple[str, str]] = []
    node.on_exit(lambda *what: told.append(what))
    with pytest.raises(SandboxError, match="line break"):
        node._on_guest_end(guest, "poweroff", "vol-1", "198.18.0.4")
    assert (told, node._guests) == ([("i-1", "poweroff")], {})
    assert volumes.tree("vol-1").exists(), "the files are still there, for the next start"


def test_a_copied_file_keeps_its_holes(tmp_path: Path) -> None:
    with (tmp_path / "one").open("w+b") as one, (tmp_path / "two").open("w+b") as two:
        one.truncate(20 * BLOCK_SIZE + 5)
        blocks.write(one.fileno(), 3, b"x" * BLOCK_SIZE)
        one.seek(0, os.SEEK_END)
        one.write(b"end")
        one.flush()
        blocks.copy(one.fileno(), two.fileno())
        assert blocks.allocated(two.fileno()) == [3, 20]
        assert [blocks.read(two.fileno(), i) for i in (3, 20)] == [blocks.read(one.fileno(), i) for i in (3, 20)]
        assert os.fstat(two.fileno()).st_size == os.fstat(one.fileno()).st_size
