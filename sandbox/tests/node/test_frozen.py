"""Guests that freeze their filesystems (fsfreeze(8)): what is captured, and that everything ends."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from goldenami_sandbox.node import leftovers
from goldenami_sandbox.node.api import InstanceSpec

pytestmark = pytest.mark.root
Node = Any

FREEZE = "echo kept >/root/kept; fsfreeze --freeze /"


def launch(node: Node, instance: str) -> None:
    volume = f"vol-{instance}"
    node.call("create_volume", volume, 8, node.call("base", "debian-12"), None)
    address = node.call("allocate_address", instance)
    node.call("launch", InstanceSpec(instance, address, volume, hostname=instance))
    until_up(node, instance)


def until_up(node: Node, instance: str) -> None:
    until(lambda: b"running" in node.call("exec", instance, ["systemctl", "is-system-running"])[1])


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.01)


def in_guest(node: Node, instance: str, command: str) -> str:
    """Run a command by a service of the guest's systemd, so that it has no more rights than its services."""
    argv = ["systemd-run", "--quiet", "--pipe", "--wait", "sh", "-c", f"exec 2>&1\n{command}"]
    status, output, _ = node.call("exec", instance, argv)
    assert status == 0, output
    return str(output.decode())


def write(node: Node, instance: str) -> None:
    """Let a process write to the frozen root. It waits, in a way that even SIGKILL does not end."""
    in_guest(node, instance, "systemd-run --quiet --unit=writer sh -c 'echo lost >/root/lost; sleep 60'")
    state = 'for pid in $(cat /sys/fs/cgroup/system.slice/writer.service/cgroup.procs); do cat "/proc/$pid/stat"; done'
    until(lambda: b") D " in node.call("exec", instance, ["sh", "-c", state])[1])


def test_a_frozen_guest_is_captured_as_it_is_and_ends(node: Node, tmp_path: Path) -> None:
    launch(node, "i-frozen")
    in_guest(node, "i-frozen", FREEZE)
    write(node, "i-frozen")
    said = in_guest(node, "i-frozen", "LC_ALL=C fsfreeze --freeze / 2>&1 || :")
    assert "Device or resource busy" in said
    node.call("freeze_snapshot", "snap-frozen", "vol-i-frozen")
    node.call("store_snapshot", "snap-frozen", node.call("base", "debian-12"), None)
    image = tmp_path / "image"
    node.call("export", "snap-frozen", None, image, "raw")
    checked = subprocess.run(["e2fsck", "-f", "-n", str(image)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    found = subprocess.run(["debugfs", "-R", "ls -p /root", str(image)], capture_output=True, text=True).stdout
    assert ("/kept/" in found, "/lost/" in found) == (True, False)
    node.call("terminate", "i-frozen")
    node.call("delete_volume", "vol-i-frozen")
    assert "i-frozen" not in node.call("instances")


def test_only_root_of_the_guest_freezes_and_thaws(node: Node) -> None:
    launch(node, "i-thawed")
    user = "setpriv --reuid 1000 --regid 1000 --clear-groups"
    program = 'perl -e \'open(D, "<", "/"); exit(ioctl(D, {:#x}, 0) ? 0 : 0 + $!)\''
    freeze, thaw = program.format(0xC0045877), program.format(0xC0045878)
    said = in_guest(
        node, "i-thawed", f"{user} {freeze}; echo $?; {thaw}; echo $?; {freeze}; echo $?; {user} {thaw}; echo $?"
    )
    assert said.split() == ["1", "22", "0", "1"], "EPERM, EINVAL, no error, EPERM"
    in_guest(node, "i-thawed", "fsfreeze --unfreeze / && echo >/root/written")
    node.call("terminate", "i-thawed")
    node.call("delete_volume", "vol-i-thawed")


@pytest.mark.parametrize("how", ["stop", *(pytest.param(h, marks=pytest.mark.nightly) for h in ("reboot", "within"))])
def test_a_frozen_guest_goes_down(how: str, node: Node) -> None:
    launch(node, "i-down")
    node.call("create_volume", "vol-more", 1, None, None)
    node.call("attach", "i-down", "vol-more", "/dev/sdf")
    in_guest(node, "i-down", f"mkfs.ext4 -q /dev/sdf && mount /dev/sdf /mnt && fsfreeze --freeze /mnt && {FREEZE}")
    write(node, "i-down")
    if how == "within":  # as the service does that ends a temporary instance after its lifetime
        node.call("exec", "i-down", ["systemctl", "--force", "poweroff"])
        until(lambda: node.call("exits")[-1:] == [["i-down", "poweroff"]])
    else:
        node.call(how, "i-down")
    if how != "reboot":
        assert node.call("instances")["i-down"] == "stopped"
        node.call("start_instance", "i-down")
    until_up(node, "i-down")
    assert in_guest(node, "i-down", "cat /root/kept; echo written >/root/new") == "kept\n"
    node.call("terminate", "i-down")
    for volume in ("vol-i-down", "vol-more"):
        node.call("delete_volume", volume)


def test_a_killed_node_leaves_nothing(new_node: Callable[[Path], Node], tmp_path: Path) -> None:
    node = new_node(tmp_path / "first")
    launch(node, "i-lost")
    in_guest(node, "i-lost", FREEZE)
    write(node, "i-lost")
    inner = node.inner_pid()
    node.process.kill()
    pool = tmp_path / "first/node/pool.xfs"
    leftovers.thaw(pool)
    node.process.wait(120)
    until(lambda: not Path(f"/proc/{inner}").exists() and not loops_of(pool))
    leftovers.clear(node.sandbox)


def loops_of(file: Path) -> list[str]:
    return subprocess.run(
        ["losetup", "-n", "-O", "NAME", "-j", str(file)], capture_output=True, text=True
    ).stdout.split()
