"""What the programs of OpenSSH need to reach a host of goldenami: files with the keys, and options.

They read no configuration of the user, and accept only the pinned host key.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from goldenami.errors import GoldenAmiError
from goldenami.model import SshEndpoint

_PROXY = Path(__file__).with_name("unixproxy.py")


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user may read. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)


def write_keys(endpoint: SshEndpoint, path: Path) -> list[Path]:
    """Write the private keys of an endpoint to files, the first one to ``path``: OpenSSH reads the first key of a file.
    Returns the files. Raises OSError."""
    files: list[Path] = []
    for text in endpoint.private_keys:
        files.append(path.with_name(f"{path.name}-{len(files) + 1}") if files else path)
        write_private(files[-1], text)
    return files


def known_lines(endpoint: SshEndpoint, alias: str) -> list[str]:
    """Return the lines of a known_hosts file for the host keys of an endpoint, under the name ``alias``."""
    return [f"{alias} {line}\n" for line in endpoint.host_keys]


def options(known_hosts: Path, alias: str) -> dict[str, str]:
    """Return the options of ``ssh`` for a host with the name ``alias`` in a known_hosts file."""
    return {
        "IdentitiesOnly": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": f'"{known_hosts}"',
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "HostKeyAlias": alias,
        "ConnectTimeout": "15",
        "ServerAliveInterval": "15",
    }


def words(found: Mapping[str, str]) -> list[str]:
    """Return options as arguments of ``ssh``."""
    return [word for name, value in found.items() for word in ("-o", f"{name}={value}")]


@dataclass(frozen=True, slots=True)
class Files:
    """Files for a program that starts ``ssh`` itself. ``folder``: a directory of this user alone, for more files.
    ``options``: for ``ssh``, besides the identity. ``failures``: why connections through the transport failed."""

    folder: Path
    identities: Sequence[Path]
    options: Mapping[str, str]
    failures: Sequence[str]


@contextmanager
def files_for(endpoint: SshEndpoint, alias: str) -> Iterator[Files]:
    """Write the keys of an endpoint to a temporary directory, which is removed at the end. Connections go through the
    transport of the endpoint, with the credentials of this process. Raises OSError.
    """
    # Directly below /tmp: paths of sockets in it must be short (unix(7)).
    with tempfile.TemporaryDirectory(prefix="goldenami-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        identities = write_keys(endpoint, folder / "key")
        known = folder / "known_hosts"
        write_private(known, "".join(known_lines(endpoint, alias)))
        found = options(known, alias)
        if endpoint.agent_keys:
            found["IdentitiesOnly"] = "no"
        if endpoint.transport is None:
            yield Files(folder, identities, found, ())
            return
        from goldenami.ssh.relaying import listen  # here, because it loads paramiko, and most hosts need no relay

        failures: list[str] = []

        def failed(error: GoldenAmiError) -> None:
            failures.append(error.message)

        path = folder / "proxy"
        listener = listen(endpoint, path, failed)
        # %% is a percent sign for ssh. The names have no spaces.
        found["ProxyCommand"] = f"{sys.executable} -IS {_PROXY} {path}".replace("%", "%%")
        try:
            yield Files(folder, identities, found, failures)
        finally:
            with suppress(OSError):
                listener.close()
