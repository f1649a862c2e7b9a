"""Where a catalog keeps its bytes: files that are always whole, whatever is killed when.

In a directory a file is written beside its place under a name that no reader looks at, flushed to the disk, and then
given its name in one step of the file system; then the directory is flushed, so that the name survives a power cut too.
A reader sees the old contents, the new ones, or none. What a killed writer leaves is such an unfinished file; a later
write removes it. ``bucketstore`` is the same in a bucket.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import NoReturn, Protocol

from goldenami.errors import CatalogError

_UNFINISHED = ".unfinished-"  # hidden: names() skips it
_UNFINISHED_AGE = 3600.0  # seconds; no write takes that long
_LOCK_POLL = 0.05  # seconds


class Store(Protocol):
    """Files named by keys such as ``channels/web/stable.json``. Methods raise CatalogError, or the cloud's errors."""

    def where(self, key: str) -> str:
        """How a person finds that file."""

    def read(self, key: str) -> bytes | None:
        """The contents, or None where there is no such file."""

    def names(self, folder: str) -> tuple[str, ...]:
        """What the folder holds, files and folders, sorted; nothing where it does not exist."""

    def create(self, key: str, data: bytes) -> bool:
        """Write a file that must not exist yet; False, and nothing changed, where it does. Of two at once, one wins."""

    def replace(self, key: str, data: bytes, *, expected: bytes | None) -> bool:
        """Write a file whose contents are still ``expected`` (None: there is none); False, and nothing changed, where
        they are not. Call it with the lock of what it belongs to."""

    def lock(self, key: str, *, timeout: float) -> AbstractContextManager[None]:
        """Hold the lock of that name; wait for it at most ``timeout`` seconds, then raise CatalogError. Not
        re-entrant."""


class DirectoryStore:
    """Files below one directory, named by keys such as ``channels/web/stable.json``. The caller vouches for the keys.

    Safe between threads and between processes of one machine, and over NFS as far as its flock and link are. The
    directory is made when the first file is.
    """

    def __init__(
        self,
        root: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._root = root
        self._clock = clock
        self._sleep = sleep

    def where(self, key: str) -> str:
        """How a person finds that file."""
        return str(self._root / key)

    def read(self, key: str) -> bytes | None:
        """The contents, or None where there is no such file."""
        try:
            return (self._root / key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _refuse("read", self._root / key, error)

    def names(self, folder: str) -> tuple[str, ...]:
        """What the folder holds, files and folders, sorted; nothing where it does not exist."""
        try:
            return tuple(sorted(p.name for p in (self._root / folder).iterdir() if not p.name.startswith(".")))
        except FileNotFoundError:
            return ()
        except OSError as error:
            _refuse("list", self._root / folder, error)

    def create(self, key: str, data: bytes) -> bool:
        """Write a file that must not exist yet; False, and nothing changed, where it does. Of two at once, one wins."""
        with self._unfinished(key, data) as (unfinished, final):
            try:
                os.link(unfinished, final)
            except FileExistsError:
                return False
            _flush_directory(final.parent)
            return True

    def replace(self, key: str, data: bytes, *, expected: bytes | None) -> bool:
        """See Store. The lock is what keeps others away between looking and writing."""
        if self.read(key) != expected:
            return False
        with self._unfinished(key, data) as (unfinished, final):
            unfinished.replace(final)
            _flush_directory(final.parent)
            return True

    @contextmanager
    def lock(self, key: str, *, timeout: float) -> Iterator[None]:
        """Hold the lock of that name; wait for it at most ``timeout`` seconds, then raise CatalogError. Not re-entrant.

        The kernel frees it when its holder ends, however it ends; the empty file stays (removing it would let two
        processes hold two locks of the same name).
        """
        path = self._root / "locks" / f"{key}.lock"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            _refuse("lock", path, error)
        try:
            deadline = self._clock() + timeout
            while not _try_lock(descriptor, path):
                if self._clock() >= deadline:
                    raise CatalogError(
                        f"{path} is still locked by another process after {timeout:g} s",
                        hint="Wait for the other goldenami that works on this catalog to end, then try again.",
                    )
                self._sleep(_LOCK_POLL)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _unfinished(self, key: str, data: bytes) -> Iterator[tuple[Path, Path]]:
        final = self._root / key
        unfinished = final.parent / f"{_UNFINISHED}{secrets.token_hex(8)}"
        try:
            if not final.parent.is_dir():
                _make_directories(final.parent)
            _remove_old_unfinished(final.parent)
            try:
                # 0666 and the umask, as for any file: a catalog may belong to a group.
                with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                yield unfinished, final
            finally:
                unfinished.unlink(missing_ok=True)
        except OSError as error:
            _refuse("write", final, error)


def _try_lock(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        _refuse("lock", path, error)
    return True


def _make_directories(path: Path) -> None:
    """Like mkdir -p, and the new names are on the disk before anything is put below them."""
    missing = [path]
    while not missing[-1].parent.is_dir():
        missing.append(missing[-1].parent)
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        _flush_directory(folder.parent)


def _remove_old_unfinished(folder: Path) -> None:
    for path in folder.glob(f"{_UNFINISHED}*"):
        with suppress(FileNotFoundError):  # another process tidied up too
            if time.time() - path.stat().st_mtime > _UNFINISHED_AGE:
                path.unlink()


def _flush_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse(verb: str, path: Path, error: OSError) -> NoReturn:
    hint = "Give this user access to the catalog." if isinstance(error, PermissionError) else None
    raise CatalogError(f"cannot {verb} {path}: {error.strerror or error}", hint=hint) from error
