"""Volumes, snapshots and encryption on a real pool."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from goldenami_sandbox.node import blocks
from goldenami_sandbox.node.api import BLOCK_SIZE, DataKey
from goldenami_sandbox.node.crypto import BlockCipher, fingerprint

pytestmark = pytest.mark.root
Node = Any
MARKER = b"golden ami planted plaintext 5c1f0a"


def pool_of(node: Node) -> Path:
    """The pool as this process can reach it: through the enclosure's own view of its mounts."""
    return Path(f"/proc/{node.inner_pid()}/root/run/goldenami/pool")


def put(node: Node, volume: str, index: int, data: bytes) -> None:
    with (pool_of(node) / "volumes" / volume).open("r+b") as file:
        file.seek(index * BLOCK_SIZE)
        file.write(data)


def stored(node: Node, snapshot: str) -> dict[int, bytes]:
    """The file of a snapshot: its blocks with data. The rest of a gibibyte is holes."""
    with (pool_of(node) / "snapshots" / snapshot / "data").open("rb") as file:
        return {index: blocks.read(file.fileno(), index) for index in blocks.allocated(file.fileno())}


def snap(node: Node, snapshot: str, volume: str, parent: str | None, key: DataKey | None = None) -> dict[str, int]:
    node.call("freeze_snapshot", snapshot, volume)
    facts: dict[str, int] = node.call("store_snapshot", snapshot, parent, key)
    return facts


def test_snapshots_store_what_changed_and_outlive_their_parents(node: Node) -> None:
    node.call("create_volume", "vol-a", 1, None, None)
    for index in range(8):
        put(node, "vol-a", index, os.urandom(BLOCK_SIZE))
    kept = [node_block(node, "vol-a", index) for index in range(8)]
    assert snap(node, "snap-a1", "vol-a", None) == {
        "changed_blocks": 8,
        "full_blocks": 8,
        "stored_bytes": 8 * BLOCK_SIZE,
    }
    put(node, "vol-a", 2, os.urandom(100))
    put(node, "vol-a", 3, bytes(BLOCK_SIZE))  # emptied
    put(node, "vol-a", 4, kept[4])  # written again as it was
    put(node, "vol-a", 100, b"new")
    assert snap(node, "snap-a2", "vol-a", "snap-a1") == {
        "changed_blocks": 3, "full_blocks": 8, "stored_bytes": 2 * BLOCK_SIZE,
    }  # fmt: skip
    before, after = node.call("blocks", "snap-a1"), node.call("blocks", "snap-a2")
    assert {i for i in before.keys() | after.keys() if before.get(i) != after.get(i)} == {2, 3, 100}
    node.call("delete_snapshot", "snap-a1")
    node.call("delete_volume", "vol-a")
    assert node.call("read_block", "snap-a2", 7, None) == kept[7]
    assert node.call("read_block", "snap-a2", 3, None) == bytes(BLOCK_SIZE)
    assert node.call("read_block", "snap-a2", 100, None).startswith(b"new\0")
    # Without its parent's record, a further one is complete, and restoring gives the contents back.
    node.call("create_volume", "vol-b", 2, "snap-a2", None)
    assert node_block(node, "vol-b", 5) == kept[5]
    assert snap(node, "snap-b", "vol-b", "snap-a2")["changed_blocks"] == 0
    with pytest.raises(RuntimeError, match="smaller"):
        node.call("create_volume", "vol-c", 1, "snap-b", None)
    for snapshot in ("snap-a2", "snap-b", "snap-b"):
        node.call("delete_snapshot", snapshot)
    node.call("delete_volume", "vol-b")


