"""Volumes: sparse files of the pool. They are mounted over a loop device while an instance uses them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from goldenami_sandbox.errors import SandboxError, VolumeInUse
from goldenami_sandbox.node.command import attempt, run
from goldenami_sandbox.node.pool import Pool, clone_file

GIB = 2**30
_FIFREEZE = 0xC0045877
_FITHAW = 0xC0045878
# A guest's fsync need not reach the disk below: the sandbox promises to survive its own death, not the host's.
# noinit_itable keeps a background thread from filling the sparse file with zeros.
# An image may hold device nodes, which would be this machine's, and a filesystem that stops it after an error.
_MOUNT_OPTIONS = "loop,noatime,nobarrier,noinit_itable,nodev,errors=remount-ro"
_UNMOUNT_PATIENCE = 30.0  # seconds; a killed guest's last process may take a moment to let go


class Volumes:
    """Creates, finds, deletes, mounts and freezes volumes. Ids are file names, checked by ``path``."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._mounted: dict[str, Path] = {}

    def path(self, volume: str) -> Path:
        if not volume or not all(c.isalnum() or c in "-_." for c in volume) or volume.startswith("."):
            raise SandboxError(f"{volume!r} is not an id of a volume")
        return self._pool.volumes / volume

    def existing(self, volume: str) -> Path:
        path = self.path(volume)
        if not path.exists():
            raise SandboxError(f"volume {volume} does not exist on this node")
        return path

    def create_empty(self, volume: str, size: int) -> None:
        with self._new(volume).open("xb") as file:
            file.truncate(size)

    def adopt(self, volume: str, file: Path, size: int) -> None:
        """Make the scratch file ``file`` a volume of ``size`` bytes, atomically."""
        target = self._new(volume)
        if file.stat().st_size > size:
            file.unlink()
            raise SandboxError(f"volume {volume} cannot be smaller than its snapshot")
        os.truncate(file, size)
        file.rename(target)

    def delete(self, volume: str) -> None:
        if volume in self._mounted:
            raise VolumeInUse(f"volume {volume} is in use")
        discard(self.path(volume))

    def clone(self, volume: str, target: Path) -> None:
        """Clone the contents at one moment. Writes of a running guest wait meanwhile."""
        source = self.existing(volume)
        directory = self._mounted.get(volume)
        with frozen(directory) if directory else contextlib.nullcontext():
            clone_file(source, target)

    def mount(self, volume: str, directory: Path) -> None:
        """Mount the filesystem, grown to the volume's size as cloud-init's growpart and resizefs do."""
        path = self.existing(volume)
        if filesystem_size(path) < path.stat().st_size:
            grow(path)
        mount_image(path, directory)
        self._mounted[volume] = directory

    def unmount(self, volume: str) -> None:
        directory = self._mounted.get(volume)
        if directory is not None:
            unmount_image(directory)
            del self._mounted[volume]

    def _new(self, volume: str) -> Path:
        path = self.path(volume)
        if path.exists():
            raise SandboxError(f"volume {volume} exists already")
        return path


def discard(path: Path) -> None:
    """Delete a file and free its blocks at once. Contents that have another name stay there."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_nlink == 1:
            os.truncate(path, 0)
        path.unlink()


def grow(image: Path) -> None:
    """Grow an unmounted ext4 filesystem to the size of its file.

    Growing a mounted one needs CAP_SYS_RESOURCE, which root does not have everywhere. resize2fs requires a check of the
    filesystem just before, which also replays the journal.
    """
    attempt("e2fsck", "-f", "-p", str(image))  # status 1: something was repaired
    run("resize2fs", str(image))


def mount_image(file: Path, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    run(
        "mount", "-t", "ext4", "-o", _MOUNT_OPTIONS, str(file), str(directory),
        hint="The root volume needs an ext4 filesystem without a partition table.",
    )  # fmt: skip


def unmount_image(directory: Path) -> None:
    deadline = time.monotonic() + _UNMOUNT_PATIENCE
    while not attempt("umount", str(directory)):
        if not os.path.ismount(directory):
            break
        if time.monotonic() > deadline:
            # Its processes have ended or hang, so the mount is detached and the kernel completes it later.
            attempt("umount", "--lazy", str(directory))
            break
        time.sleep(0.02)
    with contextlib.suppress(OSError):
        directory.rmdir()


@contextmanager
def frozen(directory: Path) -> Iterator[None]:
    """Flush the filesystem and block writes until the block ends (fsfreeze(8)). If the guest froze it, it
    stays frozen.
    """
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        ours = True
        try:
            fcntl.ioctl(handle, _FIFREEZE, 0)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            ours = False
        try:
            yield
        finally:
            if ours:
                fcntl.ioctl(handle, _FITHAW, 0)
    finally:
        os.close(handle)


def filesystem_size(file: Path) -> int:
    """Return the size in bytes from the ext4 superblock, or the file's size if there is no ext4 filesystem."""
    with file.open("rb") as f:
        f.seek(1024)
        superblock = f.read(1024)
    if len(superblock) < 1024 or struct.unpack_from("<H", superblock, 0x38)[0] != 0xEF53:
        return file.stat().st_size
    low, shift = struct.unpack_from("<L", superblock, 0x4)[0], struct.unpack_from("<L", superblock, 0x18)[0]
    high = struct.unpack_from("<L", superblock, 0x150)[0] if struct.unpack_from("<L", superblock, 0x60)[0] & 0x80 else 0
    blocks, exponent = low | high << 32, 10 + shift
    return int(blocks << exponent)
