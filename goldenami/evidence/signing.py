"""Signatures: DSSE envelopes, and the keys that sign and verify them. Pure: reads no file and makes no API call.

An envelope has a payload, its type, and signatures of both ("DSSE: Dead Simple Signing Envelope", protocol version 1).
Keys are Ed25519, or ECDSA on the curve P-256 with SHA-256, which is what ``cosign`` and KMS (ECC_NIST_P256) use. A key
is named by the SHA-256 of its public half (DER, SubjectPublicKeyInfo).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from goldenami.errors import UsageError

IN_TOTO: Final = "application/vnd.in-toto+json"

_EXPECTED: Final = "expected an Ed25519 key or an ECDSA key on the curve P-256"
_COSIGN: Final = ("-----BEGIN ENCRYPTED COSIGN PRIVATE KEY-----", "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----")
_MOST_WORK: Final = 1 << 20  # N·r·p of scrypt; cosign writes 2^19
_Public = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey
_Private = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey


class NotAnEnvelope(Exception):
    """A text that is no DSSE envelope."""


# --- keys -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that verifies signatures. ``id``: the SHA-256 of its DER form, in hexadecimal digits."""

    id: str
    der: bytes

    @classmethod
    def of_der(cls, der: bytes) -> PublicKey:
        """Return the key of a SubjectPublicKeyInfo. Raises ValueError for another kind of key."""
        return cls._of(serialization.load_der_public_key(der))

    @classmethod
    def _of(cls, key: object) -> PublicKey:
        if not _is_public(key):
            raise ValueError(_EXPECTED)
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        der = key.public_bytes(serialization.Encoding.DER, form)  # type: ignore[attr-defined]
        return cls(hashlib.sha256(der).hexdigest(), der)

    @property
    def pem(self) -> str:
        """The key as PEM text, which cosign and openssl read."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_bytes(serialization.Encoding.PEM, form).decode()

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Return whether the key made a signature of a message."""
        key = self._key
        try:
            if isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(signature, message)
            else:
                key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True

    @property
    def _key(self) -> _Public:
        key = serialization.load_der_public_key(self.der)
        assert isinstance(key, _Public)
        return key


def _is_public(key: object) -> bool:
    if isinstance(key, ec.EllipticCurvePublicKey):
        return isinstance(key.curve, ec.SECP256R1)
    return isinstance(key, ed25519.Ed25519PublicKey)


def read_public_key(text: str) -> PublicKey:
    """Return the key of a file: PEM, or a line of OpenSSH. Raises ValueError, whose text says what is wrong."""
    data = text.strip().encode()
    try:
        if data.startswith(b"-----"):
            return PublicKey._of(serialization.load_pem_public_key(data))
        return PublicKey._of(serialization.load_ssh_public_key(data))
    except UnsupportedAlgorithm as error:
        raise ValueError(_EXPECTED) from error
    except ValueError as error:
        raise ValueError(str(error) if str(error) == _EXPECTED else "it is no public key in PEM or OpenSSH") from error


class Signer(Protocol):
    """Signs messages with one key."""

    @property
    def public(self) -> PublicKey:
        """The key that verifies the signatures."""

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message."""


@dataclass(frozen=True, slots=True)
class KeySigner:
    """Signs with a private key of this process."""

    public: PublicKey
    _key: _Private

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message."""
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(message)
        return self._key.sign(message, ec.ECDSA(hashes.SHA256()))

    def __repr__(self) -> str:
        return f"KeySigner({self.public.id})"


def read_private_key(text: str, password: str | None, name: str) -> KeySigner:
    """Return the signer of a key file: PEM, OpenSSH, or the encrypted form of ``cosign generate-key-pair``.

    ``name``: where the key was, for messages. Raises UsageError for another kind of key, or a wrong password.
    """
    data = text.strip().encode()
    secret = password.encode() if password else None
    try:
        if text.strip().startswith(_COSIGN):
            key: object = _read_cosign(text, password or "")
        elif b"BEGIN OPENSSH PRIVATE KEY" in data:
            key = serialization.load_ssh_private_key(data, secret)
        else:
            key = serialization.load_pem_private_key(data, secret)
    except TypeError as error:  # a password for a key without one, or none for a key with one
        what = "no password, and signing.password has one" if secret else "a password, and signing.password is missing"
        raise UsageError(f"{name}: the key has {what}", hint="Change signing.password in goldenami.yaml.") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(
            f"{name} is no private key, or its password is another one",
            hint=f"Check signing.key and signing.password in goldenami.yaml: {_EXPECTED}, in PEM, OpenSSH or cosign's "
            "form.",
        ) from error
    if not isinstance(key, _Private) or not _is_public(key.public_key()):
        raise UsageError(
            f"{name} is another kind of key: {_EXPECTED}", hint="Make one: openssl genpkey -algorithm ed25519."
        )
    return KeySigner(PublicKey._of(key.public_key()), key)


