"""Opens files that a user or a merge request names. Other modules read files of a project only with ``Files``.

A recipe, its files and their links may come from an author who is not trusted. Therefore a file is read only if it is
in an allowed folder after all links are resolved, is a regular file, and is not too large. The checks are made on an
open descriptor, so a file that is replaced meanwhile is not read.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

TEXT_BYTES = 8 << 20  # limit for a recipe, a template, a test or another file that is parsed
FILE_BYTES = 1 << 30  # limit for a file that is sent to the host

_GIT = ".git"  # in a pipeline, .git/config has the credentials of the checkout
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_read: set[str] = set()  # the real paths of the files that were read as a whole


class Refused(OSError):
    """A file that is not read, because of its place, its kind or its size. ``hint``: the next step for the user."""

    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(errno.EACCES, reason)
        self.hint = hint


def describe(error: OSError, name: str) -> str:
    """Return the sentence of an error for a file: ``motd: No such file or directory``, ``motd is a directory``."""
    return f"{name} {error.strerror}" if isinstance(error, Refused) else f"{name}: {error.strerror or error}"


def hint_of(error: OSError, default: str | None = None) -> str | None:
    """Return the hint of a refused file, else the default."""
    return error.hint if isinstance(error, Refused) else default


class Files:
    """Opens regular files below some folders. ``hint``: the next step if a file is outside of them."""

    def __init__(self, folders: Iterable[Path], hint: str | None = None) -> None:
        self._folders = frozenset(os.path.realpath(folder) for folder in folders)
        self._hint = hint

    def check(self, path: Path) -> None:
        """Raise Refused if the path, with its links resolved, is outside the folders. The file need not exist."""
        try:
            self._check(os.path.realpath(path))
        except ValueError:  # a NUL, or characters that a path cannot have
            raise Refused("is not the name of a file") from None

    def open(self, path: Path, limit: int = FILE_BYTES) -> BinaryIO:
        """Open a regular file for reading. Raises OSError; Refused for a file that must not be read.

        The file may still grow, so callers that read all of it need a limit, as ``read_bytes`` has.
        """
        return self._open(path, limit)[0]

    def _open(self, path: Path, limit: int) -> tuple[BinaryIO, str]:
        """Open a file as ``open`` does. Returns also its path without links."""
        self.check(path)  # first, so that nothing outside the folders is opened, not even to look at it
        found = os.open(path, os.O_PATH | os.O_CLOEXEC)  # does not wait for a FIFO, does not act on a device
        try:
            same = f"/proc/self/fd/{found}"
            real = os.readlink(same)  # noqa: PTH115 - as everywhere here, not by Path: projects have many files
            self._check(real)
            status = os.fstat(found)
            kind = stat.S_IFMT(status.st_mode)
            if kind != stat.S_IFREG:
                raise Refused(f"is {_KINDS.get(kind, 'no regular file')}", "Name a file.")
            if status.st_size > limit:
                raise _too_large(limit)
            return open(same, "rb"), real  # noqa: PTH123
        finally:
            os.close(found)

    def read_bytes(self, path: Path, limit: int = TEXT_BYTES) -> bytes:
        """Return the contents of a regular file. Raises OSError; Refused for a file that must not be read."""
        stream, real = self._open(path, limit)
        with stream:
            data = stream.read(limit + 1)
        if len(data) > limit:
            raise _too_large(limit)
        _read.add(real)
        return data

    def _check(self, real: str) -> None:
        for folder in self._folders:
            below = folder.rstrip("/") + "/"
            if real == folder or real.startswith(below):
                if _GIT not in real[len(below) :].split("/"):
                    return
                raise Refused(f"leads into the folder {_GIT}, which can have credentials")
        raise Refused(f"leads to {real}, which is outside the project", self._hint)


ANYWHERE = Files([Path("/")])
"""For files that the user of the command line, or goldenami.yaml, names."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file, and the folders that it must be in whenever it is opened."""

    path: Path
    files: Files

    def open(self) -> BinaryIO:
        """Open the file for reading. Raises OSError."""
        return self.files.open(self.path)


def read_again(path: Path) -> str | None:
    """Return the text of a file that this process has already read, for an excerpt; None for any other file."""
    try:
        real = Path(os.path.realpath(path))
        if str(real) not in _read:
            return None
        return Files([real]).read_bytes(real).decode(errors="replace")
    except (OSError, ValueError):
        return None


def _too_large(limit: int) -> Refused:
    return Refused(f"is too large: expected at most {limit >> 20} MiB")
