"""The firewall on a host of containers: its rules in a network namespace, between a container and the world outside."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from goldenami import recipe as recipes
from goldenami.hardening import Control

RECIPE = """
name: web
version: "1.0"
description: Web
owner: team
base: {{id: ami-0123456789abcdef0}}
os: debian
hardening:
  profiles: [debian-12-level-2]
  variables: {{container_interfaces: {interfaces}}}
"""

# What Docker sets up: masquerading, a published port, and chains of its own that let its packets through.
DOCKER = """
table ip nat {
    chain prerouting {
        type nat hook prerouting priority -100
        iifname "eth0" tcp dport 8080 dnat to 172.17.0.2:80
    }
    chain postrouting {
        type nat hook postrouting priority 100
        oifname "eth0" masquerade
    }
}
table ip docker {
    chain forward {
        type filter hook forward priority 0
        accept
    }
}
"""

LINKS = """
ip link set lo up
ip link add br-1 type bridge
ip link add eth0 type veth peer name eth0 netns {outside}
ip link add veth0 type veth peer name eth0 netns {container}
ip link set veth0 master br-1
ip addr add 172.17.0.1/16 dev br-1
ip addr add 192.0.2.1/24 dev eth0
for one in br-1 veth0 eth0; do ip link set "$one" up; done
sysctl -qw net.ipv4.ip_forward=1
"""

END = "ip link set lo up; ip addr add {address} dev eth0; ip link set eth0 up; ip route add {route}"

LISTEN = """
import socket, sys
at = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
while True:
    at.accept()[0].close()
"""

CONNECT = """
import socket, sys
socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1)
"""


@dataclass
class Net:
    """Three network namespaces: the host, a container behind its bridge br-1, and an instance outside."""

    pids: dict[str, int]
    stack: ExitStack

    def command(self, where: str, *command: str) -> list[str]:
        return ["nsenter", f"--net=/proc/{self.pids[where]}/ns/net", "--", *command]

    def run(self, where: str, *command: str, given: str | None = None) -> str:
        done = subprocess.run(
            self.command(where, *command), input=given, capture_output=True, text=True, timeout=20, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def listen(self, where: str, address: str, port: int) -> None:
        command = self.command(where, sys.executable, "-c", LISTEN, address, str(port))
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

    def connects(self, where: str, address: str, port: int) -> bool:
        command = self.command(where, sys.executable, "-c", CONNECT, address, str(port))
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0


@pytest.fixture
def net() -> Iterator[Net]:
    if os.geteuid() != 0 or not all(map(shutil.which, ("nft", "ip", "nsenter", "unshare"))):
        pytest.skip("NOT PROVEN: network namespaces need root, nft, ip and unshare")
    with ExitStack() as stack:
        pids = {}
        for name in ("host", "container", "outside"):
            process = subprocess.Popen(["unshare", "--net", "sleep", "120"])
            stack.callback(process.wait)
            stack.callback(process.kill)
            pids[name] = process.pid
        ours, until = Path("/proc/self/ns/net").stat().st_ino, time.monotonic() + 10
        while any(Path(f"/proc/{pid}/ns/net").stat().st_ino == ours for pid in pids.values()):
            assert time.monotonic() < until, "unshare made no namespace"
            time.sleep(0.01)
        found = Net(pids, stack)
        found.run("host", "sh", "-e", given=LINKS.format(**pids))
        found.run("container", "sh", "-e", given=END.format(address="172.17.0.2/16", route="default via 172.17.0.1"))
        found.run("outside", "sh", "-e", given=END.format(address="192.0.2.2/24", route="172.17.0.0/16 via 192.0.2.1"))
        found.listen("container", "172.17.0.2", 80)
        found.listen("container", "172.17.0.2", 81)
        found.listen("outside", "192.0.2.2", 80)
        found.listen("host", "172.17.0.1", 53)
        found.listen("host", "192.0.2.1", 53)
        found.run("host", "nft", "-f", "-", given=DOCKER)
        yield found


def controls(folder: Path, interfaces: str) -> dict[str, Control]:
    """The controls of level 2 in a recipe with these interfaces of containers."""
    (folder / "goldenami.yaml").write_text("environments: {sandbox: {sandbox: true}}\n")
    (folder / "recipes").mkdir(exist_ok=True)
    (folder / "recipes/web.yaml").write_text(RECIPE.format(interfaces=interfaces))
    project = recipes.load_project(folder)
    found = recipes.load(project, "web", recipes.environment(project))
    return {control.id: control for control in found.hardening["x86_64"].controls}


def rules(found: dict[str, Control]) -> str:
    """The file of rules that the image gets."""
    [file, *_] = (o.operation for o in found["firewall-nftables"].operations if o.operation.kind == "file")
    return str(file.model_dump()["content"])


def kept(net: Net, found: dict[str, Control]) -> list[str]:
    """What the checks of the firewall read on the host, where they are about the rules."""
    checks = [check for check in found["firewall-nftables"].checks if check.reads.startswith("nft ")]
    read = [net.run("host", "sh", given=check.reads).strip() for check in checks]
    return [value for value, check in zip(read, checks, strict=True) if not check.expected.holds(value)]


def test_containers_have_a_network(net: Net, tmp_path: Path) -> None:
    found = controls(tmp_path, "[docker0, br-*]")
    for _ in range(2):  # at the boot, and when the rules are loaded again while containers run
        net.run("host", "nft", "-f", "-", given=rules(found))
        assert net.connects("container", "192.0.2.2", 80)
        assert net.connects("container", "172.17.0.1", 53)  # the DNS server of Podman, on the host
        assert net.connects("outside", "192.0.2.1", 8080)  # a published port
        assert not net.connects("outside", "172.17.0.2", 81)  # one that is not published
        assert not net.connects("outside", "192.0.2.1", 53)
        assert not net.connects("container", "192.0.2.1", 22)
        assert kept(net, found) == []
    assert "table ip docker" in net.run("host", "nft", "list", "tables")
    for id in ("network-no-forwarding", "module-overlayfs"):
        assert subprocess.run(["sh", "-c", found[id].applies], check=False).returncode == 1


def test_nothing_is_forwarded_unless_it_is_asked_for(net: Net, tmp_path: Path) -> None:
    found = controls(tmp_path, "[]")
    assert net.connects("container", "192.0.2.2", 80)
    net.run("host", "nft", "-f", "-", given=rules(found))
    assert not net.connects("container", "192.0.2.2", 80)
    assert not net.connects("outside", "192.0.2.1", 8080)
    assert kept(net, found) == []
    assert not any(found[id].applies for id in ("network-no-forwarding", "module-overlayfs"))
    net.run("host", "nft", "add rule inet filter forward accept")
    assert kept(net, found) == ["1"]


def test_a_waiver_alone_is_told(tmp_path: Path) -> None:
    """The waiver for containers left them without a network, and nobody said so."""
    controls(tmp_path, "[]")
    recipe = tmp_path / "recipes/web.yaml"
    waived = recipe.read_text() + "  waivers: {network-no-forwarding: {reason: runs containers, expires: 2099-01-01}}\n"
    recipe.write_text(waived)
    found = recipes.inspect(recipes.load_project(tmp_path), ["web"])
    assert found.problems == []
    [warning] = found.warnings
    assert warning.message == (
        "the waiver of network-no-forwarding does not change firewall-nftables, module-overlayfs, which the variable "
        "container_interfaces is for, too"
    )
    recipe.write_text(waived.replace("container_interfaces: []", "container_interfaces: [docker0]"))
    assert recipes.inspect(recipes.load_project(tmp_path), ["web"]).warnings == []
