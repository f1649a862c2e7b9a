"""A report of the snapshots of a release (`goldenami snapshot lineage NAME@CHANNEL --json`), read from a file."""

from __future__ import annotations

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


def read_lineage(path: Path, data: bytes) -> tuple[str, str]:
    """Return the name of the recipe, and the picture of its snapshots in all places, from the contents of a file.
    Raises InvalidInput if it is no such report, or one about a volume, a snapshot or an image."""
    example = step("snapshot lineage", "NAME@CHANNEL", "--json")
    document = read_report(path, data, SCHEMA, example)
    try:
        subject = str(document["subject"])
        sections = [_section(row) for row in document["lineages"]]
        currency = str(document["lineages"][0]["monthly_cost"]["currency"]) if sections else ""
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InvalidInput([Problem(str(path), 1, 1, "is damaged: a snapshot lacks its id or a size")]) from None
    name, at, _ = subject.partition("@")
    if not at or not sections:
        what = f"is about {subject}, expected a release" if not at else "has no place with snapshots"
        raise InvalidInput([Problem(str(path), 1, 1, what, f"Write it with {example}.")])
    return name, chart.draw(sections, f"Snapshots of {name}", currency)


def _section(row: Mapping[str, Any]) -> chart.Section:
    rate = Rate(float(row["rate"]["standard"]), float(row["rate"]["archive"]))
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
        None if row[key] is None else int(row[key]) for key in ("full_bytes", "stored_bytes", "freed_bytes")
    )
    refers = None if row["refers"] is None else {str(id): int(size) for id, size in row["refers"].items()}
    broken = None if row["not_comparable"] is None else str(row["not_comparable"])
    return Member(described, row["parent"], broken, full, stored, refers, freed)
