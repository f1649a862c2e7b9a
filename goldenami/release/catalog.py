"""The catalog: every release of an environment, and the channels that point to them.

Below one directory, or one prefix of a bucket::

    releases/<name>/<version>.json      the manifest; written once, never changed
    channels/<name>/<channel>.json      where the channel points, where it pointed before, and all its moves
    pins/, retired/                     what is kept whatever rules say, and what is gone (see ``marks``)
    reservations/<name>/<version>.json  which build took that version; written once, never changed
    locks/…                             who changes something now: locked files, or leases

A build *reserves* its version before it makes anything, since images carry the version in their names. The same build
gets the same version whenever it asks, on another day too. If it ends without a release, its number is
not given out again: whatever still bears that name, in some region or in some log, never means two things. Gaps in the
numbers are normal.

Each file is whole at any moment (``goldenami.store``); a release exists if its manifest does, and a channel only ever
points to a release that exists. So there is nothing to repair after a crash.
"""

from __future__ import annotations

import difflib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from goldenami import manifest as codec
from goldenami.errors import Busy, CatalogError, NotFound, UsageError
from goldenami.model import Architecture, Environment, ImageManifest, ManifestImage, Place
from goldenami.release import targets as modes
from goldenami.release.marks import Marks
from goldenami.release.versions import Reference, Version, check_name, is_version
from goldenami.store import DirectoryStore, Store, Wait

if TYPE_CHECKING:
    from goldenami.aws.session import Cloud

CHANNEL_SCHEMA = "goldenami.channel/1"
RESERVATION_SCHEMA = "goldenami.reservation/1"
_RACES = 5  # a lock in a bucket is only as good as its lease: what it protects is checked again by the write
_LOCK_TIMEOUT = 30.0  # seconds; these locks are held for milliseconds
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Move:
    """At that time (ISO 8601, UTC) the channel began to point to that version."""

    version: str
    moved: str
    build_id: str | None = None


@dataclass(frozen=True, slots=True)
class Channel:
    """A pointer to a release. ``previous``: what it pointed to before its last move; None before the second one."""

    name: str
    channel: str
    current: str
    previous: str | None
    history: tuple[Move, ...]  # oldest first; the last is the current one
    schema: str = CHANNEL_SCHEMA


@dataclass(frozen=True, slots=True)
class Reservation:
    name: str
    version: str
    build_id: str
    reserved: str  # ISO 8601, UTC
    schema: str = RESERVATION_SCHEMA


