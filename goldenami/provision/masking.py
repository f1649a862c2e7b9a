"""Masks secrets in the output of a host before it is shown or stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable

MASK = "(secret)"


def masker(secrets: Iterable[str]) -> Callable[[str], str]:
    """Return a function that replaces every secret, and every line of a secret, by ``MASK``."""
    # Line by line, since output is masked by the line. The longest first, since one secret can contain another.
    parts = sorted({part for value in secrets for part in value.splitlines() if part.strip()}, key=len, reverse=True)

    def mask(text: str) -> str:
        for part in parts:
            text = text.replace(part, MASK)
        return text

    return mask
