"""Lists of releases: what the catalog has of each, which of them match a filter, and how they descend from each other.

Everything is read from the index of the catalog (:meth:`Catalog.indexed`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

from goldenami.each import Failures
from goldenami.release.catalog import Catalog
from goldenami.release.index import IndexedImage, IndexedRelease

State = Literal["usable", "revoked", "retired", "pinned"]


class ListedRelease(NamedTuple):  # a tuple, because commands make thousands of them
    """A release with its channels and marks. ``revoked``: the reason; ``retired``: "retiring" or "retired";
    ``pinned``: the reason. None where there is no such mark."""

    entry: IndexedRelease
    channels: tuple[str, ...]
    revoked: str | None
    retired: str | None
    pinned: str | None

    @property
    def states(self) -> tuple[State, ...]:
        """The states of the release: its marks, and "usable" if it is neither revoked nor retired."""
        found: list[State] = []
        if self.revoked is None and self.retired is None:
            found.append("usable")
        if self.revoked is not None:
            found.append("revoked")
        if self.retired is not None:
            found.append("retired")
        if self.pinned is not None:
            found.append("pinned")
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Filter:
    """What a release must match; None matches all. ``name``: a name, or a pattern with ``*``, ``?`` and ``[…]``.
    ``since`` and ``before``: limits of the time when it was built. ``region``, ``account``: it has an image there."""

    name: str | None = None
    channel: str | None = None
    architecture: str | None = None
    region: str | None = None
    account: str | None = None
    state: State | None = None
    since: datetime | None = None
    before: datetime | None = None

    def matches_name(self, name: str) -> bool:
        return self.name is None or fnmatchcase(name, self.name)

    def matches_marks(self, release: ListedRelease) -> bool:
        """Return whether channels and state match."""
        return (self.channel is None or self.channel in release.channels) and (
            self.state is None or self.state in release.states
        )

    def matches_entry(self, entry: IndexedRelease) -> bool:
        """Return whether architecture, place and time match."""
        if self.architecture is not None and self.architecture not in entry.architectures:
            return False
        if (self.region or self.account) and not any(self.matches_image(image) for image in entry.images):
            return False
        if self.since is None and self.before is None:
            return True
        created = datetime.fromisoformat(entry.created)
        return (self.since is None or created >= self.since) and (self.before is None or created < self.before)

    def matches_image(self, image: IndexedImage) -> bool:
        """Return whether an image is in the account and the region, and has the architecture."""
        return (
            self.region in (None, image.place.region)
            and self.account in (None, image.place.account)
            and self.architecture in (None, image.architecture)
        )


def is_pattern(name: str) -> bool:
    """Return whether a name is a pattern."""
    return any(character in name for character in "*?[")


def list_releases(
    catalog: Catalog, chosen: Filter, damaged: Failures[tuple[str, str]] | None = None
) -> Iterator[ListedRelease]:
    """Yield the releases that match, by name, the newest version first.

    ``damaged`` collects the releases that cannot be read; without it, the first one raises CatalogError. ``catalog``:
    from :meth:`Catalog.indexed`.
    """
    failures = damaged if damaged is not None else Failures[tuple[str, str]]()
    for name in catalog.names():
        if not chosen.matches_name(name):
            continue
        pointers: dict[str, list[str]] = {}
        for channel in catalog.channels(name):
            pointers.setdefault(channel.current, []).append(channel.channel)
        marked = catalog.marks_by_version(name)
        for version in catalog.versions(name):
            entry, channels = catalog.indexed_entry(name, version), tuple(pointers.get(version, ()))
            one: ListedRelease | None = None
            if entry is not None and version not in marked:  # nearly all releases: nothing is read, and nothing fails
                one = ListedRelease(entry, channels, None, None, None)
            else:
                with failures.of((name, version)):
                    one = _listed(catalog, entry or catalog.entry(name, version), channels, marked.get(version, ()))
            if one is not None and chosen.matches_marks(one) and chosen.matches_entry(one.entry):
                yield one
        if damaged is None and failures.errors:
            raise next(iter(failures.errors.values()))


def _listed(
    catalog: Catalog, entry: IndexedRelease, channels: tuple[str, ...], folders: Collection[str]
) -> ListedRelease:
    marks, name, version = catalog.marks, entry.name, entry.version
    revocation = marks.revocation(name, version) if "revoked" in folders else None
    retirement = marks.retirement(name, version) if "retired" in folders else None
    pin = marks.pinned(name, version) if "pins" in folders else None
    return ListedRelease(
        entry,
        channels,
        revocation.reason if revocation is not None else None,
        retirement.status if retirement is not None else None,
        pin.reason if pin is not None else None,
    )


def newer(catalog: Catalog, name: str, version: str) -> tuple[str, ...]:
    """Return the usable releases of a name that are newer than a version, newest first."""
    versions = catalog.versions(name)
    before = versions[: versions.index(version)] if version in versions else versions
    return tuple(one for one in before if catalog.marks.why_unusable(name, one) is None)


# --- descent ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Relative:
    """A release that another one is built on, or that is built on it. ``distance``: negative for parents, positive for
    children, 0 for the release itself. ``built_on``: the parents of it."""

    release: ListedRelease
    distance: int
    built_on: tuple[str, ...]


def descent(catalog: Catalog, name: str, version: str) -> tuple[Relative, ...]:
    """Return the parents of a release, the release, and everything that was built on it, directly or through others.

    Parents that are not in the catalog (a base image of another owner) have no row.
    """
    every = {one.entry.label: one for one in list_releases(catalog, Filter())}
    of_image = {image.image_id: label for label, one in every.items() for image in one.entry.images}

    def parents(one: ListedRelease) -> tuple[str, ...]:
        by_image = (of_image[base] for base in one.entry.bases if base in of_image)
        return tuple(sorted({*one.entry.parents, *by_image} - {one.entry.label}))

    above = {label: parents(one) for label, one in every.items()}
    below: dict[str, list[str]] = {}
    for child, built_on in above.items():
        for parent in built_on:
            below.setdefault(parent, []).append(child)
    start = f"{name} {version}"
    distances = {start: 0}
    for step, relatives in ((-1, above), (1, below)):
        waiting = [start]
        while waiting:
            label = waiting.pop(0)
            for relative in relatives.get(label, ()):
                if relative in every and relative not in distances:
                    distances[relative] = distances[label] + step
                    waiting.append(relative)
    ordered = sorted(distances.items(), key=lambda item: (item[1], item[0]))
    return tuple(Relative(every[label], distance, above[label]) for label, distance in ordered if label in every)
