"""Secrets in a form that may lie in a bucket: encrypted here, under a data key that only KMS can open.

Why not server-side encryption alone: that is a property of the request and of the bucket, and whoever may read the
object is given the plain text. An envelope is unreadable in every copy of the bucket (replicas, backups, old versions),
opening one takes kms:Decrypt on the environment's key, and each opening is in CloudTrail with what it was for.

AES-256-GCM with a fresh data key for each secret (GenerateDataKey). Build and name are the encryption context and the
associated data, so that an envelope opens only as what it was closed as.
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
_NONCE: Final = 12  # bytes; what GCM takes


class Envelopes:
    """Closes and opens the secrets of one build. ``key``: id, ARN or alias of a symmetric key in ``place``."""

    def __init__(self, cloud: Cloud, place: Place, key: str, build_id: str) -> None:
        self._cloud = cloud
        self._place = place
        self._key = key
        self._build_id = build_id

    def close(self, name: str, value: bytes) -> bytes:
        """The envelope of a secret."""
        context = self._context(name)
        request = {"KeyId": self._key, "KeySpec": "AES_256", "EncryptionContext": context}
        made = self._cloud.call(self._place, "kms", "GenerateDataKey", request)
        nonce = os.urandom(_NONCE)
        sealed = AESGCM(made["Plaintext"]).encrypt(nonce, value, _associated(context))
        fields = {"key": made["CiphertextBlob"], "nonce": nonce, "data": sealed}
        return json.dumps({"schema": _SCHEMA} | {k: base64.b64encode(v).decode() for k, v in fields.items()}).encode()

    def open(self, name: str, envelope: bytes) -> bytes:
        """The secret in an envelope. Raises JournalError for one that is not of this build and name."""
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
