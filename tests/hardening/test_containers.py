"""The firewall on a host of containers: its rules in a network namespace, between a container and the world outside."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from goldenami import recipe as recipes
from goldenami.hardening import Control
from tests.provision.local import run_here

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
            self.command(where, *command), input=given, capture_output=True, text=True, timeout=120, check=False
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
        return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0

    def soon_connects(self, where: str, address: str, port: int) -> bool:
        """Try again: a busy machine may lose the first packets."""
        return any(self.connects(where, address, port) for _ in range(20))


@pytest.fixture
def net() -> Iterator[Net]:
    if os.geteuid() != 0 or not all(map(shutil.which, ("nft", "ip", "nsenter", "unshare"))):
        pytest.skip("NOT PROVEN: network namespaces need root, nft, ip and unshare")
    with ExitStack() as stack:
        pids = {}
        for name in ("host", "container", "outside"):
            process = subprocess.Popen(["unshare", "--net", "sleep", "1200"])
            stack.callback(process.wait)
            stack.callback(process.kill)
            pids[name] = process.pid
        ours, until = Path("/proc/self/ns/net").stat().st_ino, time.monotonic() + 120
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


def controls(folder: Path, interfaces: str, firewall: str = "firewall-nftables") -> dict[str, Control]:
    """The controls of level 2 in a recipe with these interfaces of containers."""
    (folder / "goldenami.yaml").write_text("environments: {sandbox: {sandbox: true}}\n")
    (folder / "recipes").mkdir(exist_ok=True)
    chosen = "" if firewall == "firewall-nftables" else f"  choices: [{firewall}]\n"
    (folder / "recipes/web.yaml").write_text(RECIPE.format(interfaces=interfaces) + chosen)
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
        assert net.soon_connects("container", "192.0.2.2", 80)
        assert net.soon_connects("container", "172.17.0.1", 53)  # the DNS server of Podman, on the host
        assert net.soon_connects("outside", "192.0.2.1", 8080)  # a published port
        assert not net.connects("outside", "172.17.0.2", 81)  # one that is not published
        assert not net.connects("outside", "192.0.2.1", 53)
        assert not net.connects("container", "192.0.2.1", 22)
        assert kept(net, found) == []
    assert "table ip docker" in net.run("host", "nft", "list", "tables")
    for id in ("network-no-forwarding", "module-overlayfs"):
        assert subprocess.run(["sh", "-c", found[id].applies], check=False).returncode == 1


def test_nothing_is_forwarded_unless_it_is_asked_for(net: Net, tmp_path: Path) -> None:
    found = controls(tmp_path, "[]")
    assert net.soon_connects("container", "192.0.2.2", 80)
    net.run("host", "nft", "-f", "-", given=rules(found))
    assert not net.connects("container", "192.0.2.2", 80)
    assert not net.connects("outside", "192.0.2.1", 8080)
    assert kept(net, found) == []
    assert not any(found[id].applies for id in ("network-no-forwarding", "module-overlayfs"))
    net.run("host", "nft", "add rule inet filter forward accept")
    assert kept(net, found) == ["1"]


# What ufw has for itself, as far as it matters here: its chains are empty until its rules are loaded.
UFW = """*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:ufw-before-input - [0:0]
:ufw-before-forward - [0:0]
-A INPUT -j ufw-before-input
-A FORWARD -j ufw-before-forward
# End required lines

-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
"""


def ufw_rules(found: dict[str, Control], folder: Path) -> str:
    """The rules that ufw loads at last: its file, with the lines that the control adds."""
    [four, six] = (bound for bound in found["firewall-ufw"].operations if bound.operation.kind == "block")
    assert four.operation.model_dump()["content"].replace("ufw-", "ufw6-") == six.operation.model_dump()["content"]
    file = folder / "before.rules"
    file.write_text(UFW)
    fields = {**four.operation.model_dump(), "path": str(file)}
    for status in ("changed", "ok"):
        assert run_here(replace(four, operation=four.operation.with_fields(fields), notify=())).statuses == [status]
    return file.read_text()


def test_ufw_lets_packets_of_containers_through(net: Net, tmp_path: Path) -> None:
    restore = shutil.which("iptables-nft-restore")
    if restore is None:
        pytest.skip("NOT PROVEN: this machine has no iptables-nft-restore")
    found = controls(tmp_path, "[docker0, br-*]", "firewall-ufw")
    check = next(check for check in found["firewall-ufw"].checks if check.reads.startswith("iptables "))
    for interfaces, reaches, count in (("[docker0, br-*]", True, "4"), ("[]", False, "0")):
        found = controls(tmp_path, interfaces, "firewall-ufw")
        net.run("host", restore, given=ufw_rules(found, tmp_path))
        assert (net.soon_connects if reaches else net.connects)("container", "192.0.2.2", 80) is reaches
        assert (net.soon_connects if reaches else net.connects)("container", "172.17.0.1", 53) is reaches
        assert (net.soon_connects if reaches else net.connects)("outside", "192.0.2.1", 8080) is reaches
        assert not net.connects("outside", "172.17.0.2", 81), "a port that is not published"
        assert not net.connects("outside", "192.0.2.1", 53)
        assert not net.connects("container", "192.0.2.1", 22)
        read = net.run("host", "sh", given=check.reads.replace("iptables ", "iptables-nft ")).strip()
        assert read == count
        [check] = [one for one in found["firewall-ufw"].checks if one.reads.startswith("iptables ")]
        assert check.expected.holds(read)


def test_the_rules_of_ufw_name_the_interfaces_as_iptables_does(tmp_path: Path) -> None:
    """Where no iptables is, this is what is known."""
    text = ufw_rules(controls(tmp_path, '["br-*"]', "firewall-ufw"), tmp_path)
    head, added, rest = text.partition("# BEGIN goldenami")[0], text, text.partition("# END goldenami")[2]
    assert head.endswith("# End required lines\n")
    assert rest.endswith("COMMIT\n")
    assert [line for line in added.splitlines() if "br-" in line] == [
        "-A ufw-before-input -i br-+ -p udp --dport 53 -j ACCEPT",
        "-A ufw-before-input -i br-+ -p tcp --dport 53 -j ACCEPT",
        "-A ufw-before-forward -i br-+ -j ACCEPT",
        "-A ufw-before-forward -o br-+ -m conntrack --ctstate DNAT -j ACCEPT",
    ]


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
