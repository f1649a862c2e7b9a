"""What of the network reaches beyond the sandbox. Each case has network namespaces of its own, as a machine of its own.

other machine  lan0 ── lan1  host  ── the sandbox's router ── guest
"""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.root

# It runs as root of the case's namespaces: a host with another machine beside it, and a guest that answers on port 22.
MACHINE = """\
import os, socket, subprocess, sys, threading, time
from pathlib import Path
from goldenami_sandbox.node import leftovers, network
from goldenami_sandbox.node.namespaces import NETNS, in_network

def run(*argv):
    subprocess.run(argv, check=True)

def reaches(address, namespace=None, seconds=1):
    def attempt():
        try:
            socket.create_connection((address, 22), timeout=seconds).close()
        except OSError:
            return False
        return True
    return in_network(namespace, attempt) if namespace else attempt()

def soon_reaches(address, namespace=None):  # the kernel sends again what a busy machine lost
    return reaches(address, namespace, seconds=30)

def listen():
    server = socket.create_server(("", 22))
    def serve():
        while True:
            server.accept()[0].close()
    threading.Thread(target=serve, daemon=True).start()

FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
FORWARD.write_text("0")  # a new namespace begins with the value of the machine
NETNS.mkdir(exist_ok=True)
run("mount", "-t", "tmpfs", "tmpfs", str(NETNS))
run("ip", "link", "set", "lo", "up")
for name, address in (("lan", "10.9.0.2/24"), ("third", "10.8.0.2/24")):
    run("ip", "netns", "add", name)
    run("ip", "link", "add", name + "1", "type", "veth", "peer", "name", "lan0", "netns", name)
    run("ip", "-n", name, "address", "add", address, "dev", "lan0")
    run("ip", "-n", name, "link", "set", "lan0", "up")
    run("ip", "address", "add", address.replace(".2/", ".1/"), "dev", name + "1")
    run("ip", "link", "set", name + "1", "up")
    run("ip", "-n", name, "route", "add", "default", "via", address.replace(".2/24", ".1"))
    in_network(name, listen)
"""


def on_a_machine(program: str) -> None:
    """Run a program after ``MACHINE``, in new network and mount namespaces."""
    argv = ["unshare", "--net", "--mount", "--propagation", "private", sys.executable, "-c", MACHINE + program]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


SANDBOX = """\
def process():
    made = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE)
    while os.readlink(f"/proc/{made.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
        time.sleep(0.01)
    return made.pid

here = network.Network("0123abcd")
here.start(None)
guest = here.range.guest(4)
here.connect("i-1", guest, process())
in_network("i-1", listen)
"""


def test_only_the_host_reaches_guests() -> None:
    on_a_machine(
        SANDBOX
        + """\
assert soon_reaches(guest), "the host reaches it"
assert not reaches(guest, "lan"), "another machine does not"
assert soon_reaches("10.9.0.2", "i-1"), "and the guest reaches other machines"
"""
    )


def test_the_host_becomes_no_router_for_others() -> None:
    on_a_machine(
        SANDBOX
        + """\
assert FORWARD.read_text() == "1\\n"
assert not reaches("10.8.0.2", "lan"), "another machine is not forwarded"
here.close()
assert FORWARD.read_text() == "0\\n", "as it was"
tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
assert "goldenami" not in tables, tables
"""
    )


def test_a_host_that_forwards_is_left_as_it_is() -> None:
    on_a_machine(
        "FORWARD.write_text('1')\n"
        + SANDBOX
        + """\
assert soon_reaches("10.8.0.2", "lan")
assert not reaches(guest, "lan")
here.close()
assert FORWARD.read_text() == "1\\n"
"""
    )


@pytest.mark.parametrize("then", ["leftovers.clear('0123abcd')", "network.Network('4567cdef').start(None); last()"])
def test_after_a_kill_it_is_restored(then: str) -> None:
    """The namespaces of a killed sandbox end with it; its rules and the setting do not."""
    on_a_machine(
        SANDBOX
        + f"""\
run("ip", "link", "delete", "ga-0123abcd")
run("ip", "netns", "delete", "router")
run("ip", "netns", "delete", "i-1")
assert not reaches("10.8.0.2", "lan"), "also a killed one makes no router of the host"

def last():
    assert FORWARD.read_text() == "1\\n"
    one = network.Network("4567cdef")
    run("ip", "netns", "delete", "router")
    one.start(None)
    one.close()

{then}
assert FORWARD.read_text() == "0\\n"
"""
    )


def test_the_last_sandbox_restores_it() -> None:
    """Two sandboxes of one machine; each has its own mounts and so its own router."""
    on_a_machine(
        SANDBOX
        + """\
run("mount", "-t", "tmpfs", "tmpfs", str(NETNS))
second = network.Network("4567cdef")
second.start(None)
here_too = second.range.guest(4)
second.connect("i-2", here_too, process())
second.close()
assert FORWARD.read_text() == "1\\n", "the first one still runs"
run("umount", "--lazy", str(NETNS))
assert soon_reaches(guest)
here.close()
assert FORWARD.read_text() == "0\\n"
"""
    )
