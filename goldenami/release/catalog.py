"""The catalog: stores every release of an environment, and the channels that point to releases.

The files are below one directory, or below one prefix of a bucket::

    catalog.json                        the id of the catalog; written once, never changed (``store.identity``)
    releases/<name>/<version>.json      the manifest; only `goldenami distribute` changes it, and it says what and when
    originals/<name>/<version>.json     the manifest as the build wrote it, for those that were changed
    channels/<name>/<channel>.json      where the channel points, where it pointed before, and all its moves
    evidence/<name>/<version>/<file>    documents about the release, such as the signed statement (see ``evidence``)
    pins/, retired/, revoked/, same/    marks of releases (see ``marks``)
    reservations/<name>/<version>.json  the build that reserved the version; written once, never changed
    index/                              a copy of what lists and searches need, for fast reading (see ``index``)
    keyrings/<sha256>                   keys that sign packages of images; manifests name them
    inventories/<sha256>                what is in an image, for its SBOM; manifests name them
    sharing/<process>                   processes that build now (``aws.sharing``)
    locks/…                             the locks of processes that change the catalog: locked files, or leases

A build *reserves* its version before it creates any resource, because the names of images contain the version. A second
reservation of the same build returns the same version, on another day too. If the build ends without a release, its
number is not used again, so that a name in a region or a log always means one build. Gaps in the numbers are normal.

Each file is complete at any moment (``goldenami.store``). A release exists if its manifest exists, and a channel always
points to an existing release. So nothing has to be repaired after a crash.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from goldenami import manifest as codec
from goldenami.aws import catalogs
from goldenami.errors import Busy, CatalogError, GoldenAmiError, NotFound, UsageError
from goldenami.model import Architecture, Environment, ImageManifest, ManifestImage, Place, timestamp
from goldenami.nextstep import step
from goldenami.release import catalogfiles
from goldenami.release import targets as modes
from goldenami.release.catalogfiles import (
    CHANNEL_SCHEMA,
    RESERVATION_SCHEMA,
    Channel,
    Move,
    MoveAction,
    Reservation,
    channel_key,
    decode,
    document_key,
    encode,
    original_key,
    release_key,
    reservation_key,
)
from goldenami.release.index import Index, IndexedImage, IndexedRelease, Records, View
from goldenami.release.marks import MARKS, Marks
from goldenami.release.versions import Reference, Version, check_name, highest_first, is_version
from goldenami.store import DirectoryStore, Store, Wait, ensure_identity, read_identity

if TYPE_CHECKING:
    from goldenami.aws.session import Cloud
    from goldenami.evidence.state import State

_NEWEST = 30  # releases in which equal inputs are searched
_RACES = 5  # a lease in a bucket can expire while it is held, so each write checks again
_LOCK_TIMEOUT = 30.0  # seconds; these locks are held for milliseconds


@dataclass(frozen=True, slots=True)
class Evidence:
    """The manifest of a release as a file. ``address``: its s3:// URL; None for a catalog in a directory, which other
    machines cannot read. ``sha256``: the digest of the file, in hexadecimal digits."""

    address: str | None
    sha256: str


class Catalog:
    """The catalog in a directory or in another store. A directory that does not exist is an empty catalog.

    Every method raises CatalogError if a file is damaged, unreadable or unwritable, and UsageError for an invalid name.
    So no file outside the directory is read or written.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        store: Store | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``clock`` and ``sleep`` are used to wait for locks, in seconds."""
        self._store: Store = store or DirectoryStore(Path(path), error=CatalogError)
        self._records: Records = self._store
        self._index = Index(self._store, self._decode_record, sleep)
        self._clock = clock
        self._sleep = sleep
        self._identity: str | None = None
        self._keyrings: dict[str, str] = {}  # by their digest

    @classmethod
    def of(cls, environment: Environment, cloud: Cloud | None = None) -> Catalog:
        """Return the catalog of an environment. Makes no API call.

        ``cloud``: the cloud to use if the catalog is in a bucket; by default a new one.
        """
        return cls(environment.catalog, store=catalogs.open_store(environment, cloud))

    # --- identity -----------------------------------------------------------------------------------------------------

    def identity(self) -> str | None:
        """Return the id of the catalog: 16 lower-case hexadecimal digits. None if no command has created it yet.

        The id never changes, so it is read once.
        """
        if self._identity is None:
            self._identity = read_identity(self._store)
        return self._identity

    def ensure_identity(self, *, identity: str | None = None) -> str:
        """Return the id of the catalog, and create it if it has none. Several processes get the same id.

        ``identity``: the id that the catalog must have, for a catalog that is restored. Raises CatalogError if it has
        another one.
        """
        if self._identity is None or identity is not None:
            self._identity = ensure_identity(self._store, datetime.now(UTC), identity=identity)
        return self._identity

    # --- index --------------------------------------------------------------------------------------------------------

    def indexed(self, name: str | None = None) -> Catalog:
        """Return the catalog as its index shows it now, for commands that read many records: names, versions, channels
        and marks need no further read. With ``name``, only this name may be read.

        The answers are those of the catalog itself. In a bucket, a mark that an earlier version of goldenami made is
        found only after the next change of a release of this name, or after `goldenami catalog reindex`.
        """
        if name is not None:
            check_name(name, "release")
        other = copy.copy(self)
        other._records = self._index.read(name)
        return other

    def only_indexed(self) -> Catalog:
        """Return the catalog as the index has it, with one read, for a caller that may read nothing else.

        It can be some seconds behind, and does not have what a killed process did not write. Raises NotFound if there
        is no index.
        """
        other = copy.copy(self)
        view = self._index.read_unchecked()
        if view is None:
            raise NotFound(
                f"{self._store.where()} has no index", hint=f"{step('catalog reindex')} writes it. Check the address."
            )
        other._records = view
        return other

    def entry(self, name: str, version: str) -> IndexedRelease:
        """Return what the index has of a release. Raises as :meth:`get` does."""
        return self.indexed_entry(name, version) or IndexedRelease.of(self.get(name, version))

    def indexed_entry(self, name: str, version: str) -> IndexedRelease | None:
        """Return what the index has of a release, without a read. None if the index does not have it, or its manifest
        is damaged."""
        return self._records.release(name, version) if isinstance(self._records, View) else None

    def entry_with_image(self, image_id: str) -> IndexedRelease | None:
        """Return the release that has an image, of any name; None if there is none."""
        records = self._records if isinstance(self._records, View) else self._index.read()
        found = next(records.names_with_image(image_id), None)
        return None if found is None else records.release(*found)

    def reindex(self) -> int:
        """Write the index anew where it differs from the catalog. Returns the number of releases. Changes nothing else.

        Raises CatalogError if other processes write it all the time.
        """
        return self._index.rebuild()

    @contextmanager
    def writing_many(self) -> Iterator[None]:
        """Delete the index, and write it once at the end of the block, for a caller that adds very many records."""
        self._index.suspend()
        yield
        self._index.rebuild()

    # --- releases -----------------------------------------------------------------------------------------------------

    def names(self) -> tuple[str, ...]:
        """Return the names of all releases, sorted."""
        return self._records.names("releases")

    def versions(self, name: str) -> tuple[str, ...]:
        """Return the released versions, highest first; empty for an unknown name. No file is opened."""
        return tuple(highest_first(self._files("releases", name)))

    def marks_by_version(self, name: str) -> Mapping[str, Sequence[str]]:
        """Return the versions with a pin, a retirement or a revocation now or in the past, and the folders of these
        marks. No file is opened."""
        found: dict[str, list[str]] = {}
        for folder in MARKS:
            for stem in self._stems(folder, name):
                found.setdefault(stem, []).append(folder)
        return found

    def get(self, name: str, version: str) -> ImageManifest:
        """Return the manifest of a release. Raises NotFound, with the nearest name or the newest versions as a hint."""
        key = release_key(name, version)
        data = self._read(key)
        if data is None:
            raise self._no_such_version(name, version)
        return self._decode(key, data, name, version)

    def evidence(self, name: str, version: str) -> Evidence:
        """Return where the manifest that the build wrote is, and its digest, which never changes. Raises NotFound."""
        for key in (original_key(name, version), release_key(name, version)):
            data = self._read(key)
            if data is not None:
                break
        else:
            raise self._no_such_version(name, version)
        where = self._store.where(key)
        return Evidence(where if where.startswith("s3://") else None, hashlib.sha256(data).hexdigest())

    def manifest_files(self, name: str, version: str) -> tuple[bytes, bytes]:
        """Return the files of the manifest: as the build wrote it, and as it is now. They are not decoded. Raises
        NotFound."""
        now = self._read(release_key(name, version))
        if now is None:
            raise self._no_such_version(name, version)
        return self._read(original_key(name, version)) or now, now

    def documents(self, name: str, version: str) -> tuple[str, ...]:
        """Return the file names of the documents about a release, sorted."""
        return self._store.names(f"evidence/{check_name(name, 'release')}/{Version.parse(version)}")

    def document(self, name: str, version: str, file: str) -> bytes | None:
        """Return a document about a release, or None if there is none of this name."""
        found = self._store.read(document_key(name, version, file))
        return None if found is None else found.data

    def states(self, manifest: ImageManifest) -> dict[Architecture, State]:
        """Return the states of the images of a release, by architecture, as far as the catalog has them. Raises
        CatalogError if one is damaged."""
        from goldenami.evidence import state  # here, because few commands need it

        found: dict[Architecture, State] = {}
        for architecture in manifest.packages:
            file = state.file_name(architecture)
            data = self.document(manifest.recipe, manifest.version, file)
            if data is not None:
                key = document_key(manifest.recipe, manifest.version, file)
                found[architecture] = state.loads(data, source=self._store.where(key))
        return found

    def keep_document(self, name: str, version: str, file: str, data: bytes, *, final: bool = True) -> None:
        """Keep a document about a release. Call it before :meth:`add`: the documents of a release never change, unless
        they are not ``final``.

        A second call with the same data does nothing. A document of a build whose manifest was not added is replaced.
        Raises CatalogError if the release exists and its document differs.
        """
        key = document_key(name, version, file)
        before = self._store.read(key)
        if before is not None and before.data == data:
            return
        if before is not None and final and self._read(release_key(name, version)) is not None:
            raise CatalogError(
                f"{name} {version} has another {file} already",
                hint=f"Compare with {self._store.where(key)}. The documents of a release do not change.",
            )
        if self._store.replace(key, data, before) is None:
            raise CatalogError(f"{self._store.where(key)} was changed by another process at the same time")

    def add(self, manifest: ImageManifest) -> None:
        """Add a release. A release is immutable.

        A second call with the same manifest does nothing. Raises CatalogError if the version has another manifest, or
        is reserved by another build.
        """
        key = release_key(manifest.recipe, manifest.version)
        reserved = self._reservation(manifest.recipe, manifest.version)
        if reserved is not None and reserved.build_id != manifest.build_id:
            raise CatalogError(f"{manifest.label} is reserved by build {reserved.build_id}")
        data = codec.dumps(manifest).encode()
        with self._index.changing("releases", manifest.recipe, manifest.version):
            if self._store.create(key, data) is None and self._read(key) != data:
                raise CatalogError(
                    f"{manifest.label} is released already, with another manifest",
                    hint=f"Compare with {self._store.where(key)}. A release is immutable; "
                    "a new build gets a new version.",
                )

    def keep_keyring(self, text: str) -> str:
        """Keep the keys that sign the packages of an image, and return their SHA-256, by which a manifest names them.
        Most releases have the same keys, so they are not in the manifests."""
        digest = hashlib.sha256(text.encode()).hexdigest()
        if digest not in self._keyrings:
            self._store.create(f"keyrings/{digest}", text.encode())
            self._keyrings[digest] = text
        return digest

    def keyring(self, digest: str) -> str | None:
        """Return the keys with this SHA-256; None if the catalog does not have them, or has others."""
        if digest not in self._keyrings:
            text = self._read_kept("keyrings", digest)
            if text is None:
                return None
            self._keyrings[digest] = text
        return self._keyrings[digest]

    def keep_inventory(self, text: str) -> str:
        """Keep the inventory of an image (``evidence.packages``), and return its SHA-256, by which a manifest names it.
        Images with the same contents have one file."""
        digest = hashlib.sha256(text.encode()).hexdigest()
        self._store.create(f"inventories/{digest}", text.encode())
        return digest

    def inventory(self, manifest: ImageManifest, architecture: Architecture) -> str:
        """Return the inventory of an image of a release. Raises NotFound if the release has none, and CatalogError if
        the file is missing or was changed."""
        digest = manifest.inventories.get(architecture)
        if digest is None:
            known = ", ".join(manifest.inventories)
            raise NotFound(
                f"{manifest.label} has no inventory of an image for {architecture}",
                hint=f"It has inventories for {known}."
                if known
                else "An earlier version of goldenami built it: build it again.",
            )
        text = self._read_kept("inventories", digest)
        if text is None:
            raise CatalogError(
                f"{self._store.where(f'inventories/{digest}')} is missing or damaged: its SHA-256 is not {digest}, as "
                f"the manifest of {manifest.label} says",
                hint="Restore the file from a backup.",
            )
        return text

    def _read_kept(self, folder: str, digest: str) -> str | None:
        """Return the text of a file that is named by its digest; None if there is none, or another one."""
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            return None
        found = self._store.read(f"{folder}/{digest}")
        whole = found is not None and hashlib.sha256(found.data).hexdigest() == digest
        return found.data.decode() if found is not None and whole else None

    def revise(self, manifest: ImageManifest) -> None:
        """Replace the manifest of a release by its next revision, which has one entry more in ``revisions``.

        The manifest that the build wrote is kept unchanged below ``originals/``. A second call does nothing. Raises
        CatalogError if something else than images and revisions differs, or another process revised it meanwhile.
        """
        key = release_key(manifest.recipe, manifest.version)
        stored = self._store.read(key)
        if stored is None:
            raise self._no_such_version(manifest.recipe, manifest.version)
        data = codec.dumps(manifest).encode()
        if stored.data == data:
            self.refresh_channels(manifest.recipe, manifest.version)  # a killed process may not have done it
            return
        before = self._decode(key, stored.data, manifest.recipe, manifest.version)
        same = replace(manifest, images=before.images, revisions=before.revisions)
        if codec.canonical(same) != before or manifest.revisions[:-1] != before.revisions:
            raise CatalogError(
                f"{manifest.label} cannot be revised: its manifest in {self._store.where(key)} was changed meanwhile",
                hint=f"Run {step('distribute', f'{manifest.recipe}@{manifest.version}')} again.",
            )
        if not before.revisions:
            self._store.create(original_key(manifest.recipe, manifest.version), stored.data)
        with self._index.changing("releases", manifest.recipe, manifest.version):
            if self._store.replace(key, data, stored) is None:
                raise CatalogError(
                    f"the manifest of {manifest.label} was changed by another process at the same time",
                    hint=f"Run {step('distribute', f'{manifest.recipe}@{manifest.version}')} again.",
                )
        self.refresh_channels(manifest.recipe, manifest.version)

    def with_digest(self, name: str, digest: str) -> Iterator[ImageManifest]:
        """Yield the releases with a digest, newest first. With an index, only these are read."""
        if isinstance(self._records, View):
            versions = (version for version in self.versions(name) if self.entry(name, version).digest == digest)
            return (self.get(name, version) for version in versions)
        found = (self._decode(key, data, name, version) for version, key, data in self._containing(name, digest))
        return (manifest for manifest in found if manifest.digest == digest)

    def with_inputs(self, name: str, inputs: Mapping[str, str]) -> Iterator[ImageManifest]:
        """Yield those of the newest 30 releases whose inputs include these (``ImageManifest.inputs``), newest first."""
        versions = self.versions(name)[:_NEWEST]
        marks = [json.dumps(value).encode() for value in set(inputs.values())] if versions else []
        for version in versions:
            key = release_key(name, version)
            data = self._read(key)
            if data is not None and all(mark in data for mark in marks):
                manifest = self._decode(key, data, name, version)
                if manifest.inputs.items() >= inputs.items():
                    yield manifest

    def has_image(self, name: str, image_id: str) -> bool:
        """Return whether a release of this name has an image. The releases of its channels are searched first."""
        pointed = [move.version for channel in self.channels(name) for move in reversed(channel.history)]
        versions = dict.fromkeys((*pointed, *self.versions(name)))
        return any(True for _ in self._containing(name, image_id, versions))

    def _containing(
        self, name: str, text: str, versions: Iterable[str] | None = None
    ) -> Iterator[tuple[str, str, bytes]]:
        """Yield the version, key and manifest of the releases with a text in quotes anywhere in them, newest first.

        Most manifests do not have it. A search in the bytes is a thousand times faster than decoding.
        """
        mark = json.dumps(text).encode()
        for version in self.versions(name) if versions is None else versions:
            key = release_key(name, version)
            data = self._read(key)
            if data is not None and mark in data:
                yield version, key, data

    # --- new versions -------------------------------------------------------------------------------------------------

    def next_version(self, name: str, line: str, day: date, *, taken: Collection[int] = ()) -> str:
        """Return the version that ``reserve`` would take now. ``line``: the recipe's MAJOR.MINOR; ``day``: in UTC."""
        first = Version.first(line, day)
        known = {*self._numbers("releases", name), *self._numbers("reservations", name)}
        number = max((v.number for v in known if v.same_day(first)), default=0) + 1
        while number in taken:
            number += 1
        return str(replace(first, number=number))

    def reserve(
        self,
        name: str,
        line: str,
        day: date,
        *,
        build_id: str,
        now: datetime,
        taken: Collection[int] = (),
        environment: str | None = None,
    ) -> str:
        """Reserve the next version for a build. A second call for the same build returns the same version.

        ``taken``: numbers of that day that are not used, because their names are taken in the cloud. Raises
        CatalogError if other processes reserve versions without the lock of the catalog.
        """
        check_name(name, "release")
        with self._locked(f"{name}.versions", timeout=_LOCK_TIMEOUT):
            for reservation in self.reservations(name):
                if reservation.build_id == build_id:
                    return reservation.version
            for _ in range(_RACES):
                version = self.next_version(name, line, day, taken=taken)
                reservation = Reservation(name, version, build_id, timestamp(now), environment)
                if self._store.create(reservation_key(name, version), encode(reservation)) is not None:
                    return version
            raise CatalogError(
                f"{name} {version} was reserved by another process, although this process holds the catalog's lock",
                hint="Check that all processes use the same catalog and the same version of goldenami, then try again.",
            )

    def reservations(self, name: str) -> tuple[Reservation, ...]:
        """Return the reservations of all builds, lowest version first, whether they run, were released or failed."""
        found = (self._reservation(name, str(version)) for version in sorted(self._numbers("reservations", name)))
        return tuple(reservation for reservation in found if reservation is not None)

    def all_reservations(self) -> tuple[Reservation, ...]:
        """Return the reservations of all names."""
        return tuple(one for name in self._store.names("reservations") for one in self.reservations(name))

    # --- channels -----------------------------------------------------------------------------------------------------

    def channels(self, name: str) -> tuple[Channel, ...]:
        """Return all channels of a name, sorted by name."""
        check_name(name, "release")
        files = self._records.names(f"channels/{name}")
        found = (self.channel(name, file.removesuffix(".json")) for file in files if file.endswith(".json"))
        return tuple(channel for channel in found if channel is not None)

    def channel(self, name: str, channel: str) -> Channel | None:
        """Return a channel, or None if no release was published to it."""
        key = channel_key(name, channel)
        data = self._read(key)
        return None if data is None else self._channel(name, channel, key, data)

    def existing_channel(self, name: str, channel: str) -> Channel:
        """Return a channel. Raises NotFound, with the nearest name or the channels that there are as a hint."""
        pointer = self.channel(name, channel)
        if pointer is None:
            raise self._no_such_channel(name, channel)
        return pointer

    def _channel(self, name: str, channel: str, key: str, data: bytes) -> Channel:
        found = decode(Channel, data, CHANNEL_SCHEMA, source=self._store.where(key))
        if (found.name, found.channel) != (name, channel):
            raise CatalogError(
                f"{self._store.where(key)} is the file of {found.name}@{found.channel}, expected {name}@{channel}",
                hint="Restore the file from a backup.",
            )
        return found

    @staticmethod
    def prepare() -> None:
        """Load what :meth:`move` takes. The first call takes some hundredths of a second."""
        catalogfiles.prepare()

    def move(
        self,
        name: str,
        channel: str,
        version: str,
        *,
        now: datetime,
        build_id: str | None = None,
        action: MoveAction = "build",
        by: str | None = None,
        reason: str | None = None,
    ) -> Channel:
        """Point a channel to a release, in one step: readers see the old release or the new one.

        A second call changes nothing. Raises NotFound if the release does not exist, and CatalogError if another
        process moved the channel at the same time. The last four arguments are kept in the history (:class:`Move`).
        """
        with self._locked(f"{name}.channels", timeout=_LOCK_TIMEOUT):
            manifest = self.get(name, version)
            key = channel_key(name, channel)
            stored = self._store.read(key)
            before = None if stored is None else self._channel(name, channel, key, stored.data)
            if before is not None and before.current == version:
                return before
            history = (*(before.history if before else ()), Move(version, timestamp(now), build_id, action, by, reason))
            previous = before.current if before else None
            after = Channel(name, channel, version, previous, history, manifest.images, manifest.created)
            if self._store.replace(key, encode(after), stored) is None:
                raise CatalogError(
                    f"{name}@{channel} was moved by another process at the same time",
                    hint=f"{step('images list')} shows the channel. Then try again.",
                )
            self._index_channels(name)
            return after

    def refresh_channels(self, name: str, version: str) -> None:
        """Copy the images of a release again, and whether it is usable, into the channels that point to it.

        Call it after a change of the manifest, and after a revocation or its end.
        """
        with self._locked(f"{name}.channels", timeout=_LOCK_TIMEOUT):
            manifest, unusable = self.get(name, version), self.marks.why_unusable(name, version)
            changed = False
            for file in (file for file in self._store.names(f"channels/{name}") if file.endswith(".json")):
                channel = file.removesuffix(".json")
                key = channel_key(name, channel)
                stored = self._store.read(key)
                before = None if stored is None else self._channel(name, channel, key, stored.data)
                if before is None or before.current != version:
                    continue
                after = replace(before, images=manifest.images, created=manifest.created, unusable=unusable)
                if after == before:
                    continue
                if self._store.replace(key, encode(after), stored) is None:
                    raise CatalogError(
                        f"{name}@{channel} was changed by another process at the same time", hint="Try again."
                    )
                changed = True
            if changed:
                self._index_channels(name)

    def _index_channels(self, name: str) -> None:
        """A channel that the index does not have is found by its stamp, so this only makes reading faster."""
        with suppress(GoldenAmiError):
            self._index.update(name)

    def restore_channel(self, channel: Channel) -> bool:
        """Write a channel that does not exist, with its history. Returns False, and changes nothing, if it exists.

        Raises NotFound if a release of its history does not exist.
        """
        with self._locked(f"{channel.name}.channels", timeout=_LOCK_TIMEOUT):
            for move in channel.history:
                self.get(channel.name, move.version)
            key = channel_key(channel.name, channel.channel)
            manifest = self.get(channel.name, channel.current)
            made = replace(channel, images=manifest.images, created=manifest.created)
            is_new = self._store.create(key, encode(made)) is not None
            self._index_channels(channel.name)
            return is_new

    def publishing(self, name: str, channel: str, *, timeout: float) -> AbstractContextManager[None]:
        """Lock a channel while its parameters and its pointer move. A second publisher waits.

        Raises CatalogError after ``timeout`` seconds.
        """
        channel_key(name, channel)
        return self._locked(f"{name}@{channel}", timeout=timeout)

    # --- marks --------------------------------------------------------------------------------------------------------

    @property
    def marks(self) -> Marks:
        """The pins and the retirements of releases."""
        return Marks(self._store, self._index, self._records)

    # --- resolving ----------------------------------------------------------------------------------------------------

    def find(self, reference: Reference) -> ImageManifest:
        """Return the release of a reference: of its channel, of its version, or the newest one (of its line). Raises
        NotFound.

        The newest release is the newest that is neither retired nor revoked; the newest of all, if there is none.
        """
        return self.get(reference.name, self.version_of(reference))

    def version_of(self, reference: Reference) -> str:
        """Return the version of a reference, as :meth:`find` does. A version that is written is not checked."""
        if reference.version is not None:
            return reference.version
        if reference.channel is not None:
            return self.existing_channel(reference.name, reference.channel).current
        return self._newest_view(reference.name)._newest(reference)

    def existing_version_of(self, reference: Reference) -> str:
        """Return the version of a reference. Raises NotFound also for a version that does not exist."""
        version = self.version_of(reference)
        if version not in self.versions(reference.name):
            raise self._no_such_version(reference.name, version)
        return version

    def _newest_view(self, name: str) -> Catalog:
        """Return the catalog to search for the newest usable release, which needs many marks."""
        return self if isinstance(self._records, View) else self.indexed(name)

    def _newest(self, reference: Reference) -> str:
        versions = self.versions(reference.name)
        if not versions:
            raise self._no_such_name(reference.name)
        if reference.line is not None:
            versions = tuple(v for v in versions if v.startswith(f"{reference.line}."))
            if not versions:
                lines = dict.fromkeys(v.rsplit(".", 2)[0] for v in self.versions(reference.name))
                raise NotFound(
                    f"{reference.name} has no release {reference.line}.x",
                    hint=f"It has {_listed([f'{line}.x' for line in lines])}.",
                )
        return self._first_good(reference.name, versions) or versions[0]

    def newest_good(self, name: str) -> str | None:
        """Return the newest version that is neither retired nor revoked, or None."""
        view = self._newest_view(name)
        return view._first_good(name, view.versions(name))

    def _first_good(self, name: str, versions: Iterable[str]) -> str | None:
        marks = self.marks
        return next((version for version in versions if marks.why_unusable(name, version) is None), None)

    def refuse_unusable(self, manifest: ImageManifest) -> None:
        """Raise NotFound if a release is retired or revoked; the hint names the newest that is not."""
        self.refuse_unusable_version(manifest.recipe, manifest.version)

    def refuse_unusable_version(self, name: str, version: str) -> None:
        """Do as :meth:`refuse_unusable` for a release that was not read."""
        reason = self.marks.why_unusable(name, version)
        if reason is not None:
            good = self.newest_good(name)
            newest = f"The newest usable release is {name}@{good}. " if good else ""
            raise NotFound(
                f"{name} {version} is {reason}",
                hint=f"{newest}{step('images list', '--name', name)} shows all releases.",
            )

    def resolve(self, reference: Reference, place: Place, architecture: Architecture | None = None) -> ManifestImage:
        """Return the image of a release for an account and a region.

        Raises NotFound if the release or its image in that place does not exist; the error lists what exists. Raises
        UsageError if there are images of several architectures and ``architecture`` is None.
        """
        name = reference.name
        if reference.channel is not None:
            pointer = self.existing_channel(name, reference.channel)
            self.refuse_unusable_version(name, pointer.current)
            # A file of an earlier version of goldenami has no images, and an image can be copied to more places later.
            if any(image.place == place for image in pointer.images):
                return choose_image(f"{name} {pointer.current}", pointer.images, place, architecture)
            manifest = self.get(name, pointer.current)
        elif reference.version is not None:
            manifest = self.get(name, reference.version)
            self.refuse_unusable_version(name, reference.version)
        else:
            view = self._newest_view(name)
            version = view._newest(reference)
            view.refuse_unusable_version(name, version)
            manifest = self.get(name, version)
        return choose_image(manifest.label, manifest.images, place, architecture)

    def resolve_entry(
        self, reference: Reference, place: Place, architecture: Architecture | None = None
    ) -> tuple[IndexedRelease, IndexedImage]:
        """Return a release and its image for a place, from the index. Raises as :meth:`resolve` does.

        For the catalog of :meth:`indexed`.
        """
        version = self.existing_version_of(reference)
        entry = self.entry(reference.name, version)
        self.refuse_unusable_version(reference.name, version)
        return entry, choose_image(entry.label, entry.images, place, architecture)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _read(self, key: str) -> bytes | None:
        found = self._records.read(key)
        return None if found is None else found.data

    @contextmanager
    def _locked(self, name: str, *, timeout: float) -> Iterator[None]:
        """Hold a lock. Raises CatalogError after ``timeout`` seconds of waiting."""
        key = f"locks/{name}.lock"
        turn = Wait(timeout, self._clock, self._sleep, poll=self._store.poll)
        try:
            held = turn.take(lambda: self._store.lock(key, name, ""))
        except Busy as error:
            raise CatalogError(
                f"{self._store.where(key)} is still locked after {timeout:g} s: {error.message}",
                hint="Wait until the other goldenami process on this catalog has ended, then try again.",
            ) from error
        try:
            yield
        finally:
            held.give_back()

    def _stems(self, folder: str, name: str) -> list[str]:
        return [stem for stem in self._files(folder, name) if is_version(stem)]

    def _files(self, folder: str, name: str) -> list[str]:
        check_name(name, "release")
        return [file[:-5] for file in self._records.names(f"{folder}/{name}") if file.endswith(".json")]

    def _numbers(self, folder: str, name: str) -> list[Version]:
        return [Version.parse(stem) for stem in self._stems(folder, name)]

    def _decode(self, key: str, data: bytes, name: str, version: str) -> ImageManifest:
        manifest = codec.loads(data, source=self._store.where(key))
        modes.check_rows(manifest, self._store.where(key))
        if (manifest.recipe, manifest.version) != (name, version):
            raise CatalogError(
                f"{self._store.where(key)} is the manifest of {manifest.label}, expected {name} {version}",
                hint="Restore the file from a backup.",
            )
        return manifest

    def _decode_record(self, key: str, data: bytes) -> ImageManifest:
        _, name, file = key.split("/")
        return self._decode(key, data, name, file.removesuffix(".json"))

    def _reservation(self, name: str, version: str) -> Reservation | None:
        key = reservation_key(name, version)
        data = self._read(key)
        if data is None:
            return None
        return decode(Reservation, data, RESERVATION_SCHEMA, source=self._store.where(key))

    def _no_such_name(self, name: str) -> NotFound:
        hint = (
            _nearest(name, self.names(), "The names of releases are")
            or f"No release exists. {step('build', 'RECIPE')} makes one."
        )
        return NotFound(f"no release has the name {name!r}", hint=hint)

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


