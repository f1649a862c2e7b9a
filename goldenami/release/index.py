"""The index of a catalog: one object that has what lists and searches need of all releases, channels and marks.

::

    index/catalog.json                                         section -> key -> [stamp, contents]
    index/pending/<section>@<name>@<version>@<time>-<random>   a writer changes this record now (only in a bucket)

A catalog with 10,000 releases has 10,000 manifests. The index makes three reads of them. It is a copy and never the
truth: it can be deleted at any time, and `goldenami catalog reindex` writes it again.

Every read compares the index with the catalog, and reads what differs from the catalog itself:

- In a directory a listing costs nothing. The stamps of all files (time, inode and size) are compared.
- In a bucket a listing returns 1,000 keys. Only the channels are listed, and their ETags are compared. A writer of any
  other record first creates an object below ``index/pending``, then writes the record, then the index, and deletes the
  pending object. So a reader finds the record of a killed writer. An earlier version of goldenami creates no pending
  object. What it wrote is found by the channel that it moved, or by the next writer of the same name.

Many writers change the index at the same time, with conditional writes. A writer that loses reads the index again, and
often finds that the winner wrote its record too. A failure to write the index is ignored, because readers find the
pending object.
"""

from __future__ import annotations

import copy
import json
import random
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol

from goldenami.each import all_of
from goldenami.errors import CatalogError, GoldenAmiError
from goldenami.model import ImageManifest, Place
from goldenami.store import Store, Stored

SCHEMA: Final = "goldenami.index/1"
KEY: Final = "index/catalog.json"
PENDING: Final = "index/pending"
SECTIONS: Final = ("releases", "channels", "pins", "retired", "revoked")
_CHEAP: Final = ("channels",)  # what a reader of a bucket lists: few keys, and every release moves one
_OF_WRITER: Final = ("releases", "channels")
_TRIES: Final = 8
_PAUSE: Final = 0.05  # seconds before the second try; doubled for each further one
_READERS: Final = 16  # threads that read records of a bucket
_PENDING_AGE: Final = timedelta(days=1)  # no writer takes that long: it was killed
_TIME: Final = "%Y%m%dT%H%M%SZ"

Sections = dict[str, dict[str, list[Any]]]  # section -> "name/file.json" -> [stamp, contents or None]
Decode = Callable[[str, bytes], ImageManifest]  # the key and the bytes of a manifest


class Records(Protocol):
    """What reads records of a catalog: its store, or its index."""

    def where(self, key: str = "") -> str:
        """Return the address of a record for messages."""

    def read(self, key: str) -> Stored | None:
        """Return a record; None if it does not exist."""

    def names(self, folder: str) -> tuple[str, ...]:
        """Return the names in a folder, sorted."""


@dataclass(frozen=True, slots=True)
class IndexedImage:
    """One image of a release in the index."""

    architecture: str
    place: Place
    image_id: str


class IndexedRelease(NamedTuple):  # a tuple, because commands make thousands of them
    """A release in the index. ``bases``: the image ids of its bases. ``parents``: the releases ("name version") of
    them, if they are releases."""

    name: str
    version: str
    created: str  # ISO 8601, UTC
    build_id: str
    digest: str
    environment: str
    architectures: tuple[str, ...]
    bases: tuple[str, ...]
    parents: tuple[str, ...]
    rows: tuple[str, ...]  # of each image: "account/region architecture id"

    @property
    def label(self) -> str:
        """The name of the release for messages: "debian-12-web 1.4.20261124.1"."""
        return f"{self.name} {self.version}"

    @property
    def images(self) -> tuple[IndexedImage, ...]:
        """The images of the release."""
        return tuple(_image(row) for row in self.rows)

    @classmethod
    def of(cls, manifest: ImageManifest) -> IndexedRelease:
        """Return the entry of a release."""
        return cls.from_form(manifest.recipe, manifest.version, _summary(manifest))

    @classmethod
    def from_form(cls, name: str, version: str, form: Mapping[str, Any]) -> IndexedRelease:
        """Read an entry from the index."""
        return cls(
            name,
            version,
            form["created"],
            form["build_id"],
            form["digest"],
            form["environment"],
            tuple(form["architectures"]),
            tuple(form["bases"]),
            tuple(form["parents"]),
            tuple(form["images"]),
        )


