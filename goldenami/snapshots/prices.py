"""What stored snapshots cost a month. Pure; the table is data that people edit (``prices.yaml``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from goldenami.snapshots.lineage import Lineage, Member

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Rate:
    """Per GiB and month. AWS bills the standard tier for changed blocks, the archive tier for full size."""

    standard: float
    archive: float


@dataclass(frozen=True, slots=True)
class Prices:
    """``default`` serves for every region that ``regions`` does not name."""

    currency: str
    default: Rate
    regions: Mapping[str, Rate]

    def rate(self, region: str) -> Rate:
        return self.regions.get(region, self.default)


def monthly(member: Member, rate: Rate) -> float | None:
    """What one snapshot adds to a month's bill; None where that is not known."""
    if member.snapshot.tier == "archive":
        return _cost(member.full_bytes, rate.archive)
    return _cost(member.stored_bytes, rate.standard)


def saved(member: Member, rate: Rate) -> float | None:
    """What deleting this snapshot alone would take off a month's bill; None where that is not known."""
    if member.snapshot.tier == "archive":
        return _cost(member.full_bytes, rate.archive)
    return _cost(member.freed_bytes, rate.standard)


def total(lineage: Lineage, rate: Rate) -> tuple[float, bool]:
    """The month's bill for all, and whether all of it is known; what is not known counts with its full size."""
    costs = [monthly(m, rate) for m in lineage.members]
    assumed = [
        (m.full_bytes or 0) / GIB * rate.standard if cost is None else cost
        for m, cost in zip(lineage.members, costs, strict=True)
    ]
    return sum(assumed), None not in costs


def _cost(size: int | None, rate: float) -> float | None:
    return None if size is None else size / GIB * rate
