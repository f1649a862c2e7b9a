"""Real guests: boot, SSH, apt, IMDS, reboot, power-off, capture; what a killed sandbox leaves. The long file."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from goldenami_sandbox.node import leftovers
from goldenami_sandbox.node.api import DataKey, InstanceSpec
from goldenami_sandbox.node.namespaces import cgroup2_root, cgroup_name, guest_argv
from goldenami_sandbox.node.network import table

pytestmark = pytest.mark.root
Node = Any


class Ssh:
    def __init__(self, address: str, identity: Path, user: str = "admin") -> None:
        self.argv = [
            "ssh", "-n", "-i", str(identity), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
            "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=2", "-o", "BatchMode=yes", f"{user}@{address}",
        ]  # fmt: skip

    def __call__(self, command: str, patience: float = 120) -> str:
        deadline = time.monotonic() + patience
        while True:
            done = subprocess.run([*self.argv, command], capture_output=True, text=True)
            if done.returncode != 255 or time.monotonic() > deadline:
                assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
                return done.stdout
            time.sleep(0.05)


def launch(node: Node, instance: str, volume: str, identity: Path, **more: Any) -> Ssh:
    address = node.call("allocate_address", instance)
    spec = InstanceSpec(
        instance=instance,
        address=address,
        root_volume=volume,
        hostname=f"ip-{address.replace('.', '-')}.eu-central-1.compute.internal",
        ssh_public_key=identity.with_suffix(".pub").read_text(),
        **more,
    )
    node.call("launch", spec)
    return Ssh(address, identity)


def until(condition: Callable[[], bool], patience: float = 120) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.05)


CLOUD_CONFIG = b"""\
#cloud-config
hostname: web-1
write_files:
  - {path: /etc/planted, content: "hello\\n", permissions: "0600", owner: "root:adm"}
bootcmd: ["echo early >> /var/tmp/bootcmd"]
runcmd:
  - [sh, -c, "id -u > /var/tmp/runcmd"]
  - echo on the console
