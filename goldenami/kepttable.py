"""Tables of results in the user's cache: a file each, which a process reads once and writes once.

The file begins with the digest of the rest, so a damaged one is not used. Of two processes that write it, the last one
stays: what the other one made is made again.
"""

from __future__ import annotations

import hashlib
import marshal
from pathlib import Path
from typing import Final

from goldenami import usercache

_DIGEST: Final = hashlib.sha256().digest_size


class Table:
    """Results by key. ``known``: what the file had. ``used``: what this process asked for or made; to be added to.

    ``path``: a file of a folder of ``usercache``; None: nothing is kept. Both the keys and the results are bytes.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.known = read(path) if path is not None else {}
        self.used: dict[bytes, bytes] = {}

    def find(self, key: bytes) -> bytes | None:
        """Return the result of an earlier process, and count it as used; None if there is none."""
        content = self.known.get(key)
        if content is not None:
            self.used[key] = content
        return content

    def write(self, *, most: int, largest: int, files: int) -> None:
        """Write the file, if this process has made anything and if that is possible.

        It has all results, or those that were used if there would be more than ``most``. A file of more than
        ``largest`` bytes is not written. ``files``: see ``usercache.write``.
        """
        if self.path is None or self.used.keys() <= self.known.keys():
            return
        every = self.known | self.used
        content = marshal.dumps(every if len(every) <= most else self.used)
        if len(content) <= largest:
            usercache.write(self.path, hashlib.sha256(content).digest() + content, files)


def read(path: Path) -> dict[bytes, bytes]:
    """Return the results in a file; none if it cannot be used."""
    content = usercache.read(path) or b""
    digest, rest = content[:_DIGEST], content[_DIGEST:]
    if hashlib.sha256(rest).digest() != digest:
        return {}
    known = marshal.loads(rest)  # only this user has written it
    return known if isinstance(known, dict) else {}
