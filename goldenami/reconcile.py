"""Deleting everything a build made, whatever became of its process.

What there is to delete is the union of what the journal knows and what carries the build's tags, in every place that
the build ever meant to touch. First the creating calls whose outcome is unknown are looked up. Then, kind by kind, in
the reverse order of dependency (``Kind.order``):

    grants → parameters, policies → instances (until they are terminated) → images with their snapshots → snapshots
    → volumes → security groups → key pairs

and all of it twice, since the first sweep can miss what was not visible yet. What a release owns is named by the caller
(``keep``) and not guessed. What lacks this build's id, or has a token that is not one of its own, is never touched.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from goldenami.aws import images, snapshots
from goldenami.aws.kinds import Kind, in_order, kind_of
from goldenami.aws.ledger import Ledger, Patience
from goldenami.aws.session import Cloud
from goldenami.each import Failures, each
from goldenami.errors import GoldenAmiError
from goldenami.events import Emit, emit, ignore_events
from goldenami.journal import Journal
from goldenami.model import ImageManifest, Place

_ROUNDS = 2


TEMPORARY = "candidate/"  # ledger keys of what belongs to a candidate, and to no release


@dataclass(frozen=True, slots=True, order=True)
class Found:
    """Something the build made. ``parent``: for a grant, the ARN of its key."""

    place: Place
    kind: str
    id: str
    parent: str | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.id} in {self.place}"


@dataclass(frozen=True, slots=True)
class CleanUp:
    """What a clean-up did. ``left`` maps what could not be deleted to the reason; ``unreachable`` does so for places
    that could not be searched."""

    deleted: tuple[Found, ...]
    left: dict[str, str]
    unreachable: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return not self.left and not self.unreachable


def released(journal: Journal, manifest: ImageManifest) -> frozenset[str]:
    """The ids that a manifest owns: its images and their snapshots, and the grants and parameters its build made for
    them, those included whose call has no result yet. What was lent for the copying is not among them."""
    ids = {image.image_id for image in manifest.images}
    ids |= {snapshot.snapshot_id for image in manifest.images for snapshot in image.snapshots}
    lasting = (r for r in journal.resources() if not r.key.startswith(TEMPORARY))
    ids |= {r.id for r in lasting if not kind_of(r.kind).in_manifest}
    for intent in journal.unresolved():
        kind = kind_of(intent.kind)
        id = None if kind.in_manifest else kind.known_id(intent.request)
        ids |= set() if id is None else {id}
    return frozenset(ids)


def finish_deletions(ledger: Ledger) -> None:
    """Delete what a process that died was deleting, so that nothing is built on what may be gone already."""
    for intent in ledger.journal.half_deleted():
        kind = kind_of(intent.kind)
        kind.delete(ledger, intent.place, str(intent.resource), kind.parent(intent.request))


def find_all(cloud: Cloud, journal: Journal, *, keep: Collection[str] = ()) -> CleanUp:
    """What ``delete_all`` would delete now, sorted; changes nothing, in the journal neither."""

    def find(place: Place) -> set[Found]:
        found = {one for kind in in_order() for one in _find(cloud, journal, place, kind, keep)}
        return found - set(_behind_kept(cloud, place, keep))

    answers = each(journal.places(), find)
    every = {one for found in answers.results.values() for one in found if one.id not in keep}
    return CleanUp(tuple(sorted(every)), {}, {str(place): reason for place, reason in answers.reasons.items()})


def delete_all(
    cloud: Cloud,
    journal: Journal,
    *,
    keep: Collection[str] = (),
    emit: Emit = ignore_events,
    patience: Patience | None = None,
) -> CleanUp:
    """Delete everything the build made, but ``keep`` (see :func:`released`) and the snapshots behind kept images.

    Running it again deletes what it could not the first time. A failure to delete one thing does not stop the rest; it
    is reported, unless it is the journal that failed (JournalError).
    ``patience``: how long what is not visible yet is looked for.
    """
    ledger = Ledger(cloud, journal, emit=emit, patience=patience or Patience())
    work = _Work(ledger, frozenset(keep), emit)
    places = journal.places()
    unreachable: dict[str, str] = {}
    for _ in range(_ROUNDS):
        work.left.clear()
        _resolve(ledger, work)
        if not places:
            break
        answers = each(places, work.clean, on_failure=work.tell)
        unreachable = {str(place): reason for place, reason in answers.reasons.items()}
    return CleanUp(tuple(work.deleted), dict(work.left), unreachable)


def delete_these(ledger: Ledger, to_delete: Collection[Found], *, emit: Emit = ignore_events) -> CleanUp:
    """Delete what others made, in the order of its dependencies; the caller vouches for each. A failure to delete one
    thing does not stop the rest."""
    work = _Work(ledger, frozenset(), emit, vouched=True)
    for kind in in_order():
        done = [one for one in sorted(to_delete) if one.kind == kind.name and work.delete(one)]
        for place in sorted({one.place for one in done}):
            work.await_deleted(kind, place, [one.id for one in done if one.place == place])
    return CleanUp(tuple(work.deleted), dict(work.left))


class _Work:
    """One clean-up under way. ``left`` and ``deleted`` are shared by the threads of the places; adding to them is
    atomic. ``vouched``: the caller knows whose it is that is given to ``delete``."""

    def __init__(self, ledger: Ledger, keep: frozenset[str], emit: Emit, *, vouched: bool = False) -> None:
        self.ledger = ledger
        self.keep = keep
        self.emit = emit
        self.vouched = vouched
        self.deleted: list[Found] = []
        self.failures = Failures[str](self.tell)
        self.left = self.failures.reasons

    def clean(self, place: Place) -> None:
        """Delete what is found in a place, kind by kind. Raises the error of a place that cannot be searched."""
        cloud, journal = self.ledger.cloud, self.ledger.journal
        # Without knowing which snapshots are a release's, it is safer to delete none than one too many.
        behind = {one.id for one in _behind_kept(cloud, place, self.keep)}
        for kind in in_order():
            with self.failures.of(f"{kind.name}s in {place}"):
                found = sorted(set(_find(cloud, journal, place, kind, self.keep)))
                deletable = [one for one in found if one.id not in self.keep and one.id not in behind]
                done = [one for one in deletable if self.delete(one)]
                if done:
                    self.await_deleted(kind, place, [one.id for one in done])

    def delete(self, one: Found) -> bool:
        """Whether it is gone, or going."""
        ledger, kind = self.ledger, kind_of(one.kind)
        with self.failures.of(str(one)):
            if not self.vouched and not kind.still_ours(ledger, one.place, one.id):
                ledger.journal.gone(one.kind, one.place, one.id)
                return False
            kind.delete(ledger, one.place, one.id, one.parent)
            if one not in self.deleted:
                self.deleted.append(one)
            return True
        return False

    def await_deleted(self, kind: Kind, place: Place, ids: Collection[str]) -> None:
        with self.failures.of(f"{kind.name}s {', '.join(ids)} in {place}"):
            kind.await_deleted(self.ledger.cloud, place, ids)

    def tell(self, what: object, error: GoldenAmiError) -> None:
        emit(self.emit, "note", message=f"not deleted: {what}: {error.message}", level="warning")


def _resolve(ledger: Ledger, work: _Work) -> None:
    """Look up the creating calls whose outcome is unknown; place by place, so that one that is out of reach stops no
    other."""
    unresolved = ledger.journal.unresolved()
    for place in sorted({intent.place for intent in unresolved}):
        with work.failures.of(f"calls of unknown outcome in {place}"):
            ledger.resolve_all([intent for intent in unresolved if intent.place == place])


def _find(cloud: Cloud, journal: Journal, place: Place, kind: Kind, keep: Collection[str]) -> Iterable[Found]:
    """What the journal knows of a kind in a place, and what carries the build's tags there and is not to be kept."""
    known = [r for r in journal.resources(kind.name) if r.place == place]
    yield from (Found(place, kind.name, r.id, kind.parent(r.request)) for r in known)
    calls = [i.request for i in journal.calls(kind.name) if i.place == place]
    if kind.everywhere or calls:
        without = {*keep, *(r.id for r in known)}
        for id, parent in kind.of_build(cloud, place, journal.build_id, calls, without=without):
            yield Found(place, kind.name, id, parent)


def _behind_kept(cloud: Cloud, place: Place, keep: Collection[str]) -> Iterable[Found]:
    kept = [id for id in keep if id.startswith("ami-")]
    for image in images.describe_many(cloud, place, kept).values():
        yield from (Found(place, "snapshot", s) for s in snapshots.of_image(image))
