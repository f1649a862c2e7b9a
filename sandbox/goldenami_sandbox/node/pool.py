"""The pool: an XFS filesystem with reflink in a sparse file of the state directory, where volumes and snapshots live.

It is mounted in the enclosure only; the loop device goes with the mount (autoclear), whatever ends it. ``discard``
hands freed space back to the file, so that a deleted volume is gone from the disk and not merely from a directory.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from goldenami_sandbox.errors import SandboxError
from goldenami_sandbox.node import blocks
from goldenami_sandbox.node.command import run

_SMALLEST = 16 * 2**30
_RESERVE = 2 * 2**30  # left to the host, so that a full pool is its own ENOSPC and not an I/O error


class Pool:
    """Files that can be cloned. ``root`` is valid between ``open`` and ``close``."""

    def __init__(self, file: Path, root: Path) -> None:
        self.file = file
        self.root = root

    def open(self) -> None:
        """Mount it; the first time, make it: as large as the disk has room, occupying next to nothing."""
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
        """Files under construction and throw-away clones; emptied at ``open``."""
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
    """A new file that shares all of ``source``. Milliseconds, whatever the size."""
    try:
        with source.open("rb") as old, target.open("xb") as new:
            blocks.clone(old.fileno(), new.fileno())
    except FileExistsError:
        raise SandboxError(f"{target.name} exists already") from None
