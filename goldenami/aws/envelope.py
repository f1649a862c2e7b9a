"""Encrypts secrets for a bucket, on this machine, under a data key that only KMS can decrypt.

Server-side encryption is not enough: S3 returns the plain text to every caller that may read the object. An envelope is
unreadable in every copy of the bucket (replicas, backups, old versions). To open one, a caller needs kms:Decrypt on the
environment's key, and CloudTrail records each opening with its encryption context.

The cipher is AES-256-GCM with a new data key for each secret (GenerateDataKey). Build id and name are the encryption
context and the associated data. So an envelope can be opened only for the build and name that it was closed for.
"""

from __future__ import annotations

import base64
import json
import os
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from goldenami.aws.session import Cloud
from goldenami.errors import JournalError
from goldenami.model import Place

_SCHEMA: Final = "goldenami.envelope/1"
_NONCE: Final = 12  # bytes; the size for GCM


class Envelopes:
    """Encrypts and decrypts the secrets of one build. ``key``: id, ARN or alias of a symmetric key in ``place``."""

    def __init__(self, cloud: Cloud, place: Place, key: str, build_id: str) -> None:
        self._cloud = cloud
        self._place = place
        self._key = key
        self._build_id = build_id

    def close(self, name: str, value: bytes) -> bytes:
        """Encrypt a secret. Return its envelope."""
        context = self._context(name)
        request = {"KeyId": self._key, "KeySpec": "AES_256", "EncryptionContext": context}
        made = self._cloud.call(self._place, "kms", "GenerateDataKey", request)
        nonce = os.urandom(_NONCE)
        sealed = AESGCM(made["Plaintext"]).encrypt(nonce, value, _associated(context))
        fields = {"key": made["CiphertextBlob"], "nonce": nonce, "data": sealed}
        return json.dumps({"schema": _SCHEMA} | {k: base64.b64encode(v).decode() for k, v in fields.items()}).encode()

    def open(self, name: str, envelope: bytes) -> bytes:
        """Decrypt an envelope. Raises JournalError if it is damaged, or not of this build and name."""
        context = self._context(name)
        hint = f"The build cannot be resumed. Run `goldenami clean {self._build_id}` to delete its resources."
        try:
            fields: dict[str, Any] = json.loads(envelope)
            if fields["schema"] != _SCHEMA:
                raise ValueError(fields["schema"])
            key, nonce, sealed = (base64.b64decode(fields[name]) for name in ("key", "nonce", "data"))
        except (ValueError, KeyError, TypeError) as error:
            raise JournalError(f"the secret {name} of build {self._build_id} is damaged: {error}", hint=hint) from error
        request = {"CiphertextBlob": key, "EncryptionContext": context}
        data_key = self._cloud.call(self._place, "kms", "Decrypt", request)["Plaintext"]
        try:
            return AESGCM(data_key).decrypt(nonce, sealed, _associated(context))
        except InvalidTag as error:
            message = f"the secret {name} of build {self._build_id} is damaged, or belongs to another build or name"
            raise JournalError(message, hint=hint) from error

    def _context(self, name: str) -> dict[str, str]:
        return {"goldenami:build-id": self._build_id, "goldenami:secret": name}


def _associated(context: dict[str, str]) -> bytes:
    return json.dumps(context, sort_keys=True).encode()
