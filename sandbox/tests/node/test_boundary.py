"""What root in an instance, and another user of the machine, cannot do. The tests share an instance."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from goldenami_sandbox.node.api import InstanceSpec

pytestmark = pytest.mark.root
Node = Any
NOBODY = 65534
Shell = Callable[[str], tuple[int, str]]


@pytest.fixture(scope="module")
def guest(node: Node) -> Iterator[Shell]:
    """Run a script as root in the instance, by a service of its systemd: so it has no more rights than its services."""
    node.call("create_volume", "vol-bound", 8, node.call("base", "debian-12"), None)
    address = node.call("allocate_address", "i-bound")
    spec = InstanceSpec(instance="i-bound", address=address, root_volume="vol-bound", hostname="bound")
    node.call("launch", spec)
    deadline = time.monotonic() + 120
    while node.call("exec", "i-bound", ["systemctl", "is-system-running"])[1].strip() != b"running":
        assert time.monotonic() < deadline, node.call("console", "i-bound").decode()
        time.sleep(0.1)

    def run(script: str) -> tuple[int, str]:
        argv = ["systemd-run", "--quiet", "--pipe", "--wait", "sh", "-c", f"exec 2>&1\n{script}"]
        status, output, _ = node.call("exec", "i-bound", argv)
        return status, output.decode()

    yield run
    node.call("terminate", "i-bound")
    node.call("delete_volume", "vol-bound")


@pytest.fixture(scope="module")
def volume(node: Node, guest: Shell) -> Iterator[str]:
    node.call("create_volume", "vol-bound-data", 1, None, None)
    node.call("attach", "i-bound", "vol-bound-data", "/dev/sdf")
    assert guest("mkfs.ext4 -q /dev/sdf") == (0, "")
    yield "/dev/sdf"
    node.call("detach", "i-bound", "vol-bound-data")
    node.call("delete_volume", "vol-bound-data")


def disk() -> int:
    """The number of the block device with this machine's files, or of any other."""
    number = Path("/").stat().st_dev
    if os.major(number) == 0:  # overlayfs and the like
        number = next(os.makedev(*map(int, d.read_text().split(":"))) for d in Path("/sys/block").glob("*/dev"))
    return number


ATTACKS = {
    "a node of the machine's disk": "mknod /root/disk b {major} {minor} && head -c 512 /root/disk",
    "a node in a filesystem of its own": "mount -t tmpfs none /media && mknod /media/disk b {major} {minor}",
    "the memory": "mknod /root/mem c 1 1",
    "the kernel's image of the memory": "head -c 1 /proc/kcore",
    "the program for crashes": "mount -o remount,rw,bind /proc/sys && echo '|/x' >/proc/sys/kernel/core_pattern",
    "the same in a proc of its own": "mount -t proc none /media && echo '|/x' >/media/sys/kernel/core_pattern",
    "the machine's SysRq": "mount -t proc none /media && echo h >/media/sysrq-trigger",
    "a cgroup with a release agent": "mount -t cgroup -o memory none /media && echo /x >/media/release_agent",
    "another one": "mount -t cgroup -o none,name=mine none /media && echo /x >/media/release_agent",
    "the machine's devices": "mount -t devtmpfs none /media && ls /media/{disk}",
    "the machine's settings of devices": "mount -t sysfs none /media && echo >/media/kernel/uevent_helper",
    "debugfs": "mount -t debugfs none /media",
    "a loop device": "mknod /root/loop b 7 0",
    "a module": "perl -e '$none = \"\"; syscall(313, 3, $none, 0); exit($!{{EPERM}} || $!{{ENOSYS}})' 3</",
    "a file by its handle": "perl -e '$h = pack(\"LLQ\", 8, 1, 2); syscall(304, 3, $h, 0); exit($!{{EPERM}})' 3</",
    "a program in the kernel": "perl -e '$a = pack(\"L32\", 2, 4, 4, 1); syscall(321, 0, $a, 128); exit($!{{EPERM}})'",
    "the machine's clock": "date --set @$(date +%s)",
}


@pytest.mark.parametrize("what", ATTACKS)
def test_root_of_a_guest_gets_no_hold_of(what: str, guest: Shell) -> None:
    number = disk()
    name = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve().name
    attack = ATTACKS[what].format(major=os.major(number), minor=os.minor(number), disk=name)
    status, output = guest(attack)
    guest("mountpoint -q /media && umount /media; rm -f /root/disk /root/mem /root/loop")
    assert status != 0, output


def test_a_node_on_a_volume_is_no_device(guest: Shell, volume: str) -> None:
    number = disk()
    guest(f"debugfs -w -R 'mknod disk b {os.major(number)} {os.minor(number)}' {volume}")
    status, output = guest(f"mount {volume} /mnt && head -c 512 /mnt/disk")
    assert guest("stat -c %F /mnt/disk; rm /mnt/disk; umount /mnt") == (0, "block special file\n")
    assert status == 1
    assert "Permission denied" in output


