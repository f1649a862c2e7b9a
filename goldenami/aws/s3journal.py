"""Journals in a bucket, for pipelines whose next run is on another machine::

    <prefix>/builds/<build id>/records/00000000.jsonl    one record each, written with If-None-Match: *
    <prefix>/builds/<build id>/upto/00000057.jsonl       the first 57 records in one object, to be read quickly
    <prefix>/builds/<build id>/lease                     who works on the build (``lease``)
    <prefix>/builds/<build id>/secrets/<name>            envelopes (``envelope``); removed at the end
    <prefix>/open/<build id>                             empty; there as long as the build is not finished
    <prefix>/locks/<recipe>                              the lease of who builds the recipe

A record is durable when its PUT was answered. Two writers can never both write record n: the lease keeps them apart in
time, and where it fails (a holder that slept through its expiry and woke) the numbers do. Whoever takes a lease over
that ran out writes a record first of all, so that the earlier holder's next intent fails, and with it the call it was
for. For the same reason records are never deleted, and what ``upto`` holds is kept besides.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from goldenami.aws import lease as leases
from goldenami.aws.envelope import Envelopes
from goldenami.aws.lease import Lease, Terms
from goldenami.aws.s3 import Bucket
from goldenami.errors import CloudError, GoldenAmiError, JournalError
from goldenami.journal import Holder, Secret, replay
from goldenami.journal.records import Json, line, timestamp
from goldenami.journal.storage import SAFE_NAME, checked_name

_READERS: Final = 16  # threads; a journal that was not ended is read record by record


class S3Storage:
    """Journals below a prefix. ``local``: where this machine keeps reports. ``key``: the KMS key for secrets."""

    def __init__(self, bucket: Bucket, *, local: Path, key: str, terms: Terms = Terms()) -> None:  # noqa: B008  frozen
        self._bucket = bucket
        self._local = local
        self._key = key
        self._terms = terms

    def where(self, build_id: str | None = None) -> str:
        return self._bucket.where(_folder(build_id) if build_id is not None else "builds")

    def directory(self, build_id: str) -> Path:
        return self._local / build_id

    def names(self, *, unfinished: bool = False) -> tuple[str, ...]:
        return self._bucket.names("open" if unfinished else "builds")

    def read(self, build_id: str) -> bytes | None:
        if not SAFE_NAME.match(build_id):
            return None
        return read_records(self._bucket, build_id) or None

    def create(self, build_id: str, header: bytes) -> S3Log:
        lease = self._take(checked_name(build_id, "build"))
        try:
            self._bucket.create(_marker(build_id), b"")
            if self._bucket.create(_record(build_id, 0), header) is None:
                raise JournalError(f"build {build_id} exists already in {self.where()}")
        except BaseException:
            lease.give_back()
            raise
        return self._log(build_id, lease)

    def open(self, build_id: str) -> S3Log | None:
        if not SAFE_NAME.match(build_id) or self._bucket.read(_record(build_id, 0)) is None:
            return None
        lease = self._take(build_id)
        log = self._log(build_id, lease)
        try:
            self._bucket.create(_marker(build_id), b"")
            if lease.taken_over is not None:
                self._fence(log, build_id, lease.taken_over)
        except BaseException:
            log.close()
            raise
        return log

    def holder(self, build_id: str) -> Holder | None:
        return leases.holder(self._bucket, _lease(build_id))

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        key = f"locks/{checked_name(name, 'lock')}"
        lease = leases.take(self._bucket, key, name, self._terms, "Wait for it with --wait, or end that process.")
        try:
            yield
        finally:
            lease.give_back()

    def _take(self, build_id: str) -> Lease:
        hint = "Wait for that process, or end it; then try again."
        return leases.take(self._bucket, _lease(build_id), f"build {build_id}", self._terms, hint)

    def _log(self, build_id: str, lease: Lease) -> S3Log:
        envelopes = Envelopes(self._bucket.cloud, self._bucket.place, self._key, build_id)
        return S3Log(self._bucket, build_id, lease, SealedFiles(self._bucket, build_id, envelopes))

    def _fence(self, log: S3Log, build_id: str, before: Holder) -> None:
        """Write the next record, whatever its number is by now: the earlier holder writes none after it."""
        while True:
            content = log.content()
            _, _, count, _ = replay(content, self.where(build_id))
            note = {"record": "note", "name": "taken over", "data": {"from": before.to_json()}}
            record = line({"n": count, "at": timestamp(self._terms.now()), **note})
            if self._bucket.create(_record(build_id, count), record) is not None:
                return


class S3Log:
    """The records of one build, as objects."""

    def __init__(self, bucket: Bucket, build_id: str, lease: Lease, side: SealedFiles) -> None:
        self._bucket = bucket
        self._build_id = build_id
        self._lease = lease
        self._side = side
        self._doubt: tuple[int, bytes] | None = None
        self._written = 0
        self._closed = False

    @property
    def side(self) -> SealedFiles:
        return self._side

    def content(self) -> bytes:
        return read_records(self._bucket, self._build_id)

    def cut(self, whole: int) -> None:
        """An object is whole, or not there."""

    def append(self, number: int, line: bytes) -> None:
        self._lease.check()
        try:
            written = self._bucket.create(_record(self._build_id, number), line)
        except CloudError as error:
            # It may be there: the replies were lost, and the budget for asking again is spent.
            self._doubt = (number, line)
            message = f"cannot write the journal of build {self._build_id}: {error.message}"
            raise JournalError(message, hint="When S3 answers again, `goldenami resume` continues.") from error
        if written is None:
            raise JournalError(
                f"somebody else has written record {number} of build {self._build_id}: it was taken over",
                hint=f"Nothing more was changed. `goldenami builds show {self._build_id}` says who works on it.",
            )
        self._written += 1

    def doubtful(self) -> Sequence[bytes]:
        if self._doubt is None:
            return ()
        number, line = self._doubt
        there = self._bucket.read(_record(self._build_id, number))
        self._doubt = None
        if there is None:
            return ()
        if there.data != line:
            raise JournalError(f"somebody else has written record {number} of build {self._build_id}")
        return (line,)

    def check(self) -> None:
        self._lease.check()

    def close(self, *, finished: bool = False) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            with contextlib.suppress(GoldenAmiError):  # it is only quicker to read and to find
                if self._written:
                    compact(self._bucket, self._build_id)
                if finished:
                    self._lease.check()
                    self._bucket.delete(_marker(self._build_id))
        finally:
            self._lease.give_back()


class SealedFiles:
    """Secrets of one build, in envelopes beside its records."""

    def __init__(self, bucket: Bucket, build_id: str, envelopes: Envelopes) -> None:
        self._bucket = bucket
        self._folder = f"{_folder(build_id)}/secrets"
        self._envelopes = envelopes

    def keep(self, secret: Secret) -> Json:
        key = f"{self._folder}/{secret.digest}"
        if self._bucket.read(key) is None:
            self._bucket.create(key, self._envelopes.close(secret.digest, secret.value.encode()))
        return {"$secret": secret.digest}

    def read(self, digest: str) -> Secret:
        there = self._bucket.read(f"{self._folder}/{digest}")
        if there is None:
            where = self._bucket.where(f"{self._folder}/{digest}")
            raise FileNotFoundError(errno.ENOENT, "there is no such object", where)
        return Secret(self._envelopes.open(digest, there.data).decode())

    def named(self, name: str, make: Callable[[], bytes]) -> bytes:
        if not SAFE_NAME.match(name):
            raise ValueError(f"{name!r} cannot be the name of a secret")
        key = f"{self._folder}/{name}"
        there = self._bucket.read(key)
        if there is None:
            value = make()
            if self._bucket.create(key, self._envelopes.close(name, value)) is not None:
                return value
            there = self._bucket.read(key)  # another thread's, or an earlier try's
            if there is None:
                raise JournalError(f"{self._bucket.where(key)} was deleted while it was read")
        return self._envelopes.open(name, there.data)

    def remove(self) -> None:
        for key in list(self._bucket.keys(self._folder)):
            self._bucket.delete(key)


def read_records(bucket: Bucket, build_id: str) -> bytes:
    """All records of a build, from the longest object that holds many and those after it; empty without a header."""
    folder = _folder(build_id)
    whole = max((key for key in bucket.keys(f"{folder}/upto")), default=None)
    start, content = 0, b""
    if whole is not None:
        there = bucket.read(whole)
        if there is not None:
            start, content = int(Path(whole).stem), there.data
    after = _record(build_id, start - 1) if start else ""
    keys = list(bucket.keys(f"{folder}/records", after))
    with ThreadPoolExecutor(_READERS, thread_name_prefix="records") as pool:
        found = list(pool.map(bucket.read, keys))
    return content + b"".join(one.data for one in found if one is not None)


def compact(bucket: Bucket, build_id: str) -> None:
    """Put all records so far into one object besides."""
    content = read_records(bucket, build_id)
    _, _, count, _ = replay(content, bucket.where(_folder(build_id)))
    bucket.create(f"{_folder(build_id)}/upto/{count:08}.jsonl", content)


def _folder(build_id: str) -> str:
    return f"builds/{build_id}"


def _marker(build_id: str) -> str:
    return f"open/{build_id}"


def _record(build_id: str, number: int) -> str:
    return f"{_folder(build_id)}/records/{number:08}.jsonl"


def _lease(build_id: str) -> str:
    return f"{_folder(build_id)}/lease"
