"""The EC2 query protocol for requests and replies, from the service model of botocore. It has no code for single
actions.

A request is a flat form whose keys are dotted paths (``BlockDeviceMapping.1.Ebs.VolumeSize``); a reply is XML. Both use
other names than the model. A parameter uses its ``queryName``, or else its location name with a capital; list items are
numbered without an extra level. Replies use the location name, and ``item`` for list items.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any
from xml.sax.saxutils import escape

import botocore.session
from botocore.model import ListShape, OperationModel, ServiceModel, Shape, StructureShape
from botocore.utils import parse_timestamp

from goldenami_sandbox.ec2.context import Ec2Error

_COMMON = frozenset(
    {"Action", "Version", "AWSAccessKeyId", "Signature", "SignatureMethod", "SignatureVersion", "Timestamp"}
)
_Tree = dict[str, Any]  # a branch; its own value, if it has one, is under ""


@cache
def service_model() -> ServiceModel:
    return botocore.session.get_session().get_service_model("ec2")


def operation(action: str) -> OperationModel:
    """Return the model of an action. Raises Ec2Error InvalidAction for an action that EC2 does not have."""
    if action not in service_model().operation_names:
        raise Ec2Error("InvalidAction", f"The action {action} is not valid for this web service.")
    return service_model().operation_model(action)


# --- requests ---------------------------------------------------------------------------------------------------------


def parse(action: str, form: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters of a request, nested and typed, with the model's names. Unknown parameters are refused."""
    shape = operation(action).input_shape
    tree: _Tree = {}
    for key, value in form.items():
        if key in _COMMON or key.startswith("X-Amz-"):
            continue
        branch = tree
        for part in key.split("."):
            branch = branch.setdefault(part, {})
        branch[""] = value
    if not isinstance(shape, StructureShape):
        return {}
    params = _read_structure(shape, tree, "")
    for name in shape.required_members:
        if name not in params:
            raise Ec2Error("MissingParameter", f"The request must contain the parameter {name}")
    return params


def _read(shape: Shape, tree: _Tree, path: str) -> Any:
    if isinstance(shape, StructureShape):
        return _read_structure(shape, tree, path)
    if isinstance(shape, ListShape):
        return _read_list(shape, tree, path)
    if "" not in tree or len(tree) > 1:
        raise _unknown(path + "." + next(part for part in tree if part))
    return _read_scalar(shape, tree[""], path)


def _read_structure(shape: StructureShape, tree: _Tree, path: str) -> dict[str, Any]:
    members = {_request_name(member, name): (name, member) for name, member in shape.members.items()}
    result = {}
    for part, branch in tree.items():
        if part == "":
            if branch == "":  # clients send an empty value for an empty structure or list
                continue
            raise _invalid(path, branch)
        here = f"{path}.{part}" if path else part
        if part not in members:
            raise _unknown(here)
        name, member = members[part]
        result[name] = _read(member, branch, here)
    return result


def _read_list(shape: ListShape, tree: _Tree, path: str) -> list[Any]:
    numbered = []
    for part, branch in tree.items():
        if part == "" and branch == "":
            continue
        if not part.isdigit():
            raise _unknown(f"{path}.{part}" if part else path)
        numbered.append((int(part), branch))
    return [_read(shape.member, branch, f"{path}.{n}") for n, branch in sorted(numbered, key=lambda pair: pair[0])]


def _read_scalar(shape: Shape, text: str, path: str) -> Any:
    try:
        match shape.type_name:
            case "integer" | "long":
                return int(text)
            case "float" | "double":
                return float(text)
            case "boolean":
                return {"true": True, "false": False}[text.lower()]
            case "timestamp":
                moment = parse_timestamp(text)
                return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            case "blob":
                return base64.b64decode(text, validate=True)
    except (ValueError, KeyError, binascii.Error):
        raise _invalid(path, text) from None
    return text


def _request_name(shape: Shape, name: str) -> str:
    serialization = shape.serialization
    if "queryName" in serialization:
        return str(serialization["queryName"])
    if "name" in serialization:
        given = str(serialization["name"])
        return given[0].upper() + given[1:]
    return name


def _unknown(path: str) -> Ec2Error:
    return Ec2Error("UnknownParameter", f"The parameter {path.removesuffix('.')} is not recognized")


