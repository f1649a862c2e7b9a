"""The pool: an XFS filesystem with reflink in a sparse file of the state directory, for volumes and snapshots.

It is mounted in the enclosure only. The loop device is released with the mount (autoclear). ``discard`` returns freed
space to the file, so that the contents of a deleted volume are removed from the disk too.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from goldenami_sandbox.errors import SandboxError
from goldenami_sandbox.node import blocks
from goldenami_sandbox.node.command import run

_SMALLEST = 16 * 2**30
_RESERVE = 2 * 2**30  # bytes left to the host, so that a full pool is an ENOSPC and not an I/O error


class Pool:
    """Files that can be cloned. ``root`` is valid between ``open`` and ``close``."""

    def __init__(self, file: Path, root: Path) -> None:
        self.file = file
        self.root = root

    def open(self) -> None:
        """Mount the pool. The first call creates it: its size is the free disk space, and it occupies almost none."""
        if not self.file.exists():
            self._make()
        self.root.mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "xfs", "-o", "loop,noatime,discard", str(self.file), str(self.root))
        for directory in (self.volumes, self.snapshots, self.scratch):
            directory.mkdir(exist_ok=True)
        for path in self.scratch.iterdir():  # of an interrupted predecessor
            path.unlink()

    def close(self) -> None:
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

    def _make(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        size = max(shutil.disk_usage(self.file.parent).free - _RESERVE, _SMALLEST)
        new = self.file.with_suffix(".new")
        with new.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.truncate(size // 2**20 * 2**20)
        run("mkfs.xfs", "-q", "-f", "-m", "reflink=1", "-l", "size=64m", str(new))
        new.rename(self.file)


def clone_file(source: Path, target: Path) -> None:
    """Create a file that shares all extents of ``source``. It takes milliseconds for any size."""
    try:
        with source.open("rb") as old, target.open("xb") as new:
            blocks.clone(old.fileno(), new.fileno())
    except FileExistsError:
        raise SandboxError(f"{target.name} exists already") from None
