"""Reads the private keys of users: files of OpenSSH and PEM files, with or without a passphrase, and SSH agents.

What ssh does, this does: a file that other users can read is refused; a key that the agent has is used from there; a
passphrase is asked for on the terminal. A file that cannot be used is an error here, before any connection.
"""

from __future__ import annotations

import base64
import binascii
import getpass
import os
import stat
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from goldenami.errors import NotFound, UsageError
from goldenami.ssh.transport import agent_keys

DEFAULT_FILES: Final = ("id_ed25519", "id_ecdsa", "id_rsa")  # in ~/.ssh, in ssh's order
_ATTEMPTS: Final = 3  # at a passphrase, as ssh
_LONGEST: Final = 1 << 20  # bytes; a private key has a few thousand
_OPENSSH: Final = "-----BEGIN OPENSSH PRIVATE KEY-----"
_PUBLIC: Final = (
    "ssh-",
    "ecdsa-sha2-",
    "sk-",
    "-----BEGIN PUBLIC KEY",
    "-----BEGIN RSA PUBLIC",
    "---- BEGIN SSH2 PUBLIC",
)

Ask = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Identity:
    """The keys to log in with. ``private_key``: the text of a key without passphrase (a secret), empty if only the
    agent has the key. ``agent_keys``: the public keys ("TYPE BASE64") of the agent to offer, in this order."""

    private_key: str = field(default="", repr=False)
    agent_keys: tuple[str, ...] = ()


def ask_on_terminal() -> Ask | None:
    """Return a function that asks for a secret on the terminal, or None if there is no terminal."""
    return getpass.getpass if sys.stdin is not None and sys.stdin.isatty() else None


def read_identity(path: Path, option: str, *, ask: Ask | None = None) -> Identity:
    """Return the key of a file, or of the agent if the agent has it. ``option``: where the user named the file.

    ``ask``: asks for a passphrase; None: there is no terminal. Raises UsageError if the file cannot be used.
    """
    path = path.expanduser()
    text = _text(path, option)
    offered = _offered()
    public = _public_key(path, text)
    if public is not None and public in offered:
        return Identity(agent_keys=(public,))
    if text.lstrip().startswith(_PUBLIC):
        private = path.with_suffix("")
        hint = f"Name {private}." if path.suffix == ".pub" and private.is_file() else "Name the file without `.pub`."
        raise UsageError(
            f"{option}: {path} is a public key, expected the private key",
            hint=f"{hint} A public key is accepted if the SSH agent has the private key (`ssh-add`).",
        )
    if text.startswith("PuTTY-User-Key-File"):
        raise UsageError(
            f"{option}: {path} is a key of PuTTY, expected a key of OpenSSH or PEM",
            hint=f"Convert it: puttygen {path} -O private-openssh -o NEW_FILE",
        )
    return Identity(plain_key(text, f"{option}: {path}", ask=ask, hint=f"Run `ssh-add {path}` first."))


def default_identity(option: str, *, ask: Ask | None = None, home: Path | None = None) -> Identity:
    """Return the keys that ssh offers by default: all of the agent, and the first of ~/.ssh/id_ed25519, id_ecdsa and
    id_rsa. A file that needs a passphrase is left out if the agent has keys. Raises NotFound without any key."""
    folder = (home or Path.home()) / ".ssh"
    files = [folder / name for name in DEFAULT_FILES]
    path = next((file for file in files if file.is_file()), None)
    offered = tuple(_offered())
    if path is None:
        if offered:
            return Identity(agent_keys=offered)
        raise NotFound(
            f"there is no private key at {', '.join(map(str, files))}, and no SSH agent has one",
            hint=f"Name a key with {option}.",
        )
    try:
        own = read_identity(path, option, ask=None if offered else ask)
    except UsageError:
        if not offered:
            raise
        own = Identity()
    return Identity(own.private_key, tuple(dict.fromkeys((*own.agent_keys, *offered))))


