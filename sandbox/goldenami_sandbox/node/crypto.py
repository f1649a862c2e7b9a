"""Encryption of blocks: AES-256-XTS under a key of each block. The block's index is the tweak.

The key of a block is derived from its contents and from a secret of the pool (``Sealing``), so equal contents at the
same index have equal ciphertext, whatever the data key is. So a child can share the block with its parent, and a copy
under another KMS key shares all blocks with its source. What the data key encrypts is the list of the blocks' keys: the
seal of a snapshot (``seal``, ``unseal``). Without the data key, the ciphertext cannot be read.

XTS with AES-256 takes two keys of 32 bytes; both are derived from the block's key by HKDF (RFC 5869). Snapshots of
format 2 have no seal: there the data key is the key of each block.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
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


class Sealed(NamedTuple):
    """An encrypted block: its token as ciphertext, its key, and the token of its contents."""

    token: str
    key: DataKey
    plain: str


_PLAIN_BYTES = 16
_ENTRY = 32 + _PLAIN_BYTES  # bytes of a block in a seal: its key, and the token of its contents
_NONCE = 12


class Sealing:
    """Gives each block its key and its token, by its index and its contents. ``secret``: 32 bytes, of one pool."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @staticmethod
    def of(file: Path) -> Sealing:
        """Return the sealing with the secret of a file, which is made if it does not exist.

        A new secret in place of a lost one is no loss: the snapshots have the keys of their blocks. New ones share
        nothing with them.
        """
        try:
            secret = file.read_bytes()
        except FileNotFoundError:
            secret = b""
        if len(secret) != 32:
            secret = secrets.token_bytes(32)
            new = file.with_suffix(".new")
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as written:
                written.write(secret)
            new.replace(file)
        return Sealing(secret)

    def block(self, index: int, plain: str) -> Sealed:
        """Return token and key of the block with these contents (their token)."""
        made = hmac.digest(self._secret, index.to_bytes(8, "little") + bytes.fromhex(plain), "sha512")
        return Sealed(made[:16].hex(), DataKey(made[16:48]), plain)


def seal(key: DataKey, made: Iterable[Sealed]) -> str:
    """Return the keys of blocks, and the tokens of their contents, encrypted under a data key (AES-256-GCM)."""
    nonce = secrets.token_bytes(_NONCE)
    listed = b"".join(block.key + bytes.fromhex(block.plain) for block in made)
    return base64.b64encode(nonce + _wrapping(key).encrypt(nonce, listed, b"")).decode()


def unseal(key: DataKey, sealed: str) -> list[tuple[DataKey, str]]:
    """Return key and contents' token of each block, in the order that ``seal`` got. Raises ValueError if the seal is
    damaged."""
    stored = base64.b64decode(sealed, validate=True)
    try:
        listed = _wrapping(key).decrypt(stored[:_NONCE], stored[_NONCE:], b"")
    except InvalidTag:
        raise ValueError("its list of keys is damaged") from None
    entries = [listed[at : at + _ENTRY] for at in range(0, len(listed), _ENTRY)]
    return [(DataKey(entry[:32]), entry[32:].hex()) for entry in entries]


def _wrapping(key: DataKey) -> AESGCM:
    return AESGCM(HKDF(SHA256(), length=32, salt=None, info=b"goldenami snapshot keys: aes-256-gcm").derive(bytes(key)))


def fingerprint(key: DataKey) -> str:
    """Return an identifier of a key that does not reveal the key. It is stored beside the ciphertext."""
    return hmac.new(bytes(key), b"goldenami data key", hashlib.sha256).hexdigest()[:32]
