"""A store in a directory, for the processes of one machine. It works over NFS if flock and link work there.

An object is a file. It is first written in the same directory, under a hidden name that readers ignore, and flushed to
the disk. Then it gets its final name in one atomic step, and the directory is flushed, so that the name survives a
power failure. A killed writer leaves an unfinished file; a write after more than an hour deletes it.

A log is one file that is appended and flushed, never rewritten. A lock is an flock on a file that contains its holder
as JSON. The kernel releases the lock when the process ends, in whatever way. The file is never deleted: otherwise two
processes could hold two locks of the same name.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

from goldenami.errors import GoldenAmiError
from goldenami.store.protocol import Holder, Lock, Stored, busy

_UNFINISHED: Final = ".unfinished-"  # hidden: names() skips it
_UNFINISHED_AGE: Final = 3600.0  # seconds; no write takes that long
_GUARD: Final = "locks/.replacing"  # this lock is held while contents are compared and replaced
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})

Sync = Callable[[int], None]


def _now() -> datetime:
    return datetime.now(UTC)


class DirectoryStore:
    """Implements ``protocol.Store``. The directory is created with the first object. Thread-safe."""

    poll = 0.05
    lists_freely = True

    def __init__(
        self,
        root: Path,
        *,
        error: type[GoldenAmiError],
        now: Callable[[], datetime] = _now,
        sync: Sync = os.fsync,
        private: bool = False,
    ) -> None:
        """``error``: the class of the error for a file that cannot be read or written. ``private``: only the user of
        this process can read and write; otherwise the umask decides, so a store may belong to a group. ``sync``:
        flushes a file descriptor to the disk; tests that need no durability pass a function that does nothing."""
        self._root = root
        self._error = error
        self._now = now
        self._sync = sync
        self._private = private

    def where(self, key: str = "") -> str:
        return str(self._root / key)

    # --- objects ------------------------------------------------------------------------------------------------------

    def read(self, key: str) -> Stored | None:
        try:
            return _stored((self._root / key).read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            self._refuse("read", self._root / key, error)

    def create(self, key: str, data: bytes, *, private: bool = False) -> Stored | None:
        with self._unfinished(key, data, private=private) as (unfinished, final):
            try:
                os.link(unfinished, final)
            except FileExistsError:
                return None
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                with self._guard():  # a file system without hard links
                    if final.exists():
                        return None
                    unfinished.rename(final)
            _flush_directory(final.parent, self._sync)
            return _stored(data)

    def replace(self, key: str, data: bytes, before: Stored | None) -> Stored | None:
        if before is None:
            return self.create(key, data)
        with self._unfinished(key, data) as (unfinished, final), self._guard():
            now = self.read(key)
            if now is None or now.version != before.version:
                return None
            unfinished.replace(final)
            _flush_directory(final.parent, self._sync)
            return _stored(data)

    def delete(self, key: str) -> None:
        path = self._root / key
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            self._refuse("delete", path, error)

    def delete_folder(self, folder: str) -> None:
        import shutil  # here, as what only writers need

        shutil.rmtree(self._root / folder, ignore_errors=True)

    def names(self, folder: str) -> tuple[str, ...]:
        try:
            return tuple(sorted(p.name for p in (self._root / folder).iterdir() if not p.name.startswith(".")))
        except FileNotFoundError:
            return ()
        except OSError as error:
            self._refuse("list", self._root / folder, error)

    def stamps(self, folder: str) -> dict[str, str]:
        found: dict[str, str] = {}
        root, waiting = f"{self._root / folder}/", [""]
        while waiting:
            start = waiting.pop()
            try:
                with os.scandir(root + start) as entries:
                    for entry in entries:
                        name = entry.name
                        if name[0] == ".":
                            continue
                        if entry.is_dir():
                            waiting.append(f"{start}{name}/")
                        else:
                            status = entry.stat()
                            # A write is a new file, so two writes within one tick of the clock have different inodes.
                            found[start + name] = f"{status.st_mtime_ns:x}-{status.st_ino:x}-{status.st_size:x}"
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                self._refuse("list", Path(root + start), error)
        return found

    # --- locks --------------------------------------------------------------------------------------------------------

    def lock(self, key: str, what: str, hint: str) -> Lock:
        path = self._root / key
        try:
            _make_directories(path.parent, self._sync, self._private_from())
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, self._mode)
        except OSError as error:
            self._refuse("lock", path, error)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = Holder.parse(os.pread(descriptor, 4096, 0))
            os.close(descriptor)
            if not isinstance(error, BlockingIOError):
                self._refuse("lock", path, error)
            raise busy(what, holder, hint) from error
        # The holder's data is only for messages, so a full disk must not prevent the lock.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(Holder.this_process(self._now()).to_json()).encode(), 0)
        return DirectoryLock(descriptor)

    def holder(self, key: str) -> Holder | None:
        try:
            descriptor = os.open(self._root / key, os.O_RDONLY | os.O_CLOEXEC)
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

    # --- logs ---------------------------------------------------------------------------------------------------------

    def has_log(self, key: str) -> bool:
        return (self._root / key).exists()

    def read_log(self, key: str) -> bytes | None:
        path = self._root / key
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self._refuse("read", path, error)

    def create_log(self, key: str, first: bytes, lock: Lock, what: str) -> DirectoryLog | None:
        # The first record is written like any object, so no reader finds half of it.
        return None if self.create(key, first) is None else self.open_log(key, lock, what)

    def open_log(self, key: str, lock: Lock, what: str) -> DirectoryLog:
        path = self._root / key
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            self._refuse("open", path, error)
        return DirectoryLog(path, descriptor, what, self._error, self._sync)

    # --- inside -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _unfinished(self, key: str, data: bytes, *, private: bool = False) -> Iterator[tuple[Path, Path]]:
        final = self._root / key
        unfinished = final.parent / f"{_UNFINISHED}{secrets.token_hex(8)}"
        try:
            _make_directories(final.parent, self._sync, self._private_from(final.parent if private else None))
            _remove_old_unfinished(final.parent)
            try:
                mode = 0o600 if private else self._mode
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                with os.fdopen(os.open(unfinished, flags, mode), "wb") as file:
                    file.write(data)
                    file.flush()
                    self._sync(file.fileno())
                yield unfinished, final
            finally:
                unfinished.unlink(missing_ok=True)
        except OSError as error:
            self._refuse("write", final, error)

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Exclude every other writer of this store that compares contents before it writes."""
        path = self._root / _GUARD
        path.parent.mkdir(mode=0o700 if self._private else 0o777, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, self._mode)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @property
    def _mode(self) -> int:
        return 0o600 if self._private else 0o666

    def _private_from(self, folder: Path | None = None) -> Path | None:
        """Return the folder that only the user may read, with all below it; None if there is none."""
        return self._root if self._private else folder

    def _refuse(self, verb: str, path: Path, error: OSError) -> NoReturn:
        raise self._error(f"cannot {verb} {path}: {error.strerror or error}", hint=_hint(error, path)) from error


