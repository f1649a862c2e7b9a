"""Checks values against botocore's shapes: required members, types, enumerations, lengths, ranges and patterns.

Each shape is compiled once into a function, because the sandbox checks every call. A shape without any constraint
below it compiles to None, so most of a request costs nothing.
"""

from __future__ import annotations

import base64
import binascii
import re
import sys
import threading
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from botocore.model import ListShape, MapShape, Shape, StructureShape

Kind = Literal["missing", "type", "enum", "least", "most", "shortest", "longest", "pattern", "unknown", "malformed"]


@dataclass(frozen=True, slots=True)
class Problem:
    """A value that does not fit its shape. ``path``: names of members, indexes (from 1) and keys of maps.

    ``limit``: the bound, the pattern, the values of the enumeration, or the type. ``shape``: the name of the shape.
    """

    kind: Kind
    path: tuple[str | int, ...]
    value: Any = None
    limit: Any = None
    shape: str = ""

    def __str__(self) -> str:
        """Return the sentence of AWS's validation for this problem."""
        where = ".".join(_in_message(part) for part in self.path)
        if self.kind == "missing":
            return f"Value null at '{where}' failed to satisfy constraint: Member must not be null"
        wanted = {
            "type": f"be of the type {self.limit}",
            "enum": f"satisfy enum value set: [{', '.join(self.limit) if self.kind == 'enum' else ''}]",
            "least": f"have value greater than or equal to {self.limit}",
            "most": f"have value less than or equal to {self.limit}",
            "shortest": f"have length greater than or equal to {self.limit}",
            "longest": f"have length less than or equal to {self.limit}",
            "pattern": f"satisfy regular expression pattern: {self.limit}",
            "unknown": "be known",
            "malformed": "be well-formed",
        }[self.kind]
        return f"Value '{self.value}' at '{where}' failed to satisfy constraint: Member must {wanted}"


def _in_message(part: str | int) -> str:
    return f"{part}.member" if isinstance(part, int) else part[:1].lower() + part[1:]


def message(problems: list[Problem]) -> str:
    """Return the message in which AWS lists all problems of a request."""
    count = len(problems)
    return f"{count} validation error{'s' if count != 1 else ''} detected: " + "; ".join(map(str, problems))


Path = tuple[str | int, ...]
Check = Callable[[Any, Path, list[Problem]], None]
Condition = Callable[[Any], "tuple[Kind, Any] | None"]  # the broken constraint of a scalar and its limit


def check(service: str, shape: Shape, value: Any, *, typed: bool) -> list[Problem]:
    """Return all problems of a value. ``typed``: the types were checked when the value was read."""
    found: list[Problem] = []
    key = (service, shape.name, typed)
    if key not in _finished:
        with _compiling:
            _finished[key] = _compile(service, shape, typed)
    compiled = _finished[key]
    if compiled is not None:
        compiled(value, (), found)
    return found


# --- compiling --------------------------------------------------------------------------------------------------------

_compiled: dict[tuple[str, str, bool], Check | None] = {}
# The checks that may be called. One thread compiles at a time, since an unfinished check would only find itself.
_finished: dict[tuple[str, str, bool], Check | None] = {}
_compiling = threading.Lock()


def _compile(service: str, shape: Shape, typed: bool) -> Check | None:
    """Return the check of a shape. The constraints of a shape are those of its name, so one check serves all uses."""
    key = (service, shape.name, typed)
    if key in _compiled:
        return _compiled[key]
    # A shape that contains itself finds this function, which looks up the finished check at the time of the call.
    _compiled[key] = lambda value, path, found: (_compiled[key] or _nothing)(value, path, found)
    _compiled[key] = made = _make(service, shape, typed)
    return made


def _nothing(_value: Any, _path: Path, _found: list[Problem]) -> None:
    """The check of a shape without constraints."""


def _make(service: str, shape: Shape, typed: bool) -> Check | None:
    if getattr(shape, "is_document_type", False):
        return None
    if isinstance(shape, StructureShape):
        return _structure(service, shape, typed)
    if isinstance(shape, ListShape):
        return _list(service, shape, typed)
    if isinstance(shape, MapShape):
        return _map(service, shape, typed)
    return _scalar(shape, typed)


