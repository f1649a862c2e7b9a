"""Reads trusted host keys from OpenSSH's known_hosts files."""

from __future__ import annotations

from pathlib import Path

import paramiko

from goldenami.errors import BuilderError, NotFound

_PREFERRED = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa")


def known_host_key(file: Path, address: str, port: int = 22) -> str:
    """Return the public key of a host from a known_hosts file: "ssh-ed25519 AAAA…". Hashed names are supported.

    Raises NotFound if the file has no key of the host, BuilderError if the file cannot be read.
    """
    name = address if port == 22 else f"[{address}]:{port}"
    try:
        keys = paramiko.HostKeys(str(file)).lookup(name)
    except (OSError, paramiko.SSHException) as error:
        raise BuilderError(f"The known_hosts file {file} cannot be read: {error}") from None
    for kind in _PREFERRED:
        if keys is not None and kind in keys:
            return f"{kind} {keys[kind].get_base64()}"
    raise NotFound(
        f"{file} has no key of {name}",
        hint="Pass the public host key with --host-key, from a source that you trust. Unverified keys are refused.",
    )
