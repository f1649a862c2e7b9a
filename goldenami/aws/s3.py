"""Objects below a prefix of a bucket, written so that nobody's write is lost: the ground of journals and catalogs.

S3 has no append, no rename and no lock, but a PUT can be made conditional: ``If-None-Match: *`` (only if the key is
free) and ``If-Match: ETag`` (only if nobody wrote since). Of two such writers one wins, and the other is told 412. S3
is strongly consistent: what a PUT answered for is seen by every later read and list ("Amazon S3 data consistency
model", "Conditional writes", S3 user guide).

A conditional PUT whose reply was lost is sent again, and then meets itself: 412 although it succeeded. So each write
carries a name of its own in the object's metadata, and a 412 is only believed if the object is somebody else's.

These calls are the journal and the locks themselves, so that no intent can come before them; the guard permits them
one object at a time (``guard.bookkeeping``).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from goldenami.aws import errors
from goldenami.aws.guard import bookkeeping
from goldenami.aws.session import Cloud
from goldenami.errors import CloudError, GoldenAmiError, NotFound
from goldenami.model import Place

SCHEME: Final = "s3://"
_WRITER: Final = "goldenami-writer"  # metadata: which write this is
_REFUSED: Final = frozenset({"PreconditionFailed", "412"})
_ABSENT: Final = frozenset({"NoSuchKey", "404"})


def split(url: str) -> tuple[str, str]:
    """Bucket and prefix of ``s3://bucket/prefix``."""
    bucket, _, prefix = url.removeprefix(SCHEME).partition("/")
    return bucket, prefix.strip("/")


@dataclass(frozen=True, slots=True)
class Object:
    """One object as it was read. ``modified`` and ``now`` are S3's: when it was written, and when it was read."""

    data: bytes
    etag: str
    writer: str | None
    modified: datetime
    now: datetime

    @property
    def age(self) -> float:
        """Seconds since it was written, by S3's clock alone (it counts whole seconds)."""
        return (self.now - self.modified).total_seconds()


class Bucket:
    """A bucket and a prefix in it; keys are relative to the prefix. Thread-safe. Errors are of ``goldenami.errors``."""

    def __init__(self, cloud: Cloud, place: Place, url: str) -> None:
        """``place``: the account whose credentials are used, and a region to ask in (S3 tells where a bucket is)."""
        self._cloud = cloud
        self._place = place
        self._bucket, self._prefix = split(url)

    @property
    def cloud(self) -> Cloud:
        return self._cloud

    @property
    def place(self) -> Place:
        return self._place

    def where(self, key: str = "") -> str:
        """How a person finds an object."""
        return f"{SCHEME}{self._bucket}/{self._key(key)}".rstrip("/")

    def read(self, key: str) -> Object | None:
        """An object, or None where there is none."""
        try:
            answer = self._cloud.call(self._place, "s3", "GetObject", self._named(key))
        except CloudError as error:
            if error.code in _ABSENT:
                return None
            raise self._explained(error) from error
        return Object(
            answer["Body"],
            answer["ETag"],
            answer.get("Metadata", {}).get(_WRITER),
            answer["LastModified"].astimezone(UTC),
            errors.date_of(answer.get("ResponseMetadata", {})) or answer["LastModified"].astimezone(UTC),
        )

    def create(self, key: str, data: bytes) -> str | None:
        """Write an object that must not exist yet; its ETag, or None where it exists. Of two at once, one wins."""
        return self._put(key, data, {"IfNoneMatch": "*"})

    def replace(self, key: str, data: bytes, etag: str) -> str | None:
        """Write over an object that is still the one with that ETag; the new ETag, or None where it is not."""
        return self._put(key, data, {"IfMatch": etag})

    def delete(self, key: str) -> None:
        """The second call does nothing."""
        self._sending("DeleteObject", self._named(key), key)

    def keys(self, folder: str, after: str = "") -> Iterator[str]:
        """All keys below a folder, sorted; those after ``after``, if that is given."""
        request: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._key(folder) + "/"}
        if after:
            request["StartAfter"] = self._key(after)
        for item in self._pages(request, "Contents"):
            yield self._relative(item["Key"])

    def names(self, folder: str = "") -> tuple[str, ...]:
        """What is right below a folder, objects and folders, sorted."""
        prefix = self._key(folder) + "/" if self._key(folder) else ""
        request = {"Bucket": self._bucket, "Prefix": prefix, "Delimiter": "/"}
        found = {item["Key"] for item in self._pages(request, "Contents")}
        found |= {item["Prefix"].rstrip("/") for item in self._pages(request, "CommonPrefixes")}
        return tuple(sorted(name[len(prefix) :] for name in found if name != prefix.rstrip("/")))

    def _pages(self, request: dict[str, Any], result: str) -> Iterator[dict[str, Any]]:
        token: str | None = None
        while True:
            more = {"ContinuationToken": token} if token else {}
            try:
                answer = self._cloud.call(self._place, "s3", "ListObjectsV2", {**request, **more})
            except CloudError as error:
                raise self._explained(error) from error
            yield from answer.get(result) or ()
            token = answer.get("NextContinuationToken")
            if not token:
                return

    def _put(self, key: str, data: bytes, condition: dict[str, str]) -> str | None:
        writer = secrets.token_hex(16)
        request = {**self._named(key), "Body": data, "Metadata": {_WRITER: writer}, **condition}
        try:
            return str(self._sending("PutObject", request, key)["ETag"])
        except CloudError as error:
            if error.code not in _REFUSED | _ABSENT:
                raise
        # Somebody was quicker; or an earlier try of this very write was, and its reply was lost.
        there = self.read(key)
        return there.etag if there is not None and there.writer == writer else None

    def _sending(self, operation: str, request: dict[str, Any], key: str) -> dict[str, Any]:
        attempts = self._cloud.retry.start()
        while True:
            try:
                with bookkeeping(operation, self._key(key)):
                    return self._cloud.send(self._place, "s3", operation, request)
            except CloudError as error:
                if not attempts.wait(error):
                    raise self._explained(error) from error

    def _explained(self, error: CloudError) -> GoldenAmiError:
        if error.code == "NoSuchBucket":
            return NotFound(
                f"bucket {self._bucket} does not exist", hint="Create it, or correct its name in goldenami.yaml."
            )
        return error

    def _named(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": self._key(key)}

    def _key(self, key: str) -> str:
        return "/".join(part for part in (self._prefix, key) if part)

    def _relative(self, key: str) -> str:
        return key[len(self._prefix) + 1 :] if self._prefix else key
