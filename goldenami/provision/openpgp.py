"""Fingerprints of the keys in a file of OpenPGP public keys, computed as in RFC 4880 and RFC 9580."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator

_BEGIN, _END = re.compile(r"-----BEGIN PGP [A-Z ]+-----\s*"), "-----END PGP"
_PUBLIC_KEY = 6  # the tag of a primary key's packet


def fingerprints(data: bytes) -> tuple[str, ...]:
    """Return the fingerprints of the primary keys in a file, in upper-case hex. The file may be armored or binary.
    Raises ValueError if it contains no public key.
    """
    found = []
    for tag, body in (packet for block in _binary(data) for packet in _packets(block)):
        if tag == _PUBLIC_KEY and body[:1] == b"\x04":
            found.append(hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest())
        elif tag == _PUBLIC_KEY and body[:1] == b"\x06":
            found.append(hashlib.sha256(b"\x9b" + len(body).to_bytes(4, "big") + body).hexdigest())
    if not found:
        raise ValueError("this is not an OpenPGP public key")
    return tuple(f.upper() for f in found)


def _binary(data: bytes) -> Iterator[bytes]:
    if not data.lstrip().startswith(b"-----"):
        yield data
        return
    text = data.decode("ascii", errors="replace").replace("\r", "")
    for part in text.split(_END):
        armored = [line.strip() for line in part.split("\n")]
        begin = next((number for number, line in enumerate(armored, 1) if _BEGIN.fullmatch(line)), None)
        if begin is None or "" not in armored[begin:]:
            continue
        headers = armored.index("", begin)  # an empty line ends them
        lines = [line for line in armored[headers:] if not line.startswith("=")]  # the last one is a checksum
        try:
            yield base64.b64decode("".join(lines), validate=True)
        except binascii.Error as error:
            raise ValueError("the armored key is damaged: its text is not base64") from error


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    data, end, at = data + b"\0" * 4, len(data), 0  # the padding permits to read a truncated length
    while at < end:
        head, at = data[at], at + 1
        if head < 0x80:
            raise ValueError("this is not an OpenPGP public key")
        if head & 0x40:
            tag, first, at = head & 0x3F, data[at], at + 1
            if first < 192:
                size = first
            elif first < 224:
                size, at = ((first - 192) << 8) + data[at] + 192, at + 1
            elif first == 255:
                size, at = int.from_bytes(data[at : at + 4], "big"), at + 4
            else:
                raise ValueError("the key has partial body lengths, which are not supported")
        else:
            tag, width = (head >> 2) & 0x0F, 1 << (head & 3)
            if width == 8:
                raise ValueError("the key has an indeterminate length, which is not supported")
            size, at = int.from_bytes(data[at : at + width], "big"), at + width
        yield tag, data[at : at + size]
        at += size
