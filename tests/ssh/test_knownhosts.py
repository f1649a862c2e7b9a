"""Host keys from known_hosts files in the formats of ssh and ssh-keygen."""

from __future__ import annotations

import base64
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from goldenami import ssh
from goldenami.cli.endpoints import endpoint_of, parse_host
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
        assert (ssh.known_host_key(file, name, port) or "nothing") in text


def test_hashed_names(file: Path) -> None:
    wanted = ssh.known_host_key(file, "hashed.example")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], check=True, capture_output=True)
    assert "hashed.example" not in file.read_text()
    assert ssh.known_host_key(file, "hashed.example") == wanted


def test_an_unknown_host_is_not_found(file: Path, tmp_path: Path) -> None:
    for name, port in (("192.0.2.2", 22), ("other.example", 22), ("plain.example", 2222)):
        assert ssh.known_host_key(file, name, port) is None
        with pytest.raises(NotFound, match="is unknown") as caught:
            ssh.Access(identity=ssh.Identity(), known_hosts=file).endpoint(name, user="root", port=port)
        assert "--ssh-host-key" in (caught.value.hint or "")
    with pytest.raises(BuilderError):
        ssh.known_host_key(tmp_path / "missing", "plain.example")


def test_a_file_as_people_have_it(tmp_path: Path) -> None:
    """Patterns, negated ones, a revoked key, an authority, other spaces, and lines that are no keys."""
    good, old, wide = (ssh.generate_keypair().public_key for _ in range(3))
    file = tmp_path / "known_hosts"
    file.write_text(
        f"Host.example\t{old} me@here\nhost.example ssh-rsa AAAAB3\nhost.example nonsense\n|1|broken {good}\n"
        f"@revoked host.example {old}\n@cert-authority *.example {old}\nhost.example {good}\n"
        f"*.example,!host.example {wide}\n[*.example]:22?2 {wide}\n"
    )
    assert ssh.known_host_key(file, "host.example") == good
    assert ssh.known_host_key(file, "other.example") == wide
    assert ssh.known_host_key(file, "host.example", 2222) == wide
    assert ssh.known_host_key(file, "host.example", 2223) is None


def test_ssh_finds_the_same_keys(file: Path) -> None:
    for name in ("plain.example", "[192.0.2.2]:2222"):
        found = subprocess.run(
            ["ssh-keygen", "-F", name, "-f", str(file)], check=True, capture_output=True, text=True
        ).stdout
        address, _, port = name.strip("[").partition("]:")
        assert (ssh.known_host_key(file, address, int(port or 22)) or "nothing") in found


@pytest.mark.parametrize("text", ["admin@host:2222", "host:2222", "admin@host", "host"])
def test_the_options_and_the_host_name_one_user_and_one_port(text: str) -> None:
    access = ssh.Access("admin", 2222, host_key="ssh-rsa B", identity=ssh.Identity())
    found = endpoint_of(text, access)
    assert (found.user, found.address, found.port) == ("admin", "host", 2222)
    for other in (replace(access, user="root"), replace(access, port=22)):
        if "@" in text and ":" in text:
            with pytest.raises(UsageError, match="expected one of them"):
                endpoint_of(text, other)


def test_a_fingerprint_selects_the_key_of_the_host(endpoint: SshEndpoint) -> None:
    expected = fingerprint(base64.b64decode(endpoint.host_key.split()[1]))
    assert key_with_fingerprint(endpoint, expected) == endpoint.host_key
    access = ssh.Access(port=endpoint.port, host_key=expected, identity=ssh.Identity())
    assert access.endpoint("127.0.0.1", user="root").host_key == endpoint.host_key
    with pytest.raises(Refused, match="no host key with the fingerprint SHA256:another; it has SHA256:"):
        key_with_fingerprint(endpoint, "SHA256:another")
    with pytest.raises(NotReachable):
        key_with_fingerprint(replace(endpoint, port=1), expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.7", (None, "192.0.2.7", None)),
        ("admin@host.example:2222", ("admin", "host.example", 2222)),
        ("admin@[2001:db8::7]:2222", ("admin", "2001:db8::7", 2222)),
        ("2001:db8::7", (None, "2001:db8::7", None)),
    ],
)
def test_hosts_are_parsed(text: str, expected: tuple[str | None, str, int | None]) -> None:
    assert parse_host(text) == expected


@pytest.mark.parametrize("text", ["", "admin@", "host:", "host:0", "host:ssh", "host:99999"])
def test_a_text_that_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected \[USER@\]HOST\[:PORT\]"):
        parse_host(text)
