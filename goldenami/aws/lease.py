"""A lock in a bucket: held as long as it is renewed, and free for others some time after its holder died.

The lease is an object. Taking it is a conditional write: create it where there is none, or write over the one that
ran out or was given back, if it is still that one (ETag). A thread renews it. Whether it ran out is judged by S3's
clock alone (the object's LastModified against the Date of the answer): the clocks of two runners may differ by hours.

A holder whose renewals do not get through cannot know whether it was taken over. It is told by ``check``, right before
each call: it counts this machine's seconds since the last renewal that did (CLOCK_BOOTTIME: a suspended machine's
count, too), and renews when that was too long ago. That leaves the moment between the check and the call; what closes
it is fencing, which is the affair of what the lease protects: the journal's records are numbered, and of two writers
of one number one fails.
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
from goldenami.store import Holder, busy

SECONDS: Final = 60.0  # how long it holds without being renewed
_RENEWALS: Final = 4  # in that time; so three may fail
_SLACK: Final = 2.0  # seconds: S3's times are whole seconds, and the answer was on its way


@dataclass(frozen=True, slots=True)
class Terms:
    """How leases are kept; tests have shorter ones. ``seconds``: how long one holds without being renewed."""

    seconds: float = SECONDS
    clock: Callable[[], float] = boot_clock
    now: Callable[[], datetime] = utc_now


class Lease:
    """A lease that is held. ``taken_over``: it had run out on somebody who may still think to hold it."""

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
        """Raise LeaseLost if it may not be ours any more. Nothing is sent, unless a renewal is overdue (the machine
        slept, S3 was out of reach): then it is made now, and tells."""
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
            hint="This process changed nothing more. Run `goldenami builds list` to see the lock's holder.",
        )

    def renew(self) -> None:
        """Renew it now. Raises LeaseLost if it is somebody else's, or the error of S3."""
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
        """Let others take it at once. The second call does nothing; what cannot be given back runs out."""
        self._end.set()
        with self._mutex:
            if not self._lost and self._etag:
                with contextlib.suppress(GoldenAmiError):  # it runs out
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
                continue  # S3 could not be reached, or refused: the next renewal may get through, and ``check`` counts


def take(bucket: Bucket, key: str, what: str, terms: Terms, hint: str) -> Lease:
    """Take the lease of that key for this process. Raises Busy, which says who holds it, if it has not run out."""
    while True:
        started = terms.clock()
        there = bucket.read(key)
        if there is None:
            etag = bucket.create(key, _content(terms))
        elif _is_free(there):
            etag = bucket.replace(key, _content(terms), there.etag)
        else:
            left = _runs_out_in(there)
            note = f"If that process has ended, its lease expires in {left:.0f} s. " if left < SECONDS * 10 else ""
            raise busy(what, _holder(there), note + hint)
        if etag is not None:
            lease = Lease(bucket, key, what, terms, etag, started)
            if there is not None and not _fields(there).get("free"):
                lease.taken_over = _holder(there) or Holder(0, "?", "?", "?")
            return lease
        # Somebody took it in between; the next look tells who.


def holder(bucket: Bucket, key: str) -> Holder | None:
    """Who holds a lease now; None if nobody does."""
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


def _runs_out_in(there: Object) -> float:
    try:
        seconds = float(_fields(there).get("seconds", SECONDS))
    except (TypeError, ValueError):
        seconds = SECONDS
    return seconds + _SLACK - there.age


def _is_free(there: Object) -> bool:
    return bool(_fields(there).get("free")) or _runs_out_in(there) <= 0


def _holder(there: Object) -> Holder | None:
    return Holder.from_json(_fields(there))
