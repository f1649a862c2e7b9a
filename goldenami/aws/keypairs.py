"""The temporary key pair of a builder. goldenami generates it and imports only the public key. The private key is never
sent, and is in no reply that could be logged."""

from __future__ import annotations

from goldenami.aws.ledger import Call, Ledger
from goldenami.model import Place


def create(ledger: Ledger, key: str, place: Place, *, public_key: str) -> str:
    """Ensure that a public key (an "ssh-ed25519 AAAA…" line) is imported. Return the key pair's *name*, for the
    launch."""
    # botocore encodes the material in base64. Here it is the text that OpenSSH writes.
    request = {"KeyName": ledger.next_name(key), "PublicKeyMaterial": public_key.strip()}
    return ledger.create(key, "key-pair", place, Call("ec2", "ImportKeyPair", request), temporary=True)


def delete(ledger: Ledger, key: str) -> None:
    """Ensure that the key pair of a ledger key is deleted."""
    ledger.delete_key(key)
