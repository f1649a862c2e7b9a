"""Mistakes as data: each file of mistakes/ is a project, and every problem that checking recipes/web.yaml must report.

The part ``expect`` has two lines a problem: ``file:line:column: message``, and its hint, indented, if it has one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from goldenami import recipe
from goldenami.provision import OPERATIONS
from goldenami.recipe import lookup
from goldenami.shipped import ROOT as SHIPPED

CASES = sorted((Path(__file__).parent / "mistakes").glob("*.txt"))


def split_case(text: str) -> dict[str, str]:
    """A case file, ``=== NAME`` before each part, as text by name."""
    parts: dict[str, list[str]] = {}
    for line in text.splitlines(keepends=True):
        if line.startswith("=== "):
            lines = parts.setdefault(line[4:].strip(), [])
        else:
            lines.append(line)
    return {name: "".join(body) for name, body in parts.items()}


def report(root: Path) -> str:
    lines = []
    for problem in recipe.check(recipe.load_project(root), ["web"]):
        lines.append(str(problem))
        if problem.hint:
            # Which operations there are, and which agents and profiles are shipped, is not the matter of these tests.
            hint = problem.hint.replace(", ".join(sorted(OPERATIONS)), "ALL")
            for kind in ("agent", "profile"):
                hint = hint.replace(", ".join(lookup.names(SHIPPED, kind)), "THOSE")
            lines.append(f"    {hint}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_every_mistake_is_reported_with_its_place(case: Path, write_project: Callable[[dict[str, str]], Path]) -> None:
    files = split_case(case.read_text(encoding="utf-8"))
    expected = files.pop("expect")
    assert report(write_project(files)) == expected


def test_there_are_cases() -> None:
    assert len(CASES) > 25
