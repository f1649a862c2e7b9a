"""Leases: locks in a bucket. A lease is held while it is renewed, and expires some time after its holder ended.

The lease is an object. A process takes it by a conditional write: it creates the object, or it replaces an expired or
released lease if that has not changed (ETag). A thread renews it. Only S3's clock decides whether it expired (the
object's LastModified and the Date of the answer), because the clocks of two machines may differ by hours.

A holder whose renewals fail cannot know whether another process took the lease over. So ``check`` is called right
before each mutating call. It counts this machine's seconds since the last successful renewal (CLOCK_BOOTTIME, which
includes the time of a suspended machine), and renews the lease if that is too long ago. The lease can still expire
between the check and the call. The numbers of the journal's records cover this case: of two processes that write the
same number, one fails.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from goldenami.aws.limits import boot_clock
from goldenami.aws.s3 import Bucket, Object
from goldenami.errors import CloudError, GoldenAmiError, LeaseLost
from goldenami.journal import utc_now
from goldenami.nextstep import step
from goldenami.store import Holder, busy

SECONDS: Final = 60.0  # how long a lease lasts without renewal
_RENEWALS: Final = 4  # renewals in that time; so three may fail
_SLACK: Final = 2.0  # seconds: S3's times are whole seconds, and the answer took some time to arrive


@dataclass(frozen=True, slots=True)
class Terms:
    """The duration and clocks of leases; tests use shorter ones. ``seconds``: how long a lease lasts without
    renewal."""

    seconds: float = SECONDS
    clock: Callable[[], float] = boot_clock
    now: Callable[[], datetime] = utc_now


class Lease:
    """A held lease. ``taken_over``: the earlier holder whose lease expired and whose process may still run, or None."""

    def __init__(self, bucket: Bucket, key: str, what: str, terms: Terms, etag: str, started: float) -> None:
        """Use :func:`take`."""
        self.taken_over: Holder | None = None
        self._bucket = bucket
        self._key = key
        self._what = what
        self._terms = terms
        self._etag = etag
        self._renewed = started
        self._lost = False
        self._mutex = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease {key}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise LeaseLost if another process may hold the lease. Sends no request, unless a renewal is overdue (the
        machine was suspended, or S3 was unreachable): then the lease is renewed now."""
        if self._lost:
            raise self._lease_lost("was taken over by another process")
        if self._terms.clock() - self._renewed <= self._terms.seconds - _SLACK:
            return
        try:
            self.renew()
        except CloudError as error:
            message = f"may have been taken over by another process: its lease expired ({error.message})"
            raise self._lease_lost(message) from error

    def _lease_lost(self, why: str) -> LeaseLost:
        return LeaseLost(
            f"{self._what} {why}",
            hint=f"This process changed nothing more. Run {step('builds list')} to see the lock's holder.",
        )

    def renew(self) -> None:
        """Renew the lease now. Raises LeaseLost if another process holds it, or the error of S3."""
        with self._mutex:
            if self._end.is_set():
                return
            started = self._terms.clock()
            etag = self._bucket.replace(self._key, _content(self._terms), self._etag)
            if etag is None:
                self._lost = True
                raise self._lease_lost("was taken over by another process")
            self._etag, self._renewed = etag, started

    def give_back(self) -> None:
        """Release the lease. The second call does nothing. If S3 is unreachable, the lease expires later."""
        self._end.set()
        with self._mutex:
            if not self._lost and self._etag:
                with contextlib.suppress(GoldenAmiError):  # it expires
                    self._bucket.replace(self._key, _content(self._terms, free=True), self._etag)
                self._etag = ""
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _keep(self) -> None:
        while not self._end.wait(self._terms.seconds / _RENEWALS):
            try:
                self.renew()
            except LeaseLost:
                return
            except GoldenAmiError:
                continue  # S3 was unreachable or refused: the next renewal may succeed, and ``check`` counts the time


def take(bucket: Bucket, key: str, what: str, terms: Terms, hint: str) -> Lease:
    """Take the lease of a key for this process. Raises Busy, with the holder, if another process holds it."""
    while True:
        started = terms.clock()
        there = bucket.read(key)
        if there is None:
            etag = bucket.create(key, _content(terms))
        elif _is_free(there):
            etag = bucket.replace(key, _content(terms), there.etag)
        else:
            left = _expires_in(there)
            note = f"If that process has ended, its lease expires in {left:.0f} s. " if left < SECONDS * 10 else ""
            raise busy(what, _holder(there), note + hint)
        if etag is not None:
            lease = Lease(bucket, key, what, terms, etag, started)
            if there is not None and not _fields(there).get("free"):
                lease.taken_over = _holder(there) or Holder(0, "?", "?", "?")
            return lease
        # Another process took it meanwhile. The next read finds its holder.


def holder(bucket: Bucket, key: str) -> Holder | None:
    """Return the process that holds a lease now; None if it is free."""
    there = bucket.read(key)
    return None if there is None or _is_free(there) else _holder(there)


def _content(terms: Terms, *, free: bool = False) -> bytes:
    fields = {**Holder.this_process(terms.now()).to_json(), "seconds": terms.seconds, "free": free}
    return json.dumps(fields).encode()


def _fields(there: Object) -> dict[str, Any]:
    try:
        found = json.loads(there.data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _expires_in(there: Object) -> float:
    try:
        seconds = float(_fields(there).get("seconds", SECONDS))
    except (TypeError, ValueError):
        seconds = SECONDS
    return seconds + _SLACK - there.age


def _is_free(there: Object) -> bool:
    return bool(_fields(there).get("free")) or _expires_in(there) <= 0


def _holder(there: Object) -> Holder | None:
    return Holder.from_json(_fields(there))
