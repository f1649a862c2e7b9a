"""Builds frozen dataclasses from JSON values of exactly their types, for small records that are read very often.

pydantic reads them, too, and says what is wrong with a form. But to load it and to make its validators takes longer
than everything else that `goldenami resolve` does. So a record is built here first, and pydantic reads what does not
fit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from goldenami.errors import CatalogError

_T = TypeVar("_T")
_Build = Callable[[Any], Any]


class _Differs(Exception):
    """A value has another type than its field."""


def load(text: str | bytes, schema: str, *, source: str) -> dict[str, Any]:
    """Return the JSON object in a file of the catalog. ``source``: where the file is, for messages. Raises CatalogError
    for a text that is not JSON in UTF-8, or that has another schema."""
    try:
        form = json.loads(text.decode() if isinstance(text, bytes) else text)
    except ValueError as error:
        raise CatalogError(f"{source}: not JSON: {error}", hint="Restore the file from a backup.") from error
    found = form.get("schema") if isinstance(form, dict) else None
    if not isinstance(form, dict) or found != schema:
        raise CatalogError(
            f"{source}: the schema is {found!r}, expected {schema!r}",
            hint="Update goldenami, or restore the file from a backup.",
        )
    return form


def build(kind: type[_T], form: object) -> _T | None:
    """Return a dataclass from JSON values. None if a value has another type, or a required key is missing.

    Nothing is converted, but arrays become tuples. Unknown keys are ignored. Raises TypeError for a dataclass with
    fields of other types than those of JSON, literals, tuples, mappings and dataclasses.
    """
    described: Any = kind
    try:
        made: _T = _builder(described)(form)
    except _Differs:
        return None
    return made


@cache
def _builder(kind: Any) -> _Build:
    """Return the function that builds a value of a type."""
    if kind is str:
        return _text
    if kind in (bool, int, float, NoneType):
        return lambda value: _of_type(kind, value)
    if isinstance(kind, type) and is_dataclass(kind):
        return _dataclass(kind)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return lambda value: _one_of(inner, value)
    if origin in (Union, UnionType) and len(inner) == 2 and NoneType in inner:
        other = _builder(inner[0] if inner[1] is NoneType else inner[1])
        return lambda value: None if value is None else other(value)
    if origin is tuple and inner[1:] == (...,):
        item = _builder(inner[0])
        return lambda value: tuple(map(item, _of_type(list, value)))
    if origin in (dict, Mapping) and inner[0] is str:
        content = _builder(inner[1])
        return lambda value: {_text(name): content(one) for name, one in _of_type(dict, value).items()}
    raise TypeError(f"{kind} is no type of a form")


def _dataclass(kind: type) -> _Build:
    hints = get_type_hints(kind)
    parts = [
        (field.name, _builder(hints[field.name]), field.default is MISSING and field.default_factory is MISSING)
        for field in fields(kind)
    ]

    def built(form: Any) -> Any:
        _of_type(dict, form)
        given: dict[str, Any] = {}
        for name, part, required in parts:
            if name in form:
                given[name] = part(form[name])
            elif required:
                raise _Differs
        return kind(**given)

    return built


def _text(value: Any) -> Any:
    _of_type(str, value)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:  # half of a surrogate pair, which JSON can have and UTF-8 cannot
            raise _Differs from None
    return value


def _of_type(kind: type, value: Any) -> Any:
    if type(value) is not kind:  # True is no int
        raise _Differs
    return value


def _one_of(words: tuple[Any, ...], value: Any) -> Any:
    if not any(type(value) is type(word) and value == word for word in words):
        raise _Differs
    return value
