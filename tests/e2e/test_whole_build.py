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
  - name: programs that log in, and one that dies, leave what sealing removes
    script: {src: files/left.sh}
  - name: the SSH server gets another port
    file: {dest: /etc/ssh/sshd_config.d/port.conf, content: "Port 2222\\n"}
image: {ssh_port: 2222}
tests: [tests/whole_test.py]
"""
LEAVE = """\
#!/bin/sh -e
mkdir -p /root/.docker /root/.config/containers /var/crash /var/lib/systemd/coredump /var/mail
umask 077
cd /root
echo 'machine registry.example login me password other' >.netrc
echo '//npm.example/:_authToken=abc' >.npmrc
echo '{"auths": {"registry.example": {"auth": "eDp5"}}}' | tee .docker/config.json >.config/containers/auth.json
head -c 100000 /dev/urandom >/var/crash/core.program.1
head -c 100000 /dev/urandom >/var/lib/systemd/coredump/core.program.zst
head -c 1000 /bin/sh >core
echo 'From: cron' >/var/mail/root
"""
LEFT_PATHS = (
    "/root/.netrc /root/.npmrc /root/.docker/config.json /root/.config/containers/auth.json /root/core "
    "/var/crash/core.program.1 /var/lib/systemd/coredump/core.program.zst /var/mail/root"
)
TEST = """\
import pytest

PATHS = "LEFT_PATHS"


def test_facts(host):
    kernel, root = host.file("/etc/facts").content_string.split()
    assert kernel == host.check_output("uname -r")
    assert root.startswith("/dev/")


@pytest.mark.gate("image")
def test_port(host):
    assert "port 2222" in host.check_output("sudo /usr/sbin/sshd -T").splitlines()


@pytest.mark.gate("builder")
def test_the_builder_has_what_sealing_removes(host):
    assert host.run(f"sudo ls -d {PATHS}").rc == 0


@pytest.mark.gate("image")
def test_logins_dumps_and_mail_are_not_in_the_image(host):
    assert host.run(f"sudo ls -d {PATHS} 2>/dev/null").stdout == ""


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
    """And nothing in the image of what programs leave: logins, memory dumps, mail."""
    workspace.write("recipes/files/first.sh", USER_DATA)
    workspace.write("recipes/files/facts.j2", "{{ facts.kernel }} {{ facts.root_device }}\n")
    workspace.write("recipes/files/left.sh", LEAVE)
    workspace.write("recipes/tests/whole_test.py", TEST.replace("LEFT_PATHS", LEFT_PATHS))
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
