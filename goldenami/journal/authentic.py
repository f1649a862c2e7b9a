"""Authenticates the records of journals in a bucket.

Who can write into the bucket would otherwise command the role that builds: a record of a journal says what to delete
and what to send again. So each record has a MAC under a secret key of the environment. It covers the build, the record
and the MAC of the record before it: a record that was forged, changed, copied from another build, left out or moved is
refused. A directory needs none, because only its owner can write into it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import threading
from typing import Final

from goldenami.errors import JournalError
from goldenami.store import SecretKey

_MAC: Final = re.compile(rb',"mac":"([0-9a-f]{64})"}\n\Z')
_HINT: Final = (
    "Somebody else wrote or deleted objects in the bucket, or an earlier version of goldenami wrote the journal. Look "
    "in the versions and the access log of the bucket. Find the build's resources by their tag goldenami:build-id."
)


class Authenticator:
    """Signs and checks the records of an environment's journals. The key is read when it is first needed."""

    def __init__(self, environment: str, key: SecretKey) -> None:
        self._environment = environment
        self._source = key
        self._key: bytes | None = None
        self._mutex = threading.Lock()

    def sign(self, build_id: str, before: str, line: bytes) -> tuple[bytes, str]:
        """Return a record with its MAC, and the MAC. ``before``: the MAC of the record before it; empty for the
        first."""
        with self._mutex:
            self._key = key = self._key or self._source.ensure()
        mac = self._mac(key, build_id, before, line)
        return line.removesuffix(b"}\n") + b',"mac":"' + mac.encode() + b'"}\n', mac

    def check(self, build_id: str, content: bytes, where: str) -> str:
        """Check all records of a build. Return the MAC of the last one. Raises JournalError for a record that is not
        authentic."""
        with self._mutex:
            self._key = key = self._key or self._source.read()
        before = ""
        for number, line in enumerate(content.splitlines(keepends=True)):
            found = _MAC.search(line)
            plain = b"" if found is None else line[: found.start()] + b"}\n"
            mac = "" if key is None else self._mac(key, build_id, before, plain)
            if found is None or key is None or not hmac.compare_digest(found[1], mac.encode()):
                why = "it has no MAC" if found is None else "its MAC is wrong"
                raise JournalError(f"{where}: record {number} of build {build_id} is not authentic: {why}", hint=_HINT)
            before = mac
        return before

    def is_ours(self, content: bytes) -> bool:
        """Return whether the first record says that a build is of this environment. Others have another key."""
        try:
            return bool(json.loads(content.partition(b"\n")[0])["environment"] == self._environment)
        except (ValueError, KeyError, TypeError):
            return True  # it is checked, and refused

    @staticmethod
    def _mac(key: bytes, build_id: str, before: str, line: bytes) -> str:
        return hmac.new(key, b"\n".join((build_id.encode(), before.encode(), line)), hashlib.sha256).hexdigest()
