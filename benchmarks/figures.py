"""The figures of one run of `make bench` beside their goals: noted by each part, printed as a table, kept as JSON.

A part is a program of its own, which also runs alone; then nothing is noted. What it prints itself has more details:
where the seconds went, the calls of each stage.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

_FILE: Final = "GOLDENAMI_BENCH_FIGURES"  # the file of the run, one line for each figure


@dataclass(frozen=True)
class Figure:
    """``most``, ``least``: the goal, or None. ``before``: the value of the last run with this figure."""

    name: str
    value: float
    unit: str
    most: float | None = None
    least: float | None = None
    before: float | None = None

    @property
    def goal(self) -> str:
        if self.most is None:
            return "" if self.least is None else f"≥ {self.least:g}"
        return f"≤ {self.most:g}"

    @property
    def missed(self) -> bool:
        return (self.most is not None and self.value > self.most) or (
            self.least is not None and self.value < self.least
        )

    @property
    def line(self) -> str:
        """The figure as a line of the table."""
        change = f"{self.value / self.before:9.2f}" if self.before else f"{'':9}"
        missed = "  MISSED" if self.missed else ""
        return f"{self.name:<70} {self.value:9.2f} {self.unit:<9} {self.goal:<8} {change}{missed}".rstrip()


def note(name: str, value: float, unit: str, *, most: float | None = None, least: float | None = None) -> None:
    """Note a figure for the run that this process is a part of."""
    if path := os.environ.get(_FILE):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(Figure(name, round(value, 4), unit, most, least))) + "\n")


def variables(path: Path) -> dict[str, str]:
    """Return the environment variables of a part, whose figures go to a file."""
    return {**os.environ, _FILE: str(path)}


def noted(path: Path, past: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """Return the figures of a run. ``past``: the earlier runs, the last one at the end."""
    before = {one["name"]: one["value"] for run in past for one in run["figures"]}
    return [Figure(**{**one, "before": before.get(one["name"])}) for one in history(path)]


def history(path: Path) -> list[dict[str, Any]]:
    """Return the runs, or the figures of one, that a file has, one on each line."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def table(found: Sequence[Figure]) -> str:
    """Return the figures as a table. The last column is the ratio to the run before."""
    head = f"{'figure':<70} {'value':>9} {'unit':<9} {'goal':<8} {'to before':>9}"
    return "\n".join([head, *(one.line for one in found)])


def to_json(found: Sequence[Figure], parts: Mapping[str, Mapping[str, Any]], **run: str) -> dict[str, Any]:
    """Return the document of a run. ``run``: when, where and what was measured."""
    figures = [{**asdict(one), "missed": one.missed} for one in found]
    return {"schema": "goldenami.benchmark/1", **run, "parts": parts, "figures": figures}