surprise: 1
"""

TOKEN_DIALOGUE = r"""
ask() { exec 3<>/dev/tcp/169.254.169.254/80; printf "$@" >&3; cat <&3; }
ask 'GET /latest/meta-data/ami-id HTTP/1.0\r\n\r\n' | head -1
token=$(ask 'PUT /latest/api/token HTTP/1.0\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n' | tail -1)
for path in meta-data/ami-id meta-data/placement/region meta-data/public-keys/0/openssh-key user-data
do ask 'GET /latest/%s HTTP/1.0\r\nX-aws-ec2-metadata-token: %s\r\n\r\n' "$path" "$token" | sed '1,/^\r$/d'; echo; done
"""


def test_life_of_an_instance(node: Node, identity: Path, tmp_path: Path) -> None:
    base = node.call("base", "debian-12")
    node.call("create_volume", "vol-life", 9, base, None)
    begin = time.monotonic()
    ssh = launch(
        node, "i-life", "vol-life", identity, user_data=CLOUD_CONFIG, imds="required",
        metadata={"ami-id": "ami-123", "placement/region": "eu-central-1"},
    )  # fmt: skip
    assert ssh("id -un; sudo -n id -un; hostname").split() == ["admin", "root", "web-1"]
    assert time.monotonic() - begin < 110  # idle, it is less than one

    # Nothing failed, the volume was grown, user data did what it said.
    assert ssh("sudo systemctl is-system-running --wait").strip() == "running"
    assert int(ssh("df --output=size -BM / | tail -1").strip().rstrip("M")) > 8500
    assert ssh("sudo cat /etc/planted; stat -c %a:%U:%G /etc/planted").split() == ["hello", "600:root:adm"]
    until(lambda: "Cloud-init finished" in node.call("console", "i-life").decode())
    console = node.call("console", "i-life").decode()
    assert "on the console" in console
    assert "'surprise' is not supported" in console
    assert "Started ssh.service" in console
    host_key = ssh("cat /etc/ssh/ssh_host_ed25519_key.pub")
    assert host_key.split()[1] in console
    assert ssh("sudo cat /var/tmp/runcmd /var/tmp/bootcmd").split() == ["0", "early"]

    # Metadata, with version 2 only.
    answers = ssh(f"bash -c {_quoted(TOKEN_DIALOGUE)}")
    assert answers.splitlines()[0].startswith("HTTP/1.1 401")
    assert answers.splitlines()[1:3] == ["ami-123", "eu-central-1"]
    assert identity.with_suffix(".pub").read_text().strip() in answers
    assert "#cloud-config" in answers

    # The archive is reached; network settings can be changed.
    assert "Reading package lists" in ssh("sudo apt-get update")
    assert ssh("sudo sysctl -n -w net.ipv4.conf.all.rp_filter=1 net.core.somaxconn=1024").split() == ["1", "1024"]
    assert node.call("exec", "i-life", ["hostname"])[:2] == [0, b"web-1\n"]
    entering = guest_argv(node.sandbox, "i-life", ["hostname"])
    assert entering is not None
    entered = subprocess.run(entering, capture_output=True, text=True)
    assert entered.stdout == "web-1\n"

    # Captured while it runs, the image has its contents; its instance has an identity of its own.
    ssh("echo captured | sudo tee /etc/mark; sudo truncate -s 0 /etc/machine-id; sync")
    node.call("freeze_snapshot", "snap-life", "vol-life")
    facts = node.call("store_snapshot", "snap-life", base, None)
    assert 0 < facts["changed_blocks"] <= facts["full_blocks"]
    key = DataKey(b"k" * 32)
    assert node.call("copy_snapshot", "snap-life", None, "snap-life-copy", key)["full_blocks"] == facts["full_blocks"]
    node.call("create_volume", "vol-child", 9, "snap-life-copy", key)
    child = launch(node, "i-child", "vol-child", identity)
    assert child("cat /etc/mark").strip() == "captured"
    assert child("cat /etc/ssh/ssh_host_ed25519_key.pub").split()[1] != host_key.split()[1]
    assert child("hostname").startswith("ip-198-")
    assert child("cat /etc/machine-id") != ssh("cat /etc/machine-id")
    assert child("ls /var/lib/cloud/instances").split() == ["i-child", "i-life"]
    node.call("terminate", "i-child")
    node.call("delete_volume", "vol-child")
    tree = tmp_path / "tree"
    node.call("export", "snap-life-copy", key, tree, "dir")
    assert (tree / "etc/mark").read_text() == "captured\n"
    assert oct(tree.stat().st_mode) == "0o40700"
    assert not (tree / "lost+found").exists()

    # Reboots from both sides keep the address and what was written; scripts run once, boot commands again.
    boot = ssh("cat /proc/sys/kernel/random/boot_id; stat -c %Y /proc/1")
    subprocess.run([*ssh.argv, "sudo systemctl reboot"], capture_output=True)
    until(lambda: "Reached target reboot" in node.call("console", "i-life").decode())
    assert ssh("wc -l < /var/tmp/bootcmd").strip() == "2"
    assert ssh("cat /proc/sys/kernel/random/boot_id; stat -c %Y /proc/1") != boot
    node.call("reboot", "i-life")
    assert ssh("wc -l < /var/tmp/bootcmd; cat /etc/ssh/ssh_host_ed25519_key.pub").split()[:3] == [
        "3",
        *host_key.split()[:2],
    ]

    # A data volume, seen, used and kept.
    node.call("create_volume", "vol-data", 1, None, None)
    node.call("attach", "i-life", "vol-data", "/dev/sdf")
    ssh("sudo mkfs.ext4 -q /dev/xvdf && sudo mount /dev/xvdf /mnt && echo data | sudo tee /mnt/file")
    with pytest.raises(RuntimeError, match="VolumeInUse"):
        node.call("detach", "i-life", "vol-data")
    assert ssh("stat -c %u /mnt/file; lsblk -no MOUNTPOINT /dev/xvdf").split() == ["0", "/mnt"]
    ssh("sudo umount /mnt")
    node.call("detach", "i-life", "vol-data")
    node.call("delete_volume", "vol-data")

    # Stop, start; power-off from within.
    node.call("stop", "i-life")
    assert node.call("instances") == {"i-life": "stopped"}
    assert node.call("exits") == []
    node.call("start_instance", "i-life")
    subprocess.run([*ssh.argv, "true"], capture_output=True)
    assert ssh("cat /etc/mark").strip() == "captured"
    subprocess.run([*ssh.argv, "sudo poweroff"], capture_output=True)
    until(lambda: node.call("exits") == [["i-life", "poweroff"]])
    assert node.call("instances") == {"i-life": "stopped"}
    node.call("terminate", "i-life")
    node.call("delete_volume", "vol-life")
    assert node.call("instances") == {}


@pytest.mark.nightly
def test_debian_13_boots_without_a_failed_unit(node: Node, identity: Path) -> None:
    node.call("create_volume", "vol-13", 8, node.call("base", "debian-13"), None)
    ssh = launch(node, "i-13", "vol-13", identity)
    assert ssh("sudo systemctl is-system-running --wait; cat /etc/debian_version").split()[0] == "running"
    node.call("create_volume", "vol-13-data", 1, None, None)
    node.call("attach", "i-13", "vol-13-data", "/dev/sdf")
    ssh("sudo mkfs.ext4 -q /dev/sdf && sudo mount /dev/sdf /mnt && sudo mount -o remount,ro /mnt && sudo umount /mnt")
    # In the newer way, with several system calls.
    for change in ("rw /", "noatime /", "noexec,nosuid,nodev /dev/shm", "noexec /tmp", "exec /tmp"):
        ssh(f"sudo timeout 20 mount -o remount,{change}")
    ssh("sudo mount -t tmpfs tmpfs /mnt && sudo timeout 20 mount -o remount,size=1M /mnt && sudo umount /mnt")
    node.call("terminate", "i-13")
    node.call("delete_volume", "vol-13")


def test_a_root_without_an_init_is_refused(node: Node, identity: Path) -> None:
    node.call("create_volume", "vol-blank", 1, None, None)
    with pytest.raises(RuntimeError, match="SandboxError"):
        launch(node, "i-blank", "vol-blank", identity)
    assert "i-blank" not in node.call("instances")
    node.call("delete_volume", "vol-blank")


def test_the_next_start_clears_what_a_killed_sandbox_left(
    new_node: Callable[[Path], Node], identity: Path, tmp_path: Path
) -> None:
    first = new_node(tmp_path / "one")
    other = new_node(tmp_path / "two")  # side by side, in ranges of their own
    first.call("create_volume", "vol-1", 8, first.call("base", "debian-12"), None)
    ssh = launch(first, "i-1", "vol-1", identity)
    ssh("echo kept | sudo tee /etc/kept; sync")
    address = first.call("address", "i-1")
    assert address != other.call("allocate_address", "i-1")

    first.kill()
    root = cgroup2_root()
    assert root is not None
    cgroup = root / cgroup_name(first.sandbox)
    until(lambda: not any(p.read_text() for p in cgroup.rglob("cgroup.procs")))
    until(lambda: f"ga-{first.sandbox}" not in _output("ip", "link"))
    until(lambda: str(first.state) not in _output("losetup", "--list", "--noheadings", "--output", "BACK-FILE"))
    assert str(first.state) not in Path("/proc/mounts").read_text()
    assert not list(Path("/run/goldenami").glob("*")) if Path("/run/goldenami").exists() else True

    again = new_node(tmp_path / "one")
    assert again.call("instances") == {"i-1": "stopped"}
    again.call("start_instance", "i-1")
    assert again.call("address", "i-1") == address
    assert Ssh(address, identity)("cat /etc/kept").strip() == "kept"
    again.end()
    other.end()
    for sandbox in (first.sandbox, other.sandbox):
        leftovers.clear(sandbox)
    assert not cgroup.exists()
    tables = _output("nft", "list", "tables")
    assert table(first.sandbox) not in tables
    assert table(other.sandbox) not in tables


def _output(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def test_a_guest_has_its_data_volumes_when_it_boots(node: Node, identity: Path) -> None:
    node.call("create_volume", "vol-boots", 8, node.call("base", "debian-12"), None)
    node.call("create_volume", "vol-0da7a", 1, None, None)
    ssh = launch(node, "i-boots", "vol-boots", identity, data_volumes={"/dev/sdf": "vol-0da7a"}, nvme=True)
    link = "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0da7a"
    assert ssh(f"readlink -f {link}; ls /dev/sdf /dev/xvdf 2>&1 | grep -c 'No such'").split() == ["/dev/nvme1n1", "2"]
    ssh(f"sudo mkfs.ext4 -q -L data {link} && sudo mkdir /data")
    ssh("echo 'LABEL=data /data ext4 defaults,nofail 0 2' | sudo tee -a /etc/fstab")
    node.call("reboot", "i-boots")
    assert ssh("systemctl is-system-running --wait").strip() == "running"
    assert ssh("findmnt -no FSTYPE /data").strip() == "ext4"
    ssh("echo kept | sudo tee /data/file")
    node.call("stop", "i-boots")
    node.call("start_instance", "i-boots")
    assert ssh("cat /data/file") == "kept\n"
    node.call("terminate", "i-boots")
    for volume in ("vol-boots", "vol-0da7a"):
        node.call("delete_volume", volume)
