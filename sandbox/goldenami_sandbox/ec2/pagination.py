"""``Filters``, ``MaxResults`` and ``NextToken``: pages over a stable order.

Resources that are created or deleted between two pages cause no repetition.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from goldenami_sandbox.ec2.context import Ec2Error
from goldenami_sandbox.ec2.filters import Source, select

T = TypeVar("T")
Position = tuple[Any, ...]


def described(
    name: str,
    answers: Iterable[dict[str, Any]],
    params: Mapping[str, Any],
    filters: Mapping[str, Source],
    by: Sequence[str],
    **sizes: int,
) -> dict[str, Any]:
    """Return the answer of a describe call under ``name``: one page of the items that the filters accept.

    ``by``: the fields that order the items; together they are unique. ``sizes``: see ``page``.
    """
    found = select(answers, params.get("Filters"), filters)
    part, token = page(found, params, lambda answer: tuple(answer[field] for field in by), **sizes)
    return {name: part, "NextToken": token}


def page(
    items: Sequence[T],
    params: Mapping[str, Any],
    position: Callable[[T], Position],
    *,
    least: int = 5,
    most: int = 1000,
    whole: int | None = None,
) -> tuple[list[T], str | None]:
    """Return one page and the token of the next (None at the end). ``position`` orders the items and is unique.

    Without MaxResults the page has all items, or ``whole`` items if the API sets a size. Raises Ec2Error for a size out
    of bounds or an unknown token.
    """
    size = params.get("MaxResults")
    if size is not None and size < least:
        raise _out_of_bounds(size, f"greater than {least}")
    if size is not None and size > most:
        size = most
    ordered = sorted(items, key=position)
    token = params.get("NextToken")
    if token:
        after = _decode(token)
        ordered = [item for item in ordered if position(item) > after]
    size = size or whole
    if size is None or len(ordered) <= size:
        return ordered, None
    return ordered[:size], _encode(position(ordered[size - 1]))


def _out_of_bounds(size: int, expected: str) -> Ec2Error:
    return Ec2Error(
        "InvalidParameterValue",
        f"Value ( {size} ) for parameter maxResults is invalid. Expecting a value {expected}.",
    )


def _encode(position: Position) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()


def _decode(token: str) -> Position:
    try:
        value = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, binascii.Error):
        value = None
    if not isinstance(value, list):
        raise Ec2Error("InvalidNextToken", "The specified NextToken is not valid.")
    return tuple(value)
