"""Key pairs in OpenSSH's formats."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ecdsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An SSH key pair. ``private_key`` is a secret: OpenSSH's PEM format without a passphrase. ``public_key``:
    "ssh-ed25519 AAAA…", without a comment.
    """

    private_key: str = field(repr=False)
    public_key: str

    @classmethod
    def from_private(cls, private_key: str) -> KeyPair:
        """Return the pair of a private key. Raises ValueError unless it is an OpenSSH private key without a
        passphrase.
        """
        public = load_ssh_private_key(private_key.encode(), password=None).public_key()
        return cls(private_key, public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())


def generate_keypair(kind: Literal["ed25519", "ecdsa"] = "ed25519") -> KeyPair:
    """Generate a new key pair with the random numbers of the operating system. ``ecdsa``: on the curve P-256, for hosts
    in FIPS mode, which have no Ed25519."""
    key = Ed25519PrivateKey.generate() if kind == "ed25519" else generate_ecdsa(SECP256R1())
    return KeyPair.from_private(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode())
