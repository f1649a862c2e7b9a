"""Trusted host keys: from OpenSSH's known_hosts files, or by a fingerprint."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
from pathlib import Path

import paramiko

from goldenami.errors import BuilderError, NotFound
from goldenami.model import SshEndpoint
from goldenami.ssh.transport import ATTEMPT_SECONDS, NotReachable, Refused, open_socket, translated

_PREFERRED = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa")


def known_host_key(file: Path, address: str, port: int = 22) -> str:
    """Return the public keys of a host from a known_hosts file, one in a line: "ssh-ed25519 AAAA…". Hashed names are
    supported.

    Raises NotFound if the file has no key of the host, BuilderError if the file cannot be read.
    """
    name = address if port == 22 else f"[{address}]:{port}"
    try:
        keys = paramiko.HostKeys(str(file)).lookup(name)
    except (OSError, paramiko.SSHException) as error:
        raise BuilderError(f"The known_hosts file {file} cannot be read: {error}") from None
    found = [f"{kind} {keys[kind].get_base64()}" for kind in _PREFERRED if keys is not None and kind in keys]
    if found:
        return "\n".join(found)
    raise NotFound(
        f"{file} has no key of {name}",
        hint="Pass the public host key with --host-key, from a source that you trust. Unverified keys are refused.",
    )


def fingerprint(blob: bytes) -> str:
    """Return the fingerprint of a public key as OpenSSH prints it: "SHA256:…"."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def key_with_fingerprint(address: str, port: int, expected: str) -> str:
    """Return the public host key that has a fingerprint ("SHA256:…"): "ssh-ed25519 AAAA…". Nothing is sent to the host
    except a key exchange, for each type of key.

    Raises Refused if no key of the host has the fingerprint, NotReachable if no SSH server answers.
    """
    name, found = f"{address}:{port}", []
    for kind in _PREFERRED:
        connection = open_socket(SshEndpoint(address, "", "", "", port), name, ATTEMPT_SECONDS)
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
