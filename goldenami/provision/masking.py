"""Masks secrets in the output of a host before it is shown or stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from goldenami.masking import masked_by

MASK = "(secret)"


def masker(secrets: Iterable[str]) -> Callable[[str], str]:
    """Return a function that replaces every secret, every line of a secret, and their encoded forms, by ``MASK``."""
    # Line by line, since output is masked by the line.
    return masked_by(secrets, MASK)
