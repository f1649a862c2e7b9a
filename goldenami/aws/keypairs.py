"""The temporary key pair of a builder. The key is made here and only its public half is imported: the private one never
travels, and is not in any reply that could be logged."""

from __future__ import annotations

from goldenami.aws.ledger import Call, Ledger
from goldenami.model import Place


def create(ledger: Ledger, key: str, place: Place, *, public_key: str) -> str:
    """Ensure that a public key (an "ssh-ed25519 AAAA…" line) is imported; returns the key pair's *name*, for the
    launch."""
    name = name_for(ledger.journal.build_id, key)
    # botocore sends the material base64-encoded; as text it is what OpenSSH writes.
    request = {"KeyName": name, "PublicKeyMaterial": public_key.strip()}
    return ledger.create(key, "key-pair", place, Call("ec2", "ImportKeyPair", request), temporary=True)


def name_for(build_id: str, key: str) -> str:
    """Unique in the account and region, and the same on every try of this build."""
    return f"goldenami-{build_id}-{key.replace('/', '-')}"


def delete(ledger: Ledger, key: str) -> None:
    """Ensure that the key pair that a ledger key stands for is gone."""
    ledger.delete_key(key)
