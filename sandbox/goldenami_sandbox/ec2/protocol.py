"""The EC2 query protocol for requests and replies, from the service model of botocore. It has no code for single
actions.

A request is a flat form whose keys are dotted paths (``BlockDeviceMapping.1.Ebs.VolumeSize``); a reply is XML. Both use
other names than the model. A parameter uses its ``queryName``, or else its location name with a capital; list items are
numbered without an extra level. Replies use the location name, and ``item`` for list items.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any
from xml.sax.saxutils import escape

from botocore.model import ListShape, OperationModel, ServiceModel, Shape, StructureShape
from botocore.utils import parse_timestamp

from goldenami_sandbox import models
from goldenami_sandbox.constraints import Kind, scalar_condition
from goldenami_sandbox.ec2.context import Ec2Error
from goldenami_sandbox.times import iso_time

_COMMON = frozenset(
    {"Action", "Version", "AWSAccessKeyId", "Signature", "SignatureMethod", "SignatureVersion", "Timestamp"}
)
_Tree = dict[str, Any]  # a branch; its own value, if it has one, is under ""


@cache
def service_model() -> ServiceModel:
    found = models.model("ec2")
    assert found is not None
    return found


def operation(action: str) -> OperationModel:
    """Return the model of an action. Raises Ec2Error InvalidAction for an action that EC2 does not have."""
    if action not in service_model().operation_names:
        raise Ec2Error("InvalidAction", f"The action {action} is not valid for this web service.")
    return service_model().operation_model(action)


# --- requests ---------------------------------------------------------------------------------------------------------

_Reader = Callable[[_Tree, str], Any]  # reads the branch of a form at a path

# Values that EC2 refuses with an error of its own, by the name of their shape.
_ERRORS: Mapping[str, Callable[[object], Ec2Error]] = {
    "InstanceType": lambda value: Ec2Error("InvalidParameterValue", f"Invalid value '{value}' for InstanceType."),
    "ImageNameRequest": lambda _: Ec2Error(
        "InvalidAMIName.Malformed",
        "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, "
        "'(', ')', '.', '-', '/' and '_'",
    ),
}
# DescribeInstanceTypes lists the unknown types itself.
_UNCHECKED_ITEMS = frozenset({"RequestInstanceTypeList"})
# EC2 has the same rules for these parameters in all actions. Its model contains them for images only.
_ASCII = frozenset({"Description", "GroupDescription", "GroupName", "KeyName", "VersionDescription"})
_MAX_TEXT = 255


def parse(action: str, form: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters of a request, nested and typed, with the model's names.

    Raises Ec2Error for an unknown or missing parameter, and for a value that does not fit the model.
    """
    shape = operation(action).input_shape
    if not isinstance(shape, StructureShape):
        return {}
    tree: _Tree = {}
    for key, value in form.items():
        if key in _COMMON or key.startswith("X-Amz-"):
            continue
        branch = tree
        for part in key.split("."):
            branch = branch.setdefault(part, {})
        branch[""] = value
    params: dict[str, Any] = _reader(shape)(tree, "")
    return params


# Readers are compiled once for each shape. A reader looks up those below it at its first use, so that a shape may
# contain itself.
_readers: dict[str, _Reader] = {}


def _reader(shape: Shape) -> _Reader:
    found = _readers.get(shape.name)
    if found is None:
        if isinstance(shape, StructureShape):
            found = _structure_reader(shape)
        elif isinstance(shape, ListShape):
            found = _list_reader(shape)
        else:
            found = _scalar_reader(shape)
        _readers[shape.name] = found
    return found


def _structure_reader(shape: StructureShape) -> _Reader:
    members = {_request_name(member, name): (name, member) for name, member in shape.members.items()}
    required = tuple(shape.required_members)
    readers: dict[str, tuple[str, _Reader]] = {}

    def read(tree: _Tree, path: str) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for part, branch in tree.items():
            if part == "":
                if branch == "":  # clients send an empty value for an empty structure or list
                    continue
                raise _invalid(path, branch)
            here = f"{path}.{part}" if path else part
            known = readers.get(part)
            if known is None:
                if part not in members:
                    raise _unknown(here)
                name, member = members[part]
                readers[part] = known = name, _text_reader(part, member) if part in _ASCII else _reader(member)
            result[known[0]] = known[1](branch, here)
        for name in required:
            if name not in result:
                raise Ec2Error("MissingParameter", f"The request must contain the parameter {name}")
        return result

    return read


