"""Host keys from known_hosts files in the formats of ssh and ssh-keygen."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from goldenami import ssh
from goldenami.cli.endpoints import parse_host
from goldenami.errors import BuilderError, NotFound, UsageError
from goldenami.model import SshEndpoint
from goldenami.ssh import NotReachable, Refused, key_with_fingerprint
from goldenami.ssh.knownhosts import fingerprint


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "known_hosts"
    keys = [ssh.generate_keypair().public_key for _ in range(3)]
    lines = [f"plain.example,192.0.2.1 {keys[0]}", f"[192.0.2.2]:2222 {keys[1]}", f"hashed.example {keys[2]}"]
    path.write_text("# comment\n" + "\n".join(lines) + "\n")
    return path


def test_names_addresses_and_ports(file: Path) -> None:
    text = file.read_text()
    for name, port in (("plain.example", 22), ("192.0.2.1", 22), ("192.0.2.2", 2222), ("hashed.example", 22)):
        assert ssh.known_host_key(file, name, port) in text


def test_hashed_names(file: Path) -> None:
    wanted = ssh.known_host_key(file, "hashed.example")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], check=True, capture_output=True)
    assert "hashed.example" not in file.read_text()
    assert ssh.known_host_key(file, "hashed.example") == wanted


def test_an_unknown_host_is_not_found(file: Path, tmp_path: Path) -> None:
    for name, port in (("192.0.2.2", 22), ("other.example", 22), ("plain.example", 2222)):
        with pytest.raises(NotFound) as caught:
            ssh.known_host_key(file, name, port)
        assert "--host-key" in (caught.value.hint or "")
    with pytest.raises(BuilderError):
        ssh.known_host_key(tmp_path / "missing", "plain.example")


def test_a_fingerprint_selects_the_key_of_the_host(endpoint: SshEndpoint) -> None:
    expected = fingerprint(base64.b64decode(endpoint.host_key.split()[1]))
    assert key_with_fingerprint("127.0.0.1", endpoint.port, expected) == endpoint.host_key
    with pytest.raises(Refused, match="no host key with the fingerprint SHA256:another; it has SHA256:"):
        key_with_fingerprint("127.0.0.1", endpoint.port, "SHA256:another")
    with pytest.raises(NotReachable):
        key_with_fingerprint("127.0.0.1", 1, expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.7", ("root", "192.0.2.7", 22)),
        ("admin@host.example:2222", ("admin", "host.example", 2222)),
        ("admin@[2001:db8::7]:2222", ("admin", "2001:db8::7", 2222)),
        ("2001:db8::7", ("root", "2001:db8::7", 22)),
    ],
)
def test_hosts_are_parsed(text: str, expected: tuple[str, str, int]) -> None:
    assert parse_host(text) == expected


@pytest.mark.parametrize("text", ["", "admin@", "host:0", "host:ssh", "host:99999"])
def test_a_text_that_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected the id of a build"):
        parse_host(text)
