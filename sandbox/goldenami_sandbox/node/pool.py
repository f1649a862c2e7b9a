"""The pool: an XFS filesystem with reflink in a sparse file of the state directory, for volumes and snapshots.

It is mounted in the enclosure only. The loop device is released with the mount (autoclear). ``discard`` returns freed
space to the file, so that the contents of a deleted volume are removed from the disk too.

The file can become as large as the disk, which others fill too. A write that the pool takes and the disk does not is
lost, with whatever else it hits. So a file in the pool, the ballast, occupies what the disk could not hold: it has no
contents, and a thread adapts its size every second. So a full disk is a full pool, which harms nothing that exists.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tempfile
import threading
from pathlib import Path

from goldenami_sandbox.errors import NoRoom, SandboxError
from goldenami_sandbox.node import blocks
from goldenami_sandbox.node.api import Space
from goldenami_sandbox.node.command import run

_SMALLEST = 2**30
_RESERVE = 2 * 2**30  # bytes of the disk that are left to others; on a small disk, a tenth of it
_STEP = 16 * 2**20  # smaller changes of the ballast are not made
_SPARE = 64 * 2**20  # bytes that are left for indices and the filesystem's own blocks


class Pool:
    """Files that can be cloned. ``root`` is valid between ``open`` and ``close``."""

    def __init__(self, file: Path, root: Path) -> None:
        self.file = file
        self.root = root
        self._limit: int | None = None
        self._overhead = 0  # bytes that the empty filesystem takes for itself
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep_settled, name="pool", daemon=True)

    def open(self) -> None:
        """Mount the pool. The first call creates it: it can grow to the size of the disk, and occupies almost none."""
        new = not self.file.exists()
        if new:
            self._make()
        self.root.mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "xfs", "-o", "loop,noatime,discard", str(self.file), str(self.root))
        for directory in (self.volumes, self.snapshots, self.scratch):
            directory.mkdir(exist_ok=True)
        for path in self.scratch.iterdir():  # of an interrupted predecessor
            path.unlink()
        if new:
            self._overhead_file.write_text(str(self._occupied()))
        self._overhead = int(self._overhead_file.read_text()) if self._overhead_file.exists() else 0
        self.settle()
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        run("umount", str(self.root))

    @property
    def volumes(self) -> Path:
        return self.root / "volumes"

    @property
    def snapshots(self) -> Path:
        return self.root / "snapshots"

    @property
    def scratch(self) -> Path:
        """The directory of unfinished files and temporary clones. ``open`` empties it."""
        return self.root / "scratch"

    # --- room --------------------------------------------------------------------------------------------------------

    def limit(self, size: int | None) -> None:
        """Let volumes and snapshots use at most ``size`` bytes. None: what the disk has."""
        self._limit = size
        if self.root.is_mount():
            self.settle()

    def space(self) -> Space:
        """Return the bytes that volumes and snapshots use, and those that they can use in addition."""
        self.settle()
        with self._lock:
            facts = os.statvfs(self.root)
            used = max(0, self._occupied() - self._overhead - self._ballast_size())
            return Space(used, max(0, facts.f_bavail * facts.f_frsize - _SPARE))

    def require_for_clone(self, source: Path) -> None:
        """Raises NoRoom if the pool cannot take a clone of a file. Here it takes no room."""

    def require(self, size: int) -> None:
        """Raises NoRoom if the pool cannot take ``size`` more bytes."""
        free = self.space().free
        if size > free or not free:
            raise NoRoom(
                f"the sandbox has no room for {size >> 20} MiB: {free >> 20} MiB are left for volumes and snapshots",
                hint="Delete images, snapshots and volumes, or other files on the disk of the sandbox; raise the "
                "setting storage_gib, if it is set.",
            )

    def settle(self) -> None:
        """Adapt the ballast to the disk."""
        with self._lock:
            facts = os.statvfs(self.root)
            free, ballast = facts.f_bavail * facts.f_frsize, self._ballast_size()
            disk = shutil.disk_usage(self.file.parent)
            allowed = disk.free - _reserve(disk.total)
            if self._limit is not None:
                used = self._occupied() - self._overhead - ballast
                allowed = min(allowed, self._limit - used)
            wanted = max(0, ballast + free - max(0, allowed))
            if abs(wanted - ballast) < _STEP:
                return
            handle = os.open(self._ballast, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if wanted < ballast:
                    os.ftruncate(handle, wanted)
                    os.fsync(handle)  # what is freed can be used once the filesystem's log has it
                chunk = wanted - ballast
                while wanted - ballast >= _STEP and chunk >= _STEP:
                    try:
                        os.posix_fallocate(handle, ballast, min(chunk, wanted - ballast))
                        ballast += min(chunk, wanted - ballast)
                    except OSError:  # the filesystem needs some of it itself
                        chunk //= 2
            finally:
                os.close(handle)

    def _occupied(self) -> int:
        facts = os.statvfs(self.root)
        return (facts.f_blocks - facts.f_bfree) * facts.f_frsize

    @property
    def _overhead_file(self) -> Path:
        return self.root / "overhead"

    @property
    def _ballast(self) -> Path:
        return self.root / "ballast"

    def _ballast_size(self) -> int:
        try:
            return self._ballast.stat().st_blocks * 512
        except FileNotFoundError:
            return 0

    def _keep_settled(self) -> None:
        while not self._closing.wait(1.0):
            with contextlib.suppress(OSError):
                self.settle()

    def _make(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        disk = shutil.disk_usage(self.file.parent)
        if disk.free - _reserve(disk.total) < _SMALLEST:
            raise SandboxError(
                f"the disk of {self.file.parent} has {disk.free >> 20} MiB left; the sandbox needs "
                f"{(_SMALLEST + _reserve(disk.total)) >> 20} MiB at its first start",
                hint="Free some space, or set GOLDENAMI_SANDBOX_HOME to a directory on another disk.",
            )
        new = self.file.with_suffix(".new")
        with new.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.truncate(disk.total // 2**20 * 2**20)
        run("mkfs.xfs", "-q", "-f", "-m", "reflink=1", "-l", "size=64m", str(new))
        new.rename(self.file)


def _reserve(total: int) -> int:
    return min(_RESERVE, total // 10)


class PlainPool(Pool):
    """A pool in a directory, for users who cannot mount. Where its filesystem cannot clone files, they are copied."""

    def __init__(self, root: Path) -> None:
        super().__init__(root.with_suffix(".none"), root)

    def open(self) -> None:
        for directory in (self.volumes, self.snapshots, self.scratch):
            directory.mkdir(parents=True, exist_ok=True)
        for path in self.scratch.iterdir():
            path.unlink()

    def close(self) -> None:
        """Nothing is mounted."""

    def settle(self) -> None:
        """A write that the disk does not take fails at once, so nothing has to be reserved."""

    def space(self) -> Space:
        used = sum(self._sizes().values())
        disk = shutil.disk_usage(self.root)
        free = disk.free - _reserve(disk.total) - _SPARE
        if self._limit is not None:
            free = min(free, self._limit - used)
        return Space(used, max(0, free))

    def limit(self, size: int | None) -> None:
        self._limit = size

    def require_for_clone(self, source: Path) -> None:
        if not self._clones:
            self.require(source.stat().st_blocks * 512)

    @functools.cached_property
    def _clones(self) -> bool:
        """Whether the filesystem can clone files."""
        with tempfile.TemporaryFile(dir=self.scratch) as one, tempfile.TemporaryFile(dir=self.scratch) as other:
            blocks.write(one.fileno(), 0, b"data")
            try:
                blocks.clone(one.fileno(), other.fileno())
            except SandboxError:
                return False
        return True

    def _sizes(self) -> dict[int, int]:
        """Return the bytes of each file, by its number: a file with two names is one. Others are deleted meanwhile."""
        found: dict[int, int] = {}
        for directory, _, names in os.walk(self.root):  # it takes what vanishes for empty
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    facts = os.lstat(f"{directory}/{name}")
                    found[facts.st_ino] = facts.st_blocks * 512
        return found


def clone_file(source: Path, target: Path) -> None:
    """Create a file that shares all extents of ``source``. It takes milliseconds for any size, except where the
    filesystem cannot clone files: there its data is copied."""
    try:
        with source.open("rb") as old, target.open("xb") as new:
            try:
                blocks.clone(old.fileno(), new.fileno())
            except SandboxError:
                blocks.copy(old.fileno(), new.fileno())
    except FileExistsError:
        raise SandboxError(f"{target.name} exists already") from None


def same_file(source: Path, target: Path) -> None:
    """Make ``target`` the same contents as a file that nobody changes any more: a clone, or another name of it where
    the filesystem cannot clone files."""
    with source.open("rb") as old, target.open("xb") as new:
        try:
            blocks.clone(old.fileno(), new.fileno())
        except SandboxError:
            target.unlink()
        else:
            return
    try:
        target.hardlink_to(source)
    except FileNotFoundError:
        raise
    except OSError:  # no hard links either, or too many
        clone_file(source, target)
