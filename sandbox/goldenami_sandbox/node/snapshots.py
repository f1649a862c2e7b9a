"""Snapshots: a directory for each, with a sparse file of blocks and an index of their tokens.

    snapshots/<id>/frozen       the clone of the volume, between ``freeze`` and ``store``
    snapshots/<id>/data         the stored blocks, each at its place; ciphertext if there is a key
    snapshots/<id>/index.json   size, tokens, facts, the key's fingerprint; written last, it makes the snapshot exist

A block that equals one of the parent, or of another snapshot in the same form (plain, or encrypted under any key:
``crypto``), is shared with that file by reflink, so it takes neither space nor time. Others keep their blocks when a
snapshot is deleted, because the filesystem counts references. What EC2 calls incremental is counted against the parent
alone, and only under the same key.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from goldenami_sandbox.errors import SandboxError
from goldenami_sandbox.node import blocks
from goldenami_sandbox.node.api import BLOCK_SIZE, DataKey, SnapshotFacts
from goldenami_sandbox.node.crypto import BlockCipher, Sealed, Sealing, fingerprint, seal, unseal
from goldenami_sandbox.node.pool import Pool, clone_file, same_file
from goldenami_sandbox.node.reuse import Reuse
from goldenami_sandbox.node.volumes import Volumes, discard

_TURNS = 16
_NO_KEY = DataKey(bytes(32))  # in the place of a key where nothing is encrypted


@dataclass(frozen=True, slots=True)
class Index:
    """The index of a snapshot. ``size``: bytes of the volume. ``tokens``: by block index.

    ``key``: the fingerprint of the data key, None for plaintext. ``seal``: the keys of the blocks in the order of the
    tokens; None for plaintext, and for a snapshot of format 2.
    """

    size: int
    key: str | None
    tokens: dict[int, str]
    facts: SnapshotFacts
    seal: str | None = None

    def to_json(self) -> str:
        facts, tokens = asdict(self.facts), list(self.tokens.items())
        return json.dumps({"size": self.size, "key": self.key, "facts": facts, "tokens": tokens, "seal": self.seal})

    @staticmethod
    def from_json(text: str) -> Index:
        value = json.loads(text)
        tokens = dict(map(tuple, value["tokens"]))
        return Index(value["size"], value["key"], tokens, SnapshotFacts(**value["facts"]), value.get("seal"))


@dataclass(frozen=True, slots=True)
class Opened:
    """An index whose key is there. ``keys``: of its blocks, None for plaintext. ``plain``: the tokens of the blocks'
    contents; None where only the contents tell them."""

    index: Index
    keys: Mapping[int, DataKey] | None
    plain: Mapping[int, str | None]

    def reader(self, handle: int) -> Callable[[int], bytes]:
        """Return a function that returns the contents of a block of the open file ``data``."""
        keys = self.keys
        if keys is None:
            return lambda i: blocks.read(handle, i)
        return lambda i: BlockCipher(keys[i]).decrypt(i, blocks.read(handle, i))


class Snapshots:
    """Freezes, stores, copies, reads, restores and deletes snapshots."""

    def __init__(self, pool: Pool, volumes: Volumes) -> None:
        self._pool = pool
        self._volumes = volumes
        self._reuse = Reuse()
        self._lock = threading.Lock()
        self._known_sealing: Sealing | None = None
        self._learnt = False
        # Copies of one snapshot are made one after the other: the first encrypts, and the others share its blocks.
        self._turns = [threading.Lock() for _ in range(_TURNS)]

    def freeze(self, snapshot: str, volume: str) -> None:
        directory = self._directory(snapshot)
        if directory.exists():
            raise SandboxError(f"snapshot {snapshot} exists already")
        self._pool.require(0)
        self._pool.require_for_clone(self._volumes.existing(volume))
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
                plain: dict[int, str | None] = dict.fromkeys(blocks.allocated(handle))
                size = source.stat().st_size
                index = self._encode(
                    directory / "data", size, plain, lambda i: blocks.read(handle, i), shared_with, key
                )
            discard(source)
        self._commit(directory, index)
        return index.facts

    def copy(
        self, source: str, source_key: DataKey | None, snapshot: str, key: DataKey | None, parent: str | None
    ) -> SnapshotFacts:
        if self.exists(snapshot):
            return self.index(snapshot).facts
        original = self._opened(source, source_key)
        self._pool.require(0)
        directory = self._directory(snapshot)
        directory.mkdir(exist_ok=True)
        data, stored = directory / "data", self._directory(source) / "data"
        tokens = original.index.tokens
        if key is None and source_key is None:
            data.unlink(missing_ok=True)
            same_file(stored, data)
            count = len(tokens)
            index = Index(original.index.size, None, tokens, SnapshotFacts(count, count, count * BLOCK_SIZE))
        elif key is not None and original.index.seal is not None:  # the ciphertext stays, its keys get another seal
            data.unlink(missing_ok=True)
            same_file(stored, data)
            keys = original.keys or {}
            made = [Sealed(token, keys[i], original.plain[i] or "") for i, token in tokens.items()]
            known = self._tokens_of(self._usable_parent(parent, key))
            facts = _facts(tokens, known)
            index = Index(original.index.size, fingerprint(key), tokens, facts, seal(key, made))
        else:
            with self._turns[hash(source) % _TURNS], stored.open("rb") as file:
                read, shared_with = original.reader(file.fileno()), self._usable_parent(parent, key)
                index = self._encode(data, original.index.size, original.plain, read, shared_with, key)
        self._commit(directory, index)
        return index.facts

    def restore(self, snapshot: str, key: DataKey | None) -> Path:
        """Return a scratch file with the plain contents."""
        opened = self._opened(snapshot, key)
        index, plain = opened.index, opened.plain
        target = self._pool.scratch / uuid.uuid4().hex
        data = self._directory(snapshot) / "data"
        try:
            if key is None:
                self._pool.require_for_clone(data)
                clone_file(data, target)
                return target
            there = self._start(target, plain, None, encrypted=False)
            missing = [i for i in index.tokens if plain[i] is None or there.get(i) != plain[i]]
            self._pool.require(len(missing) * BLOCK_SIZE)
            with data.open("rb") as old, target.open("r+b" if target.exists() else "xb") as new:
                new.truncate(index.size)
                read, handle = opened.reader(old.fileno()), new.fileno()
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
        opened = self._opened(snapshot, key)
        if index not in opened.index.tokens:
            return blocks.ZERO
        with (self._directory(snapshot) / "data").open("rb") as file:
            return opened.reader(file.fileno())(index)

    def tokens(self, snapshot: str) -> dict[int, str]:
        """Return the tokens of the blocks as a caller may know them: those of two keys cannot be compared."""
        index = self.index(snapshot)
        if index.seal is None or index.key is None:
            return index.tokens
        mark = index.key.encode()
        return {i: hmac.digest(mark, token.encode(), "sha256")[:16].hex() for i, token in index.tokens.items()}

    def _usable_parent(self, parent: str | None, key: DataKey | None) -> str | None:
        """Return the parent if it exists and is stored with the same key, so that blocks can be shared with it."""
        if parent is None or not self.exists(parent) or self.index(parent).key != (fingerprint(key) if key else None):
            return None
        return parent

    def _tokens_of(self, snapshot: str | None) -> dict[int, str]:
        return self.index(snapshot).tokens if snapshot else {}

    def _opened(self, snapshot: str, key: DataKey | None) -> Opened:
        """Return the index with the keys of its blocks if ``key`` is the right key. Raises SandboxError otherwise."""
        index = self.index(snapshot)
        if index.key != (fingerprint(key) if key else None):
            what = "is encrypted under another key" if index.key else "is not encrypted"
            raise SandboxError(f"snapshot {snapshot} {what if key else 'is encrypted: it needs its key'}")
        if key is None:
            return Opened(index, None, index.tokens)
        if index.seal is None:
            return Opened(index, dict.fromkeys(index.tokens, key), dict.fromkeys(index.tokens))
        try:
            listed = dict(zip(index.tokens, unseal(key, index.seal), strict=True))
        except ValueError as e:
            raise SandboxError(f"snapshot {snapshot} is damaged: {e}") from e
        return Opened(index, {i: one for i, (one, _) in listed.items()}, {i: plain for i, (_, plain) in listed.items()})

    @property
    def _sealing(self) -> Sealing:
        with self._lock:
            if self._known_sealing is None:
                self._known_sealing = Sealing.of(self._pool.root / "sealing")
            return self._known_sealing

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
        self, target: Path, size: int, plain: Mapping[int, str | None], read: Callable[[int], bytes],
        parent: str | None, key: DataKey | None,
    ) -> Index:  # fmt: skip
        """Write blocks in their stored form. ``plain``: the indices, and their contents' tokens as far as they are
        known before.

        The file starts as a clone of the snapshot that has most of them, so that only the others are made.
        """
        known = self._tokens_of(parent)
        sealing = self._sealing if key else None
        made: dict[int, Sealed] = {}  # without a key, the block's token is the contents'

        def form(i: int, contents: str) -> Sealed:
            return sealing.block(i, contents) if sealing else Sealed(contents, _NO_KEY, contents)

        before = {i: form(i, contents) for i, contents in plain.items() if contents is not None}
        wanted = {i: before[i].token if i in before else None for i in plain}
        target.unlink(missing_ok=True)
        try:
            there = self._start(target, wanted, parent, encrypted=key is not None)
            made.update({i: block for i, block in before.items() if there.get(i) == block.token})
            missing = [i for i in plain if i not in made]
            if parent is None:
                self._pool.require(len(missing) * BLOCK_SIZE)
            with target.open("r+b" if target.exists() else "xb") as file:
                file.truncate(size)
                handle = file.fileno()

                def encode(i: int) -> None:
                    contents = read(i)
                    if contents == blocks.ZERO:
                        return
                    made[i] = block = before.get(i) or form(i, blocks.token(contents))
                    if block.token != there.get(i):
                        blocks.write(handle, i, BlockCipher(block.key).encrypt(i, contents) if key else contents)

                _for_each(missing, encode)
                _punch(handle, there.keys() - made.keys(), size)
        except BaseException:
            discard(target)
            raise
        ordered = {i: made[i] for i in sorted(made)}
        tokens = {i: block.token for i, block in ordered.items()}
        sealed = seal(key, ordered.values()) if key else None
        return Index(size, fingerprint(key) if key else None, tokens, _facts(tokens, known), sealed)

    def _start(
        self, target: Path, wanted: Mapping[int, str | None], parent: str | None, *, encrypted: bool
    ) -> dict[int, str]:
        """Make ``target`` a clone of the snapshot that has most of the wanted blocks, and return that one's tokens.

        A parent is taken if no other has more. If there is none, nothing is made, and the result is empty.
        """
        self._learn()
        found: list[tuple[int, bool, str, dict[int, str]]] = []
        for name in dict.fromkeys([*([parent] if parent else []), *self._reuse.newest(encrypted=encrypted)]):
            with contextlib.suppress(SandboxError):  # deleted, or damaged: there are others, or none is needed
                tokens = self.index(name).tokens
                equal = sum(1 for i, token in tokens.items() if wanted.get(i) == token)
                if equal or name == parent:
                    found.append((equal, name == parent, name, tokens))
        for _, _, name, tokens in sorted(found, key=lambda one: one[:3], reverse=True):
            with contextlib.suppress(FileNotFoundError):
                data = self._directory(name) / "data"
                self._pool.require_for_clone(data)
                clone_file(data, target)
                if self.exists(name):  # ``delete`` removes the index before the contents
                    return tokens
            discard(target)
        return {}

    def _learn(self) -> None:
        """Note the snapshots of an earlier process, once."""
        with self._lock:
            if self._learnt:
                return
            self._learnt = True
        written: dict[Path, int] = {}
        for path in self._pool.snapshots.glob("*/index.json"):
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                written[path] = path.stat().st_mtime_ns
        for path in sorted(written, key=written.__getitem__):
            with contextlib.suppress(SandboxError):
                index = self.index(path.parent.name)
                self._reuse.stored(path.parent.name, encrypted=index.key is not None)

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
        self._reuse.stored(directory.name, encrypted=index.key is not None)

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
