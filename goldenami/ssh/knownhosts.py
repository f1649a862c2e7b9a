"""Trusted host keys: from OpenSSH's known_hosts files, or by a fingerprint."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import re
from collections.abc import Iterable
from pathlib import Path

from goldenami.errors import BuilderError
from goldenami.model import SshEndpoint
from goldenami.ssh.library import paramiko
from goldenami.ssh.transport import ATTEMPT_SECONDS, NotReachable, Refused, open_socket, translated

_PREFERRED = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")


def name_of(address: str, port: int) -> str:
    """Return the name of a host in known_hosts: with another port than 22, ``[ADDRESS]:PORT``."""
    return address if port == 22 else f"[{address}]:{port}"


def known_host_key(file: Path, address: str, port: int = 22) -> str | None:
    """Return the public keys of a host from a known_hosts(5) file, one in a line: "ssh-ed25519 AAAA…". None if the file
    has none.

    Hashed names, patterns and negated patterns are supported. A key that is marked as revoked is left out. Lines that
    are no keys are ignored, as ssh does. Raises BuilderError if the file cannot be read.
    """
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError as error:
        raise BuilderError(f"The known_hosts file {file} cannot be read: {error}") from None
    name, found, revoked = name_of(address, port), [], set()
    for line in lines:
        words = line.split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) < 3 or words[0].startswith("#") or not _matches(words[0], name):
            continue
        if marker == "@revoked":
            revoked.add(words[2])
        elif not marker:
            found.append(" ".join(words[1:3]))
    return "\n".join(best(line for line in found if line.split()[1] not in revoked)) or None


def best(lines: Iterable[str]) -> list[str]:
    """Return the public keys ("TYPE BASE64") among lines, one of each type, the preferred types first."""
    keys: dict[str, str] = {}
    for line in lines:
        words = line.split()
        if len(words) >= 2 and words[0] in _PREFERRED and _is_key(*words[:2]):
            keys.setdefault(words[0], " ".join(words[:2]))
    return [keys[kind] for kind in _PREFERRED if kind in keys]


def _is_key(kind: str, text: str) -> bool:
    try:
        return base64.b64decode(text, validate=True)[4:].startswith(kind.encode())
    except binascii.Error:
        return False


def _matches(patterns: str, name: str) -> bool:
    if patterns.startswith("|1|"):
        try:
            _, _, salt, wanted = patterns.split("|")
            digest = hmac.new(base64.b64decode(salt), name.encode(), hashlib.sha1).digest()
            return hmac.compare_digest(digest, base64.b64decode(wanted))
        except ValueError:
            return False
    fit = False
    for pattern in patterns.split(","):
        negated = pattern.startswith("!")
        form = re.escape(pattern.removeprefix("!")).replace(r"\*", ".*").replace(r"\?", ".")
        if re.fullmatch(form, name, re.IGNORECASE):
            if negated:
                return False
            fit = True
    return fit


def fingerprint(blob: bytes) -> str:
    """Return the fingerprint of a public key as OpenSSH prints it: "SHA256:…"."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def key_with_fingerprint(endpoint: SshEndpoint, expected: str) -> str:
    """Return the public host key that has a fingerprint ("SHA256:…"): "ssh-ed25519 AAAA…". Nothing is sent to the host
    except a key exchange, for each type of key.

    Raises Refused if no key of the host has the fingerprint, NotReachable if no SSH server answers.
    """
    name, found = f"{endpoint.address}:{endpoint.port}", []
    for kind in _PREFERRED:
        connection = open_socket(endpoint, name, ATTEMPT_SECONDS)
        with contextlib.closing(paramiko.Transport(connection)) as transport:
            transport.get_security_options().key_types = (
                ("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,)
            )
            try:
                with translated(name, NotReachable):
                    transport.start_client(timeout=ATTEMPT_SECONDS)
                    key = transport.get_remote_server_key()
            except (NotReachable, Refused):
                continue  # the host has no key of this type
        shown = fingerprint(key.asbytes())
        if hmac.compare_digest(shown, expected.rstrip("=")):
            return f"{key.get_name()} {key.get_base64()}"
        found.append(shown)
    if not found:
        raise NotReachable(f"{name}: no SSH server answers with a host key of type {', '.join(_PREFERRED)}")
    raise Refused(
        f"{name} has no host key with the fingerprint {expected}; it has {', '.join(found)}",
        hint="Ask the owner of the host for the fingerprint: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
    )
