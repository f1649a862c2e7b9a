"""Finds the known word that a user probably meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, overload


def nearest(word: str, known: Mapping[str, Any] | list[str]) -> str | None:
    """Return the known word that is most similar, or None if none is similar enough."""
    import difflib  # here, because most inputs have no such mistake

    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)), None)


@overload
def suggestion(word: str, known: Mapping[str, Any] | list[str], otherwise: str) -> str: ...


@overload
def suggestion(word: str, known: Mapping[str, Any] | list[str], otherwise: None = None) -> str | None: ...


def suggestion(word: str, known: Mapping[str, Any] | list[str], otherwise: str | None = None) -> str | None:
    """Return the hint for an unknown word: the most similar known one, or ``otherwise`` if none is similar enough."""
    near = nearest(word, known)
    return f"Did you mean {near}?" if near else otherwise
