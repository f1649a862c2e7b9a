"""Keeps the last answers of a function for the very same arguments.

Recipes of one environment share its targets. To compare or to hash thousands of targets for each recipe would take most
of the time of a plan, so these functions recognize the object.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_MOST = 4  # answers of each function; each keeps its arguments alive


def for_the_same(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function return its earlier answer for the same objects, in positions. Nobody may change them, nor the
    answer."""
    kept: list[tuple[tuple[object, ...], R]] = []

    @wraps(function)
    def answer(*args: P.args, **kwargs: P.kwargs) -> R:
        for given, known in tuple(kept):
            if not kwargs and len(given) == len(args) and all(a is b for a, b in zip(given, args, strict=True)):
                return known
        made = function(*args, **kwargs)
        if not kwargs:
            kept[:] = [(args, made), *kept[: _MOST - 1]]
        return made

    return answer
