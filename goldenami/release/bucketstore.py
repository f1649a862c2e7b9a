"""A catalog in a bucket: every write is conditional, so that nobody's is lost; locks are leases.

An object is whole or not there, and what was written is seen by every later read, from any machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from goldenami.aws import lease as leases
from goldenami.aws.lease import Terms
from goldenami.aws.s3 import Bucket
from goldenami.errors import Busy, CatalogError

_LOCK_POLL = 0.5  # seconds


class BucketStore:
    """See ``store.Store``. Safe between threads, processes and machines."""

    def __init__(
        self,
        bucket: Bucket,
        *,
        terms: Terms = Terms(),  # noqa: B008  frozen
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bucket = bucket
        self._terms = terms
        self._clock = clock
        self._sleep = sleep

    def where(self, key: str) -> str:
        return self._bucket.where(key)

    def read(self, key: str) -> bytes | None:
        found = self._bucket.read(key)
        return found.data if found is not None else None

    def names(self, folder: str) -> tuple[str, ...]:
        return self._bucket.names(folder)

    def create(self, key: str, data: bytes) -> bool:
        return self._bucket.create(key, data) is not None

    def replace(self, key: str, data: bytes, *, expected: bytes | None) -> bool:
        if expected is None:
            return self.create(key, data)
        there = self._bucket.read(key)
        if there is None or there.data != expected:
            return False
        return self._bucket.replace(key, data, there.etag) is not None

    @contextmanager
    def lock(self, key: str, *, timeout: float) -> Iterator[None]:
        """See Store. Whoever held it and died keeps others waiting for a minute."""
        deadline = self._clock() + timeout
        while True:
            try:
                lease = leases.take(self._bucket, f"locks/{key}.lock", key, self._terms, "")
                break
            except Busy as error:
                if self._clock() >= deadline:
                    raise CatalogError(
                        f"{self.where(f'locks/{key}.lock')} is still locked after {timeout:g} s: {error.message}",
                        hint="Wait for the other goldenami that works on this catalog to end, then try again.",
                    ) from error
            self._sleep(_LOCK_POLL)
        try:
            yield
        finally:
            lease.give_back()
