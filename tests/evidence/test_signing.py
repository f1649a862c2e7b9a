"""Envelopes, and the keys that sign and verify them."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import subprocess
from pathlib import Path

import nacl.secret
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from goldenami.errors import UsageError
from goldenami.evidence.signing import (
    NotAnEnvelope,
    encode,
    read_envelope,
    read_private_key,
    read_public_key,
    sign,
)

PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
OPENSSH = serialization.PrivateFormat.OpenSSH
PLAIN = serialization.NoEncryption()
Key = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
KEYS: dict[str, Key] = {
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
    "p256": ec.generate_private_key(ec.SECP256R1()),
}


def locked(password: str) -> serialization.BestAvailableEncryption:
    return serialization.BestAvailableEncryption(password.encode())


def cosign(key: Key, password: str, work: int = 1024) -> str:
    """A key file as `cosign generate-key-pair` writes it, with less work for scrypt."""
    salt, nonce = b"s" * 32, b"n" * 24
    secret = hashlib.scrypt(password.encode(), salt=salt, n=work, r=8, p=1, maxmem=256 << 20, dklen=32)
    der = key.private_bytes(serialization.Encoding.DER, PKCS8, PLAIN)
    form = {
        "kdf": {"name": "scrypt", "params": {"N": work, "r": 8, "p": 1}, "salt": base64.b64encode(salt).decode()},
        "cipher": {"name": "nacl/secretbox", "nonce": base64.b64encode(nonce).decode()},
        "ciphertext": base64.b64encode(nacl.secret.SecretBox(secret).encrypt(der, nonce).ciphertext).decode(),
    }
    body = base64.b64encode(json.dumps(form).encode()).decode()
    lines = [body[i : i + 64] for i in range(0, len(body), 64)]
    name = "ENCRYPTED SIGSTORE PRIVATE KEY"
    return "\n".join([f"-----BEGIN {name}-----", *lines, f"-----END {name}-----", ""])


def test_what_is_signed_is_the_encoding_of_the_specification() -> None:
    # The example of the DSSE protocol, version 1.
    assert encode("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


FORMS = ("pem", "openssh", "locked pem", "locked openssh")


@pytest.mark.parametrize(("kind", "form"), [*itertools.product(KEYS, FORMS), ("p256", "cosign")])
def test_a_key_in_any_form_signs_what_its_public_half_verifies(kind: str, form: str) -> None:
    key, password = KEYS[kind], "secret" if form in ("locked pem", "locked openssh", "cosign") else None
    if form == "cosign":
        text = cosign(key, "secret")
    else:
        shape = OPENSSH if "openssh" in form else PKCS8
        text = key.private_bytes(PEM, shape, locked(password) if password else PLAIN).decode()
    signer = read_private_key(text, password, "the key")
    envelope = read_envelope(json.dumps(sign(b"{}", signer).to_json()).encode())
    public = read_public_key(
        key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    )
    assert signer.public == public
    assert envelope.signers([public]) == (public,)
    assert envelope.signatures[0].key_id == public.id
    other = read_private_key(KEYS["p256" if kind == "ed25519" else "ed25519"].private_bytes(PEM, PKCS8, PLAIN).decode(),
                             None, "another").public  # fmt: skip
    assert envelope.signers([other]) == ()
    assert repr(signer) == f"KeySigner({public.id})"


def test_a_line_of_openssh_is_a_public_key() -> None:
    public = KEYS["ed25519"].public_key()
    line = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    assert read_public_key(f"{line} someone@example.com\n").id == read_public_key(line).id


def test_openssl_verifies_a_signature(tmp_path: Path) -> None:
    """A program that shares nothing with what is tested."""
    signer = read_private_key(KEYS["p256"].private_bytes(PEM, PKCS8, PLAIN).decode(), None, "the key")
    envelope = sign(b'{"a":1}', signer)
    (tmp_path / "key.pub").write_text(signer.public.pem)
    (tmp_path / "message").write_bytes(encode(envelope.payload_type, envelope.payload))
    (tmp_path / "signature").write_bytes(envelope.signatures[0].value)
    command = ["openssl", "dgst", "-sha256", "-verify", "key.pub", "-signature", "signature", "message"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "Verified OK\n")


@pytest.mark.parametrize("change", ["payload", "type", "signature"])
def test_a_changed_envelope_has_no_signer(change: str) -> None:
    signer = read_private_key(KEYS["ed25519"].private_bytes(PEM, PKCS8, PLAIN).decode(), None, "the key")
    form = sign(b"{}", signer).to_json()
    if change == "payload":
        form["payload"] = base64.b64encode(b"[]").decode()
    elif change == "type":
        form["payloadType"] = "application/json"
    else:
        form["signatures"][0]["sig"] = base64.b64encode(bytes(64)).decode()
    assert read_envelope(json.dumps(form).encode()).signers([signer.public]) == ()


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"payload": "!", "payloadType": "a", "signatures": []}',
                                  b'{"payload": "e30=", "payloadType": "a", "signatures": [{"keyid": "a"}]}',
                                  b'{"payload": "e30=", "payloadType": 1, "signatures": []}'])  # fmt: skip
def test_what_is_no_envelope_is_refused(data: bytes) -> None:
    with pytest.raises(NotAnEnvelope):
        read_envelope(data)


@pytest.mark.parametrize(
    ("text", "password", "message"),
    [
        ("nonsense", None, "is no private key"),
        (KEYS["p256"].private_bytes(PEM, PKCS8, locked("a")).decode(), None, "signing.password is missing"),
        (KEYS["p256"].private_bytes(PEM, PKCS8, locked("a")).decode(), "b", "its password is another one"),
        (KEYS["p256"].private_bytes(PEM, PKCS8, PLAIN).decode(), "a", "signing.password has one"),
        (cosign(KEYS["p256"], "a"), "b", "its password is another one"),
        (
            ec.generate_private_key(ec.SECP384R1()).private_bytes(PEM, PKCS8, PLAIN).decode(),
            None,
            "another kind of key",
        ),
        (rsa.generate_private_key(65537, 2048).private_bytes(PEM, PKCS8, PLAIN).decode(), None, "another kind of key"),
    ],
    ids=["nonsense", "no password", "wrong password", "needless password", "cosign", "p384", "rsa"],
)
def test_a_key_that_cannot_be_used_is_named(text: str, password: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read_private_key(text, password, "file signing.pem")
    assert "file signing.pem" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("text", ["nonsense", "", "ssh-rsa AAAA", "-----BEGIN PUBLIC KEY-----\nAAAA\n"])
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_public_key(text)


def test_a_key_file_cannot_demand_any_work() -> None:
    text = cosign(KEYS["p256"], "a")
    form = json.loads(base64.b64decode("".join(text.split("\n")[1:-2])))
    form["kdf"]["params"]["N"] = 1 << 40
    body = base64.b64encode(json.dumps(form).encode()).decode()
    head, tail = text.split("\n")[0], text.split("\n")[-2]
    with pytest.raises(UsageError):
        read_private_key(f"{head}\n{body}\n{tail}\n", "a", "the key")