def _read_cosign(text: str, password: str) -> object:
    """Decrypt a key of cosign: scrypt and NaCl's secretbox around a PKCS #8 key. Raises ValueError."""
    from nacl.exceptions import CryptoError  # here: few keys need it
    from nacl.secret import SecretBox

    body = "".join(line for line in text.split("\n") if line and not line.startswith("-----"))
    try:
        form = json.loads(base64.b64decode(body))
        kdf, cipher = form["kdf"], form["cipher"]
        work = {letter: int(kdf["params"][letter]) for letter in "Nrp"}
        if kdf["name"] != "scrypt" or cipher["name"] != "nacl/secretbox":
            raise ValueError(f"unknown encryption: {kdf['name']}, {cipher['name']}")
        if work["N"] * work["r"] * work["p"] > _MOST_WORK:
            raise ValueError("the key needs too much work")
        secret = hashlib.scrypt(
            password.encode(),
            salt=base64.b64decode(kdf["salt"]),
            n=work["N"],
            r=work["r"],
            p=work["p"],
            maxmem=256 << 20,
            dklen=32,
        )
        der = SecretBox(secret).decrypt(base64.b64decode(form["ciphertext"]), base64.b64decode(cipher["nonce"]))
    except (KeyError, TypeError, binascii.Error, CryptoError) as error:
        raise ValueError(f"no key of cosign, or a wrong password: {error}") from error
    return serialization.load_der_private_key(der, None)


# --- envelopes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature of an envelope. ``key_id``: a hint of the signer, which proves nothing; it may be empty."""

    key_id: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A DSSE envelope."""

    payload: bytes
    payload_type: str
    signatures: tuple[Signature, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form of the DSSE specification."""
        return {
            "payloadType": self.payload_type,
            "payload": base64.b64encode(self.payload).decode(),
            "signatures": [
                {"keyid": one.key_id, "sig": base64.b64encode(one.value).decode()} for one in self.signatures
            ],
        }

    def signers(self, trusted: Iterable[PublicKey]) -> tuple[PublicKey, ...]:
        """Return those of some keys that made a signature of the envelope. The ids in the envelope are not trusted."""
        message = encode(self.payload_type, self.payload)
        return tuple(key for key in trusted if any(key.verifies(one.value, message) for one in self.signatures))


def encode(payload_type: str, payload: bytes) -> bytes:
    """Return what is signed: the pre-authentication encoding of DSSE."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, signer: Signer, payload_type: str = IN_TOTO) -> Envelope:
    """Return an envelope with one signature."""
    value = signer.sign(encode(payload_type, payload))
    return Envelope(payload, payload_type, (Signature(signer.public.id, value),))


def read_envelope(data: bytes) -> Envelope:
    """Return the envelope of a file. Raises NotAnEnvelope, whose text says what is wrong. Verifies nothing."""
    try:
        form = json.loads(data)
        signatures = form["signatures"]
        if not isinstance(form["payloadType"], str) or not isinstance(signatures, list):
            raise NotAnEnvelope("payloadType or signatures has a wrong type")
        return Envelope(
            base64.b64decode(form["payload"], validate=True),
            form["payloadType"],
            tuple(Signature(*_signature(one)) for one in signatures),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise NotAnEnvelope(f"it is no DSSE envelope: {type(error).__name__}: {error}") from error


def _signature(form: Mapping[str, Any]) -> tuple[str, bytes]:
    return str(form.get("keyid") or ""), base64.b64decode(form["sig"], validate=True)
