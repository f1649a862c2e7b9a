"""The clean-up: deletes every resource that a build created, also after its process was killed.

It deletes all resources in the journal, and all resources with the build's tags in every place that the journal names.
First the creating calls of unknown outcome are looked up. Then the kinds are deleted in reverse order of dependency
(``Kind.order``)::

    grants → parameters, policies → instances (until they are terminated) → volumes → security groups
                                    images with their snapshots → snapshots
                                    key pairs

The chains under each other run at the same time: no resource of one uses a resource of another. All of it is done
twice, since new resources may be invisible in the first round. A release searches only where and for what the journal
may not have all: see ``doubtful``. What it does not need any more is deleted beside its publication: see
``Leftovers``. The caller names the resources of a release (``keep``). A resource that is not in the journal is deleted
only if its tags prove that the build created it (``aws.ownership.Proofs``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from goldenami.aws import images, snapshots
from goldenami.aws.kinds import Build, Kind, in_order, kind_of
from goldenami.aws.ledger import Ledger
from goldenami.aws.ownership import UNPROVEN, Proofs
from goldenami.aws.session import Cloud
from goldenami.each import Failures, all_of, each
from goldenami.errors import GoldenAmiError, PlaceUnreachable
from goldenami.events import Emit, emit, ignore_events
from goldenami.journal import Journal
from goldenami.model import ImageManifest, Place

_ROUNDS = 2
# What is deleted at the same time as the other kinds, one after the other; what may use any of them goes first.
_FIRST: Final = 1  # the highest ``order`` of what goes before all others
_IMAGE: Final = "image"
_SNAPSHOT: Final = "snapshot"
_IMAGES: Final = frozenset({_IMAGE, _SNAPSHOT})
_KEYS: Final = frozenset({"key-pair"})
_VOLUME: Final = "volume"
_LEFTOVERS: Final = frozenset({"instance", _VOLUME, "security-group", "key-pair", *_IMAGES})
_EVERY: Final = frozenset(kind.name for kind in in_order())

Search = Mapping[Place, Collection[str]]
"""The names of the kinds to search for, by place."""

TEMPORARY = "candidate/"  # ledger keys of resources that belong to a candidate, and to no release


@dataclass(frozen=True, slots=True, order=True)
class Found:
    """A resource that the build created. ``parent``: for a grant, the ARN of its key."""

    place: Place
    kind: str
    id: str
    parent: str | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.id} in {self.place}"


@dataclass(frozen=True, slots=True)
class CleanUp:
    """The result of a clean-up. ``deleted``: the resources whose deletion this process sent and AWS confirmed, so
    without those that did not exist any more. ``left``: the reasons why resources could not be deleted, by resource.
    ``unreachable``: the reasons why places could not be searched, by place. ``others``: whose the resources are that a
    search found and that are not ours, by resource; they are kept."""

    deleted: tuple[Found, ...]
    left: dict[str, str]
    unreachable: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return not self.left and not self.unreachable


def released(journal: Journal, manifest: ImageManifest) -> frozenset[str]:
    """Return the ids that a release owns: its images, their snapshots, and the grants and parameters that its build
    created for them, also those whose call has no result yet. Grants that were only for the copying are excluded."""
    ids = {image.image_id for image in manifest.images}
    ids |= {snapshot.snapshot_id for image in manifest.images for snapshot in image.snapshots}
    lasting = (r for r in journal.resources() if not r.key.startswith(TEMPORARY))
    ids |= {r.id for r in lasting if not kind_of(r.kind).in_manifest}
    for intent in journal.unresolved():
        kind = kind_of(intent.kind)
        id = None if kind.in_manifest else kind.known_id(intent.request)
        ids |= set() if id is None else {id}
    return frozenset(ids)


def doubtful(ledger: Ledger) -> Search:
    """Return where there may be resources of a build that its journal does not have, and of which kinds.

    Of all kinds in the places of creating calls whose outcome was unknown for a while, and everywhere if an earlier
    process began the build. Where instances ran, they may leave volumes; where an image failed, it may leave snapshots
    that it does not list."""
    everywhere = ledger.journal.places() if ledger.is_continued else ledger.doubtful
    return _left_behind(ledger) | dict.fromkeys(everywhere, _EVERY)


def _left_behind(ledger: Ledger) -> dict[Place, Collection[str]]:
    journal = ledger.journal
    search: dict[Place, Collection[str]] = {intent.place: {_VOLUME} for intent in journal.calls("instance")}
    return search | {place: {_SNAPSHOT, *search.get(place, ())} for place in journal.spoiled_in(_IMAGE)}


class Leftovers:
    """What the release of a build does not need any more: builders, test instances, their volumes, groups and key
    pairs, and candidates. It can be deleted while the release is published, but not before its manifest is in the
    catalog: without it, a resume needs the candidates.

    The publication makes nothing of these kinds, so its calls cannot be taken for left-overs. :func:`delete_all`
    follows, which deletes the rest, and what could not be deleted.
    """

    def __init__(self, ledger: Ledger, manifest: ImageManifest) -> None:
        self._ledger = ledger
        self._manifest = manifest
        self._searched: dict[Place, Collection[str]] = {}

    def delete(self, emit: Emit = ignore_events) -> None:
        """Delete it, and search once for what instances and failed images leave. No error of a single resource is
        raised or told: the clean-up tries again."""
        ledger, journal = self._ledger, self._ledger.journal
        search = _left_behind(ledger) if not ledger.is_continued else {}
        own = Ledger(ledger.cloud, journal, proofs=ledger.proofs, emit=emit)
        keep = released(journal, self._manifest)
        work = _Deletion(own, keep, ignore_events, search=search, kinds=_LEFTOVERS, with_snapshots=False)
        failed = each(journal.places(), work.clean).errors
        if not work.left:
            self._searched = {place: kinds for place, kinds in search.items() if place not in failed}

    def search(self) -> Search:
        """Return where and for what the clean-up after :meth:`delete` must still search. See :func:`doubtful`."""
        every = {place: {*kinds} - {*self._searched.get(place, ())} for place, kinds in doubtful(self._ledger).items()}
        return {place: kinds for place, kinds in every.items() if kinds}


def finish_deletions(ledger: Ledger) -> None:
    """Finish deletions of unknown outcome, so that no later step uses a resource that may be deleted. What another
    program has made since, under the same name, is kept.

    A task may delete what the build of a release created. The journal of the task cannot tell whose that is, so such a
    deletion stays unfinished here: the task compares again, and deletes what is still there."""
    for intent in ledger.journal.unresolved_deletions():
        kind, id = kind_of(intent.kind), str(intent.resource)
        if kind.still_ours(ledger, intent.place, id):
            kind.delete(ledger, intent.place, id, kind.parent(intent.request))
        elif ledger.journal.created(intent.kind, intent.place, id):
            ledger.journal.record_deleted(intent.kind, intent.place, id)


def find_all(cloud: Cloud, journal: Journal, proofs: Proofs, *, keep: Collection[str] = ()) -> CleanUp:
    """Return what :func:`delete_all` would delete now, sorted. Changes nothing, and writes nothing to the journal."""
    others: dict[str, str] = {}

    def find(place: Place) -> set[Found]:
        found = {one for kind in in_order() for one in _find(cloud, journal, proofs, place, kind, keep, others)}
        return found - set(_behind_kept(cloud, place, keep))

    answers = each(journal.places(), find)
    every = {one for found in answers.results.values() for one in found if one.id not in keep}
    return CleanUp(tuple(sorted(every)), {}, {str(place): reason for place, reason in answers.reasons.items()}, others)


def delete_all(
    cloud: Cloud,
    journal: Journal,
    proofs: Proofs,
    *,
    keep: Collection[str] = (),
    emit: Emit = ignore_events,
    search: Search | None = None,
) -> CleanUp:
    """Delete every resource of the build, except ``keep`` (see :func:`released`) and the snapshots of kept images.

    ``search``: where and for which kinds to search for resources with the build's tags, once; of all others, the
    journal has all. By default, all places are searched twice for all kinds.

    A resource that is not in the journal, and only has the tags of the build, is deleted if its proof is right. Others
    are listed in ``others`` and kept.
    A failure to delete one resource is reported in ``left`` and does not stop the others. A second call tries again to
    delete what is left. Raises errors that end everything, for example JournalError.
    """
    ledger = Ledger(cloud, journal, proofs=proofs, emit=emit)
    work = _Deletion(ledger, frozenset(keep), emit, search=search)
    places = journal.places()
    unreachable: dict[Place, GoldenAmiError] = {}
    for _ in range(_ROUNDS if search is None else 1):
        work.left.clear()
        _resolve(ledger, work)
        gone = {place: error for place, error in unreachable.items() if isinstance(error, PlaceUnreachable)}
        unreachable = {**gone, **each([p for p in places if p not in gone], work.clean, on_failure=work.warn).errors}
    reasons = {str(place): error.message for place, error in unreachable.items()}
    return CleanUp(tuple(work.deleted), dict(work.left), reasons, dict(work.others))


def delete_these(ledger: Ledger, to_delete: Collection[Found], *, emit: Emit = ignore_events) -> CleanUp:
    """Delete these resources in reverse order of dependency, without a check of their owner: the caller has checked it.
    A failure to delete one resource is reported in ``left`` and does not stop the others."""
    work = _Deletion(ledger, frozenset(), emit, check_owner=False)
    for kind in in_order():
        done = [one for one in sorted(to_delete) if one.kind == kind.name and work.delete(one)]
        for place in sorted({one.place for one in done}):
            work.await_deleted(kind, place, [one.id for one in done if one.place == place])
    return CleanUp(tuple(work.deleted), dict(work.left))


class _Deletion:
    """A running clean-up. The threads of all places add to ``left`` and ``deleted``; adding is atomic.
    ``check_owner``: check before each deletion that the build created the resource. ``search``: see
    :func:`delete_all`. ``kinds``: the names of those to delete. ``with_snapshots``: read which snapshots the kept
    images have, and keep them; a manifest names them."""

    def __init__(
        self,
        ledger: Ledger,
        keep: frozenset[str],
        emit: Emit,
        *,
        check_owner: bool = True,
        search: Search | None = None,
        kinds: Collection[str] = _EVERY,
        with_snapshots: bool = True,
    ) -> None:
        self.ledger = ledger
        self.keep = keep
        self.emit = emit
        self.check_owner = check_owner
        self.search = search
        self.kinds = kinds
        self.with_snapshots = with_snapshots
        self.deleted: list[Found] = []
        self.others: dict[str, str] = {}
        self.failures = Failures[str](self.warn)
        self.left = self.failures.reasons

    def clean(self, place: Place) -> None:
        """Delete the build's resources in a place, kind by kind. Raises the error if the place cannot be searched, or
        does not answer any more."""
        cloud, journal = self.ledger.cloud, self.ledger.journal
        search = _EVERY if self.search is None else self.search.get(place, ())
        mine = [one for one in journal.resources(place=place) if one.kind in self.kinds]
        if not search and all(one.id in self.keep for one in mine):
            return
        # If this fails, nothing is deleted here: the snapshots of a release would not be known.
        behind = {one.id for one in _behind_kept(cloud, place, self.keep)} if self.with_snapshots else set()

        def delete(kinds: Sequence[Kind]) -> None:
            for kind in kinds:
                if kind.name not in self.kinds:
                    continue
                self._clean_kind(place, kind, behind, search=kind.name in search)

        first, *chains = _chains()
        delete(first)
        all_of(chains, delete)

    def _clean_kind(self, place: Place, kind: Kind, behind: Collection[str], *, search: bool) -> None:
        """Delete the build's resources of a kind in a place."""
        ledger = self.ledger
        if (error := ledger.cloud.unreachable(place)) is not None:
            raise error.copy()
        with self.failures.of(f"{kind.name}s in {place}"):
            every = _find(
                ledger.cloud, ledger.journal, ledger.proofs, place, kind, self.keep, self.others, search=search
            )
            deletable = [one for one in sorted(set(every)) if one.id not in self.keep and one.id not in behind]
            done = [one for one in deletable if self.delete(one)]
            if done:
                self.await_deleted(kind, place, [one.id for one in done])

    def delete(self, one: Found) -> bool:
        """Delete a resource that was found, also if the journal has it as deleted. Return whether it is deleted, or is
        being deleted."""
        ledger, kind = self.ledger, kind_of(one.kind)
        with self.failures.of(str(one)):
            if self.check_owner and not kind.still_ours(ledger, one.place, one.id):
                ledger.journal.record_deleted(one.kind, one.place, one.id)
                return False
            ledger.found_again(one.place, one.id)
            kind.delete(ledger, one.place, one.id, one.parent)
            if ledger.has_deleted(one.place, one.id) and one not in self.deleted:
                self.deleted.append(one)
            return True
        return False

    def await_deleted(self, kind: Kind, place: Place, ids: Collection[str]) -> None:
        ids = [id for id in ids if not self.ledger.was_absent(place, id)]
        with self.failures.of(f"{kind.name}s {', '.join(ids)} in {place}"):
            kind.await_deleted(self.ledger.cloud, place, ids)

    def warn(self, what: object, error: GoldenAmiError) -> None:
        emit(self.emit, "note", message=f"not deleted: {what}: {error.message}", level="warning")


