"""Objects below a prefix of a bucket, for journals and catalogs. No write is lost.

S3 has no append, no rename and no lock, but it has conditional PUTs: ``If-None-Match: *`` (only if the key is free) and
``If-Match: ETag`` (only if the object has not changed). Of two such writers one succeeds, and the other gets status
412. S3 is strongly consistent: every later read and list returns the result of a successful PUT ("Amazon S3 data
consistency model", "Conditional writes", S3 user guide).

If the reply of a conditional PUT is lost, the PUT is sent again and gets 412 although the first one succeeded. So each
write adds a random value to the object's metadata. After a 412 the object is read: with the same value, the write
succeeded.

These calls write the journal and the locks themselves, so they cannot have an intent. The guard permits them for one
object at a time (``guard.bookkeeping``).
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
_WRITER: Final = "goldenami-writer"  # metadata key of the random value of a write
_REFUSED: Final = frozenset({"PreconditionFailed", "412"})
_ABSENT: Final = frozenset({"NoSuchKey", "404"})


def split(url: str) -> tuple[str, str]:
    """Return bucket and prefix of ``s3://bucket/prefix``."""
    bucket, _, prefix = url.removeprefix(SCHEME).partition("/")
    return bucket, prefix.strip("/")


@dataclass(frozen=True, slots=True)
class Object:
    """An object when it was read. ``modified``: when it was written. ``now``: when it was read. Both are by S3's
    clock."""

    data: bytes
    etag: str
    writer: str | None
    modified: datetime
    now: datetime

    @property
    def age(self) -> float:
        """The seconds since the object was written, by S3's clock, which counts whole seconds."""
        return (self.now - self.modified).total_seconds()


class Bucket:
    """A bucket and a prefix in it; keys are relative to the prefix. Thread-safe. Errors are of ``goldenami.errors``."""

    def __init__(self, cloud: Cloud, place: Place, url: str, owner: str | None) -> None:
        """``place``: the account whose credentials are used, and any region (S3 redirects to the bucket's region).
        ``owner``: the id of the account that owns the bucket. S3 refuses every call if another account owns it, for
        example after the bucket was deleted and its name was taken ("Verifying bucket ownership", S3 user guide).
        None: any account, for reads only."""
        self._cloud = cloud
        self._place = place
        self._owner = owner
        self._bucket, self._prefix = split(url)

    @property
    def cloud(self) -> Cloud:
        return self._cloud

    @property
    def place(self) -> Place:
        return self._place

    def where(self, key: str = "") -> str:
        """Return the s3:// URL of an object, for messages."""
        return f"{SCHEME}{self._bucket}/{self._key(key)}".rstrip("/")

    def read(self, key: str) -> Object | None:
        """Return an object; None if it does not exist."""
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
        """Write an object that must not exist yet. Return its ETag, or None if it exists. Of two writers, one
        succeeds."""
        return self._put(key, data, {"IfNoneMatch": "*"})

    def replace(self, key: str, data: bytes, etag: str) -> str | None:
        """Replace an object that must still have this ETag. Return the new ETag, or None if it has another one."""
        return self._put(key, data, {"IfMatch": etag})

    def delete(self, key: str) -> None:
        """Delete an object. The second call does nothing."""
        self._sending("DeleteObject", self._named(key), key)

    def keys(self, folder: str, after: str = "") -> Iterator[str]:
        """Yield all keys below a folder, sorted; with ``after`` only those after that key."""
        request: dict[str, Any] = {"Prefix": self._key(folder) + "/"}
        if after:
            request["StartAfter"] = self._key(after)
        for item in self._pages(request, "Contents"):
            yield self._relative(item["Key"])

    def stamps(self, folder: str) -> dict[str, str]:
        """Return all objects below a folder: key, relative to the folder, -> ETag."""
        prefix = self._key(folder) + "/"
        found = self._pages({"Prefix": prefix}, "Contents")
        return {str(item["Key"])[len(prefix) :]: str(item["ETag"]) for item in found}

    def names(self, folder: str = "") -> tuple[str, ...]:
        """Return the names of the objects and folders directly in a folder, sorted."""
        prefix = self._key(folder) + "/" if self._key(folder) else ""
        request = {"Prefix": prefix, "Delimiter": "/"}
        items = self._pages(request, "Contents", "CommonPrefixes")
        found = {item["Key"] if "Key" in item else item["Prefix"].rstrip("/") for item in items}
        return tuple(sorted(name[len(prefix) :] for name in found if name != prefix.rstrip("/")))

    def _pages(self, request: dict[str, Any], *results: str) -> Iterator[dict[str, Any]]:
        token: str | None = None
        while True:
            more = {"ContinuationToken": token} if token else {}
            try:
                answer = self._cloud.call(self._place, "s3", "ListObjectsV2", {**self._of_bucket(), **request, **more})
            except CloudError as error:
                raise self._explained(error) from error
            for result in results:
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
        # Another process wrote the object, or an earlier try of this write did and its reply was lost.
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
        return {**self._of_bucket(), "Key": self._key(key)}

    def _of_bucket(self) -> dict[str, Any]:
        owner = {"ExpectedBucketOwner": self._owner} if self._owner is not None else {}
        return {"Bucket": self._bucket, **owner}

    def _key(self, key: str) -> str:
        return "/".join(part for part in (self._prefix, key) if part)

    def _relative(self, key: str) -> str:
        return key[len(self._prefix) + 1 :] if self._prefix else key
