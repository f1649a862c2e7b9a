"""A report of the snapshots of a release (`goldenami snapshot lineage NAME@CHANNEL --json`), read from a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from goldenami.errors import InvalidInput, Problem
from goldenami.nextstep import step
from goldenami.site.reports import read_report
from goldenami.snapshots import chart
from goldenami.snapshots.lineage import Described, Lineage, Member
from goldenami.snapshots.prices import Rate

SCHEMA: Final = "goldenami.lineage/1"
_LARGEST: Final = 1 << 63  # bytes


def read_lineage(path: Path, data: bytes) -> tuple[str, str]:
    """Return the name of the recipe, and the picture of its snapshots in all places, from the contents of a file.
    Raises InvalidInput if it is no such report, or one about a volume, a snapshot or an image. Reports of earlier
    versions have no prices of the places: then the picture has none."""
    example = step("snapshot lineage", "NAME@CHANNEL", "--json")
    document = read_report(path, data, SCHEMA, example)
    try:
        subject = str(document["subject"])
        sections = [_section(row) for row in document["lineages"]]
        currency = str(document["lineages"][0]["monthly_cost"]["currency"]) if sections else ""
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        what = "is damaged: a snapshot lacks its id or a size, or a size or a price is no usable number"
        raise InvalidInput([Problem(str(path), 1, 1, what, f"Write it again with {example}.")]) from None
    name, at, _ = subject.partition("@")
    if not at or not sections:
        what = f"is about {subject}, expected a release" if not at else "has no place with snapshots"
        raise InvalidInput([Problem(str(path), 1, 1, what, f"Write it with {example}.")])
    return name, chart.draw(sections, f"Snapshots of {name}", currency)


def _section(row: Mapping[str, Any]) -> chart.Section:
    given = row.get("rate")
    rate = None if given is None else Rate(_price(given["standard"]), _price(given["archive"]))
    return chart.Section(f"{row['account']}/{row['region']}", Lineage(tuple(map(_member, row["snapshots"]))), rate)


def _member(row: Mapping[str, Any]) -> Member:
    described = Described(
        str(row["snapshot_id"]),
        str(row["volume_id"]),
        str(row["started"]),
        0,
        str(row["name"]),
        tier=str(row["tier"]),
        encrypted=bool(row["encrypted"]),
        parent=row["parent"],
    )
    full, stored, freed = (
        None if row[key] is None else _size(row[key]) for key in ("full_bytes", "stored_bytes", "freed_bytes")
    )
    refers = None if row["refers"] is None else {str(id): _size(size) for id, size in row["refers"].items()}
    broken = None if row["not_comparable"] is None else str(row["not_comparable"])
    return Member(described, row["parent"], broken, full, stored, refers, freed)


def _size(given: Any) -> int:
    number = int(given)
    if not 0 <= number < _LARGEST:
        raise ValueError(f"{number} is no size")
    return number


def _price(given: Any) -> float:
    number = float(given)
    if not math.isfinite(number):
        raise ValueError(f"{number} is no price")
    return number
