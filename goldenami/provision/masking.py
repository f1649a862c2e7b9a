"""Secrets in what a host prints: they are masked before anybody sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

MASK = "(secret)"


def masker(secrets: Iterable[str]) -> Callable[[str], str]:
    """What puts ``MASK`` in the place of every secret, and of every line of one."""
    # Line by line, since output is masked by the line; longest first, in case one holds another.
    parts = sorted({part for value in secrets for part in value.splitlines() if part.strip()}, key=len, reverse=True)

    def mask(text: str) -> str:
        for part in parts:
            text = text.replace(part, MASK)
        return text

    return mask
