"""Who holds which block: the textbook example, and any tree of snapshots against a count made in another way."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenami.aws.blocks import BLOCK_SIZE, Changes
from goldenami.snapshots.lineage import Described, Lineage, Reading, weigh
from goldenami.snapshots.prices import Prices, Rate, monthly, saved, total
from goldenami.snapshots.words import size

GIB = 1 << 30
BLOCKS = GIB // BLOCK_SIZE


def described(id: str, parent: str | None = None, **more: object) -> Described:
    return Described(id=id, volume_id="vol-1", started="2026-01-01T00:00:00Z", volume_gib=16, parent=parent, **more)  # type: ignore[arg-type]


def blocks(first_gib: int, last_gib: int) -> frozenset[int]:
    return frozenset(range(first_gib * BLOCKS, last_gib * BLOCKS))


def textbook() -> Lineage:
    """10 GiB; then 4 of them changed; then 2 added."""
    return weigh(
        [described("A"), described("B", "A"), described("C", "B")],
        {
            "A": Reading(blocks=blocks(0, 10)),
            "B": Reading(changes=Changes(blocks(6, 10), frozenset())),
            "C": Reading(changes=Changes(blocks(10, 12), frozenset())),
        },
    )


def test_the_textbook_example() -> None:
    lineage = textbook()
    a, b, c = lineage.members
    assert (lineage.stored_bytes, lineage.full_bytes) == (16 * GIB, 32 * GIB)
    assert [m.stored_bytes for m in (a, b, c)] == [10 * GIB, 4 * GIB, 2 * GIB]
    assert [m.full_bytes for m in (a, b, c)] == [10 * GIB, 10 * GIB, 12 * GIB]
    assert [m.refers for m in (a, b, c)] == [{}, {"A": 6 * GIB}, {"A": 6 * GIB, "B": 4 * GIB}]
    # B needs 6 GiB of A, C all of B: deleting A frees what B replaced, deleting B nothing, deleting C its own.
    assert [m.freed_bytes for m in (a, b, c)] == [4 * GIB, 0, 2 * GIB]


def test_what_cannot_be_compared_is_said_and_counts_in_full() -> None:
    lineage = weigh(
        [described("A"), described("B", "A"), described("C", "B", full_bytes=7 * BLOCK_SIZE)],
        {
            "A": Reading(blocks=frozenset({1, 2})),
            "B": Reading(blocks=frozenset({1, 2, 3}), broken="not comparable with A: …"),
            "C": Reading(broken="its blocks cannot be read: …"),
        },
    )
    a, b, c = lineage.members
    assert (b.parent, b.broken, b.stored_bytes, b.refers) == (None, "not comparable with A: …", 3 * BLOCK_SIZE, {})
    assert a.freed_bytes == 2 * BLOCK_SIZE
    assert (c.stored_bytes, c.freed_bytes, c.refers) == (None, None, None), "unknown is not zero"
    assert lineage.stored_bytes == (2 + 3 + 7) * BLOCK_SIZE


@dataclass
class Estate:
    """Volumes with block versions, snapshotted and forked at random: what is really there."""

    random: random.Random
    contents: dict[str, dict[int, int]] = field(default_factory=dict)  # of each snapshot: a block's version by index
    parents: dict[str, str | None] = field(default_factory=dict)
    versions: int = 0

    def grow(self, steps: int) -> None:
        volumes: list[tuple[str | None, dict[int, int]]] = [(None, {})]
        for number in range(steps):
            at = self.random.randrange(len(volumes))
            parent, contents = volumes[at]
            for _ in range(self.random.randrange(6)):
                index = self.random.randrange(12)
                if self.random.random() < 0.25:
                    contents.pop(index, None)
                else:
                    self.versions += 1
                    contents[index] = self.versions
            id = f"s{number}"
            self.contents[id], self.parents[id] = dict(contents), parent
            volumes[at] = (id, contents)
            if self.random.random() < 0.3:  # a new volume, made of this snapshot
                volumes.append((id, dict(contents)))

    def reading(self, id: str) -> Reading:
        parent, mine = self.parents[id], self.contents[id]
        if parent is None:
            return Reading(blocks=frozenset(mine))
        before = self.contents[parent]
        written = frozenset(i for i in mine if before.get(i) != mine[i])
        return Reading(changes=Changes(written, frozenset(before.keys() - mine.keys())))

    def occupied(self, ids: set[str]) -> int:
        return len({version for id in ids for version in self.contents[id].values()})


@given(st.integers(0, 2**32), st.integers(1, 14))
def test_any_tree_of_snapshots(seed: int, steps: int) -> None:
    """Every version of a block is kept once, as long as any snapshot has it: that alone says what is to come out."""
    estate = Estate(random.Random(seed))
    estate.grow(steps)
    ids = set(estate.contents)
    lineage = weigh([described(id, estate.parents[id]) for id in estate.contents], {i: estate.reading(i) for i in ids})
    assert {m.id for m in lineage.members} == ids
    assert lineage.stored_bytes == estate.occupied(ids) * BLOCK_SIZE
    for member in lineage.members:
        assert member.full_bytes == len(estate.contents[member.id]) * BLOCK_SIZE
        assert member.freed_bytes == (estate.occupied(ids) - estate.occupied(ids - {member.id})) * BLOCK_SIZE
        assert member.refers is not None
        assert member.stored_bytes is not None
        assert member.stored_bytes + sum(member.refers.values()) == member.full_bytes


def near(amount: float) -> Any:
    return pytest.approx(amount)


def test_costs() -> None:
    prices = Prices("USD", Rate(0.05, 0.0125), {"eu-central-1": Rate(0.1, 0.02)})
    lineage = textbook()
    assert total(lineage, prices.rate("eu-central-1")) == (near(1.6), True)
    assert monthly(lineage.members[1], prices.rate("us-east-1")) == pytest.approx(0.2)
    assert saved(lineage.members[1], prices.rate("us-east-1")) == 0
    archived = weigh([described("A", full_bytes=4 * GIB, tier="archive")], {"A": Reading(broken="…")})
    assert total(archived, prices.rate("us-east-1")) == (near(0.05), True)
    unknown = weigh([described("A", full_bytes=4 * GIB)], {"A": Reading(broken="…")})
    assert total(unknown, prices.rate("us-east-1")) == (near(0.2), False)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0 B"),
        (512 * 1024, "512 KiB"),
        (GIB * 16, "16 GiB"),
        (int(4.5 * (1 << 20)), "4.5 MiB"),
        (1023 * 1024, "1 MiB"),
    ],
)
def test_sizes(amount: int, text: str) -> None:
    assert size(amount) == text
