"""Reads botocore's models: the action of a REST request, its parameters, and whether they are valid.

The models are those of the services, so this module has no table of paths, names or limits. A service is named as in
the signature of requests. For most services botocore uses the same name.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, unquote

from botocore.exceptions import DataNotFoundError, UnknownServiceError
from botocore.model import ListShape, OperationModel, ServiceModel, Shape, StructureShape

from goldenami_sandbox.http import Request

# Java's class for any character, and Java's letters, digits and spaces, which Python's re does not support. The latter
# appear inside classes. Their replacement includes the underscore, which every such class contains anyway.
_ANY = r"\p{all}"
_TWICE = re.compile(r"(\{\d+\})\{[\d,]+\}")  # a repeat of a repeat, which Python's re does not support either
_CLASSES = {r"\p{L}": r"\w", r"\p{N}": r"\d", r"\p{Z}": r"\s"}


@cache
def model(service: str) -> ServiceModel | None:
    """Return botocore's model of a service, or None if botocore has no service with that name. It is read once."""
    import botocore.session

    try:
        return botocore.session.Session().get_service_model(service)
    except (UnknownServiceError, DataNotFoundError):
        return None


def _operation(service: str, action: str) -> OperationModel:
    found = model(service)
    assert found is not None
    return found.operation_model(action)


def status(service: str, action: str) -> int:
    """Return the HTTP status of a successful action."""
    return int(_operation(service, action).http.get("responseCode", 200))


# --- routes -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Route:
    """The form of requests for one action. ``parts``: parts of the path, None for a label.

    ``greedy``: the last label can contain slashes. ``query``: required keys, with a value or None for any value.
    ``headers``: required headers.
    """

    action: str
    parts: tuple[str | None, ...]
    greedy: bool
    query: Mapping[str, str | None]
    headers: frozenset[str]

    @property
    def weight(self) -> tuple[int, int]:
        """The number of conditions of the route. If several routes match, the one with the most conditions is used."""
        return sum(part is not None for part in self.parts), len(self.query) + len(self.headers)

    def fits(self, parts: list[str], query: Mapping[str, str], headers: Mapping[str, str]) -> bool:
        return (
            (len(parts) == len(self.parts) or (self.greedy and len(parts) > len(self.parts)))
            and all(own in (None, part) for own, part in zip(self.parts, parts, strict=False))
            and (not self.greedy or any(parts[len(self.parts) - 1 :]))
            and all(key in query and value in (None, query[key]) for key, value in self.query.items())
            and all(name in headers for name in self.headers)
        )


def action(service: str, request: Request) -> str | None:
    """Return the action of a request to a REST service, or None if the model has no matching action."""
    path = request.path.lstrip("/")
    query = dict(parse_qsl(request.query, keep_blank_values=True))
    routes = _routes(service).get(request.method, ())
    for parts in [path.split("/"), path.rstrip("/").split("/")] if path.endswith("/") else [path.split("/")]:
        decoded = [unquote(part) for part in parts] if path else []
        for route in routes:
            if route.fits(decoded, query, request.headers):
                return route.action
    return None


@cache
def _routes(service: str) -> Mapping[str, list[_Route]]:
    """Return routes by HTTP method. Routes with more conditions come first, equal ones in alphabetical order."""
    found: defaultdict[str, list[_Route]] = defaultdict(list)
    known = model(service)
    if known is None or not known.metadata["protocol"].startswith("rest"):
        return found
    for name in known.operation_names:
        operation = known.operation_model(name)
        if not operation.deprecated:
            found[operation.http["method"]].append(_route(operation))
    return {
        method: sorted(routes, key=lambda r: (*(-n for n in r.weight), r.action)) for method, routes in found.items()
    }


def _route(operation: OperationModel) -> _Route:
    path, _, fixed = operation.http["requestUri"].partition("?")
    query: dict[str, str | None] = dict(parse_qsl(fixed, keep_blank_values=True))
    query = {key: value or None for key, value in query.items()}
    headers = set()
    shape = operation.input_shape
    required = [(name, shape.members[name]) for name in shape.required_members] if shape is not None else []
    for member, inner in required:
        place = inner.serialization
        if place.get("location") == "querystring":
            query.setdefault(place.get("name", member), None)
        elif place.get("location") == "header":
            headers.add(place.get("name", member).lower())
    parts = [part for part in path.strip("/").split("/") if part]
    return _Route(
        operation.name,
        tuple(None if part.startswith("{") else part for part in parts),
        bool(parts) and parts[-1].endswith("+}"),
        query,
        frozenset(headers),
    )


# --- parameters -------------------------------------------------------------------------------------------------------


def parameters(service: str, action: str, request: Request) -> dict[str, Any]:
    """Return the parameters of a REST-JSON request from path, query, headers and body, with the names of boto3.

    A value that cannot be converted to its type stays text. ``problems`` reports it.
    """
    operation = _operation(service, action)
    shape = operation.input_shape
    if not isinstance(shape, StructureShape):
        return {}
    labels = _labels(operation, request)
    query: defaultdict[str, list[str]] = defaultdict(list)
    for key, value in parse_qsl(request.query, keep_blank_values=True):
        query[key].append(value)
    body = _body(request)
    result: dict[str, Any] = {}
    for name, member in shape.members.items():
        place = member.serialization
        wire = place.get("name", name)
        match place.get("location"):
            case "uri":
                result[name] = _typed(member, [labels[wire]])
            case "querystring":
                if wire in query:
                    result[name] = _typed(member, query[wire])
            case "header":
                if wire.lower() in request.headers:
                    result[name] = _typed(member, [request.headers[wire.lower()]])
            case None:
                if body.get(wire) is not None:
                    result[name] = body[wire]
    return result


def _labels(operation: OperationModel, request: Request) -> dict[str, str]:
    wanted = operation.http["requestUri"].partition("?")[0].strip("/").split("/")
    given = request.path.strip("/").split("/", len(wanted) - 1)
    return {own.strip("{}+"): unquote(part) for own, part in zip(wanted, given, strict=True) if own.startswith("{")}


def _body(request: Request) -> dict[str, Any]:
    try:
        value = json.loads(request.body or b"{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _typed(shape: Shape, texts: list[str]) -> Any:
    if isinstance(shape, ListShape):
        return [_typed(shape.member, [text]) for text in texts]
    text = texts[-1]
    if shape.type_name in ("integer", "long") and re.fullmatch(r"-?\d+", text, re.ASCII):
        return int(text)
    if shape.type_name == "boolean" and text in ("true", "false"):
        return text == "true"
    return text


# --- validity ---------------------------------------------------------------------------------------------------------


def problems(service: str, action: str, params: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the parameters of a call, one sentence for each place, with the names of boto3."""
    shape = _operation(service, action).input_shape
    return list(_check(shape, params, "")) if shape is not None else []


def _check(shape: Shape, value: Any, path: str) -> Iterator[str]:
    kind = shape.type_name
    expected = {"structure": dict, "map": dict, "list": list, "string": str, "integer": int, "boolean": bool}.get(kind)
    if expected is not None and (not isinstance(value, expected) or (kind == "integer" and isinstance(value, bool))):
        yield f"Value at '{path}' is not of the type {kind}"
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