class View:
    """The records of a catalog, read from its index. Implements :class:`Records`.

    Manifests, damaged records and everything outside the index are read from the store.
    """

    def __init__(self, store: Store, sections: Sections) -> None:
        self._store = store
        self._sections = sections
        self._folders: dict[str, dict[str, list[str]]] = {}

    def where(self, key: str = "") -> str:
        return self._store.where(key)

    def read(self, key: str) -> Stored | None:
        section, _, rest = key.partition("/")
        if section not in SECTIONS or section == "releases":
            return self._store.read(key)
        entry = self._sections[section].get(rest)
        if entry is None:
            return None
        return self._store.read(key) if entry[1] is None else Stored(json.dumps(entry[1]).encode(), "")

    def form(self, key: str) -> Any:
        """Return a copy of the JSON value of a record that the index has whole, such as a mark; else None."""
        section, _, rest = key.partition("/")
        if section not in SECTIONS or section == "releases":
            return None
        entry = self._sections[section].get(rest)
        return None if entry is None else copy.copy(entry[1])

    def names(self, folder: str) -> tuple[str, ...]:
        section, _, name = folder.partition("/")
        if section not in SECTIONS:
            return self._store.names(folder)
        if section not in self._folders:
            grouped: dict[str, list[str]] = defaultdict(list)
            for key in self._sections[section]:
                first, _, file = key.partition("/")
                grouped[first].append(file)
            self._folders[section] = grouped
        found = self._folders[section]
        return tuple(sorted(found.get(name, ()) if name else found))

    def release(self, name: str, version: str) -> IndexedRelease | None:
        """Return a release; None if the index does not have it, or its manifest is damaged."""
        entry = self._sections["releases"].get(f"{name}/{version}.json")
        return None if entry is None or entry[1] is None else IndexedRelease.from_form(name, version, entry[1])

    def names_with_image(self, image_id: str) -> Iterator[tuple[str, str]]:
        """Yield name and version of the releases that have an image."""
        for key, (_, form) in self._sections["releases"].items():
            if form is not None and any(row.endswith(f" {image_id}") for row in form["images"]):
                name, _, file = key.partition("/")
                yield name, file.removesuffix(".json")


