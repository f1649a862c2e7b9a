"""What the journal needs of the file system: durable names, a lock that says who holds it, files for secrets."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import secrets
import shutil
import socket
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from goldenami.errors import JournalError
from goldenami.journal.records import Json, Secret, timestamp

Sync = Callable[[int], None]

SAFE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")


class SideFiles:
    """Secrets of one build, each in a file that only its owner can read. The journal serializes the calls."""

    def __init__(self, directory: Path, sync: Sync) -> None:
        self._directory = directory
        self._sync = sync

    def keep(self, secret: Secret) -> Json:
        """Store what a request must not show; what the journal holds instead of it."""
        path = self._directory / secret.digest
        if not path.exists():
            self._write(path, secret.value.encode())
        return {"$secret": secret.digest}

    def read(self, digest: str) -> Secret:
        """What :meth:`keep` stored. Raises FileNotFoundError."""
        return Secret((self._directory / digest).read_text())

    def named(self, name: str, make: Callable[[], bytes]) -> bytes:
        """The secret of a name: read, or made and stored."""
        if not SAFE_NAME.match(name):
            raise ValueError(f"{name!r} cannot be the name of a secret")
        path = self._directory / name
        try:
            return path.read_bytes()
        except FileNotFoundError:
            value = make()
            self._write(path, value)
            return value
        except OSError as error:
            raise JournalError(f"cannot read {path}: {error.strerror}") from error

    def remove(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)

    def _write(self, path: Path, value: bytes) -> None:
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(value)
                file.flush()
                self._sync(file.fileno())
            draft.rename(path)
            sync_directory(self._directory, self._sync)
            sync_directory(self._directory.parent, self._sync)
        except OSError as error:
            raise JournalError(f"cannot write {path}: {error.strerror}", hint=space_hint(error)) from error


def sync_directory(directory: Path, sync: Sync) -> None:
    """A new name is durable only once its directory is."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def lock_build(directory: Path, now: datetime) -> int:
    """Take the build's lock without waiting; the descriptor that holds it. The kernel lets go when the process ends."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = _holder(os.pread(descriptor, 4096, 0))
        os.close(descriptor)
        raise JournalError(
            f"build {directory.name} is being worked on by {holder}",
            hint="Wait for that process, or end it; then try again.",
        ) from error
    who = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:500],
        "since": timestamp(now),
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(who).encode(), 0)
    return descriptor


def _holder(content: bytes) -> str:
    try:
        who = json.loads(content)
        return f"process {who['pid']} on {who['host']} (`{who['command']}`) since {who['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"


def space_hint(error: OSError) -> str | None:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space; then `goldenami resume` continues where the build stopped."
    return None
