"""Shares the rates of API calls with the other processes of a catalog, such as the jobs of a night.

AWS counts the calls of an account and region, whoever sends them. So each process that builds takes an equal part of
the known limits (``limits.Shares``). How many there are, it learns from the store of the catalog: each process writes
an object there (``sharing/…``) after some seconds, and changes it every 30 seconds. A process is alive as long as its
object changes, so no clocks are compared. One that ended without a word no longer counts after a minute and a half;
after ten minutes any other process deletes its object. These are two requests every 30 seconds for each process,
however many calls it makes. If the store does not answer, the last known number counts.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from goldenami.aws.limits import Shares, boot_clock
from goldenami.errors import GoldenAmiError
from goldenami.store import Store, Stored

FOLDER: Final = "sharing"
BEAT: Final = 30.0  # seconds between two changes of an object
_QUIET: Final = 5.0  # seconds before the first one
_ALIVE: Final = 3 * BEAT  # seconds without a change after which a process does not count
_FORGOTTEN: Final = 20 * BEAT  # seconds after which its object is deleted


class Membership:
    """This process among those that share. Use :func:`sharing`."""

    def __init__(self, store: Store, shares: Shares, clock: Callable[[], float] = boot_clock) -> None:
        self._store = store
        self._shares = shares
        self._clock = clock
        self._name = secrets.token_hex(8)
        self._number = 0
        self._written: Stored | None = None
        self._seen: dict[str, tuple[str, float]] = {}  # of the others: the stamp, and when it was new

    def beat(self) -> None:
        """Show that this process is alive, and count the others. A store that fails changes nothing."""
        with contextlib.suppress(GoldenAmiError):
            self._number += 1
            key, data = self._key(self._name), str(self._number).encode()
            written = self._store.replace(key, data, self._written)
            # It was deleted, because this process was suspended, or the answer to the last write was lost.
            self._written = written or self._store.replace(key, data, self._store.read(key))
            self._count()

    def leave(self) -> None:
        """Take this process out. The second call does nothing."""
        if self._number:
            self._number = 0
            with contextlib.suppress(GoldenAmiError):
                self._store.delete(self._key(self._name))

    def _count(self) -> None:
        now, alive = self._clock(), 1
        stamps = self._store.stamps(FOLDER)
        stamps.pop(self._name, None)
        for name, stamp in stamps.items():
            known = self._seen.get(name)
            if known is None or known[0] != stamp:
                known = self._seen[name] = (stamp, now)
            alive += now - known[1] < _ALIVE
            if now - known[1] > _FORGOTTEN:
                self._store.delete(self._key(name))
        self._seen = {name: known for name, known in self._seen.items() if name in stamps}
        self._shares.count = alive

    @staticmethod
    def _key(name: str) -> str:
        return f"{FOLDER}/{name}"


@contextmanager
def sharing(store: Store, shares: Shares) -> Iterator[None]:
    """Share the rates until the block ends. A run that ends within seconds, because nothing is to be built, sends
    nothing."""
    member, end = Membership(store, shares), threading.Event()

    def keep() -> None:
        pause = _QUIET
        while not end.wait(pause):
            member.beat()
            pause = BEAT

    thread = threading.Thread(target=keep, name="sharing", daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
        member.leave()
        shares.count = 1