def test_an_encrypted_snapshot_has_no_plaintext_and_needs_its_key(node: Node) -> None:
    key, other = DataKey(os.urandom(32)), DataKey(os.urandom(32))
    node.call("create_volume", "vol-p", 1, None, None)
    put(node, "vol-p", 1, MARKER * 100)
    put(node, "vol-p", 9, b"\x01" * BLOCK_SIZE)
    snap(node, "snap-p", "vol-p", None)
    facts = node.call("copy_snapshot", "snap-p", None, "snap-x", key)
    assert facts == {"changed_blocks": 2, "full_blocks": 2, "stored_bytes": 2 * BLOCK_SIZE}
    encrypted = stored(node, "snap-x")
    assert MARKER not in b"".join(encrypted.values())
    assert encrypted[9][:64] != b"\x01" * 64
    assert (pool_of(node) / "snapshots/snap-x/data").stat().st_blocks * 512 <= 3 * BLOCK_SIZE
    for wrong in (None, other):
        with pytest.raises(RuntimeError, match="encrypted"):
            node.call("create_volume", "vol-x", 1, "snap-x", wrong)
    assert node.call("read_block", "snap-x", 1, key).startswith(MARKER)

    # A child under the same key is incremental; a copy under another key is complete.
    node.call("create_volume", "vol-x", 1, "snap-x", key)
    put(node, "vol-x", 9, b"\x02" * 4096)
    assert snap(node, "snap-y", "vol-x", "snap-x", key)["changed_blocks"] == 1
    assert node.call("copy_snapshot", "snap-y", key, "snap-z", other)["changed_blocks"] == 2
    assert node.call("read_block", "snap-z", 9, other)[:4097] == b"\x02" * 4096 + b"\x01"
    assert set(node.call("blocks", "snap-y").items()).isdisjoint(node.call("blocks", "snap-z").items())

    # Once what was plain is deleted, the whole pool has no plaintext left.
    node.call("delete_snapshot", "snap-p")
    for volume in ("vol-p", "vol-x"):
        node.call("delete_volume", volume)
    deadline = time.monotonic() + 120  # XFS frees in the background, and discards what its log has committed
    while plaintext_in(node.state / "node/pool.xfs"):
        assert time.monotonic() < deadline, "plaintext stays in the pool"
        subprocess.run(["sync", "-f", str(pool_of(node))], check=True)
        time.sleep(0.1)
    for snapshot in ("snap-x", "snap-y", "snap-z"):
        node.call("delete_snapshot", snapshot)


def test_equal_blocks_are_made_once_and_shared(node: Node) -> None:
    """Copies and restores of images that differ little cost the difference, and have the right contents."""
    key, many = DataKey(os.urandom(32)), 64
    room = many * BLOCK_SIZE
    node.call("create_volume", "vol-e", 1, None, None)
    for index in range(many):
        put(node, "vol-e", index, os.urandom(BLOCK_SIZE))
    snap(node, "snap-e1", "vol-e", None)
    node.call("copy_snapshot", "snap-e1", None, "snap-k1", key)
    put(node, "vol-e", 5, os.urandom(BLOCK_SIZE))
    put(node, "vol-e", 6, bytes(BLOCK_SIZE))  # emptied
    put(node, "vol-e", many + 3, b"new")
    snap(node, "snap-e2", "vol-e", "snap-e1")
    wanted = [node_block(node, "vol-e", index) for index in range(many + 4)]

    before = used(node)
    facts = node.call("copy_snapshot", "snap-e2", None, "snap-k2", key)
    assert facts["stored_bytes"] == many * BLOCK_SIZE  # to EC2, a copy without a parent is complete
    node.call("create_volume", "vol-k2", 1, "snap-k2", key)
    assert used(node) - before < room / 4
    assert [node_block(node, "vol-k2", index) for index in range(many + 4)] == wanted
    put(node, "vol-k2", 0, MARKER)  # a shared block is nobody else's

    for snapshot in ("snap-e1", "snap-e2", "snap-k1"):
        node.call("delete_snapshot", snapshot)
    assert [node.call("read_block", "snap-k2", index, key) for index in range(many + 4)] == wanted
    # With nothing left to share, the contents come from the ciphertext.
    node.call("create_volume", "vol-k3", 1, "snap-k2", key)
    assert [node_block(node, "vol-k3", index) for index in range(many + 4)] == wanted
    node.call("delete_snapshot", "snap-k2")
    for volume in ("vol-e", "vol-k2", "vol-k3"):
        node.call("delete_volume", volume)


