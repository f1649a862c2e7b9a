"""Host keys that somebody has accepted before: OpenSSH's known_hosts files."""

from __future__ import annotations

from pathlib import Path

import paramiko

from goldenami.errors import BuilderError, NotFound

_PREFERRED = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa")


def known_host_key(file: Path, address: str, port: int = 22) -> str:
    """The public key that a known_hosts file has for a host, "ssh-ed25519 AAAA…"; hashed names are understood.

    Raises NotFound if it has none, BuilderError if the file cannot be read.
    """
    name = address if port == 22 else f"[{address}]:{port}"
    try:
        keys = paramiko.HostKeys(str(file)).lookup(name)
    except (OSError, paramiko.SSHException) as error:
        raise BuilderError(f"{file} cannot be read: {error}") from None
    for kind in _PREFERRED:
        if keys is not None and kind in keys:
            return f"{kind} {keys[kind].get_base64()}"
    raise NotFound(
        f"{file} has no key of {name}",
        hint="Give the host's own with --host-key, from a source that you trust; it is never accepted blindly.",
    )
