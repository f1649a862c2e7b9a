"""Host keys from known_hosts files in the formats of ssh and ssh-keygen."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from goldenami import ssh
from goldenami.errors import BuilderError, NotFound


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
