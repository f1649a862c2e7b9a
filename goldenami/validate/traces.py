"""What belongs to one machine and must not travel with its image: read on the builder, searched for in the image."""

from __future__ import annotations

from dataclasses import dataclass

from goldenami.errors import BuilderError
from goldenami.ssh import Connection

READ_TRACES = "cat /etc/machine-id; echo --; cat /etc/ssh/ssh_host_*_key.pub"
"""What prints, on the host, what ``parse_traces`` takes."""


@dataclass(frozen=True, slots=True)
class Traces:
    """``public_key``: of the key pair that let goldenami in (OpenSSH line). ``host_keys``: the builder's own (OpenSSH
    lines). Nothing in it is secret."""

    public_key: str
    host_keys: tuple[str, ...]
    machine_id: str


def read_traces(connection: Connection, public_key: str) -> Traces:
    """Read a builder's traces. Call it before the builder is sealed; sealing removes them."""
    done = connection.run(READ_TRACES)
    if done.status != 0:
        reason = done.stderr.decode(errors="replace").strip()
        raise BuilderError(f"The builder's machine-id and host keys cannot be read: {reason}")
    return parse_traces(done.text, public_key)


def parse_traces(text: str, public_key: str) -> Traces:
    """From what READ_TRACES printed. Raises BuilderError for anything else."""
    machine_id, separator, keys = text.partition("--\n")
    if not separator:
        raise BuilderError(f"The builder's machine-id and host keys cannot be read from: {text!r}")
    lines = tuple(line.strip() for line in keys.splitlines() if line.strip())
    return Traces(public_key.strip(), lines, machine_id.strip())
