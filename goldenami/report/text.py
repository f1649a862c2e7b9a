"""Formats durations, counts and messages in the same way for all views."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Final

TEST_ORDER: Final = ("failed", "passed", "flaky", "skipped")
TEST_NUMBERS: Final = (*TEST_ORDER, "not_executed")  # those of a run of tests


def duration(seconds: float) -> str:
    """Format a duration: 0.4 s · 12 s · 2 min 05 s · 1 h 02 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def about(seconds: float) -> str:
    """Format an estimate as coarsely as it is true: a few seconds · about 40 s · about 3 min · about 1 h 10 min."""
    if seconds < 10:
        return "a few seconds"
    if seconds < 55:
        return f"about {round(seconds / 10) * 10} s"
    minutes = max(1, round(seconds / 60))
    if minutes < 60:
        return f"about {minutes} min"
    return f"about {minutes // 60} h {minutes % 60 // 5 * 5:02d} min"


def elapsed(seconds: float) -> str:
    """Format the time since the start for the left margin: 00:07 · 12:34 · 1:02:03."""
    whole = max(0, int(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes:02d}:{whole % 60:02d}"


def counts(numbers: Mapping[str, int], order: tuple[str, ...]) -> str:
    """Format the counts above zero in the given order: "3 changed, 11 ok"."""
    return ", ".join(f"{numbers[name]} {name}" for name in order if numbers.get(name))


def counts_of_tests(numbers: Mapping[str, int]) -> str:
    """Format the results of a run of tests: "36 passed, 12 skipped, of which 10 not executed"."""
    without = numbers.get("not_executed")
    return counts(numbers, TEST_ORDER) + (f", of which {without} not executed" if without else "")


def first_line(text: str) -> str:
    """Return the first line of a message, with a space for each character that cannot be printed."""
    return _printable(text.strip().split("\n", 1)[0])


def clean_lines(text: str) -> list[str]:
    """Return the lines of a message, with a space for each character that cannot be printed."""
    return [_printable(line.rstrip()) for line in text.strip("\n").split("\n") if line.strip()]


def wrapped(line: str, width: int) -> list[str]:
    """Break a line that is wider than a terminal between words, so that no name or id is split. The further lines are
    indented by four more."""
    indent = line[: len(line) - len(line.lstrip())]
    further = f"{indent}    "
    return textwrap.wrap(
        line, max(width, 20), subsequent_indent=further, break_long_words=False, break_on_hyphens=False
    ) or [line]


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else " " for c in line)
