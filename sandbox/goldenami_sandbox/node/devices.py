"""Data volumes in guests: a loop device, with nodes in the guest's /dev under the names of EC2.

Guests have no device cgroup (nspawn registers none), so the device node alone makes the device usable. The loop device
is autoclear: it is released with its last user, by ``detach`` or when the guest ends.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from goldenami_sandbox.errors import SandboxError
from goldenami_sandbox.node.command import attempt, run
from goldenami_sandbox.node.volumes import Volumes


@dataclass(frozen=True, slots=True)
class _Attached:
    instance: str
    loop: str
    names: tuple[str, ...]
    handle: int  # keeps the loop device alive until it is closed


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

    def attach(self, instance: str, leader: int, volume: str, device: str) -> None:
        if volume in self._attached:
            raise SandboxError(f"volume {volume} is attached already")
        names = names_in_guest(device)
        loop = run("losetup", "--find", "--show", str(self._volumes.existing(volume))).strip()
        handle = os.open(loop, os.O_RDWR | os.O_CLOEXEC)
        attempt("losetup", "--detach", loop)  # for an open device this takes effect when it is closed for the last time
        number = Path(loop).stat().st_rdev
        dev = Path(f"/proc/{leader}/root/dev")
        try:
            for name in names:
                os.mknod(dev / name, 0o660 | stat.S_IFBLK, number)
        except OSError as e:
            os.close(handle)
            raise SandboxError(f"cannot make {device} in {instance}: {e.strerror}") from e
        self._attached[volume] = _Attached(instance, loop, names, handle)

    def detach(self, instance: str, leader: int | None, volume: str) -> None:
        attached = self._attached.get(volume)
        if attached is None or attached.instance != instance:
            raise SandboxError(f"volume {volume} is not attached to {instance}")
        if leader is not None:
            if f"{attached.loop.removeprefix('/dev/')} " in _mounted(leader):
                raise SandboxError(f"volume {volume} is mounted in {instance}")
            for name in attached.names:
                with suppress(OSError):
                    Path(f"/proc/{leader}/root/dev/{name}").unlink()
        self._release(volume)

    def forget(self, instance: str) -> None:
        """Drop the records of a guest that ended. Its /dev no longer exists."""
        for volume in [v for v, attached in self._attached.items() if attached.instance == instance]:
            self._release(volume)

    def _release(self, volume: str) -> None:
        os.close(self._attached.pop(volume).handle)


def _mounted(leader: int) -> str:
    """Return the names of the devices that a guest has mounted, each followed by a space."""
    lines = Path(f"/proc/{leader}/mountinfo").read_text().splitlines()
    numbers = {line.split()[2] for line in lines}
    found = []
    for number in numbers:
        link = Path(f"/sys/dev/block/{number}")
        if link.exists():
            found.append(link.resolve().name)
    return " ".join(found) + " "
