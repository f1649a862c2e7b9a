"""Reads botocore's models: the operations of a service, the action of a REST request, and its parameters.

The models are those of the services, so this module has no table of paths, names or limits. A service is named as in
the signature of requests. For most services botocore uses the same name.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from botocore.exceptions import DataNotFoundError, UnknownServiceError
from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StructureShape

from goldenami_sandbox.http import Request

if TYPE_CHECKING:
    from botocore.session import Session


@cache
def session() -> Session:
    """Return the session that reads botocore's data. All share it, because each session reads the files anew: 0.12
    seconds of processor time for the model of EC2 alone. Its loader is its own: clients of S3 change the paths in what
    their loader has read.
    """
    import botocore.loaders
    import botocore.session

    made = botocore.session.Session()
    made.register_component("data_loader", botocore.loaders.create_loader(made.get_config_variable("data_path")))
    return made


@cache
def model(service: str) -> ServiceModel | None:
    """Return botocore's model of a service, or None if botocore has no service with that name. It is read once."""
    try:
        return session().get_service_model(service)
    except (UnknownServiceError, DataNotFoundError):
        return None


class Malformed(Exception):
    """The body of a request is not what its protocol requires: not JSON, not XML, or an element that is unknown."""


def operation(service: str, action: str, version: str | None = None) -> OperationModel | None:
    """Return the model of an action, or None if botocore has no such service or action.

    Several services can sign with one name. ``version``: the version of the API, if the request contains it.
    """
    names = _signed_as(service)
    for name in names:
        found = model(name)
        assert found is not None
        if len(names) > 1 and version not in (None, found.api_version):
            continue
        if action in found.operation_names:
            return found.operation_model(action)
    return None


def input_shape(service: str, action: str) -> Shape:
    """Return the shape of an action's parameters. Raises LookupError if there is none."""
    found = operation(service, action)
    if found is None or found.input_shape is None:
        raise LookupError(f"{service}:{action} has no parameters")
    return found.input_shape


@cache
def _signed_as(service: str) -> tuple[str, ...]:
    """Return the services of botocore that sign with a name which is not theirs (CloudWatch: "monitoring")."""
    if model(service) is not None:
        return (service,)
    import botocore

    found = []
    signed = re.compile(rf'"(?:signingName|endpointPrefix)"\s*:\s*"{re.escape(service)}"')
    for folder in sorted((Path(botocore.__file__).parent / "data").iterdir()):
        for file in sorted(folder.glob("*/service-2.json*")):
            data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
            if signed.search(data[:4096].decode("utf-8", "replace")):
                found.append(folder.name)
                break
    return tuple(found)


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
            self.query.keys() <= query.keys()  # first: most routes of S3 have a key that the request does not have
            and (len(parts) == len(self.parts) or (self.greedy and len(parts) > len(self.parts)))
            and all(own in (None, part) for own, part in zip(self.parts, parts, strict=False))
            and (not self.greedy or any(parts[len(self.parts) - 1 :]))
            and all(value in (None, query[key]) for key, value in self.query.items())
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
    """Return the parameters of a REST request from path, query, headers and body, with the names of boto3.

    A value that cannot be converted to its type stays text. Raises Malformed for a body that cannot be read.
    """
    operation = _operation(service, action)
    shape = operation.input_shape
    if not isinstance(shape, StructureShape):
        return {}
    labels = _labels(operation, request)
    query: defaultdict[str, list[str]] = defaultdict(list)
    for key, value in parse_qsl(request.query, keep_blank_values=True):
        query[key].append(value)
    payload = shape.serialization.get("payload")
    body: Mapping[str, Any] | None = None
    result: dict[str, Any] = {}
    for name, member in shape.members.items():
        place = member.serialization
        wire = place.get("name", name)
        match place.get("location"):
            case "uri":
                if wire in labels:
                    result[name] = _typed(member, [labels[wire]])
            case "querystring":
                if wire in query:
                    result[name] = _typed(member, query[wire])
            case "header":
                if wire.lower() in request.headers:
                    result[name] = _typed(member, _header_values(member, request.headers[wire.lower()]))
            case "headers":
                found = {k[len(wire) :]: v for k, v in request.headers.items() if k.startswith(wire.lower())}
                if found:
                    result[name] = found
            case None if payload is None:
                body = _body(operation, shape, request) if body is None else body
                key = name if _is_xml(operation) else wire
                if body.get(key) is not None:
                    result[name] = body[key]
            case None if name == payload and request.body:
                if isinstance(member, StructureShape):
                    result[name] = _body(operation, member, request)
                else:
                    is_text = member.type_name == "string"
                    result[name] = request.body.decode("utf-8", "replace") if is_text else request.body
    return result


def _is_xml(operation: OperationModel) -> bool:
    return str(operation.service_model.metadata["protocol"]) == "rest-xml"


def _header_values(shape: Shape, value: str) -> list[str]:
    return [part.strip() for part in value.split(",")] if isinstance(shape, ListShape) else [value]


