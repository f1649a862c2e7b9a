"""Builds on real instances with what people reported together: user data that goes on after the boot, mirrors, facts,
another SSH port, and secrets that were left on the disk."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.worlds.machines import Workspace

pytestmark = [pytest.mark.root, pytest.mark.nightly]

USER_DATA = """\
#!/bin/sh
sleep 8
mkdir -p /opt/first
date >/opt/first/done
"""
WHOLE = """\
builder:
  user_data: {src: files/first.sh}
  mirrors: {"http://deb.debian.org/debian-security": "http://security.debian.org/debian-security"}
software:
  - name: what the user data made is there
    command: [test, -s, /opt/first/done]
  - template: {src: files/facts.j2, dest: /etc/facts, mode: "0644"}
  - name: the SSH server gets another port
    file: {dest: /etc/ssh/sshd_config.d/port.conf, content: "Port 2222\\n"}
image: {ssh_port: 2222}
tests: [tests/whole_test.py]
"""
TEST = """\
import pytest


def test_facts(host):
    kernel, root = host.file("/etc/facts").content_string.split()
    assert kernel == host.check_output("uname -r")
    assert root.startswith("/dev/")


@pytest.mark.gate("image")
def test_port(host):
    assert "port 2222" in host.check_output("sudo /usr/sbin/sshd -T").splitlines()


@pytest.mark.gate("image")
def test_no_trace_of_the_mirror(host):
    assert host.run("sudo grep -r security.debian.org/debian-security /etc/apt").stdout.count("deb.debian.org") == 0
"""
LEFT = """\
vars: {token: {secret: {env: TOKEN}}}
software:
  - name: a program keeps what it was given
    script: {content: "printf '%s' '{{ vars.token }}' | base64 >/var/lib/program.state"}
  - name: and dies
    script: {content: "mkdir -p /var/crash; head -c 1000000 /dev/urandom >/var/crash/core.program.1"}
  - name: and logs in
    script: {content: "echo machine registry login me password other >/root/.netrc; chmod 600 /root/.netrc"}
"""


def test_user_data_mirrors_facts_and_another_port_together(workspace: Workspace) -> None:
    workspace.write("recipes/files/first.sh", USER_DATA)
    workspace.write("recipes/files/facts.j2", "{{ facts.kernel }} {{ facts.root_device }}\n")
    workspace.write("recipes/tests/whole_test.py", TEST)
    workspace.recipe("whole", WHOLE)
    done = workspace.run("build", "whole", "--json")
    assert done.status == 0, done.stderr
    gates = {t["gate"]: (t["passed"], t["failed"]) for t in done.manifest["tests"]}
    assert gates["builder"][1] == gates["image"][1] == 0
    assert gates["image"][0] > gates["builder"][0] > 0 or gates["image"][0] > 20


def test_a_secret_on_the_disk_of_a_builder_ends_its_build(workspace: Workspace, unchanged: Callable[[], None]) -> None:
    """In base64, in a file that nobody named. What sealing removes (a dump, a login) is no reason."""
    workspace.recipe("left", LEFT)
    secret = "correct-horse-battery-staple-7"
    done = workspace.run("build", "left", variables=workspace.variables(TOKEN=secret))
    assert done.status != 0
    assert "/var/lib/program.state" in done.stderr, done.stderr
    assert "/var/crash" not in done.stderr.partition("error")[2]
    assert not re.search(secret, done.stderr + done.stdout)
    assert workspace.releases() == []
    unchanged()
