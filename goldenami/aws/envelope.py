"""Encrypts secrets for a bucket, on this machine, under a data key that only KMS can decrypt.

Server-side encryption is not enough: S3 returns the plain text to every caller that may read the object. An envelope is
unreadable in every copy of the bucket (replicas, backups, old versions). To open one, a caller needs kms:Decrypt on the
environment's key, and CloudTrail records each opening with its encryption context.

The cipher is AES-256-GCM with a new data key for each secret (GenerateDataKey). Environment, purpose, build id and name
are the encryption context and the associated data. So an envelope can be opened only for what it was closed for. Each
Decrypt names the key: an envelope under the key of somebody else, who wrote into the bucket, is refused.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from typing import Any, Final

from goldenami.aws.session import Cloud
from goldenami.errors import CloudError, GoldenAmiError, UsageError
from goldenami.model import Environment, Place
from goldenami.nextstep import step

ENVIRONMENT: Final = "goldenami:environment"  # in every encryption context; policies of the environment name it
PURPOSE: Final = "goldenami:purpose"
JOURNALS: Final = "journals"  # the purpose of the key that authenticates records
_SCHEMA: Final = "goldenami.envelope/2"
_NONCE: Final = 12  # bytes; the size for GCM


# What KMS answers if the encryption context or the key is another one, or if the data key is damaged.
_OTHER: Final = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})


def key_of(environment: Environment, setting: str) -> str:
    """Return the KMS key of the home target, which encrypts what a bucket must keep secret. Raises UsageError if no
    target is at home. ``setting``: the key in goldenami.yaml that names the bucket."""
    home = environment.home_place
    found = next((t.kms_key for t in environment.targets if t.place == home and t.kms_key), None)
    if found is None:
        raise UsageError(
            f"environment {environment.name}: {setting} is {getattr(environment, setting)}, and no target is in "
            f"{home}. The key of that target encrypts the secrets in the bucket.",
            hint=f"Add a target with the home account and region {home.region} to the environment in goldenami.yaml.",
        )
    return found


class Envelopes:
    """Encrypts and decrypts secrets of one purpose. ``key``: id, ARN or alias of a symmetric key in ``place``.
    ``purpose``: "catalog", "journals" or "build". ``build_id``: for the purpose "build"."""

    def __init__(
        self,
        cloud: Cloud,
        place: Place,
        key: str,
        *,
        environment: str,
        purpose: str,
        error: type[GoldenAmiError],
        build_id: str = "",
    ) -> None:
        self._cloud = cloud
        self._place = place
        self._key = key
        self._context = {ENVIRONMENT: environment, PURPOSE: purpose}
        if build_id:
            self._context["goldenami:build-id"] = build_id
        self._error = error
        self._owner = f"build {build_id}" if build_id else f"environment {environment}"
        self._hint = (
            f"The build cannot be resumed. Run {step('clean', build_id)} to delete its resources."
            if build_id
            else "Look in the versions and the access log of the bucket for who wrote it, and restore it from a backup."
        )

    def close(self, name: str, value: bytes) -> bytes:
        """Encrypt a secret. Return its envelope."""
        context = self._context_of(name)
        request = {"KeyId": self._key, "KeySpec": "AES_256", "EncryptionContext": context}
        made = self._cloud.call(self._place, "kms", "GenerateDataKey", request)
        nonce = os.urandom(_NONCE)
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # here: plans need only the names above

        sealed = AESGCM(made["Plaintext"]).encrypt(nonce, value, _associated(context))
        fields = {"key": made["CiphertextBlob"], "nonce": nonce, "data": sealed}
        return json.dumps({"schema": _SCHEMA} | {k: base64.b64encode(v).decode() for k, v in fields.items()}).encode()

    def open(self, name: str, envelope: bytes) -> bytes:
        """Decrypt an envelope. Raises the error class if it is damaged, or of another key, environment, purpose, build
        or name."""
        context = self._context_of(name)
        try:
            fields: dict[str, Any] = json.loads(envelope)
            if fields["schema"] != _SCHEMA:
                raise ValueError(fields["schema"])
            key, nonce, sealed = (base64.b64decode(fields[name]) for name in ("key", "nonce", "data"))
        except (ValueError, KeyError, TypeError) as error:
            raise self._error(f"the secret {name} of {self._owner} is damaged: {error}", hint=self._hint) from error
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        request = {"KeyId": self._key, "CiphertextBlob": key, "EncryptionContext": context}
        try:
            data_key = self._cloud.call(self._place, "kms", "Decrypt", request)["Plaintext"]
            return AESGCM(data_key).decrypt(nonce, sealed, _associated(context))
        except (CloudError, InvalidTag) as error:
            if isinstance(error, CloudError) and error.code not in _OTHER:
                raise
            raise self._error(
                f"the secret {name} of {self._owner} was not written for this: it is damaged, under another key than "
                f"{self._key}, or of another environment, purpose, build or name",
                hint=self._hint,
            ) from error

    def _context_of(self, name: str) -> dict[str, str]:
        return {**self._context, "goldenami:secret": name}


def _associated(context: Mapping[str, str]) -> bytes:
    return json.dumps(context, sort_keys=True).encode()