def plain_key(text: str, what: str, *, ask: Ask | None = None, hint: str | None = None) -> str:
    """Return a private key in OpenSSH's format without a passphrase. ``what``: the key, for messages. ``hint``: what to
    do if the key has a passphrase and nobody can be asked. Raises UsageError if it is not one of a supported type."""
    password: bytes | None = None
    for attempt in range(_ATTEMPTS + 1):
        try:
            load = load_ssh_private_key if text.lstrip().startswith(_OPENSSH) else load_pem_private_key
            key = load(text.strip().encode() + b"\n", password=password)
            break
        except UnsupportedAlgorithm as error:
            raise UsageError(
                f"{what} has a type that is not supported: {error}", hint="Use a key of type ed25519, ECDSA or RSA."
            ) from None
        except (TypeError, ValueError) as error:
            if not _has_passphrase(text):
                raise UsageError(
                    f"{what} is not a private key of type ed25519, ECDSA or RSA",
                    hint="Expected a file of ssh-keygen or a PEM file, which begins with -----BEGIN.",
                ) from error
            if ask is None:
                raise UsageError(
                    f"{what} has a passphrase, and there is no terminal to ask for it", hint=hint
                ) from None
            if attempt == _ATTEMPTS:
                raise UsageError(f"{what}: the passphrase is wrong") from None
            password = ask(f"Passphrase for {what}: ").encode()
    if not isinstance(key, (Ed25519PrivateKey, EllipticCurvePrivateKey, RSAPrivateKey)):
        raise UsageError(f"{what} has a type that is not supported", hint="Use a key of type ed25519, ECDSA or RSA.")
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


def _text(path: Path, option: str) -> str:
    """Return the text of a key file. Raises UsageError if it cannot be read, or if other users can read it."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"{option}: {path} is not a regular file", hint=f"Name a private key with {option}.")
        if found.st_size > _LONGEST:
            raise UsageError(f"{option}: {path} has {found.st_size} bytes, which is too large for a private key")
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{option}: cannot read {path}: {error.strerror}", hint=f"Name a private key with {option}."
        ) from error
    text = content.decode(errors="replace").replace("\r\n", "\n")
    if "PRIVATE KEY" in text and found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) & 0o077:
        raise UsageError(
            f"{option}: other users may use {path} (mode {stat.S_IMODE(found.st_mode):04o}), so it is refused",
            hint=f"Run `chmod 600 {path}`. If others may have read it, create a new key.",
        )
    return text


def _has_passphrase(text: str) -> bool:
    if text.lstrip().startswith(_OPENSSH):
        header = _openssh_header(text)
        return header is not None and header[0] != b"none"
    return "ENCRYPTED" in text


def _offered() -> Sequence[str]:
    return [f"{key.get_name()} {key.get_base64()}" for key in agent_keys()]


def _public_key(path: Path, text: str) -> str | None:
    """Return the public key "TYPE BASE64" of a key file: from OpenSSH's header, from the text of a public key, or from
    the file with `.pub` beside it. None if it is unknown."""
    header = _openssh_header(text)
    if header is not None:
        blob = header[1]
        size = struct.unpack_from(">I", blob)[0]
        return f"{blob[4 : 4 + size].decode(errors='replace')} {base64.b64encode(blob).decode()}"
    if not text.startswith(_PUBLIC):
        try:
            text = Path(f"{path}.pub").read_text(errors="replace")[:_LONGEST]
        except OSError:
            return None
    words = text.split()
    return " ".join(words[:2]) if len(words) > 1 else None


def _openssh_header(text: str) -> tuple[bytes, bytes] | None:
    """Return the name of the cipher and the public key of an OpenSSH private key; both are not encrypted (PROTOCOL.key
    of OpenSSH). None for another text."""
    lines = text.strip().splitlines()
    if not lines or lines[0].strip() != _OPENSSH:
        return None
    try:
        data = base64.b64decode("".join(line.strip() for line in lines[1:-1]), validate=True)
        at, found = len(b"openssh-key-v1\0"), []
        for field_number in range(4):  # cipher, kdf, kdf options, and after the number of keys the first public key
            at += 4 if field_number == 3 else 0
            size = struct.unpack_from(">I", data, at)[0]
            found.append(data[at + 4 : at + 4 + size])
            at += 4 + size
    except (binascii.Error, struct.error):
        return None
    return (found[0], found[3]) if len(found[3]) >= 4 else None


__all__ = [
    "Ask",
    "Identity",
    "ask_on_terminal",
    "default_identity",
    "plain_key",
    "read_identity",
]