def test_copies_under_several_keys_share_their_ciphertext(node: Node) -> None:
    keys, many = [DataKey(os.urandom(32)) for _ in range(4)], 64
    node.call("create_volume", "vol-m", 1, None, None)
    for index in range(many):
        put(node, "vol-m", index, MARKER + os.urandom(BLOCK_SIZE - len(MARKER)))
    snap(node, "snap-m", "vol-m", None)
    node.call("copy_snapshot", "snap-m", None, "snap-m0", keys[0])
    before = used(node)
    node.call("copy_snapshot", "snap-m", None, "snap-m1", keys[1])  # of the plain one
    node.call("copy_snapshot", "snap-m1", keys[1], "snap-m2", keys[2])  # of a copy
    facts = node.call("copy_snapshot", "snap-m2", keys[2], "snap-m3", keys[3])
    assert facts["stored_bytes"] == many * BLOCK_SIZE  # what EC2 says of it
    assert used(node) - before < many * BLOCK_SIZE / 16
    first, *others = (stored(node, f"snap-m{number}") for number in range(4))
    assert len(first) == many
    assert others == [first] * 3
    assert MARKER not in b"".join(first.values())
    assert not set(node.call("blocks", "snap-m0").items()) & set(node.call("blocks", "snap-m3").items())
    with pytest.raises(RuntimeError, match="encrypted under another key"):
        node.call("create_volume", "vol-m3", 1, "snap-m3", keys[0])
    contents = node_block(node, "vol-m", 5)
    for snapshot in ("snap-m", "snap-m0", "snap-m1", "snap-m2"):
        node.call("delete_snapshot", snapshot)
    assert node.call("read_block", "snap-m3", 5, keys[3]) == contents
    # What is changed in one lineage is in no other.
    node.call("create_volume", "vol-m3", 1, "snap-m3", keys[3])
    put(node, "vol-m3", 5, b"changed")
    assert snap(node, "snap-m4", "vol-m3", "snap-m3", keys[3])["changed_blocks"] == 1
    assert node.call("read_block", "snap-m3", 5, keys[3]) == contents
    assert node.call("read_block", "snap-m4", 5, keys[3]).startswith(b"changed")
    for snapshot in ("snap-m3", "snap-m4"):
        node.call("delete_snapshot", snapshot)
    for volume in ("vol-m", "vol-m3"):
        node.call("delete_volume", volume)


def test_a_snapshot_of_format_2_is_read(node: Node) -> None:
    """Its blocks are encrypted under the data key itself, and its index has no seal."""
    key, other, contents = DataKey(os.urandom(32)), DataKey(os.urandom(32)), os.urandom(BLOCK_SIZE)
    ciphertext = BlockCipher(key).encrypt(3, contents)
    directory = pool_of(node) / "snapshots/snap-o"
    directory.mkdir()
    with (directory / "data").open("wb") as file:
        file.truncate(2**30)
        blocks.write(file.fileno(), 3, ciphertext)
    facts = {"changed_blocks": 1, "full_blocks": 1, "stored_bytes": BLOCK_SIZE}
    index = {"size": 2**30, "key": fingerprint(key), "facts": facts, "tokens": [[3, blocks.token(ciphertext)]]}
    (directory / "index.json").write_text(json.dumps(index))
    assert node.call("read_block", "snap-o", 3, key) == contents
    with pytest.raises(RuntimeError, match="encrypted under another key"):
        node.call("read_block", "snap-o", 3, other)
    node.call("copy_snapshot", "snap-o", key, "snap-o2", other)
    assert node.call("read_block", "snap-o2", 3, other) == contents
    node.call("create_volume", "vol-o", 1, "snap-o", key)
    assert node_block(node, "vol-o", 3) == contents
    assert snap(node, "snap-o3", "vol-o", "snap-o", key)["full_blocks"] == 1
    assert node.call("read_block", "snap-o3", 3, key) == contents
    for snapshot in ("snap-o", "snap-o2", "snap-o3"):
        node.call("delete_snapshot", snapshot)
    node.call("delete_volume", "vol-o")


