"""Removes what the kernel keeps when a sandbox ends: its nft table, its iptables rules, its empty cgroups, and the
filesystems that its guests had frozen."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from goldenami_sandbox.node import network
from goldenami_sandbox.node.command import attempt
from goldenami_sandbox.node.confine import FITHAW
from goldenami_sandbox.node.namespaces import cgroup2_root, cgroup_name, remove_cgroup

_LOOP_GET_STATUS64 = 0x4C05
_PATIENCE = 0.3  # seconds; mounts of a sandbox that was killed need a moment to go


def clear(sandbox: str) -> None:
    """Remove them for a sandbox that is not running. Call it outside of an enclosure.

    ``sandbox`` is an id from ``namespaces.sandbox_id``. ``RealNode.start`` removes what is in its way; this function is
    for a sandbox that will not start again.
    """
    network.clear(sandbox)
    root = cgroup2_root()
    if root is not None:
        remove_cgroup(root / cgroup_name(sandbox))


def thaw(pool: Path) -> None:
    """Thaw the filesystems of the volumes of a sandbox that was killed. ``pool``: its file.

    The kernel keeps a frozen filesystem without a mount, and with it the processes that wait for it and the loop
    devices. Another mount of the device is one of the same filesystem.
    """
    deadline = time.monotonic() + _PATIENCE
    while (kept := list(_kept(pool))) and time.monotonic() < deadline:
        time.sleep(0.02)
    for name, kind in kept:
        with tempfile.TemporaryDirectory(prefix="goldenami-thaw-") as directory:
            if attempt("mount", "-t", kind, "-o", "nodev,noexec,nosuid", f"/dev/{name}", directory):
                handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                with contextlib.suppress(OSError):  # EINVAL: it is not frozen any more
                    fcntl.ioctl(handle, FITHAW, 0)
                os.close(handle)
                attempt("umount", directory)


def _kept(pool: Path) -> Iterator[tuple[str, str]]:
    """Yield the loop devices of volumes of a pool that have an active filesystem, and its type."""
    if not pool.exists():
        return
    facts = pool.stat()
    files = {path.parts[3]: _file_of(path.parts[3]) for path in Path("/sys/block").glob("loop*/loop/backing_file")}
    pools = [name for name, file in files.items() if file == (facts.st_dev, facts.st_ino)]
    devices = {Path(f"/dev/{name}").stat().st_rdev for name in pools}
    for name, file in files.items():
        for kind in ("ext4", "xfs"):
            if file is not None and file[0] in devices and Path(f"/sys/fs/{kind}/{name}").exists():
                yield name, kind


def _file_of(loop: str) -> tuple[int, int] | None:
    """Return the device and the inode of the file of a loop device."""
    try:
        handle = os.open(f"/dev/{loop}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            facts = bytearray(232)  # struct loop_info64
            fcntl.ioctl(handle, _LOOP_GET_STATUS64, facts)
        finally:
            os.close(handle)
    except OSError:
        return None
    device, inode = struct.unpack_from("=2Q", facts)
    return os.makedev(device >> 8 & 0xFFF, device & 0xFF | device >> 12 & 0xFFF00), inode
