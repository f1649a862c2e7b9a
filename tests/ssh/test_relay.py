"""Logins with OpenSSH by the files and the command that goldenami makes: exit codes, pinned host keys, transports."""

from __future__ import annotations

import shlex
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from goldenami.model import Environment, Network, SshEndpoint
from goldenami.ssh import generate_keypair, relay
from goldenami.ssh.transport import NotReachable
from goldenami.stages.logins import Login, ssh_command
from tests.worlds.ledgers import HOME

BUILD = "20261124-030000-abcd"
# A program that carries the connection, as `goldenami ssh --proxy` does.
PROXY = """
import sys
from goldenami.model import SshEndpoint
from goldenami.ssh import relay
relay(SshEndpoint("127.0.0.1", "", "", "", int(sys.argv[1])))
"""


def environment(transport: str = "direct") -> Environment:
    return Environment(
        name="test",
        home=HOME,
        home_region="eu-central-1",
        accounts={HOME.name: HOME},
        targets=(),
        network=Network(transport=transport),
        catalog="catalog",
        builds="builds",
    )


def run(command: list[str], *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, *more], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a folder"  # the options of ssh split words


def test_the_exit_code_of_the_command_is_returned_and_the_key_is_private(endpoint: SshEndpoint, folder: Path) -> None:
    command = ssh_command(Login(BUILD, "builder/x86_64", endpoint, None), folder, environment(), folder)
    done = run(command, "--", "echo $((6 * 7)); exit 7")
    assert (done.returncode, done.stdout) == (7, "42\n"), done.stderr
    key = folder / "ssh" / "builder-x86_64"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert "PRIVATE KEY" not in shlex.join(command)
    again = ssh_command(Login(BUILD, "builder/x86_64", endpoint, None), folder, environment(), folder)
    assert again == command
    assert len((folder / "ssh" / "known_hosts").read_text().splitlines()) == 1


def test_another_host_key_is_refused(endpoint: SshEndpoint, folder: Path) -> None:
    other = replace(endpoint, host_key=generate_keypair().public_key)
    done = run(ssh_command(Login(BUILD, "builder/x86_64", other, None), folder, environment(), folder), "true")
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr


def test_a_transport_carries_the_connection(endpoint: SshEndpoint, folder: Path) -> None:
    command = ssh_command(Login(BUILD, "builder/x86_64", endpoint, None), folder, environment("bastion"), folder)
    (at,) = [n for n, word in enumerate(command) if word.startswith("ProxyCommand=")]
    proxy = shlex.split(command[at].removeprefix("ProxyCommand=").replace("%%", "%"))
    assert proxy[1:3] == ["-m", "goldenami.cli.main"]
    assert proxy[-1] == BUILD
    command[at] = "ProxyCommand=" + shlex.join([sys.executable, "-c", PROXY, str(endpoint.port)]).replace("%", "%%")
    done = run(command, "head -c 300000 /dev/zero | wc -c")
    assert (done.returncode, done.stdout.strip()) == (0, "300000"), done.stderr


def test_a_relay_without_a_host_names_the_reason(endpoint: SshEndpoint) -> None:
    with pytest.raises(NotReachable, match=r"127\.0\.0\.1:1"):
        relay(replace(endpoint, port=1))
