"""Data volumes in guests: a loop device, with nodes in the guest's /dev under the names of EC2.

A guest on Nitro sees NVMe devices (/dev/nvme1n1), numbered in the order in which they were attached, and the links of
udev: /dev/disk/by-id has the id of the volume. Other guests see the name of the attachment. The volumes that an
instance has are there before its init runs, so that it can mount them.

A guest cannot make device nodes, and its filesystems are mounted without devices, except the /dev of nspawn. So these
nodes are all that it can use, while they belong to its root: ``detach`` takes them away, also if the guest kept them
under other names. A device that the guest still uses is not detached, and a loop device is removed from the machine
before another volume can have it. It is autoclear, so that it is released when the guest or the sandbox ends.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import re
import stat
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from goldenami_sandbox.errors import SandboxError, VolumeInUse
from goldenami_sandbox.node.command import attempt, run
from goldenami_sandbox.node.namespaces import in_guest
from goldenami_sandbox.node.volumes import Volumes

_LOOP_CTL_REMOVE = 0x4C81
_MAP_TRIES, _MAP_PAUSE = 300, 0.01  # the pause in seconds
_RELEASE_PATIENCE = 3.0  # seconds: udev opens a device that changes, for a moment


@dataclass(frozen=True, slots=True)
class _Attached:
    instance: str
    loop: str
    number: int
    names: tuple[str, ...]
    handle: int  # keeps the loop device alive until it is closed
    root: int  # the guest's root, as this machine numbers it
    links: tuple[str, ...]  # below /dev/disk
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


def _links(loop: str, volume: str, *, nvme: bool) -> tuple[str, ...]:
    """Return the links that udev makes for a device: by the volume's id, and by the file system on it."""
    links = [f"by-id/nvme-Amazon_Elastic_Block_Store_{volume.replace('-', '')}"] if nvme else []
    found = subprocess.run(["blkid", "-p", "-o", "export", loop], capture_output=True, text=True, check=False).stdout
    for tag, folder in (("UUID", "by-uuid"), ("LABEL", "by-label")):
        value = re.search(rf"^{tag}=([A-Za-z0-9._-]+)$", found, re.MULTILINE)
        links += [f"{folder}/{value[1]}"] if value and value[1] not in (".", "..") else []
    return tuple(links)


def root_of(pid: int) -> int:
    """Return the number of a guest's root on this machine, from the user namespace of one of its processes.

    A process that has just started may still be in the namespace of this machine, or in one that has no map yet; one
    that has ended has none at all. Raises OSError then.
    """
    here = Path("/proc/self/uid_map").read_text().split()
    numbers: list[str] = []
    for _ in range(_MAP_TRIES):
        numbers = Path(f"/proc/{pid}/uid_map").read_text().split()
        if numbers and numbers != here:
            return int(numbers[1])
        time.sleep(_MAP_PAUSE)
    if numbers:
        return int(numbers[1])
    raise ProcessLookupError(errno.ESRCH, f"process {pid} of the guest has ended")


class DataVolumes:
    """Keeps which data volumes are in which guest."""

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes
        self._attached: dict[str, _Attached] = {}
        self._expected: dict[str, dict[str, str]] = {}  # instance -> volume -> device name of the attachment

    def expect(self, instance: str, devices: Mapping[str, str]) -> None:
        """Set the volumes that an instance has when it starts, by device name."""
        self._expected[instance] = {volume: device for device, volume in devices.items()}

    def boot(self, instance: str, process: int, *, nvme: bool) -> None:
        """Attach the volumes of a guest that boots. ``process``: one that sees its /dev, before its init runs."""
        for volume in [v for v, attached in self._attached.items() if attached.instance == instance]:
            self._attached.pop(volume).close()  # of the last boot: its /dev no longer exists
        for volume, device in sorted(self._expected.get(instance, {}).items(), key=lambda item: item[1]):
            self.attach(instance, process, volume, device, nvme=nvme)

    def of(self, instance: str) -> dict[int, str]:
        """Return the paths on this machine of a guest's data volumes, by device number."""
        return {a.number: a.loop for a in list(self._attached.values()) if a.instance == instance}

    def attach(self, instance: str, leader: int, volume: str, device: str, *, nvme: bool = False) -> None:
        """Attach a volume. A volume that the guest has already, since its boot, stays as it is."""
        before = self._attached.get(volume)
        if before is not None and before.instance == instance and volume in self._expected.get(instance, {}):
            return
        if before is not None:
            raise SandboxError(f"volume {volume} is attached already")
        names = self._next_nvme(instance) if nvme else names_in_guest(device)
        root = root_of(leader)
        loop, handle = self._loop(volume, "--find")
        links = _links(loop, volume, nvme=nvme)
        attached = _Attached(instance, loop, os.fstat(handle).st_rdev, names, handle, root, links)
        try:
            in_guest(leader, lambda: _make_nodes(attached))
            attached.give(root, 0o660)
        except OSError as e:
            attached.close()
            raise SandboxError(f"cannot make {device} in {instance}: {e.strerror}") from e
        self._attached[volume] = attached
        self._expected.setdefault(instance, {})[volume] = device

    def _next_nvme(self, instance: str) -> tuple[str, ...]:
        """Return the name of the next NVMe device. The root volume is nvme0n1."""
        taken = {
            name for attached in self._attached.values() if attached.instance == instance for name in attached.names
        }
        return (next(name for n in itertools.count(1) if (name := f"nvme{n}n1") not in taken),)

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
        self._expected.get(instance, {}).pop(volume, None)

    def forget(self, instance: str) -> None:
        """Drop the records of a guest that ended. Its /dev no longer exists."""
        self._expected.pop(instance, None)
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
        path = Path("/dev", name)
        if path.is_block_device() and not path.is_symlink():
            path.unlink()  # of an attempt that failed: a guest cannot make block devices
        os.mknod(f"/dev/{name}", stat.S_IFBLK, attached.number)
        node = os.open(f"/dev/{name}", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        attached.nodes.append(node)
        made = os.fstat(node)
        if not stat.S_ISBLK(made.st_mode) or made.st_rdev != attached.number:
            raise OSError(errno.EEXIST, "the guest changed it meanwhile")
    for link in attached.links:
        path = Path("/dev/disk", link)
        for folder in (path.parent.parent, path.parent):
            if not folder.is_dir():
                folder.mkdir()
                folder.chmod(0o755)
        path.unlink(missing_ok=True)
        path.symlink_to(f"../../{attached.names[0]}")


def _remove_nodes(attached: _Attached) -> None:
    for link in attached.links:
        with suppress(OSError):
            Path("/dev/disk", link).unlink()
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