class DirectoryLock:
    """A lock that the kernel holds for this process. It does not expire."""

    taken_over: Holder | None = None

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def check(self) -> None:
        """Do nothing: a lock of the kernel cannot be lost."""

    def give_back(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class DirectoryLog:
    """Implements ``protocol.Log`` as one file. Only the process with the lock writes it."""

    def __init__(self, path: Path, descriptor: int, what: str, error: type[GoldenAmiError], sync: Sync) -> None:
        self._path = path
        self._descriptor = descriptor
        self._what = what
        self._error = error
        self._sync = sync

    def content(self) -> bytes:
        try:
            return self._path.read_bytes()
        except OSError as error:
            raise self._error(f"cannot read {self._path}: {error.strerror}") from error

    def cut(self, whole: int) -> None:
        try:
            if whole < os.fstat(self._descriptor).st_size:
                os.ftruncate(self._descriptor, whole)
                self._sync(self._descriptor)
            elif whole and os.pread(self._descriptor, 1, whole - 1) != b"\n":
                os.write(self._descriptor, b"\n")
                self._sync(self._descriptor)
        except OSError as error:
            raise self._error(f"cannot write {self._path}: {error.strerror}", hint=_hint(error, self._path)) from error

    def append(self, number: int, line: bytes) -> bool:
        written = 0
        try:
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
            self._sync(self._descriptor)
        except OSError as error:
            # Half a line before further records would damage the log. If truncation fails too, it is a torn last line.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
            raise self._error(f"cannot write {self._what}: {error.strerror}", hint=_hint(error, self._path)) from error
        return True

    def recover_appended(self) -> Sequence[bytes]:
        return ()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _stored(data: bytes) -> Stored:
    return Stored(data, hashlib.sha256(data).hexdigest())


def _make_directories(path: Path, sync: Sync, private: Path | None = None) -> None:
    """Create directories like ``mkdir -p``. Each new name is on the disk before anything is created below it.
    ``private``: this folder and those below it get the mode 0700."""
    if path.is_dir():
        return
    missing = [path]
    while not missing[-1].parent.is_dir():
        missing.append(missing[-1].parent)
    for folder in reversed(missing):
        own = private is not None and folder.is_relative_to(private)
        folder.mkdir(mode=0o700 if own else 0o777, exist_ok=True)
        _flush_directory(folder.parent, sync)


def _remove_old_unfinished(folder: Path) -> None:
    for path in folder.glob(f"{_UNFINISHED}*"):
        with suppress(FileNotFoundError):  # another process deleted it first
            if time.time() - path.stat().st_mtime > _UNFINISHED_AGE:
                path.unlink()


def _flush_directory(path: Path, sync: Sync) -> None:
    """Flush a directory to the disk: a new name in it is durable only afterwards."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def _hint(error: OSError, path: Path) -> str | None:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"Free some space on the file system of {path.parent}."
    if isinstance(error, PermissionError):
        return f"Give the user of this process access to {path.parent}."
    return None
