"""The tables of several recipes: aligned, whatever the names, and no id is split on a narrow terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from goldenami.cli import results
from goldenami.many import Result
from goldenami.report.text import wrapped

LONG = "a-recipe-with-a-name-that-is-far-longer-than-most-of-the-others"
RESULTS = (
    Result("web", "built", "candidate", "", "1.4.20261123.1", "1.4.20261124.1", 754.0),
    Result("base", "unchanged", "stable", "base 1.0.20261120.1 was built from the same inputs", "1", "1", 2.0),
    Result(LONG, "failed", "candidate", "no image of the filter debian-12-amd64-*", None, None, 3.0),
)


def shown(width: int, *, terminal: bool) -> list[str]:
    stream = io.StringIO()
    results.render_table(RESULTS, Console(file=stream, width=width, force_terminal=terminal, color_system=None), 760.0)
    return stream.getvalue().splitlines()[1:]


def test_a_wide_table_is_aligned() -> None:
    header, web, base, long, numbers = shown(200, terminal=True)
    for column, cell in (("RESULT", "built"), ("TOOK", "12 min 34 s"), ("CHANNEL", "candidate 1.4.20261123.1 →")):
        assert header.index(column) == web.index(cell)
    assert base.index("unchanged") == header.index("RESULT")
    assert long.startswith(f"{LONG}  failed  ")
    assert numbers == "1 built, 1 unchanged, 1 failed · 12 min 40 s"
    assert header.index("RESULT") < len(LONG), "one long name does not move the columns of all others"


def test_a_log_has_one_line_for_each_recipe() -> None:
    assert len(shown(60, terminal=False)) == 5


@pytest.mark.parametrize("width", [40, 80])
def test_a_narrow_table_splits_no_id(width: int) -> None:
    lines = shown(width, terminal=True)
    assert all(len(line) <= width for line in lines if LONG not in line)
    text = "\n".join(lines)
    for word in ("1.4.20261123.1", "1.4.20261124.1", "1.0.20261120.1", "debian-12-amd64-*", LONG):
        assert word in text


def test_lines_are_broken_between_words() -> None:
    assert wrapped("  sets /golden-ami/web/x86_64/stable/image-id now", 34) == [
        "  sets",
        "      /golden-ami/web/x86_64/stable/image-id",
        "      now",
    ]
    assert wrapped("short", 40) == ["short"]
