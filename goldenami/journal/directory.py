"""Journals in a directory: durable names, a lock that says who holds it, files for secrets."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from goldenami.errors import JournalError
from goldenami.journal.records import Json, Secret, utc_now
from goldenami.journal.storage import SAFE_NAME, Holder, busy, checked_name

FILE: Final = "journal.jsonl"
_LOCKS: Final = "locks"  # beside the builds; no build has such a name, since it has no journal

Sync = Callable[[int], None]


class DirectoryStorage:
    """Journals below one directory, which is made when it is needed."""

    def __init__(self, root: Path, *, now: Callable[[], datetime] = utc_now, sync: Sync = os.fsync) -> None:
        """``sync`` flushes a file descriptor to the disk; tests that need no durability pass one that does nothing."""
        self._root = root
        self._now = now
        self._sync = sync

    def where(self, build_id: str | None = None) -> str:
        return str(self._root if build_id is None else self._root / build_id / FILE)

    def directory(self, build_id: str) -> Path:
        return self._root / build_id

    def names(self, *, unfinished: bool = False) -> tuple[str, ...]:
        if not self._root.is_dir():
            return ()
        return tuple(sorted(path.name for path in self._root.iterdir() if (path / FILE).exists()))

    def read(self, build_id: str) -> bytes | None:
        path = self._root / build_id / FILE
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise JournalError(f"cannot read {path}: {error.strerror}") from error

    def create(self, build_id: str, header: bytes) -> DirectoryLog:
        directory = self._root / checked_name(build_id, "build")
        lock = -1
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            directory.mkdir(exist_ok=True)
            lock = self._lock_build(directory)
            path = directory / FILE
            if path.exists():
                raise JournalError(f"build {build_id} exists already in {self._root}")
            # Written aside and renamed: a journal with half a header is never seen.
            draft = directory / f".{FILE}"
            with draft.open("wb") as file:
                file.write(header)
                file.flush()
                self._sync(file.fileno())
            draft.rename(path)
            for folder in (directory, self._root):
                sync_directory(folder, self._sync)
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except (OSError, JournalError) as error:
            if lock >= 0:
                os.close(lock)
            if isinstance(error, JournalError):
                raise
            message = f"cannot create the journal in {directory}: {error.strerror}"
            raise JournalError(message, hint=space_hint(error)) from error
        return DirectoryLog(directory, descriptor, lock, self._sync)

    def open(self, build_id: str) -> DirectoryLog | None:
        directory = self._root / build_id
        path = directory / FILE
        if not path.exists():
            return None
        lock = self._lock_build(directory)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            os.close(lock)
            raise JournalError(f"cannot open {path}: {error.strerror}") from error
        return DirectoryLog(directory, descriptor, lock, self._sync)

    def holder(self, build_id: str) -> Holder | None:
        try:
            descriptor = os.open(self._root / build_id / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return Holder.parse(os.pread(descriptor, 4096, 0))
        else:
            return None
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        path = self._root / _LOCKS / checked_name(name, "lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise JournalError(f"cannot make {path.parent}: {error.strerror}", hint=space_hint(error)) from error
        descriptor = self._lock(path, name, "Wait for it with --wait, or end that process.")
        try:
            yield
        finally:
            os.close(descriptor)

    def _lock_build(self, directory: Path) -> int:
        hint = "Wait for that process, or end it; then try again."
        return self._lock(directory / "lock", f"build {directory.name}", hint)

    def _lock(self, path: Path, what: str, hint: str) -> int:
        """Take a lock without waiting; the descriptor that holds it. The kernel lets go when the process ends."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise JournalError(f"cannot lock {path}: {error.strerror}", hint=space_hint(error)) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = Holder.parse(os.pread(descriptor, 4096, 0))
            os.close(descriptor)
            raise busy(what, holder, hint) from error
        # Who it is, is for people; a full disk must not keep anybody from working on the build.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(Holder.this_process(self._now()).to_json()).encode(), 0)
        return descriptor


class DirectoryLog:
    """One file, appended and fsynced, never rewritten; and the lock beside it."""

    def __init__(self, directory: Path, descriptor: int, lock: int, sync: Sync) -> None:
        self._path = directory / FILE
        self._descriptor = descriptor
        self._lock = lock
        self._sync = sync
        self._side = PrivateFiles(directory / "secrets", sync)
        self._closed = False

    @property
    def side(self) -> PrivateFiles:
        return self._side

    def content(self) -> bytes:
        try:
            return self._path.read_bytes()
        except OSError as error:
            raise JournalError(f"cannot read {self._path}: {error.strerror}") from error

    def cut(self, whole: int) -> None:
        try:
            if whole < os.fstat(self._descriptor).st_size:
                os.ftruncate(self._descriptor, whole)
                self._sync(self._descriptor)
            elif whole and os.pread(self._descriptor, 1, whole - 1) != b"\n":
                os.write(self._descriptor, b"\n")
                self._sync(self._descriptor)
        except OSError as error:
            message = f"cannot write {self._path}: {error.strerror}"
            raise JournalError(message, hint=space_hint(error)) from error

    def append(self, number: int, line: bytes) -> None:
        before = os.fstat(self._descriptor).st_size
        try:
            written = os.write(self._descriptor, line)
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
            self._sync(self._descriptor)
        except OSError as error:
            # Half a line in the middle would be corruption; at worst the cut fails too and it stays a torn last line.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, before)
            message = f"cannot write the journal of build {self._path.parent.name}: {error.strerror}"
            raise JournalError(message, hint=space_hint(error)) from error

    def doubtful(self) -> Sequence[bytes]:
        return ()

    def check(self) -> None:
        """The kernel takes no lock away."""

    def close(self, *, finished: bool = False) -> None:
        if not self._closed:
            self._closed = True
            os.close(self._descriptor)
            os.close(self._lock)


class PrivateFiles:
    """Secrets of one build, each in a file that only its owner can read."""

    def __init__(self, directory: Path, sync: Sync) -> None:
        self._directory = directory
        self._sync = sync

    def keep(self, secret: Secret) -> Json:
        path = self._directory / secret.digest
        if not path.exists():
            self._write(path, secret.value.encode())
        return {"$secret": secret.digest}

    def read(self, digest: str) -> Secret:
        return Secret((self._directory / digest).read_text())

    def named(self, name: str, make: Callable[[], bytes]) -> bytes:
        if not SAFE_NAME.match(name):
            raise ValueError(f"{name!r} cannot be the name of a secret")
        path = self._directory / name
        try:
            return path.read_bytes()
        except FileNotFoundError:
            value = make()
            self._write(path, value)
            return value
        except OSError as error:
            raise JournalError(f"cannot read {path}: {error.strerror}") from error

    def remove(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)

    def _write(self, path: Path, value: bytes) -> None:
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(value)
                file.flush()
                self._sync(file.fileno())
            draft.rename(path)
            sync_directory(self._directory, self._sync)
            sync_directory(self._directory.parent, self._sync)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise JournalError(f"cannot write {path}: {error.strerror}", hint=space_hint(error)) from error


def sync_directory(directory: Path, sync: Sync) -> None:
    """A new name is durable only once its directory is."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def space_hint(error: OSError) -> str | None:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space; then `goldenami resume` continues where the build stopped."
    return None
