"""Formats durations, counts and messages in the same way for all views."""

from __future__ import annotations

from collections.abc import Mapping


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


def elapsed(seconds: float) -> str:
    """Format the time since the start for the left margin: 00:07 · 12:34 · 1:02:03."""
    whole = max(0, int(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes:02d}:{whole % 60:02d}"


def counts(numbers: Mapping[str, int], order: tuple[str, ...]) -> str:
    """Format the counts above zero in the given order: "3 changed, 11 ok"."""
    return ", ".join(f"{numbers[name]} {name}" for name in order if numbers.get(name))


def first_line(text: str) -> str:
    """Return the first line of a message, with a space for each character that cannot be printed."""
    line = text.strip().split("\n", 1)[0]
    return "".join(c if c.isprintable() else " " for c in line)