def _structure(service: str, shape: StructureShape, typed: bool) -> Check | None:
    required = tuple(shape.required_members)
    members = {name: _compile(service, member, typed) for name, member in shape.members.items()}
    checks = {name: one for name, one in members.items() if one is not None}
    if typed and not required and not checks:
        return None
    name_of_shape = shape.name

    def check_structure(value: Any, path: Path, found: list[Problem]) -> None:
        if not isinstance(value, Mapping):
            found.append(Problem("type", path, value, "structure", name_of_shape))
            return
        for name in required:
            if value.get(name) is None:
                found.append(Problem("missing", (*path, name), shape=name_of_shape))
        for name, item in value.items():
            one = checks.get(name)
            if one is not None and item is not None:
                one(item, (*path, name), found)

    return check_structure


def _list(service: str, shape: ListShape, typed: bool) -> Check | None:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    inner = _compile(service, shape.member, typed)
    if typed and not least and most is None and inner is None:
        return None
    name_of_shape = shape.name

    def check_list(value: Any, path: Path, found: list[Problem]) -> None:
        if not isinstance(value, list):
            found.append(Problem("type", path, value, "list", name_of_shape))
            return
        _check_length(len(value), value, least, most, path, found, name_of_shape)
        if inner is not None:
            for number, item in enumerate(value, 1):
                inner(item, (*path, number), found)

    return check_list


def _map(service: str, shape: MapShape, typed: bool) -> Check | None:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    of_key, of_value = _compile(service, shape.key, typed), _compile(service, shape.value, typed)
    if typed and not least and most is None and of_key is None and of_value is None:
        return None
    name_of_shape = shape.name

    def check_map(value: Any, path: Path, found: list[Problem]) -> None:
        if not isinstance(value, Mapping):
            found.append(Problem("type", path, value, "map", name_of_shape))
            return
        _check_length(len(value), value, least, most, path, found, name_of_shape)
        for key, item in value.items():
            if of_key is not None:
                of_key(key, path, found)
            if of_value is not None:
                of_value(item, (*path, str(key)), found)

    return check_map


def _check_length(
    length: int, value: Any, least: int | None, most: int | None, path: Path, found: list[Problem], shape: str
) -> None:
    if least is not None and length < least:
        found.append(Problem("shortest", path, value, least, shape))
    if most is not None and length > most:
        found.append(Problem("longest", path, value, most, shape))


_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "character": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
    "blob": (str, bytes),
}


def _scalar(shape: Shape, typed: bool) -> Check | None:
    allowed = None if typed else _TYPES.get(shape.type_name)
    condition = scalar_condition(shape)
    if allowed is None and condition is None:
        return None
    name_of_shape, kind = shape.name, shape.type_name
    hidden = bool(shape.metadata.get("sensitive"))

    def check_scalar(value: Any, path: Path, found: list[Problem]) -> None:
        if allowed is not None and (not isinstance(value, allowed) or (isinstance(value, bool) and kind != "boolean")):
            found.append(Problem("type", path, "***" if hidden else value, kind, name_of_shape))
            return
        broken = condition(value) if condition is not None else None
        if broken is not None:
            found.append(Problem(broken[0], path, "***" if hidden else value, broken[1], name_of_shape))

    return check_scalar


def scalar_condition(shape: Shape) -> Condition | None:
    """Return a function that returns the first broken constraint of a value, or None for a shape without constraints.

    The value must have the type of the shape.
    """
    limits: Mapping[str, Any] = shape.metadata
    least, most = limits.get("min"), limits.get("max")
    match shape.type_name:
        case "string" | "character":
            return _text_condition(least or None, most, frozenset(limits.get("enum") or ()), limits)
        case "blob":
            return None if not least and most is None else lambda value: _out_of_length(_blob_size(value), least, most)
        case "integer" | "long" | "float" | "double":
            if least is None and most is None:
                return None
            return lambda value: (
                ("least", least)
                if least is not None and value < least
                else ("most", most)
                if most is not None and value > most
                else None
            )
    return None


