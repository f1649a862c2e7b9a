"""Whether a request fits its operation's model: what must be there, how long, how large, of which form.

The models are botocore's, so the rules are the service's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from botocore.model import ListShape, ServiceModel, Shape, StructureShape

# Java's name for "any character", and its letters, digits and spaces, which Python's re does not know. The last stand
# within classes; what they are replaced by takes in the underscore, too, which every such class has besides.
_ANY = r"\p{all}"
_TWICE = re.compile(r"(\{\d+\})\{[\d,]+\}")  # a repeat of a repeat, another thing that it does not know
_CLASSES = {r"\p{L}": r"\w", r"\p{N}": r"\d", r"\p{Z}": r"\s"}


@cache
def model(service: str) -> ServiceModel:
    """botocore's model of a service, read once."""
    import botocore.session

    return botocore.session.Session().get_service_model(service)


def complaints(service: str, operation: str, params: Mapping[str, Any]) -> list[str]:
    """What is wrong with the parameters of a call, one sentence for each place; parameters are named as in boto3."""
    shape = model(service).operation_model(operation).input_shape
    return list(_check(shape, params, "")) if shape is not None else []


def _check(shape: Shape, value: Any, path: str) -> Iterator[str]:
    kind = shape.type_name
    expected = {"structure": dict, "map": dict, "list": list, "string": str, "integer": int, "boolean": bool}.get(kind)
    if expected is not None and (not isinstance(value, expected) or (kind == "integer" and isinstance(value, bool))):
        yield f"Value at '{path}' is not a {kind}"
        return
    if isinstance(shape, StructureShape):
        yield from (
            f"Value at '{_join(path, name)}' must not be null" for name in shape.required_members if name not in value
        )
        for name, inner in value.items():
            if name in shape.members:
                yield from _check(shape.members[name], inner, _join(path, name))
        return
    limits: Mapping[str, Any] = shape.metadata
    measure = len(value) if kind in ("string", "list", "map") else value if kind == "integer" else None
    if measure is not None and measure < limits.get("min", measure):
        yield f"Value '{value}' at '{path}' must be at least {limits['min']}"
    if measure is not None and measure > limits.get("max", measure):
        yield f"Value '{value}' at '{path}' must be at most {limits['max']}"
    if kind == "string":
        if limits.get("enum") and value not in limits["enum"]:
            yield f"Value '{value}' at '{path}' must be one of [{', '.join(limits['enum'])}]"
        pattern = str(limits.get("pattern") or "").replace(f"[{_ANY}]", r"[\s\S]")
        for java, python in _CLASSES.items():
            pattern = pattern.replace(java, python)
        pattern = _TWICE.sub(r"\1", pattern)
        if pattern and not re.fullmatch(pattern, value):
            yield f"Value '{value}' at '{path}' must satisfy the pattern {limits['pattern']}"
    if kind == "list":
        assert isinstance(shape, ListShape)
        for number, inner in enumerate(value):
            yield from _check(shape.member, inner, f"{path}[{number}]")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
