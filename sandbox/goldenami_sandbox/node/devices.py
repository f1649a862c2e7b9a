"""Data volumes in guests: a loop device, with nodes in the guest's /dev under the names of EC2.

A guest cannot make device nodes, and its filesystems are mounted without devices, except the /dev of nspawn. So these
nodes are all that it can use, while they belong to its root: ``detach`` takes them away, also if the guest kept them
under other names. A device that the guest still uses is not detached, and a loop device is removed from the machine
before another volume can have it. It is autoclear, so that it is released when the guest or the sandbox ends.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from goldenami_sandbox.errors import SandboxError, VolumeInUse
from goldenami_sandbox.node.command import attempt, run
from goldenami_sandbox.node.namespaces import in_guest
from goldenami_sandbox.node.volumes import Volumes

_LOOP_CTL_REMOVE = 0x4C81
_RELEASE_PATIENCE = 1.0  # seconds: udev opens a device that changes, for a moment


@dataclass(frozen=True, slots=True)
class _Attached:
    instance: str
    loop: str
    number: int
    names: tuple[str, ...]
    handle: int  # keeps the loop device alive until it is closed
    root: int  # the guest's root, as this machine numbers it
    nodes: list[int] = field(default_factory=list)  # handles, because the guest can rename them

    def give(self, owner: int, mode: int) -> None:
        for node in self.nodes:
            path = Path(f"/proc/self/fd/{node}")
            os.chown(path, owner, owner)
            path.chmod(mode)

    def close(self) -> None:
        for handle in (self.handle, *self.nodes):
            with suppress(OSError):
                os.close(handle)


def names_in_guest(device: str) -> tuple[str, ...]:
    """Return the names of a device in the guest. /dev/sdf is also /dev/xvdf, as on Xen instances."""
    name = device.removeprefix("/dev/")
    if not name.isalnum():
        raise SandboxError(f"{device!r} is not a device name; for example /dev/sdf is expected")
    return (name, "xvd" + name[2:]) if name.startswith("sd") else (name,)


class DataVolumes:
    """Keeps which data volumes are in which guest."""

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes
        self._attached: dict[str, _Attached] = {}

    def of(self, instance: str) -> dict[int, str]:
        """Return the paths on this machine of a guest's data volumes, by device number."""
        return {a.number: a.loop for a in list(self._attached.values()) if a.instance == instance}

    def attach(self, instance: str, leader: int, volume: str, device: str) -> None:
        if volume in self._attached:
            raise SandboxError(f"volume {volume} is attached already")
        names = names_in_guest(device)
        root = Path(f"/proc/{leader}").stat().st_uid
        loop, handle = self._loop(volume, "--find")
        attached = _Attached(instance, loop, os.fstat(handle).st_rdev, names, handle, root)
        try:
            in_guest(leader, lambda: _make_nodes(attached))
            attached.give(root, 0o660)
        except OSError as e:
            attached.close()
            raise SandboxError(f"cannot make {device} in {instance}: {e.strerror}") from e
        self._attached[volume] = attached

    def detach(self, instance: str, leader: int | None, volume: str) -> None:
        attached = self._attached.get(volume)
        if attached is None or attached.instance != instance:
            raise SandboxError(f"volume {volume} is not attached to {instance}")
        if leader is not None:
            attached.give(0, 0)
            os.close(attached.handle)
            if not _removed(attached.loop):
                _, handle = self._loop(volume, attached.loop)
                self._attached[volume] = attached = replace(attached, handle=handle)
                attached.give(attached.root, 0o660)
                raise VolumeInUse(
                    f"volume {volume} is in use in {instance}: it is mounted there, or a program has it open"
                )
            with suppress(OSError):
                in_guest(leader, lambda: _remove_nodes(attached))
        self._attached.pop(volume).close()

    def forget(self, instance: str) -> None:
        """Drop the records of a guest that ended. Its /dev no longer exists."""
        for volume in [v for v, attached in self._attached.items() if attached.instance == instance]:
            self._attached.pop(volume).close()

    def _loop(self, volume: str, device: str) -> tuple[str, int]:
        """Return a loop device of a volume, and its handle. ``device``: the one that has it or gets it, or --find."""
        path = self._volumes.existing(volume)
        if device == "--find":
            device = run("losetup", "--find", "--show", str(path)).strip()
        elif not Path(f"/sys/block/{Path(device).name}/loop/backing_file").exists():
            run("losetup", device, str(path))
        handle = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        attempt("losetup", "--detach", device)  # of an open device: when it is closed for the last time
        return device, handle


def _make_nodes(attached: _Attached) -> None:
    """Make the nodes, seen from the guest. Until they are given to its root, they are of no use to it."""
    for name in attached.names:
        os.mknod(f"/dev/{name}", stat.S_IFBLK, attached.number)
        node = os.open(f"/dev/{name}", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        attached.nodes.append(node)
        made = os.fstat(node)
        if not stat.S_ISBLK(made.st_mode) or made.st_rdev != attached.number:
            raise OSError(errno.EEXIST, "the guest changed it meanwhile")


def _remove_nodes(attached: _Attached) -> None:
    for name in attached.names:
        path = Path("/dev", name)
        with suppress(OSError):
            if path.lstat().st_rdev == attached.number:
                path.unlink()


def _removed(loop: str) -> bool:
    """Remove a loop device that has no file and no user, not even one who has it open. Return whether it is gone."""
    number = int(Path(loop).name.removeprefix("loop"))
    deadline = time.monotonic() + _RELEASE_PATIENCE
    with Path("/dev/loop-control").open() as control:
        while True:
            try:
                fcntl.ioctl(control, _LOOP_CTL_REMOVE, number)
            except OSError as e:
                if e.errno == errno.ENODEV:
                    return True
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.02)
            else:
                return True
