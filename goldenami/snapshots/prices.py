"""A table of prices, and the monthly cost of snapshots. Pure. The prices are read from ``prices.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from goldenami.snapshots.lineage import Lineage, Member

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Rate:
    """Prices of a region. AWS bills changed blocks in the standard tier, the full size in the archive tier: per GiB and
    month. ``transfer``: a copy to another region, per GiB. ``instances``: by type, per hour. ``fast_restore``: of one
    snapshot in one Availability Zone, per hour."""

    standard: float
    archive: float
    transfer: float | None = None
    instances: Mapping[str, float] = field(default_factory=dict)
    fast_restore: float | None = None


@dataclass(frozen=True, slots=True)
class Prices:
    """A price table. ``default``: the rate of regions that are not in ``regions``, and of what a region does not have.
    ``date``: when the prices were read; empty if the table does not say so."""

    currency: str
    default: Rate
    regions: Mapping[str, Rate]
    date: str = ""

    def rate(self, region: str) -> Rate:
        return self.regions.get(region, self.default)

    def hourly(self, region: str, instance_type: str) -> float | None:
        """Return the price of an instance for an hour; None if the table does not have its type."""
        return self.rate(region).instances.get(instance_type, self.default.instances.get(instance_type))

    def transfer(self, region: str) -> float | None:
        """Return the price of a GiB that is copied from a region to another one; None if it is unknown."""
        own = self.rate(region).transfer
        return self.default.transfer if own is None else own

    def fast_restore(self, region: str) -> float | None:
        """Return the price of fast restore of a snapshot in a zone for an hour; None if it is unknown."""
        own = self.rate(region).fast_restore
        return self.default.fast_restore if own is None else own


def monthly(member: Member, rate: Rate) -> float | None:
    """Return the monthly cost of one snapshot, or None if it is unknown."""
    if member.snapshot.tier == "archive":
        return _cost(member.full_bytes, rate.archive)
    return _cost(member.stored_bytes, rate.standard)


def saved(member: Member, rate: Rate) -> float | None:
    """Return what the deletion of this snapshot alone saves per month, or None if it is unknown."""
    if member.snapshot.tier == "archive":
        return _cost(member.full_bytes, rate.archive)
    return _cost(member.freed_bytes, rate.standard)


def total(lineage: Lineage, rate: Rate) -> tuple[float, bool]:
    """Return the monthly cost of all snapshots, and whether it is exact. Unknown sizes count as full sizes."""
    costs = [monthly(m, rate) for m in lineage.members]
    assumed = [
        (m.full_bytes or 0) / GIB * rate.standard if cost is None else cost
        for m, cost in zip(lineage.members, costs, strict=True)
    ]
    return sum(assumed), None not in costs


def _cost(size: int | None, rate: float) -> float | None:
    return None if size is None else size / GIB * rate
