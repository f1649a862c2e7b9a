"""Encryption of blocks: AES-256-XTS under a 32-byte data key. The block's index is the tweak.

XTS with AES-256 takes two keys of 32 bytes; both are derived from the data key by HKDF (RFC 5869). The cipher is
deterministic on purpose: equal contents at the same index under the same key have equal ciphertext. So a child can
share the block with its parent, as snapshots of one EBS volume do.
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from goldenami_sandbox.node.api import DataKey


class BlockCipher:
    """Encrypts and decrypts whole blocks, each by its index."""

    def __init__(self, key: DataKey) -> None:
        derived = HKDF(SHA256(), length=64, salt=None, info=b"goldenami snapshot blocks: aes-256-xts").derive(
            bytes(key)
        )
        self._algorithm = algorithms.AES(derived)

    def encrypt(self, index: int, plain: bytes) -> bytes:
        encryptor = Cipher(self._algorithm, modes.XTS(index.to_bytes(16, "little"))).encryptor()
        return encryptor.update(plain) + encryptor.finalize()

    def decrypt(self, index: int, stored: bytes) -> bytes:
        decryptor = Cipher(self._algorithm, modes.XTS(index.to_bytes(16, "little"))).decryptor()
        return decryptor.update(stored) + decryptor.finalize()


def fingerprint(key: DataKey) -> str:
    """Return an identifier of a key that does not reveal the key. It is stored beside the ciphertext."""
    return hmac.new(bytes(key), b"goldenami data key", hashlib.sha256).hexdigest()[:32]
