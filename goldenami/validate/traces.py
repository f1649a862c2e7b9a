"""Traces of the builder: its keys and machine-id. They are read on the builder and must not be in the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from goldenami import lifetime
from goldenami.errors import BuilderError

if TYPE_CHECKING:
    from goldenami.ssh import Connection

READ_TRACES = (
    "cat /etc/machine-id; echo --; cat /etc/ssh/ssh_host_*_key.pub; echo --; "
    f"ls -d {' '.join(lifetime.FILES)} 2>/dev/null || :"
)
"""The shell command that prints the input of ``parse_traces`` on the host."""


@dataclass(frozen=True, slots=True)
class Traces:
    """The identity of a builder. ``public_key``: the public key of goldenami's temporary login, one OpenSSH line.
    ``host_keys``: the builder's public host keys, OpenSSH lines. ``files``: the files that end the builder after its
    lifetime. No field is a secret."""

    public_key: str
    host_keys: tuple[str, ...]
    machine_id: str
    files: tuple[str, ...]


def read_traces(connection: Connection, public_key: str) -> Traces:
    """Read a builder's traces. Call it before the builder is sealed: sealing removes them. Raises BuilderError."""
    done = connection.run(READ_TRACES, timeout=60)
    if done.status != 0:
        reason = done.stderr.decode(errors="replace").strip()
        raise BuilderError(f"The builder's traces cannot be read (status {done.status}): {reason}")
    return parse_traces(done.text, public_key)


def parse_traces(text: str, public_key: str) -> Traces:
    """Parse the output of READ_TRACES. Raises BuilderError for any other text."""
    # By lines: with no file, "--" is the last line, and the text of a connection ends without a line break.
    parts: list[list[str]] = [[]]
    for line in map(str.strip, text.splitlines()):
        if line == "--":
            parts.append([])
        elif line:
            parts[-1].append(line)
    if len(parts) != 3:
        raise BuilderError(f"The builder's machine-id, host keys and files: expected lines -- between, found {text!r}")
    machine_id, host_keys, files = parts
    return Traces(public_key.strip(), tuple(host_keys), machine_id[0] if machine_id else "", tuple(files))
