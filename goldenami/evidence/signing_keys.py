"""Opens the keys of an environment: the one that signs, and those that are trusted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from goldenami.aws import kms, secretsources
from goldenami.aws.session import Cloud
from goldenami.evidence.signing import PublicKey, Signer, read_private_key, read_public_key
from goldenami.model import KmsSigningKey, Place, Signing


@dataclass(frozen=True, slots=True)
class KmsSigner:
    """Signs with a key of KMS, which the caller cannot read."""

    public: PublicKey
    cloud: Cloud
    place: Place
    key: str

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message. Raises CloudError or AccessError."""
        return kms.sign(self.cloud, self.place, self.key, hashlib.sha256(message).digest())


def open_signer(signing: Signing, cloud: Cloud) -> Signer | None:
    """Return the signer of an environment; None if it only verifies.

    Raises NotFound for a key that is missing, and UsageError for one that cannot be used.
    """
    key = signing.key
    if key is None:
        return None
    if isinstance(key, KmsSigningKey):
        place = Place(cloud.home.account, key.region)
        public = PublicKey.of_der(kms.public_key(cloud, place, key.key))
        return KmsSigner(public, cloud, place, key.key)
    password = secretsources.read(cloud, signing.password).strip("\n") if signing.password is not None else None
    return read_private_key(secretsources.read(cloud, key), password, f"{key.source} {key.key}")


def trusted_keys(signing: Signing, cloud: Cloud) -> Mapping[str, PublicKey]:
    """Return the trusted keys by a name for messages. Raises as :func:`open_signer` does."""
    if signing.trusted:
        return {name: read_public_key(text) for name, text in signing.trusted.items()}
    signer = open_signer(signing, cloud)
    return {"signing.key": signer.public} if signer is not None else {}
