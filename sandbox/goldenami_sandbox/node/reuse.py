"""Which snapshots the node stored last, so that equal blocks are shared and not made again.

A nightly image differs from the one before in few blocks, and each of its encrypted copies is made for several regions
and booted from. So the newest snapshots, plain and encrypted, are those to share with.
"""

from __future__ import annotations

import threading
from collections import deque

_SNAPSHOTS = 8  # the newest of each form; each costs a look at its index when a snapshot is stored


class Reuse:
    """The newest snapshots, plain and encrypted. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: dict[bool, deque[str]] = {form: deque(maxlen=_SNAPSHOTS) for form in (False, True)}

    def stored(self, snapshot: str, *, encrypted: bool) -> None:
        """Note that there is a new snapshot."""
        with self._lock:
            newest = self._newest[encrypted]
            if snapshot not in newest:
                newest.appendleft(snapshot)

    def newest(self, *, encrypted: bool) -> list[str]:
        """Return ids of snapshots, the newest first. They may have been deleted since."""
        with self._lock:
            return list(self._newest[encrypted])
