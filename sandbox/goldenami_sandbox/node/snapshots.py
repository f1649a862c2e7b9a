"""Snapshots: a directory for each, with a sparse file of blocks and an index of their tokens.

    snapshots/<id>/frozen       the clone of the volume, between ``freeze`` and ``store``
    snapshots/<id>/data         the stored blocks, each at its place; ciphertext if there is a key
    snapshots/<id>/index.json   size, tokens, facts, the key's fingerprint; written last, it makes the snapshot exist

A block that equals the parent's, or that of another snapshot under the same key, is shared with that file by reflink,
so it takes neither space nor time. Others keep their blocks when a snapshot is deleted, because the filesystem counts
references. What EC2 calls incremental is counted against the parent alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from goldenami_sandbox.errors import SandboxError
from goldenami_sandbox.node import blocks
from goldenami_sandbox.node.api import BLOCK_SIZE, DataKey, SnapshotFacts
from goldenami_sandbox.node.crypto import BlockCipher, fingerprint
from goldenami_sandbox.node.pool import Pool, clone_file
from goldenami_sandbox.node.reuse import Reuse
from goldenami_sandbox.node.volumes import Volumes, discard


@dataclass(frozen=True, slots=True)
class Index:
    """The index of a snapshot. ``size``: bytes of the volume. ``tokens``: by block index.

    ``key``: the fingerprint of the data key, None for plaintext.
    """

    size: int
    key: str | None
    tokens: dict[int, str]
    facts: SnapshotFacts

    def to_json(self) -> str:
        return json.dumps(
            {"size": self.size, "key": self.key, "facts": asdict(self.facts), "tokens": list(self.tokens.items())}
        )

    @staticmethod
    def from_json(text: str) -> Index:
        value = json.loads(text)
        return Index(value["size"], value["key"], dict(map(tuple, value["tokens"])), SnapshotFacts(**value["facts"]))


class Snapshots:
    """Freezes, stores, copies, reads, restores and deletes snapshots."""

    def __init__(self, pool: Pool, volumes: Volumes) -> None:
        self._pool = pool
        self._volumes = volumes
        self._reuse = Reuse()

    def freeze(self, snapshot: str, volume: str) -> None:
        directory = self._directory(snapshot)
        if directory.exists():
            raise SandboxError(f"snapshot {snapshot} exists already")
        self._pool.require(0)
        directory.mkdir()
        try:
            self._volumes.clone(volume, directory / "frozen")
        except BaseException:
            shutil.rmtree(directory)
            raise

    def store(self, snapshot: str, parent: str | None, key: DataKey | None) -> SnapshotFacts:
        if self.exists(snapshot):
            return self.index(snapshot).facts
        directory = self._directory(snapshot)
        source = directory / "frozen"
        if not source.exists():
            raise SandboxError(f"snapshot {snapshot} does not exist on this node")
        shared_with = self._usable_parent(parent, key)
        if key is None:
            index = self._store_plain(source, shared_with)
            source.rename(directory / "data")
        else:
            with source.open("rb") as file:
                handle = file.fileno()
                size = source.stat().st_size
                wanted = dict.fromkeys(blocks.allocated(handle))
                index = self._encode(directory / "data", size, wanted, _reader(handle, None), shared_with, key)
            discard(source)
        self._commit(directory, index)
        return index.facts

    def copy(
        self, source: str, source_key: DataKey | None, snapshot: str, key: DataKey | None, parent: str | None
    ) -> SnapshotFacts:
        if self.exists(snapshot):
            return self.index(snapshot).facts
        original = self._unlocked(source, source_key)
        self._pool.require(0)
        directory = self._directory(snapshot)
        directory.mkdir(exist_ok=True)
        with (self._directory(source) / "data").open("rb") as file:
            handle = file.fileno()
            if key is None and source_key is None:
                (directory / "data").unlink(missing_ok=True)
                clone_file(self._directory(source) / "data", directory / "data")
                count = len(original.tokens)
                index = Index(original.size, None, original.tokens, SnapshotFacts(count, count, count * BLOCK_SIZE))
            else:
                shared_with, read = self._usable_parent(parent, key), _reader(handle, source_key)
                made = self._reuse.translate(original.key, original.tokens, fingerprint(key) if key else None)
                wanted = {i: made.get(i) for i in original.tokens}
                index = self._encode(directory / "data", original.size, wanted, read, shared_with, key)
                self._reuse.translated(original.key, original.tokens, index.key, index.tokens)
        self._commit(directory, index)
        return index.facts

    def restore(self, snapshot: str, key: DataKey | None) -> Path:
        """Return a scratch file with the plain contents."""
        index = self._unlocked(snapshot, key)
        target = self._pool.scratch / uuid.uuid4().hex
        data = self._directory(snapshot) / "data"
        if key is None:
            clone_file(data, target)
            return target
        self._pool.require(len(index.tokens) * BLOCK_SIZE)
        known = self._reuse.translate(index.key, index.tokens, None)
        try:
            there = self._start(target, None, known, None)
            with data.open("rb") as old, target.open("r+b" if target.exists() else "xb") as new:
                new.truncate(index.size)
                read, handle = _reader(old.fileno(), key), new.fileno()
                missing = [i for i in index.tokens if i not in known or there.get(i) != known[i]]
                _for_each(missing, lambda i: blocks.write(handle, i, read(i)))
                _punch(handle, there.keys() - index.tokens.keys(), index.size)
        except BaseException:
            discard(target)
            raise
        return target

    def import_file(self, snapshot: str, file: Path) -> None:
        """Store a snapshot with the contents of ``file``, which is outside of the pool."""
        directory = self._directory(snapshot)
        if directory.exists():
            shutil.rmtree(directory)
        directory.mkdir()
        frozen = directory / "frozen"
        self._pool.require(file.stat().st_blocks * 512)
        with file.open("rb") as old, frozen.open("xb") as new:
            new.truncate(file.stat().st_size)
            for i in blocks.allocated(old.fileno()):
                data = blocks.read(old.fileno(), i)
                if data != blocks.ZERO:
                    blocks.write(new.fileno(), i, data)
        self.store(snapshot, None, None)

    def delete(self, snapshot: str) -> None:
        directory = self._directory(snapshot)
        if directory.exists():
            (directory / "index.json").unlink(
                missing_ok=True
            )  # deleted first, so that a half-deleted snapshot does not exist
            for path in directory.iterdir():
                discard(path)
            directory.rmdir()

    def exists(self, snapshot: str) -> bool:
        return (self._directory(snapshot) / "index.json").exists()

    def index(self, snapshot: str) -> Index:
        try:
            return Index.from_json((self._directory(snapshot) / "index.json").read_text())
        except FileNotFoundError:
            raise SandboxError(f"snapshot {snapshot} does not exist on this node") from None
        except (ValueError, KeyError, TypeError) as e:
            raise SandboxError(f"snapshot {snapshot} is damaged: its index.json cannot be read: {e}") from e

    def read_block(self, snapshot: str, index: int, key: DataKey | None) -> bytes:
        if index not in self._unlocked(snapshot, key).tokens:
            return blocks.ZERO
        with (self._directory(snapshot) / "data").open("rb") as file:
            return _reader(file.fileno(), key)(index)

    def _usable_parent(self, parent: str | None, key: DataKey | None) -> str | None:
        """Return the parent if it exists and is stored with the same key, so that blocks can be shared with it."""
        if parent is None or not self.exists(parent) or self.index(parent).key != (fingerprint(key) if key else None):
            return None
        return parent

    def _unlocked(self, snapshot: str, key: DataKey | None) -> Index:
        """Return the index if ``key`` is the right key. Raises SandboxError otherwise."""
        index = self.index(snapshot)
        if index.key != (fingerprint(key) if key else None):
            what = "is encrypted under another key" if index.key else "is not encrypted"
            raise SandboxError(f"snapshot {snapshot} {what if key else 'is encrypted: it needs its key'}")
        return index

    def _store_plain(self, source: Path, parent: str | None) -> Index:
        """Store the clone itself. It shares all blocks with the parent that were not written to."""
        known = self.index(parent).tokens if parent else {}
        tokens: dict[int, str] = {}
        with source.open("r+b") as file:
            handle = file.fileno()
            data = blocks.allocated(handle)
            if parent:
                with (self._directory(parent) / "data").open("rb") as old:
                    self._compare(handle, old.fileno(), data, known, tokens)
            else:
                for i in data:
                    _digest(handle, i, tokens)
            for i in data:
                if i not in tokens:
                    blocks.punch(handle, i)
        return Index(source.stat().st_size, None, tokens, _facts(tokens, known))

    def _compare(self, new: int, old: int, data: list[int], known: dict[int, str], tokens: dict[int, str]) -> None:
        """Note the tokens of blocks of a plain file. A block that was rewritten with equal contents is shared again."""
        same = blocks.physically_equal(new, old)
        for i in data:
            if i in same and i in known:
                tokens[i] = known[i]
            elif _digest(new, i, tokens) is not None and tokens[i] == known.get(i):
                blocks.share(old, new, i)

    def _encode(
        self, target: Path, size: int, wanted: Mapping[int, str | None], read: Callable[[int], bytes],
        parent: str | None, key: DataKey | None,
    ) -> Index:  # fmt: skip
        """Write blocks in their stored form. ``wanted``: the indices, and their tokens as far as they are known before.

        The file starts as a clone of the snapshot that has most of them, so that only the others are made.
        """
        known = self.index(parent).tokens if parent else {}
        tokens: dict[int, str] = {}
        cipher = BlockCipher(key) if key else None
        target.unlink(missing_ok=True)
        if not parent:
            self._pool.require(len(wanted) * BLOCK_SIZE)
        try:
            there = self._start(target, fingerprint(key) if key else None, wanted, parent)
            with target.open("r+b" if target.exists() else "xb") as file:
                file.truncate(size)
                handle = file.fileno()

                def encode(i: int) -> None:
                    plain = read(i)
                    if plain == blocks.ZERO:
                        return
                    stored = cipher.encrypt(i, plain) if cipher else plain
                    tokens[i] = blocks.token(stored)
                    if tokens[i] != there.get(i):
                        blocks.write(handle, i, stored)

                tokens.update({i: token for i, token in wanted.items() if token is not None and there.get(i) == token})
                _for_each([i for i in wanted if i not in tokens], encode)
                _punch(handle, there.keys() - tokens.keys(), size)
        except BaseException:
            discard(target)
            raise
        return Index(size, fingerprint(key) if key else None, tokens, _facts(tokens, known))

    def _start(
        self, target: Path, key: str | None, wanted: Mapping[int, str | None], parent: str | None
    ) -> dict[int, str]:
        """Make ``target`` a clone of the snapshot that has most of the wanted blocks, and return that one's tokens.

        A parent is taken if no other has more. If there is none, nothing is made, and the result is empty.
        """
        found: list[tuple[int, bool, str, dict[int, str]]] = []
        for name in dict.fromkeys([*([parent] if parent else []), *self._reuse.newest(key)]):
            with contextlib.suppress(SandboxError):  # deleted, or damaged: there are others, or none is needed
                tokens = self.index(name).tokens
                equal = sum(1 for i, token in tokens.items() if wanted.get(i) == token)
                if equal or name == parent:
                    found.append((equal, name == parent, name, tokens))
        for _, _, name, tokens in sorted(found, key=lambda one: one[:3], reverse=True):
            with contextlib.suppress(FileNotFoundError):
                clone_file(self._directory(name) / "data", target)
                if self.exists(name):  # ``delete`` removes the index before the contents
                    return tokens
            discard(target)
        return {}

    def _commit(self, directory: Path, index: Index) -> None:
        """Make the snapshot exist, once its blocks are on the disk."""
        sync(directory / "data")
        new = directory / "index.new"
        with new.open("w") as file:
            file.write(index.to_json())
            file.flush()
            os.fsync(file.fileno())
        new.rename(directory / "index.json")
        sync(directory)
        self._reuse.stored(directory.name, index.key)

    def _directory(self, snapshot: str) -> Path:
        self._volumes.path(snapshot)  # refuses what is not an id
        return self._pool.snapshots / snapshot


def sync(path: Path) -> None:
    """Write a file or a directory to the disk of the machine."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _for_each(indices: Iterable[int], action: Callable[[int], None]) -> None:
    """Process all blocks, several at a time. Reading, cipher, digest and writing release the interpreter lock."""
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        for _ in pool.map(action, indices):  # iterating raises the exceptions of the actions
            pass


def _punch(handle: int, indices: Iterable[int], size: int) -> None:
    """Make blocks of a file of ``size`` bytes empty."""
    for i in indices:
        if i * BLOCK_SIZE < size:
            blocks.punch(handle, i)


def _reader(handle: int, key: DataKey | None) -> Callable[[int], bytes]:
    if key is None:
        return lambda i: blocks.read(handle, i)
    cipher = BlockCipher(key)
    return lambda i: cipher.decrypt(i, blocks.read(handle, i))


def _digest(handle: int, index: int, tokens: dict[int, str]) -> str | None:
    """Note and return the token of a block. A block of zeros is not noted, and its token is None."""
    data = blocks.read(handle, index)
    if data == blocks.ZERO:
        return None
    tokens[index] = blocks.token(data)
    return tokens[index]


def _facts(tokens: dict[int, str], known: dict[int, str]) -> SnapshotFacts:
    stored = sum(1 for i, token in tokens.items() if known.get(i) != token)
    emptied = len(known.keys() - tokens.keys())
    return SnapshotFacts(stored + emptied, len(tokens), stored * BLOCK_SIZE)
