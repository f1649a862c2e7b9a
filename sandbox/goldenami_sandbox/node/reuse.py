"""What the node knows of blocks that it stored before, so that equal blocks are shared and not made again.

A nightly image differs from the one before in few blocks, and each of its encrypted copies is made for several regions
and booted from. Ciphers and writes of the equal blocks are most of the work of a sandbox. The cipher is deterministic:
a block that had token A in plain text has token B under a key, each time. So these pairs are remembered, those of the
newest snapshots, and the newest snapshots under each key are those to share with. All of this is in memory: a sandbox
that was started again learns it anew.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping

_SNAPSHOTS_PER_KEY = 6  # the newest; each costs a look at its index when a snapshot is stored
_COPIES = 64  # the newest copies, whose pairs are kept; those of 8 GiB need some megabytes

Tokens = Mapping[int, str]
_Keys = tuple[str | None, str | None]


class Reuse:
    """Pairs of tokens, and the newest snapshots of each key. A key is its fingerprint; None stands for plain text.

    Safe for several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pairs: dict[_Keys, dict[int, tuple[str, str, int]]] = {}  # with the number of the copy
        self._copies: deque[tuple[_Keys, int]] = deque()
        self._number = 0
        self._newest: dict[str | None, deque[str]] = {}

    def stored(self, snapshot: str, key: str | None) -> None:
        """Note that there is a new snapshot under ``key``."""
        with self._lock:
            newest = self._newest.setdefault(key, deque(maxlen=_SNAPSHOTS_PER_KEY))
            if snapshot not in newest:
                newest.appendleft(snapshot)

    def newest(self, key: str | None) -> list[str]:
        """Return ids of snapshots under ``key``, the newest first. They may have been deleted since."""
        with self._lock:
            return list(self._newest.get(key, ()))

    def translated(self, source: str | None, tokens: Tokens, key: str | None, made: Tokens) -> None:
        """Note which tokens the blocks with ``tokens`` under key ``source`` got under ``key``.

        One pair is kept for each index, the last; and those of the newest copies only.
        """
        with self._lock:
            self._number += 1
            there = self._pairs.setdefault((source, key), {})
            back = self._pairs.setdefault((key, source), {})
            for index, token in made.items():
                there[index] = (tokens[index], token, self._number)
                back[index] = (token, tokens[index], self._number)
            self._copies.append(((source, key), self._number))
            if len(self._copies) > _COPIES:
                (source, key), number = self._copies.popleft()
                self._forget((source, key), number)
                self._forget((key, source), number)

    def _forget(self, keys: _Keys, number: int) -> None:
        """Forget the pairs of one copy, as far as no newer one has replaced them."""
        left = {i: pair for i, pair in self._pairs.get(keys, {}).items() if pair[2] != number}
        if left:
            self._pairs[keys] = left
        else:
            self._pairs.pop(keys, None)

    def translate(self, source: str | None, tokens: Tokens, key: str | None) -> dict[int, str]:
        """Return the tokens under ``key`` of those blocks for which they are known."""
        if source == key:
            return dict(tokens)
        with self._lock:
            pairs = self._pairs.get((source, key), {})
            return {i: pairs[i][1] for i, token in tokens.items() if i in pairs and pairs[i][0] == token}