class Located(Protocol):
    """An image with its place."""

    @property
    def place(self) -> Place:
        """The account and the region that use the image."""

    @property
    def architecture(self) -> str:
        """The architecture of the image."""


_Image = TypeVar("_Image", bound=Located)


def choose_image(label: str, images: Sequence[_Image], place: Place, architecture: Architecture | None) -> _Image:
    """Return the image of a release for a place. ``label``: the release, for messages. Raises as
    :meth:`Catalog.resolve` does."""
    here = [image for image in images if image.place == place]
    if not here:
        places = sorted({str(image.place) for image in images})
        near = [p for p in places if p.startswith(f"{place.account}/")] or places
        raise NotFound(
            f"{label} has no image in {place}",
            hint=f"It has images in {_listed(near)}. To add a target, edit goldenami.yaml and build again."
            if near
            else None,
        )
    matching = [image for image in here if architecture in (None, image.architecture)]
    architectures = sorted({image.architecture for image in here})
    if not matching:
        raise NotFound(f"{label} has no {architecture} image in {place}", hint=f"It has {_listed(architectures)}.")
    if len(matching) > 1:
        raise UsageError(
            f"{label} has several images in {place}: {_listed(architectures)}", hint="Choose one with --architecture."
        )
    return matching[0]


def _listed(words: Iterable[str]) -> str:
    *head, last = words
    return f"{', '.join(head)} and {last}" if head else last


def _nearest(word: str, candidates: Sequence[str], otherwise: str) -> str | None:
    """Return a hint: the most similar candidate, or the first five candidates, or None if there are none."""
    import difflib

    near = difflib.get_close_matches(word, candidates, n=1)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"{otherwise} {_listed(candidates[:5])}." if candidates else None