def _invalid(path: str, value: object) -> Ec2Error:
    return Ec2Error("InvalidParameterValue", f"Value ({value}) for parameter {path} is invalid.")


# --- replies ----------------------------------------------------------------------------------------------------------


def serialise(action: str, result: Mapping[str, Any], request_id: str) -> bytes:
    """Return the XML of a reply. Members that are None are left out. A time is a datetime or seconds since 1970."""
    model = operation(action)
    namespace = f"http://ec2.amazonaws.com/doc/{service_model().api_version}/"
    out = [
        f'<?xml version="1.0" encoding="UTF-8"?>\n<{action}Response xmlns="{namespace}">',
        f"<requestId>{request_id}</requestId>",
    ]
    if isinstance(model.output_shape, StructureShape):
        _write_members(model.output_shape, result, out)
    elif not result:
        out.append("<return>true</return>")
    out.append(f"</{action}Response>")
    return "".join(out).encode()


def parsed(action: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the reply as a client parses it from the XML: None is left out, and times are datetimes."""
    shape = operation(action).output_shape
    return _parsed_members(shape, result) if isinstance(shape, StructureShape) else {}


def serialise_error(error: Ec2Error, request_id: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error>'
        f"<Code>{escape(error.code)}</Code><Message>{escape(_printable(error.message))}</Message>"
        f"</Error></Errors><RequestID>{request_id}</RequestID></Response>"
    ).encode()


def _members(shape: StructureShape, value: Mapping[str, Any]) -> Iterator[tuple[str, Shape, Any]]:
    """Yield the members of a structure: name, shape, value."""
    members = shape.members
    for name, item in value.items():
        if item is None:
            continue
        if name not in members:
            raise ValueError(f"the model's {shape.name} has no member {name}")
        yield name, members[name], item


def _write_members(shape: StructureShape, value: Mapping[str, Any], out: list[str]) -> None:
    for name, member, item in _members(shape, value):
        _write(member, str(member.serialization.get("name", name)), item, out)


def _write(shape: Shape, tag: str, value: Any, out: list[str]) -> None:
    if isinstance(shape, ListShape) and shape.serialization.get("flattened"):
        for item in value:
            _write(shape.member, tag, item, out)
        return
    out.append(f"<{tag}>")
    if isinstance(shape, StructureShape):
        _write_members(shape, value, out)
    elif isinstance(shape, ListShape):
        item_tag = str(shape.member.serialization.get("name", "item"))
        for item in value:
            _write(shape.member, item_tag, item, out)
    else:
        out.append(escape(_printable(_text(shape, value))))
    out.append(f"</{tag}>")


def _text(shape: Shape, value: Any) -> str:
    match shape.type_name:
        case "boolean":
            return "true" if value else "false"
        case "timestamp":
            return value if isinstance(value, str) else timestamp(value)
        case "blob":
            return base64.b64encode(value).decode()
        case "integer" | "long":
            return str(int(value))
    return str(value)


def timestamp(moment: datetime | float) -> str:
    """Return a time in ISO 8601, UTC with milliseconds, as EC2 does."""
    when = _moment(moment)
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03d}Z"


def _moment(moment: datetime | float) -> datetime:
    """Return a time in UTC, cut to milliseconds."""
    when = moment if isinstance(moment, datetime) else datetime.fromtimestamp(moment, UTC)
    return when.astimezone(UTC).replace(microsecond=when.microsecond // 1000 * 1000)


def _parsed_members(shape: StructureShape, value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _parsed_value(member, item) for name, member, item in _members(shape, value)}


def _parsed_value(shape: Shape, value: Any) -> Any:
    if isinstance(shape, StructureShape):
        return _parsed_members(shape, value)
    if isinstance(shape, ListShape):
        return [_parsed_value(shape.member, item) for item in value]
    match shape.type_name:
        case "boolean":
            return bool(value)
        case "timestamp":
            return parse_timestamp(value) if isinstance(value, str) else _moment(value)
        case "blob":
            return bytes(value)
        case "integer" | "long":
            return int(value)
        case "float" | "double":
            return float(value)
    return _printable(str(value))


def _printable(text: str) -> str:
    """Remove control characters that XML 1.0 cannot represent."""
    return "".join(c for c in text if c >= " " or c in "\t\n\r") if not text.isprintable() else text