def _list_reader(shape: ListShape) -> _Reader:
    checked = shape.name not in _UNCHECKED_ITEMS
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    member = shape.member

    def read(tree: _Tree, path: str) -> list[Any]:
        inner = _reader(member) if checked else _plain_text
        numbered = []
        for part, branch in tree.items():
            if part == "" and branch == "":
                continue
            if not part.isdigit():
                raise _unknown(f"{path}.{part}" if part else path)
            numbered.append((int(part), branch))
        if least is not None and len(numbered) < least:
            raise _invalid(path, len(numbered), f" It must have at least {least} items.")
        if most is not None and len(numbered) > most:
            raise _invalid(path, len(numbered), f" It must have at most {most} items.")
        return [inner(branch, f"{path}.{n}") for n, branch in sorted(numbered, key=lambda pair: pair[0])]

    return read


def _plain_text(tree: _Tree, path: str) -> str:
    if "" not in tree or len(tree) > 1:
        raise _unknown(path + "." + next(part for part in tree if part))
    return str(tree[""])


def _scalar_reader(shape: Shape) -> _Reader:
    condition = scalar_condition(shape)
    error = _ERRORS.get(shape.name)

    def read(tree: _Tree, path: str) -> Any:
        if "" not in tree or len(tree) > 1:
            raise _unknown(path + "." + next(part for part in tree if part))
        value = _converted(shape, tree[""], path)
        broken = condition(value) if condition is not None else None
        if broken is not None:
            raise error(value) if error is not None else _broken(path, value, *broken)
        return value

    return read


def _text_reader(name: str, member: Shape) -> _Reader:
    """Return the reader of a description or a name: ASCII, and at most 255 characters."""
    if not isinstance(member, StructureShape):
        plain = _reader(member)

        def read(tree: _Tree, path: str) -> Any:
            value = plain(tree, path)
            check_text(name, value)
            return value

        return read
    structure = _reader(member)  # ModifyImageAttribute: {"Value": …}

    def read_value(tree: _Tree, path: str) -> Any:
        value = structure(tree, path)
        check_text(name, value.get("Value", ""))
        return value

    return read_value


def check_text(name: str, value: object) -> None:
    """Check a description or a name. Raises Ec2Error for characters beyond ASCII, and beyond 255 characters."""
    if not isinstance(value, str):
        return
    if not value.isascii():
        raise Ec2Error(
            "InvalidParameterValue",
            f"Value ({value}) for parameter {name} is invalid. Character sets beyond ASCII are not supported.",
        )
    if len(value) > _MAX_TEXT:
        raise Ec2Error(
            "InvalidParameterValue",
            f"Value ({value}) for parameter {name} is invalid. The maximum length is {_MAX_TEXT} characters.",
        )


def _converted(shape: Shape, text: str, path: str) -> Any:
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


def _invalid(path: str, value: object, reason: str = "") -> Ec2Error:
    return Ec2Error("InvalidParameterValue", f"Value ({value}) for parameter {path} is invalid.{reason}")


def _broken(path: str, value: object, kind: Kind, limit: object) -> Ec2Error:
    """Return the error for a value that breaks a constraint of the model."""
    name = path.rpartition(".")[2] if not path[-1:].isdigit() else path
    name = name[:1].lower() + name[1:]
    if kind in ("least", "most"):
        relation = "greater than or equal to" if kind == "least" else "less than or equal to"
        return Ec2Error(
            "InvalidParameterValue",
            f"Value ( {value} ) for parameter {name} is invalid. Expecting a value {relation} {limit}.",
        )
    reason = {
        "shortest": f" The minimum length is {limit} characters.",
        "longest": f" The maximum length is {limit} characters.",
        "pattern": f" It must match the pattern {limit}.",
    }.get(kind, "")
    return _invalid(name, value, reason)


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


@lru_cache(maxsize=4096)  # each look at a resource tells the same times
def timestamp(moment: datetime | float) -> str:
    """Return a time in ISO 8601, UTC with milliseconds, as EC2 does."""
    when = _moment(moment)
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03d}Z"


def whole_seconds(moment: float) -> float:
    """Return a time without its part of a second: EC2 tells times of launches and attachments so
    (``"AttachTime": "2019-07-05T09:07:59.000Z", "CreateTime": "2019-07-05T09:07:59.531Z"`` of one volume)."""
    return float(int(moment))


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
            return (iso_time(value) or parse_timestamp(value)) if isinstance(value, str) else _moment(value)
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
