"""The user's folder for what is read or downloaded once: ``goldenami`` in $XDG_CACHE_HOME or ~/.cache.

Only folders and files that no other user can write are used: what is in them is believed. So a folder in a project or
in a git work tree is not used either, as $XDG_CACHE_HOME of a pipeline may be: a commit could bring its files.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

_CHECKOUTS: Final = (".git", "goldenami.yaml")  # what a directory has whose files come from commits


def folder(name: str) -> Path | None:
    """Return a folder below the cache, and create it, for this user alone. Returns None if there is none, or if another
    user or a commit may write to it."""
    try:
        path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "goldenami" / name
        if _in_checkout(path) or _in_checkout(path.resolve()):
            return None
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
    except (OSError, RuntimeError):  # no home directory
        return None
    return path if found.st_uid == os.geteuid() and not found.st_mode & 0o022 else None


def file_of_python(name: str, form: int) -> Path | None:
    """Return a file of a folder, for what depends on the version of Python. ``form``: that of the contents. None if
    there is no such folder."""
    place = folder(name)
    return place / f"{form}-{sys.implementation.cache_tag}-{sys.hexversion:x}" if place is not None else None


def _in_checkout(path: Path) -> bool:
    return any(os.path.lexists(parent / name) for parent in path.parents for name in _CHECKOUTS)


def states(files: Iterable[Path]) -> list[tuple[str, int, int]] | None:
    """Return what changes with files of this program: their paths, sizes and times. An editable installation changes
    them without a new version. None if one cannot be read, such as one in an archive: then nothing can be kept."""
    try:
        found = [(str(file), file.stat()) for file in sorted(files)]
    except OSError:
        return None
    return [(name, state.st_size, state.st_mtime_ns) for name, state in found]


def read(path: Path) -> bytes | None:
    """Return the contents of a file of a folder; None if it cannot be read, or if another user may write to it."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            return file.read() if found.st_uid == os.geteuid() and not found.st_mode & 0o022 else None
    except OSError:
        return None


def write(path: Path, content: bytes, most: int) -> None:
    """Write a file of a folder as a whole, if that is possible. Keeps the newest files, at most ``most``."""
    import secrets  # here, because it loads slowly, and entries are read more often than written

    part = path.with_name(f".{secrets.token_hex(8)}")
    try:
        with suppress(OSError):  # a cache is not needed
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123
                file.write(content)
            part.replace(path)
            aged = sorted(path.parent.iterdir(), key=lambda one: one.stat().st_mtime_ns, reverse=True)
            for old in aged[most:]:
                old.unlink()
    finally:
        with suppress(OSError):  # also of a folder that can only be read
            part.unlink()
