"""Lineage: which snapshot stores which blocks, which earlier snapshots it refers to, and what a deletion frees.

A snapshot stores the blocks that changed since the previous snapshot of its lineage, and refers to earlier snapshots
for the other blocks ("How Amazon EBS snapshots work", EBS user guide). Its deletion frees only the blocks that no later
snapshot refers to. The other blocks then belong to the next snapshot. ``full_bytes`` is the size of a snapshot's
contents, not its cost. ``stored_bytes`` is what it adds to the earlier snapshots.

A lineage is a tree: a volume created from a snapshot starts a branch beside the snapshot's own volume. If two snapshots
cannot be compared, the tree is cut: ``broken`` has the reason, and the later snapshot is counted in full.

This module is pure. ``family`` reads its input.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from goldenami.aws.blocks import BLOCK_SIZE, Changes


@dataclass(frozen=True, slots=True)
class Described:
    """A snapshot as EC2 describes it.

    ``parent``: the id of the previous snapshot in its lineage, or None. ``started``: ISO 8601, UTC. ``full_bytes``:
    FullSnapshotSizeInBytes, or None if EC2 does not return it.
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
    """The blocks of a snapshot: either ``changes`` against its parent, or all ``blocks``.

    ``broken``: why it could not be compared with its parent; None for the first snapshot of a lineage. If the snapshot
    cannot be read, both ``changes`` and ``blocks`` are None.
    """

    changes: Changes | None = None
    blocks: frozenset[int] | None = None
    broken: str | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """One snapshot of a lineage with its sizes in bytes, in whole blocks.

    - ``parent``: None at the start of a lineage, or at a cut; then ``broken`` is the reason of the cut.
    - ``stored_bytes``: the size of its own blocks.
    - ``refers``: the size of the blocks of each earlier snapshot that it refers to, by id.
    - ``freed_bytes``: what the deletion of this snapshot alone would free.

    If the blocks cannot be read, the last three are None, not zero.
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
    """The snapshots of one or more lineages. Each lineage is in order of time."""

    members: tuple[Member, ...]

    @property
    def stored_bytes(self) -> int:
        """The stored size of all snapshots. Unreadable ones count with their full size, so this is an upper limit."""
        return sum((m.full_bytes or 0) if m.stored_bytes is None else m.stored_bytes for m in self.members)

    @property
    def full_bytes(self) -> int:
        """The size of all snapshots as full copies."""
        return sum(m.full_bytes or 0 for m in self.members)


def weigh(snapshots: Sequence[Described], readings: Mapping[str, Reading]) -> Lineage:
    """Assign every block to the snapshot that stores it.

    ``snapshots``: parents before their children. ``readings``: by id. The time is proportional to the number of all
    changes, the memory to the blocks of one snapshot.
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
    """Visits one lineage depth first.

    ``holder``: the snapshot that stores each block, as of the current snapshot. The changes of a child are undone after
    its branch was visited.
    """

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
        """Apply the changes of a snapshot. Returns the holders to undo them."""
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
        # A deletion gives a block to a child that did not change it. It frees only blocks that every child changed.
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
