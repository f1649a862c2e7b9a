"""Key pairs are what OpenSSH's own tools take them for."""

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


def test_a_pair_is_found_again_from_its_private_half() -> None:
    pair = generate_keypair()
    assert KeyPair.from_private(pair.private_key) == pair
    assert generate_keypair() != pair


def test_the_private_half_is_not_shown() -> None:
    pair = generate_keypair()
    assert "PRIVATE" not in repr(pair)


def test_anything_else_is_refused() -> None:
    with pytest.raises(ValueError):
        KeyPair.from_private("-----BEGIN NONSENSE-----")
