"""Lineage: which snapshot holds which blocks, which earlier one it refers to for the rest, and what a deletion frees.

A snapshot stores the blocks that changed since the one before it in its lineage, and refers to earlier ones for the
others ("How Amazon EBS snapshots work", EBS user guide). Deleting one frees only those of its blocks that no later
snapshot refers to; what a later one needs passes on to it. ``full_bytes`` is what a snapshot restores, never what it
costs; ``stored_bytes`` is what it adds.

A lineage is a tree: a volume made from a snapshot goes on from it, beside the volume that the snapshot is of. Where two
snapshots cannot be compared the tree is cut, which is said, and what is behind the cut is counted in full.

All of it is pure; ``family`` reads what it works on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from goldenami.aws.blocks import BLOCK_SIZE, Changes


@dataclass(frozen=True, slots=True)
class Described:
    """A snapshot as EC2 describes it. ``parent``: the id of the one before it in its lineage, as far as that exists.

    ``started``: ISO 8601, UTC. ``full_bytes``: FullSnapshotSizeInBytes, None where EC2 does not say.
    """

    id: str
    volume_id: str
    started: str
    volume_gib: int
    name: str = ""
    full_bytes: int | None = None
    tier: str = "standard"
    encrypted: bool = False
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of a snapshot's blocks: its ``changes`` against its parent; or else all its ``blocks``, and why
    they could not be compared (``broken``; None for the first of a lineage); or neither, where it cannot be read."""

    changes: Changes | None = None
    blocks: frozenset[int] | None = None
    broken: str | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """One snapshot of a lineage, weighed. Sizes are bytes, in whole blocks.

    ``parent``: None where a lineage begins, or where it is cut (then ``broken`` says why). ``stored_bytes``: the blocks
    that are its own; ``refers``: by the id of an earlier snapshot, the bytes that it takes from that one;
    ``freed_bytes``: what deleting this one alone would free. All three are None, None is never zero, where its blocks
    cannot be read.
    """

    snapshot: Described
    parent: str | None
    broken: str | None
    full_bytes: int | None
    stored_bytes: int | None
    refers: Mapping[str, int] | None
    freed_bytes: int | None

    @property
    def id(self) -> str:
        return self.snapshot.id


@dataclass(frozen=True, slots=True)
class Lineage:
    """Snapshots by lineage, each lineage in order of time."""

    members: tuple[Member, ...]

    @property
    def stored_bytes(self) -> int:
        """What all of them occupy together. Those that cannot be read count with their full size: at the most."""
        return sum((m.full_bytes or 0) if m.stored_bytes is None else m.stored_bytes for m in self.members)

    @property
    def full_bytes(self) -> int:
        """What they would occupy as full copies."""
        return sum(m.full_bytes or 0 for m in self.members)


def weigh(snapshots: Sequence[Described], readings: Mapping[str, Reading]) -> Lineage:
    """Attribute every block to the snapshot that holds it. ``readings`` by id; parents come before their children.

    The time it takes is that of all changes, and the memory that of one snapshot's blocks.
    """
    known = {s.id for s in snapshots}
    children: dict[str | None, list[Described]] = {}
    for snapshot in snapshots:
        joined = readings[snapshot.id].changes is not None and snapshot.parent in known
        children.setdefault(snapshot.parent if joined else None, []).append(snapshot)
    members: list[Member] = []
    for root in children.get(None, ()):
        members.extend(_Walk(readings, children).weigh(root))
    return Lineage(tuple(members))


@dataclass
class _Walk:
    """One lineage, depth first. ``holder`` is who holds each block as the current snapshot sees it; a step down into a
    child is undone on the way back."""

    readings: Mapping[str, Reading]
    children: Mapping[str | None, Sequence[Described]]
    holder: dict[int, str] = field(default_factory=dict)
    count: Counter[str] = field(default_factory=Counter)

    def weigh(self, root: Described) -> list[Member]:
        found: list[Member] = []
        stack: list[tuple[Described | None, dict[int, str | None]]] = [(root, {})]
        while stack:
            snapshot, undo = stack.pop()
            if snapshot is None:
                self._set(undo)
                continue
            stack.append((None, self._enter(snapshot)))
            found.append(self._member(snapshot))
            stack.extend((child, {}) for child in reversed(self._next(snapshot)))
        return found

    def _next(self, snapshot: Described) -> Sequence[Described]:
        return self.children.get(snapshot.id, ())

    def _enter(self, snapshot: Described) -> dict[int, str | None]:
        """Apply what the snapshot changed; what undoes it."""
        reading = self.readings[snapshot.id]
        after: dict[int, str | None] = dict.fromkeys(self._own(snapshot), snapshot.id)
        if reading.changes is not None:
            after.update(dict.fromkeys(reading.changes.emptied))
        return self._set(after)

    def _set(self, holders: Mapping[int, str | None]) -> dict[int, str | None]:
        before: dict[int, str | None] = {}
        for index, holder in holders.items():
            old = self.holder.pop(index, None)
            before[index] = old
            if old is not None:
                self.count[old] -= 1
            if holder is not None:
                self.holder[index] = holder
                self.count[holder] += 1
        return before

    def _own(self, snapshot: Described) -> Iterable[int]:
        reading = self.readings[snapshot.id]
        return reading.changes.written if reading.changes is not None else reading.blocks or ()

    def _member(self, snapshot: Described) -> Member:
        reading = self.readings[snapshot.id]
        joined = reading.changes is not None
        if not joined and reading.blocks is None:
            return Member(snapshot, None, reading.broken, snapshot.full_bytes, None, None, None)
        own = set(self._own(snapshot))
        stored = len(own)
        # A block passes on to a child that did not change it; what every child changed goes with this snapshot.
        for child in self._next(snapshot):
            changes = self.readings[child.id].changes
            assert changes is not None
            own &= changes.written | changes.emptied
        return Member(
            snapshot,
            parent=snapshot.parent if joined else None,
            broken=None if joined else reading.broken,
            full_bytes=len(self.holder) * BLOCK_SIZE,
            stored_bytes=stored * BLOCK_SIZE,
            refers={id: n * BLOCK_SIZE for id, n in self.count.items() if n and id != snapshot.id},
            freed_bytes=len(own) * BLOCK_SIZE,
        )
