"""SSH host keys, as ssh-keygen makes them: ed25519, ecdsa (P-256) and rsa (3072)."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections import deque

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class HostKeys:
    """Makes sets of keys. An RSA key takes up to 0.5 seconds, so one is always made in advance."""

    def __init__(self) -> None:
        self._ahead: deque[rsa.RSAPrivateKey] = deque()
        self._busy = threading.Lock()

    def prepare(self) -> None:
        """Make a key in advance, in the background, unless one is ready."""
        threading.Thread(target=self._fill, name="host-keys", daemon=True).start()

    def generate(self, comment: str) -> dict[str, str]:
        """Return new keys: contents by file name."""
        try:
            rsa_key = self._ahead.popleft()
        except IndexError:
            rsa_key = _rsa()
        self.prepare()
        keys: dict[str, PrivateKey] = {
            "ssh_host_ed25519_key": ed25519.Ed25519PrivateKey.generate(),
            "ssh_host_ecdsa_key": ec.generate_private_key(ec.SECP256R1()),
            "ssh_host_rsa_key": rsa_key,
        }
        files: dict[str, str] = {}
        for name, key in keys.items():
            files[name] = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
            public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
            files[name + ".pub"] = f"{public} {comment}\n"
        return files

    def _fill(self) -> None:
        with self._busy:
            if not self._ahead:
                self._ahead.append(_rsa())


def fingerprint(public: str) -> str:
    """Return the fingerprint SHA256:… of a public key's line, as ``ssh-keygen -l`` prints it."""
    digest = hashlib.sha256(base64.b64decode(public.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=3072)