def _labels(operation: OperationModel, request: Request) -> dict[str, str]:
    wanted = operation.http["requestUri"].partition("?")[0].strip("/").split("/")
    given = request.path.strip("/").split("/", len(wanted) - 1)
    return {own.strip("{}+"): unquote(part) for own, part in zip(wanted, given, strict=False) if own.startswith("{")}


def _body(operation: OperationModel, shape: StructureShape, request: Request) -> dict[str, Any]:
    """Return the members that the body contains. Raises Malformed."""
    if not request.body.strip():
        return {}
    if _is_xml(operation):
        try:
            # Expat, from 2.4.1 on, limits the expansion of entities.
            root = ET.fromstring(request.body)
        except ET.ParseError as error:
            raise Malformed(str(error)) from None
        return _structure_from_xml(shape, root)
    try:
        value = json.loads(request.body)
    except ValueError as error:
        raise Malformed(str(error)) from None
    if not isinstance(value, dict):
        raise Malformed("the body is not a JSON object")
    return value


def _from_xml(shape: Shape, element: ET.Element) -> Any:
    """Return the value of an element. Raises Malformed for an element that the shape does not have."""
    if isinstance(shape, StructureShape):
        return _structure_from_xml(shape, element)
    if isinstance(shape, ListShape):
        return [_from_xml(shape.member, item) for item in element]
    if isinstance(shape, MapShape):
        return {(entry[0].text or ""): _from_xml(shape.value, entry[1]) for entry in element if len(entry) == 2}
    return _typed(shape, [(element.text or "").strip() if shape.type_name != "string" else element.text or ""])


def _structure_from_xml(shape: StructureShape, element: ET.Element) -> dict[str, Any]:
    wire = {str(member.serialization.get("name", name)): name for name, member in shape.members.items()}
    result: dict[str, Any] = {}
    for key, value in element.attrib.items():
        name = wire.get(key) or wire.get(f"xsi:{_local(key)}")
        if name is not None:
            result[name] = value
    for child in element:
        name = wire.get(_local(child.tag))
        if name is None:
            raise Malformed(f"unknown element {_local(child.tag)}")
        member = shape.members[name]
        if isinstance(member, ListShape) and member.serialization.get("flattened"):
            result.setdefault(name, []).append(_from_xml(member.member, child))
        else:
            result[name] = _from_xml(member, child)
    return result


def _local(tag: str) -> str:
    """Return a name without its namespace."""
    return tag.rpartition("}")[2]


def _typed(shape: Shape, texts: list[str]) -> Any:
    if isinstance(shape, ListShape):
        return [_typed(shape.member, [text]) for text in texts]
    return typed(shape, texts[-1])


def typed(shape: Shape, text: str) -> Any:
    """Return a value from its text, or the text if it cannot be converted."""
    kind = shape.type_name
    if kind in ("integer", "long") and re.fullmatch(r"-?\d+", text, re.ASCII):
        return int(text)
    if kind in ("float", "double") and re.fullmatch(r"-?\d+(\.\d*)?([eE][-+]?\d+)?", text, re.ASCII):
        return float(text)
    if kind == "boolean" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    return text


# --- the query protocol -----------------------------------------------------------------------------------------------


def form_parameters(operation: OperationModel, form: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters of a request in the query protocol (IAM, STS), with the names of boto3.

    These services ignore unknown parameters. A value that cannot be converted to its type stays text.
    """
    shape = operation.input_shape
    if not isinstance(shape, StructureShape):
        return {}
    tree: dict[str, Any] = {}
    for key, value in form.items():
        branch = tree
        for part in key.split("."):
            branch = branch.setdefault(part, {})
        branch[""] = value
    found = _from_form(shape, tree)
    assert isinstance(found, dict)
    return found


def _from_form(shape: Shape, tree: Mapping[str, Any]) -> Any:
    if isinstance(shape, StructureShape):
        return {
            name: _from_form(member, tree[wire])
            for name, member in shape.members.items()
            if (wire := str(member.serialization.get("name", name))) in tree
        }
    if isinstance(shape, ListShape):
        flat = shape.serialization.get("flattened")
        items = tree if flat else tree.get(str(shape.member.serialization.get("name", "member")), {})
        return [_from_form(shape.member, items[number]) for number in _numbers(items)]
    if isinstance(shape, MapShape):
        entries = tree if shape.serialization.get("flattened") else tree.get("entry", {})
        key, value = (
            str(one.serialization.get("name", own)) for one, own in ((shape.key, "key"), (shape.value, "value"))
        )
        return {
            str(entries[number].get(key, {}).get("", "")): _from_form(shape.value, entries[number].get(value, {}))
            for number in _numbers(entries)
        }
    text = str(tree.get("", ""))
    if shape.type_name == "blob":
        try:
            return base64.b64decode(text, validate=True)
        except ValueError:
            return text
    return typed(shape, text)


def _numbers(tree: Mapping[str, Any]) -> list[str]:
    return sorted((part for part in tree if part.isdigit()), key=int)