class Catalog:
    """The catalog in that directory, or in another store; an absent directory is an empty catalog.

    Every method raises CatalogError where a file is damaged, unreadable or unwritable, and UsageError for a name that
    can be no name (so nothing outside the directory is ever read or written).
    """

    def __init__(
        self,
        path: Path | str,
        *,
        store: Store | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``clock`` and ``sleep``: for waiting for locks, in seconds."""
        self._store: Store = store or DirectoryStore(Path(path), error=CatalogError)
        self._clock = clock
        self._sleep = sleep

    @classmethod
    def of(cls, environment: Environment, cloud: Cloud | None = None) -> Catalog:
        """That of an environment. ``cloud``: the one that is used for its work anyway; made if need be, and only where
        the catalog is in a bucket. Nothing is sent."""
        where = environment.catalog
        if not where.startswith("s3://"):
            return cls(where)
        # Here, so that who reads a directory does not pay for loading botocore.
        from goldenami.aws.bucketstore import BucketStore
        from goldenami.aws.s3 import Bucket
        from goldenami.aws.session import Cloud

        return cls(where, store=BucketStore(Bucket(cloud or Cloud.of(environment), environment.home_place, where)))

    # --- releases -----------------------------------------------------------------------------------------------------

    def names(self) -> tuple[str, ...]:
        """Of everything that was ever released, sorted."""
        return self._store.names("releases")

    def versions(self, name: str) -> tuple[str, ...]:
        """The released versions, newest first, by number. No file is opened; nothing for an unknown name."""
        return tuple(str(version) for version in sorted(self._numbers("releases", name), reverse=True))

    def get(self, name: str, version: str) -> ImageManifest:
        """Raises NotFound, with the nearest name or the latest versions."""
        key = _release_key(name, version)
        data = self._read(key)
        if data is None:
            raise self._no_such_version(name, version)
        return self._decode(key, data, name, version)

    def add(self, manifest: ImageManifest) -> None:
        """Make a release of it; from then on it is immutable.

        Adding the same manifest again does nothing. Raises CatalogError where that version has another manifest, or
        is reserved by another build.
        """
        key = _release_key(manifest.recipe, manifest.version)
        reserved = self._reservation(manifest.recipe, manifest.version)
        if reserved is not None and reserved.build_id != manifest.build_id:
            raise CatalogError(f"{manifest.label} is reserved by build {reserved.build_id}")
        data = codec.dumps(manifest).encode()
        if self._store.create(key, data) is None and self._read(key) != data:
            raise CatalogError(
                f"{manifest.label} is released already, with other contents",
                hint=f"Compare with {self._store.where(key)}; a release never changes, a new build gets a new version.",
            )

    def with_digest(self, name: str, digest: str) -> Iterator[ImageManifest]:
        """The releases of those inputs, newest first."""
        mark = json.dumps(digest).encode()
        for version in self.versions(name):
            key = _release_key(name, version)
            data = self._read(key)
            # Most manifests are of other inputs: a search in the bytes is a thousand times cheaper than decoding them.
            if data is not None and mark in data:
                manifest = self._decode(key, data, name, version)
                if manifest.digest == digest:
                    yield manifest

    # --- versions to come ---------------------------------------------------------------------------------------------

    def next_version(self, name: str, line: str, day: date) -> str:
        """The version that ``reserve`` would give out now. ``line``: the recipe's MAJOR.MINOR; ``day``: in UTC."""
        first = Version.first(line, day)
        taken = {*self._numbers("releases", name), *self._numbers("reservations", name)}
        return str(replace(first, number=max((v.number for v in taken if v.same_day(first)), default=0) + 1))

    def reserve(self, name: str, line: str, day: date, *, build_id: str, now: datetime) -> str:
        """Take the next version for a build: nobody else gets it. The same build gets the same version again."""
        check_name(name, "release")
        with self._locked(f"{name}.versions", timeout=_LOCK_TIMEOUT):
            for reservation in self.reservations(name):
                if reservation.build_id == build_id:
                    return reservation.version
            for _ in range(_RACES):
                version = self.next_version(name, line, day)
                reservation = Reservation(name, version, build_id, _timestamp(now))
                if self._store.create(_reservation_key(name, version), _encode(reservation)) is not None:
                    return version
            raise CatalogError(f"{name} {version} was reserved by processes that ignore the catalog's lock")

    def reservations(self, name: str) -> tuple[Reservation, ...]:
        """Lowest version first: of builds that run, that released their image, and that ended without a release."""
        found = (self._reservation(name, str(version)) for version in sorted(self._numbers("reservations", name)))
        return tuple(reservation for reservation in found if reservation is not None)

    # --- channels -----------------------------------------------------------------------------------------------------

    def channels(self, name: str) -> tuple[Channel, ...]:
        """All channels of a name, by their names."""
        check_name(name, "release")
        files = self._store.names(f"channels/{name}")
        found = (self.channel(name, file.removesuffix(".json")) for file in files if file.endswith(".json"))
        return tuple(channel for channel in found if channel is not None)

    def channel(self, name: str, channel: str) -> Channel | None:
        """Where it points, or None for a channel that no release was ever published to."""
        key = _channel_key(name, channel)
        data = self._read(key)
        return None if data is None else self._channel(name, channel, key, data)

    def _channel(self, name: str, channel: str, key: str, data: bytes) -> Channel:
        found = self._read_form(_CHANNEL, key, data, CHANNEL_SCHEMA)
        if (found.name, found.channel) != (name, channel):
            raise CatalogError(f"{self._store.where(key)} is the file of {found.name}@{found.channel}")
        return found

    def move(self, name: str, channel: str, version: str, *, now: datetime, build_id: str | None = None) -> Channel:
        """Point the channel to a release. In one step: readers see the old place or the new one.

        A channel that points there already is left as it is. Raises NotFound where there is no such release.
        """
        with self._locked(f"{name}.channels", timeout=_LOCK_TIMEOUT):
            self.get(name, version)
            key = _channel_key(name, channel)
            stored = self._store.read(key)
            before = None if stored is None else self._channel(name, channel, key, stored.data)
            if before is not None and before.current == version:
                return before
            history = (*(before.history if before else ()), Move(version, _timestamp(now), build_id))
            after = Channel(name, channel, version, before.current if before else None, history)
            if self._store.replace(key, _encode(after), stored) is None:
                raise CatalogError(
                    f"{name}@{channel} was moved by another process at the same moment",
                    hint="Look at it with `goldenami images list`, and try again.",
                )
            return after

    def publishing(self, name: str, channel: str, *, timeout: float) -> AbstractContextManager[None]:
        """Hold this while a channel's parameters and pointer move: of two publishers, the second waits.

        Raises CatalogError after ``timeout`` seconds of waiting.
        """
        _channel_key(name, channel)
        return self._locked(f"{name}@{channel}", timeout=timeout)

    # --- marks --------------------------------------------------------------------------------------------------------

    @property
    def marks(self) -> Marks:
        """Pins, and what is retired."""
        return Marks(self._store)

    # --- resolving ----------------------------------------------------------------------------------------------------

    def find(self, reference: Reference) -> ImageManifest:
        """The release that is meant: of the channel, of the version, or the newest of the name. Raises NotFound."""
        if reference.version is not None:
            return self.get(reference.name, reference.version)
        if reference.channel is not None:
            pointer = self.channel(reference.name, reference.channel)
            if pointer is None:
                raise self._no_such_channel(reference.name, reference.channel)
            return self.get(reference.name, pointer.current)
        versions = self.versions(reference.name)
        if not versions:
            raise self._no_such_name(reference.name)
        living = (version for version in versions if self.marks.retirement(reference.name, version) is None)
        return self.get(reference.name, next(living, versions[0]))

    def resolve(self, reference: Reference, place: Place, architecture: Architecture | None = None) -> ManifestImage:
        """The image of that release for an account and a region.

        Raises NotFound where the release, or its image there, does not exist, naming what does; and UsageError where
        there are images of several architectures and none was asked for.
        """
        manifest = self.find(reference)
        retirement = self.marks.retirement(manifest.recipe, manifest.version)
        if retirement is not None:
            raise NotFound(
                f"{manifest.label} is retired, since {retirement.started}: {retirement.rule}",
                hint=f"Newer ones: goldenami images list --name {manifest.recipe}",
            )
        here = [image for image in manifest.images if image.place == place]
        if not here:
            places = sorted({str(image.place) for image in manifest.images})
            near = [p for p in places if p.startswith(f"{place.account}/")] or places
            raise NotFound(
                f"{manifest.label} has no image in {place}",
                hint=f"It has images in {_listed(near)}. A target is added in goldenami.yaml.",
            )
        matching = [image for image in here if architecture in (None, image.architecture)]
        architectures = sorted({image.architecture for image in here})
        if not matching:
            raise NotFound(
                f"{manifest.label} has no {architecture} image in {place}", hint=f"It has {_listed(architectures)}."
            )
        if len(matching) > 1:
            raise UsageError(
                f"{manifest.label} has several images in {place}: {_listed(architectures)}",
                hint="Say which one with --architecture.",
            )
        return matching[0]

    # --- inside -------------------------------------------------------------------------------------------------------

    def _read(self, key: str) -> bytes | None:
        found = self._store.read(key)
        return None if found is None else found.data

    @contextmanager
    def _locked(self, name: str, *, timeout: float) -> Iterator[None]:
        """Hold the lock of that name. Raises CatalogError after ``timeout`` seconds of waiting."""
        key = f"locks/{name}.lock"
        turn = Wait(timeout, self._clock, self._sleep, poll=self._store.poll)
        try:
            held = turn.take(lambda: self._store.lock(key, name, ""))
        except Busy as error:
            raise CatalogError(
                f"{self._store.where(key)} is still locked after {timeout:g} s: {error.message}",
                hint="Wait for the other goldenami that works on this catalog to end, then try again.",
            ) from error
        try:
            yield
        finally:
            held.give_back()

    def _numbers(self, folder: str, name: str) -> list[Version]:
        check_name(name, "release")
        stems = (f.removesuffix(".json") for f in self._store.names(f"{folder}/{name}") if f.endswith(".json"))
        return [Version.parse(stem) for stem in stems if is_version(stem)]

    def _decode(self, key: str, data: bytes, name: str, version: str) -> ImageManifest:
        manifest = codec.loads(data, source=self._store.where(key))
        modes.check_rows(manifest, self._store.where(key))
        if (manifest.recipe, manifest.version) != (name, version):
            raise CatalogError(f"{self._store.where(key)} is the manifest of {manifest.label}")
        return manifest

    def _reservation(self, name: str, version: str) -> Reservation | None:
        key = _reservation_key(name, version)
        data = self._read(key)
        return None if data is None else self._read_form(_RESERVATION, key, data, RESERVATION_SCHEMA)

    def _read_form(self, adapter: TypeAdapter[_T], key: str, data: bytes, schema: str) -> _T:
        where = self._store.where(key)
        try:
            form = json.loads(data)
            found = form.get("schema") if isinstance(form, dict) else None
            if found != schema:
                raise CatalogError(
                    f"{where}: schema {found!r}, where this goldenami knows {schema!r}",
                    hint="Update goldenami, or restore the file from a backup.",
                )
            return adapter.validate_json(data, strict=True)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            place = ".".join(map(str, problem["loc"]))
            raise CatalogError(f"{where}: {place}: {problem['msg']}", hint="Restore it from a backup.") from error
        except ValueError as error:
            raise CatalogError(f"{where}: not JSON: {error}", hint="Restore it from a backup.") from error

    def _no_such_name(self, name: str) -> NotFound:
        hint = _nearest(name, self.names(), "Released are") or "There are no releases yet: `goldenami build` makes one."
        return NotFound(f"nothing was ever released as {name!r}", hint=hint)

    def _no_such_version(self, name: str, version: str) -> NotFound:
        versions = self.versions(name)
        if not versions:
            return self._no_such_name(name)
        return NotFound(f"{name} has no version {version}", hint=_nearest(version, versions, "The newest are"))

    def _no_such_channel(self, name: str, channel: str) -> NotFound:
        if not self.versions(name):
            return self._no_such_name(name)
        channels = [c.channel for c in self.channels(name)]
        return NotFound(f"{name} has no channel {channel!r}", hint=_nearest(channel, channels, "Its channels are"))


_CHANNEL = TypeAdapter(Channel)
_RESERVATION = TypeAdapter(Reservation)


def _release_key(name: str, version: str) -> str:
    return f"releases/{check_name(name, 'release')}/{Version.parse(version)}.json"


def _reservation_key(name: str, version: str) -> str:
    return f"reservations/{check_name(name, 'release')}/{Version.parse(version)}.json"


def _channel_key(name: str, channel: str) -> str:
    return f"channels/{check_name(name, 'release')}/{check_name(channel, 'channel')}.json"


def _encode(form: Channel | Reservation) -> bytes:
    fields: dict[str, Any] = TypeAdapter(type(form)).dump_python(form, mode="json")
    return (json.dumps({"schema": form.schema} | fields, indent=2) + "\n").encode()


def _timestamp(now: datetime) -> str:
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _listed(words: Iterable[str]) -> str:
    *head, last = words
    return f"{', '.join(head)} and {last}" if head else last


def _nearest(word: str, candidates: Sequence[str], otherwise: str) -> str | None:
    """A hint: the name that was probably meant, or the first few that exist."""
    near = difflib.get_close_matches(word, candidates, n=1)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"{otherwise} {_listed(candidates[:5])}." if candidates else None
