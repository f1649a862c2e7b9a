"""Signatures of Release files, checked by gpgv with the keys of the image.

gpgv (GnuPG) is the program that apt itself trusts for this, or trusted before sqv. It gets the key files and the signed
file, and nothing of the user's: no keyring, no configuration.
"""

from __future__ import annotations

import base64
import binascii
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from goldenami.errors import GoldenAmiError

_SECONDS: Final = 20.0
_ARMOR: Final = re.compile(rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\s*?\n(.*?)-----END PGP PUBLIC KEY BLOCK-----", re.S)


def verifier() -> str | None:
    """Return the path of gpgv; None if this machine has none."""
    return shutil.which("gpgv")


def verified(program: str, data: bytes, keys: Sequence[bytes], where: str, signature: bytes | None = None) -> bytes:
    """Return the contents of a clear-signed file, or of a file with a detached ``signature``, that one of the keys has
    signed. ``keys``: the contents of key files, binary or armored. ``where``: the URL of the file, for messages.

    Raises GoldenAmiError if no key has signed it, if a signature is wrong, or if gpgv cannot be run.
    """
    with tempfile.TemporaryDirectory(prefix="goldenami-gpgv-") as name:
        folder = Path(name)
        (folder / "data").write_bytes(data)
        command = [program, "--homedir", name, "--status-fd", "1"]
        for number, key in enumerate(keys):
            (folder / f"key-{number}").write_bytes(binary(key))
            command += ["--keyring", str(folder / f"key-{number}")]
        if signature is not None:
            (folder / "signature").write_bytes(signature)
            command += [str(folder / "signature"), str(folder / "data")]
        else:
            command += ["--output", str(folder / "text"), str(folder / "data")]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.SubprocessError) as error:
            raise GoldenAmiError(f"the signature of {where} could not be checked: {error}") from error
        # A file may have further signatures, by keys that are not here. VALIDSIG alone is not enough: an expired or a
        # revoked key gets one, too (doc/DETAILS of GnuPG).
        said = {
            words[1] for line in done.stdout.decode(errors="replace").splitlines() if len(words := line.split()) > 1
        }
        if "GOODSIG" not in said or "BADSIG" in said:
            why = "is wrong" if "BADSIG" in said else "is not by a key that the image trusts"
            raise GoldenAmiError(f"the signature of {where} {why}")
        return data if signature is not None else (folder / "text").read_bytes()


def binary(key: bytes) -> bytes:
    """Return a key file in binary form. An armored one may have several blocks (RFC 9580, section 6)."""
    blocks = _ARMOR.findall(key.replace(b"\r\n", b"\n"))
    if not blocks:
        return key
    found = b""
    for block in blocks:
        lines = block.partition(b"\n\n")[2].split() if b":" in block else block.split()
        try:
            found += base64.b64decode(b"".join(line for line in lines if not line.startswith(b"=")), validate=True)
        except binascii.Error:
            return b""
    return found
