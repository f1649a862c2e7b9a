"""A store in a bucket, for processes on several machines (see ``store.protocol``)::

    <key>                             an object, written with If-None-Match: * or If-Match: ETag
    <log>/records/00000000.jsonl      the records of a log, one object each, written with If-None-Match: *
    <log>/upto/00000057.jsonl         the first 57 records in one object, for fast reading
    <lock>                            a lease (``lease``)

An object is complete or absent, and every later read, from any machine, returns what was written.

A record is durable when S3 has answered its PUT. Two processes cannot both write record n: the lease excludes that,
and if a holder continues after its lease expired (its machine was suspended), the conditional PUT fails. So records
are never deleted, and ``upto`` is a copy of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from goldenami.aws import lease as leases
from goldenami.aws.lease import Terms
from goldenami.aws.s3 import Bucket
from goldenami.each import all_of
from goldenami.errors import CloudError, GoldenAmiError, JournalError
from goldenami.nextstep import step
from goldenami.store import Holder, Lock, Stored

_READERS: Final = 16  # threads; a log that was not closed is read with one request for each record


class BucketStore:
    """A store below a bucket's prefix. Thread-safe."""

    poll = 0.5
    lists_freely = False

    def __init__(self, bucket: Bucket, *, terms: Terms = Terms()) -> None:  # noqa: B008  frozen
        self._bucket = bucket
        self._terms = terms

    def where(self, key: str = "") -> str:
        return self._bucket.where(key)

    def read(self, key: str) -> Stored | None:
        found = self._bucket.read(key)
        return None if found is None else Stored(found.data, found.etag)

    def create(self, key: str, data: bytes, *, private: bool = False) -> Stored | None:
        """Create an object. ``private`` has no effect: every reader of the bucket can read the object. Encrypt
        secrets first (``envelope``)."""
        etag = self._bucket.create(key, data)
        return None if etag is None else Stored(data, etag)

    def replace(self, key: str, data: bytes, before: Stored | None) -> Stored | None:
        if before is None:
            return self.create(key, data)
        etag = self._bucket.replace(key, data, before.version)
        return None if etag is None else Stored(data, etag)

    def delete(self, key: str) -> None:
        self._bucket.delete(key)

    def delete_folder(self, folder: str) -> None:
        for key in list(self._bucket.keys(folder)):
            self._bucket.delete(key)

    def names(self, folder: str) -> tuple[str, ...]:
        return self._bucket.names(folder)

    def stamps(self, folder: str) -> dict[str, str]:
        return self._bucket.stamps(folder)

    def lock(self, key: str, what: str, hint: str) -> Lock:
        return leases.take(self._bucket, key, what, self._terms, hint)

    def holder(self, key: str) -> Holder | None:
        return leases.holder(self._bucket, key)

    def has_log(self, key: str) -> bool:
        return self._bucket.read(_record(key, 0)) is not None

    def read_log(self, key: str) -> bytes | None:
        content, _ = _read(self._bucket, key)
        return content or None

    def create_log(self, key: str, first: bytes, lock: Lock, what: str) -> BucketLog | None:
        return None if self._bucket.create(_record(key, 0), first) is None else self.open_log(key, lock, what)

    def open_log(self, key: str, lock: Lock, what: str) -> BucketLog:
        return BucketLog(self._bucket, key, lock, what)


class BucketLog:
    """Implements ``store.protocol.Log``, with one object for each record."""

    def __init__(self, bucket: Bucket, key: str, lock: Lock, what: str) -> None:
        self._bucket = bucket
        self._key = key
        self._lock = lock
        self._what = what
        self._doubt: tuple[int, bytes] | None = None
        self._written = 0

    def content(self) -> bytes:
        return _read(self._bucket, self._key)[0]

    def cut(self, whole: int) -> None:
        """Do nothing: an object is complete or absent, so no record can be torn."""

    def append(self, number: int, line: bytes) -> bool:
        self._lock.check()
        try:
            written = self._bucket.create(_record(self._key, number), line)
        except CloudError as error:
            # The record may exist: the replies were lost, and the limit for retries is reached.
            self._doubt = (number, line)
            message = f"cannot write {self._what}: {error.message}"
            raise JournalError(message, hint="Check that this machine can reach the bucket and write to it.") from error
        if written is not None:
            self._written += 1
        return written is not None

    def recover_appended(self) -> Sequence[bytes]:
        if self._doubt is None:
            return ()
        number, line = self._doubt
        there = self._bucket.read(_record(self._key, number))
        self._doubt = None
        if there is None:
            return ()
        if there.data != line:
            raise JournalError(
                f"another process has written record {number} of {self._what}",
                hint=f"This process changed nothing more. Run {step('builds list')} to see the lock's holder.",
            )
        return (line,)

    def close(self) -> None:
        """Copy all records so far into one object. This only makes reading faster, so a failure is ignored."""
        if not self._written:
            return
        self._written = 0
        with contextlib.suppress(GoldenAmiError):
            content, count = _read(self._bucket, self._key)
            if count is not None:
                self._bucket.create(f"{self._key}/upto/{count:08}.jsonl", content)


def _read(bucket: Bucket, log: str) -> tuple[bytes, int | None]:
    """Return all records of a log, and their number; None as the number if a record in between is missing. Reads the
    longest ``upto`` object, and the records after it."""
    whole = max((key for key in bucket.keys(f"{log}/upto")), default=None)
    start, content = 0, b""
    if whole is not None:
        there = bucket.read(whole)
        if there is not None:
            start, content = int(Path(whole).stem), there.data
    after = _record(log, start - 1) if start else ""
    keys = list(bucket.keys(f"{log}/records", after))
    found = all_of(keys, bucket.read, at_once=_READERS)
    numbers = [int(Path(key).stem) for key, one in zip(keys, found, strict=True) if one is not None]
    count = start + len(numbers)
    complete = numbers == list(range(start, count))
    return content + b"".join(one.data for one in found if one is not None), count if complete else None


def _record(log: str, number: int) -> str:
    return f"{log}/records/{number:08}.jsonl"