@pytest.mark.parametrize("options", ["errors=panic", "journal_path=/dev/sdf", "journal_dev=0x700"])
def test_no_option_of_a_mount_reaches_the_machine(options: str, guest: Shell, volume: str) -> None:
    status, output = guest(f"mount -t ext4 -o {options} {volume} /mnt")
    assert (status, "bad option" in output) == (32, True)


def test_a_guest_uses_its_volumes_as_an_instance_does(guest: Shell, volume: str) -> None:
    """All of this needs rights that a user namespace does not give."""
    assert guest(
        f"""set -e
        mount -o noexec {volume} /mnt
        install -o 1000 -g 100 /dev/null /mnt/file
        stat -c %u:%g /mnt/file
        mount -o remount,ro /mnt && ! touch /mnt/file 2>/dev/null && mount -o remount,rw /mnt
        fsfreeze --freeze /mnt && fsfreeze --unfreeze /mnt
        fstrim /mnt
        chattr +i /mnt/file && ! rm /mnt/file 2>/dev/null && chattr -i /mnt/file
        umount /mnt
        fstrim / && chattr +i /etc/hostname && ! rm /etc/hostname 2>/dev/null && chattr -i /etc/hostname
        mount {volume} /mnt
        stat -c %u:%g /mnt/file
        umount /mnt
        """
    ) == (0, "1000:100\n1000:100\n")


def test_a_guest_changes_its_filesystems_in_memory(guest: Shell) -> None:
    """The kernel lists owners by the numbers of this machine, and mount(8) gives what is listed back to it."""
    assert guest(
        """set -e
        mount -t tmpfs -o size=2M tmpfs /mnt
        mount -o remount,size=1M,noexec /mnt
        findmnt --noheadings --raw --output OPTIONS /mnt | grep -q noexec
        df --block-size=1 --output=size /mnt | tail -1 | tr -d " "
        umount /mnt
        mount -o remount,noexec,nosuid,nodev /dev/shm
        mount -o remount,rw /
        """
    ) == (0, "1048576\n")


def test_only_the_root_of_a_guest_mounts_its_volumes(guest: Shell, volume: str) -> None:
    arguments = f'@a = ("{volume}", "/mnt", "ext4", "")'
    program = f"perl -e '{arguments}; exit(syscall(165, $a[0], $a[1], $a[2], 0, $a[3]) == -1 && $!{{EPERM}})'"
    for who in ("setpriv --reuid 1000 --regid 1000 --clear-groups", "unshare --user --map-root-user --mount"):
        assert guest(f"{who} {program}")[0] == 1
    assert guest("unshare --mount mount /dev/sdf /mnt && ! mountpoint -q /mnt") == (0, "")


def test_a_detached_volume_is_out_of_reach(node: Node, guest: Shell) -> None:
    node.call("create_volume", "vol-away", 1, None, None)
    node.call("attach", "i-bound", "vol-away", "/dev/sdg")
    clear = 'perl -e \'open(D, "+<", "/dev/sdg"); ioctl(D, 0x4C01, 0); exit($!{EPERM})\''  # give the device back
    assert guest(clear)[0] == 1
    hold = "exec </dev/sdg; : >/run/held; exec sleep 600"
    guest(f"ln /dev/sdg /dev/kept; systemd-run --quiet --unit=holder sh -c '{hold}'")
    guest("for n in $(seq 1200); do [ ! -e /run/held ] || break; sleep 0.1; done")
    with pytest.raises(RuntimeError, match="VolumeInUse"):
        node.call("detach", "i-bound", "vol-away")
    assert guest("head -c 1 /dev/kept >/dev/null; systemctl stop holder") == (0, "")
    node.call("detach", "i-bound", "vol-away")
    status, output = guest("head -c 1 /dev/kept; ls /dev/sdg /dev/xvdg")
    assert (status, output.count("No such file"), "Permission denied" in output) == (2, 2, True)
    node.call("delete_volume", "vol-away")


def test_another_user_reads_and_runs_nothing(node: Node, guest: Shell) -> None:
    assert guest("install -m 4755 /bin/sh /root.sh && stat -c %a /root.sh") == (0, "4755\n")
    node.state.chmod(0o711)  # the directories above are closed anyway in tests
    here = os.open(node.state, os.O_RDONLY)
    enclosed = f"/proc/{node.inner_pid()}"
    program = f"{enclosed}/root/run/goldenami/roots/i-bound/root.sh"
    asked: list[Callable[[], object]] = [
        lambda: list(Path("node").iterdir()),
        lambda: Path("node/pool.xfs").stat(),
        lambda: list(Path("node/instances").iterdir()),
        lambda: list(Path(f"{enclosed}/root/run/goldenami").iterdir()),
        lambda: Path(program).stat(),
        lambda: os.execv(program, ["sh", "-p", "-c", "id"]),
        lambda: os.kill(node.inner_pid(), 0),
    ]
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.fchdir(here)
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        for number, ask in enumerate(asked):
            try:
                ask()
            except (PermissionError, FileNotFoundError):
                os.write(writer, b"%d " % number)
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as refused:
        assert refused.read() == "0 1 2 3 4 5 6 "
    os.close(here)
    guest("rm /root.sh")
