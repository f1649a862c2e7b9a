"""Which services do not answer: so a region that is gone costs its retries once, and not once for each call.

A service of a place is *unreachable* when none of its calls was answered for the limit of ``Retry.unreachable``, and at
least two were made. From then on its calls fail at once. Every half minute one call is let through; an answer ends
this. Any answer counts, also an error. While one service is unreachable, others that do not answer are given up after
their first failure, because the network of this machine is probably the cause.

Calls to S3 are always made: the journal, the catalog and their leases are there, and a build ends if it cannot write
its journal.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

from goldenami.errors import PlaceUnreachable, Unreachable
from goldenami.model import Place
from goldenami.polling import Clock

_AGAIN: Final = 30.0  # seconds between two calls to a service that is unreachable


@dataclass(slots=True)
class _Silence:
    """Calls without an answer. ``since``: when the first of them began. ``error``: set when the service is unreachable;
    ``next``: when the next call is let through."""

    since: float
    failures: int = 0
    error: PlaceUnreachable | None = None
    next: float = 0.0


class Reach:
    """The services that do not answer one process. Thread-safe."""

    def __init__(self, clock: Clock, limit: float) -> None:
        """``limit``: seconds without an answer after which a service is unreachable."""
        self._clock = clock
        self._limit = limit
        self._mutex = threading.Lock()
        self._answered: dict[tuple[Place, str], float] = {}
        self._silent: dict[tuple[Place, str], _Silence] = {}

    def unreachable(self, place: Place, service: str) -> PlaceUnreachable | None:
        """Return the error of a service that is unreachable, or None."""
        with self._mutex:
            silence = self._silent.get((place, service))
            return None if silence is None else silence.error

    def check(self, place: Place, service: str) -> None:
        """Raise PlaceUnreachable if a call must not be made now."""
        if service == "s3":
            return
        with self._mutex:
            silence = self._silent.get((place, service))
            if silence is None or silence.error is None:
                return
            now = self._clock()
            if now < silence.next:
                raise silence.error.copy()
            silence.next = now + _AGAIN

    def answered(self, place: Place, service: str) -> None:
        """Record an answer, also one that is an error."""
        with self._mutex:
            self._answered[place, service] = self._clock()
            self._silent.pop((place, service), None)

    def failed(self, place: Place, service: str, began: float, error: Unreachable) -> Unreachable:
        """Record a call without an answer, which began then. Return its error, or PlaceUnreachable instead."""
        with self._mutex:
            key, now = (place, service), self._clock()
            alone = not any(silence.error for silence in self._silent.values())
            since = max(began, self._answered.get(key, began))
            silence = self._silent.setdefault(key, _Silence(since))
            silence.failures += 1
            lasts = now - silence.since
            if silence.error is None and alone and (silence.failures < 2 or lasts < self._limit):
                return error
            silence.next = now + _AGAIN
            silence.error = PlaceUnreachable(
                f"{service} in {place} has not answered for {lasts:.0f} s: {error.message}",
                code=error.code,
                action=error.action,
                account=error.account,
                region=error.region,
                hint=error.hint,
            )
            return silence.error.copy()
