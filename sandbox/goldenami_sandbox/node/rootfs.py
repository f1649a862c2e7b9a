"""Reads and writes files in a guest's root from outside.

The contents of an image are untrusted, so paths are resolved as in the guest: an absolute symbolic link, or one with
too many ``..``, stays inside the root.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from pathlib import Path

from goldenami_sandbox.errors import SandboxError

_LINKS = 40  # as the kernel's limit
_LONGEST = 16 << 20
_WRITING = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Rootfs:
    """A mounted root that is not running."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, inside: str) -> Path:
        """Return the host's path of ``inside``. The last parts may be missing."""
        parts = deque(p for p in inside.split("/") if p not in ("", "."))
        done: list[str] = []
        links = 0
        while parts:
            part = parts.popleft()
            if part == "..":
                done = done[:-1]
                continue
            here = self.root.joinpath(*done, part)
            if here.is_symlink():
                links += 1
                if links > _LINKS:
                    raise SandboxError(f"too many symbolic links in {inside} of the image")
                target = str(here.readlink())
                if target.startswith("/"):
                    done = []
                parts.extendleft(reversed([p for p in target.split("/") if p not in ("", ".")]))
            else:
                done.append(part)
        return self.root.joinpath(*done)

    def exists(self, inside: str) -> bool:
        return self.path(inside).exists()

    def read(self, inside: str) -> str:
        """Return the contents of a file, empty if it does not exist. Raises SandboxError as :meth:`read_bytes`."""
        return self.read_bytes(inside).decode(errors="replace")

    def read_bytes(self, inside: str) -> bytes:
        """Return the contents of a file, empty if it does not exist or is a directory. Raises SandboxError for a device
        or a pipe, which could be one of the host, and for a file of more than 16 MiB."""
        try:
            handle = os.open(self.path(inside), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return b""
        with os.fdopen(handle, "rb") as file:
            kind = os.fstat(handle).st_mode
            if stat.S_ISDIR(kind):
                return b""
            if not stat.S_ISREG(kind):
                raise SandboxError(f"{inside} of the image is not a regular file")
            content = file.read(_LONGEST + 1)
        if len(content) > _LONGEST:
            raise SandboxError(f"{inside} of the image has more than {_LONGEST >> 20} MiB")
        return content

    def mkdir(self, inside: str, mode: int = 0o755, owner: tuple[int, int] = (0, 0)) -> Path:
        """Create a directory with its parents. Existing directories keep mode and owner."""
        path = self.path(inside)
        missing = [p for p in [path, *path.parents] if not p.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for p in missing:
            os.chown(p, *owner)
        if missing:
            path.chmod(mode)
        return path

    def write(
        self,
        inside: str,
        content: str | bytes,
        mode: int = 0o644,
        owner: tuple[int, int] = (0, 0),
        append: bool = False,
    ) -> None:
        """Write a file, and create its directory if missing. A dangling link at the path is replaced, and so is a
        device, which would be the host's, or a pipe."""
        link = self.path(inside.rpartition("/")[0]) / inside.rpartition("/")[2]
        if link.is_symlink() and not self.path(inside).exists():
            link.unlink()
        path = self.path(inside)
        if path.exists() and not path.is_file() and not path.is_dir():
            path.unlink()
        if not path.parent.is_dir():
            self.mkdir("/" + str(path.parent.relative_to(self.root)))
        data = content.encode() if isinstance(content, str) else content
        handle = os.open(path, _WRITING | (os.O_APPEND if append else os.O_TRUNC), 0o600)
        with os.fdopen(handle, "ab" if append else "wb") as file:
            file.write(data)
            os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)

    def remove(self, inside: str) -> None:
        link = self.path(inside.rpartition("/")[0]) / inside.rpartition("/")[2]
        link.unlink(missing_ok=True)

    def user(self, name: str) -> tuple[int, int, str] | None:
        """Return uid, gid and home directory of a user."""
        for line in self.read("/etc/passwd").splitlines():
            fields = line.split(":")
            if len(fields) >= 7 and fields[0] == name:
                return int(fields[2]), int(fields[3]), fields[5]
        return None

    def owner(self, text: str) -> tuple[int, int]:
        """Return the ids of ``user:group``, given by name or number. Raises SandboxError for names that the image does
        not have.
        """
        user, _, group = text.partition(":")
        return self._number(user, "/etc/passwd"), self._number(group or user, "/etc/group")

    def _number(self, name: str, database: str) -> int:
        if name.isdigit():
            return int(name)
        for line in self.read(database).splitlines():
            fields = line.split(":")
            if fields[0] == name and len(fields) > 2:
                return int(fields[2])
        raise SandboxError(f"the image has no {name!r} in {database}")