def _text_condition(
    least: int | None, most: int | None, values: frozenset[str], limits: Mapping[str, Any]
) -> Condition | None:
    pattern = str(limits.get("pattern") or "")
    compiled = _pattern(pattern) if pattern else None
    if least is None and most is None and not values and compiled is None:
        return None

    def broken(value: str) -> tuple[Kind, Any] | None:
        if values and value not in values:
            return "enum", list(limits["enum"])
        if compiled is not None and compiled.fullmatch(value) is None:
            return "pattern", pattern
        return _out_of_length(len(value), least, most)

    return broken


def _out_of_length(length: int, least: int | None, most: int | None) -> tuple[Kind, Any] | None:
    if least is not None and length < least:
        return "shortest", least
    if most is not None and length > most:
        return "longest", most
    return None


def _blob_size(value: Any) -> int:
    if isinstance(value, bytes):
        return len(value)
    try:
        return len(base64.b64decode(value, validate=True))
    except (ValueError, binascii.Error):
        return len(value)


# --- patterns ---------------------------------------------------------------------------------------------------------

# The models' patterns are Java's, whose \w, \d and \s are ASCII and whose \p{…} Python's re does not have.
_SURROGATES = r"\uD800\uDC00-\uDBFF\uDFFF"  # in Java's UTF-16: all characters beyond the first 65,536
_TWICE = re.compile(r"(\{\d+\})\{[\d,]+\}")  # a repeat of a repeat, which Python's re does not support either
_TOKEN = re.compile(r"\\p\{(?P<category>\w+)\}|\\(?P<escaped>.)|(?P<open>\[\^?)|(?P<close>\])", re.DOTALL)
_ASCII_CLASSES = {"w": "a-zA-Z0-9_", "d": "0-9", "s": r" \t\n\x0b\f\r"}
_NEGATED_CLASSES = {"W": "w", "D": "d", "S": "s"}
_SPACES = r" \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


@cache
def _pattern(java: str) -> re.Pattern[str] | None:
    """Return a pattern for Python, or None if Python cannot express it."""
    try:
        return re.compile(_translate(_TWICE.sub(r"\1", java.replace(_SURROGATES, "\U00010000-\U0010ffff"))))
    except (re.error, OverflowError):
        return None


def _translate(java: str) -> str:
    depth, result, position = 0, [], 0
    for token in _TOKEN.finditer(java):
        result.append(java[position : token.start()])
        position = token.end()
        if token["category"]:
            members = _category(token["category"])
            result.append(members if depth else f"[{members}]")
        elif token["escaped"] in _ASCII_CLASSES:
            members = _ASCII_CLASSES[token["escaped"]]
            result.append(members if depth else f"[{members}]")
            if depth and java[position : position + 1] == "-" and java[position + 1 : position + 2] != "]":
                result.append("\\")  # In Java a hyphen after a class is a hyphen.
        elif token["escaped"] in _NEGATED_CLASSES and not depth:
            result.append(f"[^{_ASCII_CLASSES[_NEGATED_CLASSES[token['escaped']]]}]")
        else:
            # Inside a class, Python reads "[" as a member, as almost all of the models' patterns mean it.
            depth = 1 if token["open"] else 0 if token["close"] else depth
            result.append(token[0])
    return "".join([*result, java[position:]])


def _category(name: str) -> str:
    r"""Return the members of a class for a category of Unicode.

    ``\w`` stands for letters and digits. It contains the underscore too, as do all classes of the models that use it.
    """
    if name in ("L", "N", "IsAlphabetic", "Alnum", "Alpha"):
        return r"\w"
    if name in ("Z", "Zs"):
        return _SPACES
    if name in ("all", "ASCII", "Print", "Graph"):
        return r"\s\S" if name == "all" else r"\x20-\x7e" if name != "ASCII" else r"\x00-\x7f"
    return _ranges(name)


@cache
def _ranges(category: str) -> str:
    """Return the ranges of a category of Unicode, for example "P" or "Sc"."""
    points = [n for n in range(sys.maxunicode + 1) if unicodedata.category(chr(n)).startswith(category)]
    ranges: list[list[int]] = []
    for point in points:
        if ranges and point == ranges[-1][1] + 1:
            ranges[-1][1] = point
        else:
            ranges.append([point, point])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)
