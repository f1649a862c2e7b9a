"""A report of the fleet (`goldenami fleet --json`), read from a file: which releases run, and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from goldenami.errors import InvalidInput, Problem
from goldenami.nextstep import step
from goldenami.site.reports import read_report

SCHEMA: Final = "goldenami.fleet/1"


@dataclass(frozen=True, slots=True)
class Used:
    """The instances of one release. ``places``: account, region and count."""

    instances: int
    running: int
    places: tuple[tuple[str, str, int], ...]


def read_fleet(path: Path, data: bytes) -> Mapping[str, Used]:
    """Return the instances by label ("web 1.4.20261124.1") from the contents of a file. Raises InvalidInput if it is no
    such report."""
    document = read_report(path, data, SCHEMA, step("fleet", "--json"))
    try:
        return {
            f"{row['name']} {row['version']}": Used(
                int(row["instances"]),
                int(row["running"]),
                tuple((str(p["account"]), str(p["region"]), int(p["instances"])) for p in row["places"]),
            )
            for row in document["releases"]
        }
    except (KeyError, TypeError, ValueError):
        raise InvalidInput([Problem(str(path), 1, 1, "is damaged: a release lacks name, version or numbers")]) from None