def _chains() -> tuple[Sequence[Kind], ...]:
    """Return all kinds in chains, each in the order of deletion. The first one is deleted before the others, which can
    be deleted at the same time."""
    later = [kind for kind in in_order() if kind.order > _FIRST]
    return (
        [kind for kind in in_order() if kind.order <= _FIRST],
        [kind for kind in later if kind.name not in _IMAGES | _KEYS],
        [kind for kind in later if kind.name in _IMAGES],
        [kind for kind in later if kind.name in _KEYS],
    )


def _resolve(ledger: Ledger, work: _Deletion) -> None:
    """Look up the creating calls of unknown outcome, place by place: an unreachable place does not stop the others."""
    unresolved = ledger.journal.unresolved()
    for place in sorted({intent.place for intent in unresolved}):
        if ledger.cloud.unreachable(place) is not None:
            continue  # what is left there is told once
        with work.failures.of(f"calls of unknown outcome in {place}"):
            ledger.resolve_all([intent for intent in unresolved if intent.place == place])


def _find(
    cloud: Cloud,
    journal: Journal,
    proofs: Proofs,
    place: Place,
    kind: Kind,
    keep: Collection[str],
    others: dict[str, str],
    *,
    search: bool = True,
) -> Iterable[Found]:
    """Yield the resources of a kind in a place: those in the journal, and with ``search`` those with the build's tags
    that are not to be kept and whose proof is right. ``others`` gets those whose proof is wrong."""
    known = journal.resources(kind.name, place)
    yield from (Found(place, kind.name, r.id, kind.parent(r.request)) for r in known)
    calls = [i.request for i in journal.calls(kind.name, place)]
    if search and (kind.everywhere or calls):
        without = {*keep, *(r.id for r in known)}
        build = Build(journal.build_id, journal.header.catalog)
        for one in kind.of_build(cloud, place, build, calls, proofs, without=without):
            found = Found(place, kind.name, one.id, one.parent)
            if one.proven:
                yield found
            else:
                others[str(found)] = f"{UNPROVEN.whose}: {UNPROVEN.reason}"


def _behind_kept(cloud: Cloud, place: Place, keep: Collection[str]) -> Iterable[Found]:
    kept = [id for id in keep if id.startswith("ami-")]
    for image in images.describe_many(cloud, place, kept).values():
        yield from (Found(place, "snapshot", s) for s in snapshots.of_image(image))
