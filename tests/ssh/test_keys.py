"""ssh-keygen accepts the generated key pairs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from goldenami.ssh import KeyPair, generate_keypair


def test_openssh_finds_the_same_public_key(tmp_path: Path) -> None:
    pair = generate_keypair()
    file = tmp_path / "key"
    file.write_text(pair.private_key)
    file.chmod(0o600)
    shown = subprocess.run(["ssh-keygen", "-y", "-f", str(file)], check=True, capture_output=True, text=True).stdout
    assert shown.split()[:2] == pair.public_key.split()


def test_from_private_returns_the_same_pair() -> None:
    pair = generate_keypair()
    assert KeyPair.from_private(pair.private_key) == pair
    assert generate_keypair() != pair


def test_repr_does_not_contain_the_private_key() -> None:
    pair = generate_keypair()
    assert "PRIVATE" not in repr(pair)


def test_an_invalid_private_key_is_a_value_error() -> None:
    with pytest.raises(ValueError):
        KeyPair.from_private("-----BEGIN NONSENSE-----")
