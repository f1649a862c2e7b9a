"""Files of the user's cache that cannot be trusted."""

from __future__ import annotations

from pathlib import Path

WAYS = ("cut", "changed", "empty", "writable by others")


def damage(file: Path, how: str) -> None:
    """Damage a file in one of the ``WAYS``."""
    content = file.read_bytes()
    if how == "writable by others":
        file.chmod(0o666)
    else:
        file.write_bytes({"cut": content[:-9], "changed": content[:-1] + bytes([content[-1] ^ 1]), "empty": b""}[how])
