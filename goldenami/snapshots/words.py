"""Formats sizes for users."""

from __future__ import annotations


def size(amount: int) -> str:
    """Format bytes in binary units with at most three digits: ``16 GiB``, ``4.5 MiB``, ``512 KiB``, ``0 B``."""
    value = float(amount)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1000 or unit == "TiB":
            break
        value /= 1024
    # 1000 to 1023 of a unit are 0.98 to 1 of the next unit.
    text = f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} {unit}"