class Index:
    """Reads and writes the index of the catalog in a store. Thread-safe."""

    def __init__(self, store: Store, decode: Decode, sleep: Callable[[float], None] = time.sleep) -> None:
        """``decode``: reads a manifest, and raises an error if it is damaged."""
        self._store = store
        self._decode = decode
        self._sleep = sleep
        self._suspended = False

    def read(self, name: str | None = None) -> View:
        """Return all records; with ``name``, only those of this name are compared with the catalog."""
        _, sections = self._load()
        fresh, _ = self._compared(sections, name, _CHEAP)
        return View(self._store, fresh)

    def read_unchecked(self) -> View | None:
        """Return the records as the index has them, with one read, for a caller that may read nothing else. None if
        there is no index."""
        _, sections = self._load()
        return None if sections is None else View(self._store, sections)

    @contextmanager
    def changing(self, section: str, name: str, version: str) -> Iterator[None]:
        """Write a record of a release inside this block; afterwards the index has it."""
        pending = None
        if not self._store.lists_freely and not self._suspended:
            moment = datetime.now(UTC).strftime(_TIME)
            pending = f"{PENDING}/{section}@{name}@{version}@{moment}-{secrets.token_hex(6)}"
            self._store.create(pending, b"")
        yield
        with suppress(GoldenAmiError):
            if self.update(name) and pending is not None:
                self._store.delete(pending)

    def update(self, name: str) -> bool:
        """Write what changed in the records of a name, and what is pending. Returns False if other processes write the
        index all the time, or a newer version of goldenami wrote it."""
        return self._suspended or self._write(name, _OF_WRITER)

    def suspend(self) -> None:
        """Delete the index, and do not write it until :meth:`rebuild`. Readers read the catalog meanwhile."""
        self._suspended = True
        self._store.delete(KEY)

    def rebuild(self) -> int:
        """Compare the index with all records of the catalog, and write it. Returns the number of releases.

        Raises CatalogError if other processes write it all the time, or a newer version of goldenami wrote it.
        """
        self._suspended = False
        if not self._write(None, SECTIONS):
            raise CatalogError(
                f"{self._store.where(KEY)} was changed by other processes at the same time",
                hint="Try again. If it happens again, update goldenami.",
            )
        return len((self._load()[1] or _empty())["releases"])

    # --- inside -------------------------------------------------------------------------------------------------------

    def _load(self) -> tuple[Stored | None, Sections | None]:
        """Return the stored index and its contents; None as contents if there is none that this program can read."""
        stored = self._store.read(KEY)
        if stored is None:
            return None, None
        try:
            form = json.loads(stored.data)
            if form["schema"] != SCHEMA:
                return stored, None
            return stored, {section: form[section] for section in SECTIONS}
        except (ValueError, KeyError, TypeError):  # a damaged index is as good as none
            return stored, None

    def _write(self, name: str | None, listed: tuple[str, ...]) -> bool:
        for attempt in range(_TRIES):
            if attempt:
                self._sleep(random.uniform(0.5, 1) * _PAUSE * 2**attempt)
            stored, sections = self._load()
            if stored is not None and sections is None and _is_newer(stored.data):
                return False
            fresh, pending = self._compared(sections, name, listed)
            if fresh == sections or self._store.replace(KEY, _encode(fresh), stored) is not None:
                for key in pending:
                    if _is_old(key):
                        self._store.delete(f"{PENDING}/{key}")
                return True
        return False

    def _compared(
        self, sections: Sections | None, name: str | None, listed: Iterable[str]
    ) -> tuple[Sections, tuple[str, ...]]:
        """Return the index with everything that differs from the catalog, and the names of the pending objects.

        ``listed``: the sections to list in a bucket. Without an index, and in a directory, all are listed.
        """
        if sections is None:
            name = None
        if sections is None or self._store.lists_freely:
            listed = SECTIONS
        before = sections or _empty()
        fresh = {section: dict(entries) for section, entries in before.items()}
        stamps = {section: self._listed(section, name) for section in listed}
        pending = () if self._store.lists_freely else self._store.names(PENDING)
        again = [subject for one in pending if (subject := _subject(one)) is not None]
        for section, keys in stamps.items():
            folder = f"{name}/" if name is not None else ""
            known = {key: stamp for key, (stamp, form) in before[section].items() if form is not None}
            if name is None and keys == known:
                continue  # the usual case, without a look at each record
            for key in [key for key in before[section] if key not in keys and key.startswith(folder)]:
                del fresh[section][key]
            again += _changed(before, section, keys)
        if "releases" not in stamps:
            # An earlier version of goldenami moves a channel after it wrote a release or a mark.
            for moved in sorted({key.partition("/")[0] for section, key in again if section == "channels"}):
                for section in SECTIONS:
                    if section != "channels":
                        listing = self._listed(section, moved)
                        stamps.setdefault(section, {}).update(listing)
                        again += _changed(before, section, listing)
        for (section, key), stored in self._records(dict.fromkeys(again)):
            if stored is None:
                fresh[section].pop(key, None)
            else:
                stamp = stamps.get(section, {}).get(key) or (before[section].get(key) or [""])[0]
                fresh[section][key] = [stamp, self._contents(section, key, stored.data)]
        return fresh, pending

    def _listed(self, section: str, name: str | None) -> dict[str, str]:
        # A record is in the folder of its name. Other files are of users, or of programs that synchronize directories.
        if name is None:
            every = self._store.stamps(section)
            return {key: stamp for key, stamp in every.items() if key.endswith(".json") and key.count("/") == 1}
        of_name = self._store.stamps(f"{section}/{name}")
        return {f"{name}/{key}": stamp for key, stamp in of_name.items() if key.endswith(".json") and "/" not in key}

    def _records(self, keys: Iterable[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], Stored | None]]:
        ordered = list(keys)
        if self._store.lists_freely:
            return ((one, self._store.read("/".join(one))) for one in ordered)
        found = all_of(ordered, lambda one: self._store.read("/".join(one)), at_once=_READERS)
        return zip(ordered, found, strict=True)

    def _contents(self, section: str, key: str, data: bytes) -> Any:
        """Return what the index has of a record; None if the record is damaged, so that readers report it."""
        try:
            if section == "releases":
                return _summary(self._decode(f"{section}/{key}", data))
            form = json.loads(data)
        except (GoldenAmiError, ValueError):
            return None
        if isinstance(form, dict):
            form.pop("images", None)  # of a channel: the manifest has them
        return form