def test_invalid_requests_are_refused(node: Node) -> None:
    with pytest.raises(RuntimeError, match="does not exist"):
        node.call("freeze_snapshot", "snap-q", "vol-none")
    with pytest.raises(RuntimeError, match="is not an id"):
        node.call("create_volume", "../x", 1, None, None)
    with pytest.raises(RuntimeError, match="no base root 'ubuntu'"):
        node.call("base", "ubuntu")
    node.call("delete_snapshot", "snap-q")
    node.call("delete_volume", "vol-none")


def plaintext_in(pool: Path) -> bool:
    with pool.open("rb") as file:
        return any(MARKER in blocks.read(file.fileno(), i) for i in blocks.allocated(file.fileno()))


def used(node: Node) -> int:
    """The bytes that volumes and snapshots use."""
    size: int = node.call("space")["used"]
    return size


def node_block(node: Node, volume: str, index: int) -> bytes:
    with (pool_of(node) / "volumes" / volume).open("rb") as file:
        file.seek(index * BLOCK_SIZE)
        return file.read(BLOCK_SIZE)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 4 GiB."""
    image, directory = tmp_path / "disk", tmp_path / "small"
    directory.mkdir()
    with image.open("wb") as file:
        file.truncate(4 << 30)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(directory)], check=True)
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


def test_a_full_disk_harms_nothing_that_exists(small_disk: Path, new_node: Callable[[Path], Node]) -> None:
    node = new_node(small_disk / "state")
    key = DataKey(os.urandom(32))
    space = node.call("space")
    assert 1 << 30 < space["free"] < 4 << 30  # not more than the disk has
    node.call("create_volume", "vol-r", 1, None, None)
    for index in range(256):
        put(node, "vol-r", index, os.urandom(BLOCK_SIZE))
    snap(node, "snap-r", "vol-r", None)
    node.call("copy_snapshot", "snap-r", None, "snap-r2", key)
    assert node.call("space")["used"] - space["used"] > 200 << 20
    kept = [node.call("read_block", "snap-r2", i, key) for i in (0, 128, 255)]

    with (small_disk / "others").open("wb") as file:  # somebody fills the disk
        os.posix_fallocate(file.fileno(), 0, os.statvfs(small_disk).f_bavail * 4096 - (100 << 20))
    with pytest.raises(RuntimeError, match="NoRoom"):
        node.call("copy_snapshot", "snap-r", None, "snap-no", key)
    assert node.call("space")["free"] == 0

    def write_as_a_guest() -> None:
        for index in range(256, 1024):
            put(node, "vol-r", index, os.urandom(BLOCK_SIZE))

    with pytest.raises(OSError, match="No space"):
        write_as_a_guest()
    with pytest.raises(RuntimeError, match="NoRoom"):
        node.call("create_volume", "vol-no", 1, "snap-r2", key)
    assert not node.call("has_snapshot", "snap-no")
    node.kill()

    again = new_node(small_disk / "state")
    assert [again.call("read_block", "snap-r2", i, key) for i in (0, 128, 255)] == kept
    (small_disk / "others").unlink()
    assert again.call("copy_snapshot", "snap-r2", key, "snap-yes", None)["full_blocks"] == 256
    again.call("limit_storage", 64 << 20)
    with pytest.raises(RuntimeError, match="NoRoom"):
        again.call("copy_snapshot", "snap-r2", key, "snap-no", None)


def test_a_snapshot_that_exists_is_on_the_disk(node: Node) -> None:
    node.call("create_volume", "vol-s", 1, None, None)
    for index in range(64):
        put(node, "vol-s", index, os.urandom(BLOCK_SIZE))
    snap(node, "snap-s", "vol-s", None, DataKey(os.urandom(32)))
    stored = pool_of(node) / "snapshots/snap-s/data"
    extents = subprocess.run(["filefrag", "-v", str(stored)], capture_output=True, text=True, check=True).stdout
    assert "delalloc" not in extents  # written to memory only
    node.call("delete_volume", "vol-s")
    node.call("delete_snapshot", "snap-s")