def _changed(before: Sections, section: str, stamps: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the records that the index does not have, or not as they are now. A damaged record is always read again."""
    for key, stamp in stamps.items():
        entry = before[section].get(key)
        if entry is None or entry[0] != stamp or entry[1] is None:
            yield section, key


def _empty() -> Sections:
    return {section: {} for section in SECTIONS}


def _encode(sections: Sections) -> bytes:
    """Return the bytes of the index, with a line for each record, so that people can search and compare it."""
    lines = []
    for section, entries in sections.items():
        records = ",\n".join(f"{json.dumps(key)}: {json.dumps(entry)}" for key, entry in sorted(entries.items()))
        lines.append(f'"{section}": {{\n{records}\n}}')
    return ("{" + f'"schema": "{SCHEMA}",\n' + ",\n".join(lines) + "}\n").encode()


def _summary(manifest: ImageManifest) -> dict[str, Any]:
    return {
        "created": manifest.created,
        "build_id": manifest.build_id,
        "digest": manifest.digest,
        "environment": manifest.environment,
        "architectures": sorted({image.architecture for image in manifest.images}),
        "images": [f"{image.place} {image.architecture} {image.image_id}" for image in manifest.images],
        "bases": sorted({base.image_id for base in manifest.base.values()}),
        "parents": sorted({base.release for base in manifest.base.values() if base.release}),
    }


def _image(row: str) -> IndexedImage:
    place, architecture, image_id = row.split(" ")
    account, _, region = place.partition("/")
    return IndexedImage(architecture, Place(account, region), image_id)


def _subject(pending: str) -> tuple[str, str] | None:
    """Return section and key of the record that a pending object is about."""
    section, _, rest = pending.partition("@")
    name, _, rest = rest.partition("@")
    version, _, _ = rest.partition("@")
    return (section, f"{name}/{version}.json") if section in SECTIONS and name and version else None


def _is_old(pending: str) -> bool:
    moment = pending.rpartition("@")[2].partition("-")[0]
    try:
        return datetime.now(UTC) - datetime.strptime(moment, _TIME).replace(tzinfo=UTC) > _PENDING_AGE
    except ValueError:
        return False


def _is_newer(data: bytes) -> bool:
    """Return whether a newer version of goldenami wrote an index, so that this one must not replace it."""
    try:
        schema = json.loads(data)["schema"]
    except (ValueError, KeyError, TypeError):
        return False
    return isinstance(schema, str) and schema.startswith("goldenami.index/") and schema != SCHEMA
