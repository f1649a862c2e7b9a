"""Writes moto's answers as moto does, in less time.

For each member of an answer, moto makes a list of the names that the value can have in the object, and looks through
all exceptions of the service. These depend on classes and models only, so they are made once here. The XML is written
without the generality of xmltodict, and times in the usual form are read without dateutil. ``test_moto_answers``
compares the answers with moto's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from types import SimpleNamespace
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from goldenami_sandbox.times import iso_time

_NAMES = "_names_of_values"  # the attribute of a shape with the names of its value, by class of the object


def quicken() -> None:
    """Replace the functions of moto that take the most time."""
    from moto.core import serialize

    of_moto: Any = serialize
    of_moto.ResponseSerializer.get_value = _value_function(of_moto)
    of_moto.xmltodict = SimpleNamespace(unparse=_unparse_function(of_moto.xmltodict.unparse))
    read: Callable[[Any], datetime] = of_moto.parse_to_aware_datetime
    of_moto.parse_to_aware_datetime = lambda value: iso_time(value) or read(value)


# --- values -----------------------------------------------------------------------------------------------------------


def _value_function(serialize: Any) -> Callable[[Any, Any, str, Any], Any]:
    """Return the replacement of ``ResponseSerializer.get_value``: the value of an object's member, under the first of
    its names that the object has."""
    as_moto = serialize.ResponseSerializer.get_value
    usual, aliases = serialize.XFormedAttributePicker, serialize.DEFAULT_ALIAS_PROVIDERS
    missing, look_up, context = serialize.MISSING, serialize.get_value, serialize.AttributePickerContext
    exceptions: dict[int, tuple[Mapping[str, Any], int, dict[str, list[str]]]] = {}

    def get_value(self: Any, value: Any, key: str, shape: Any) -> Any:
        picker = self._value_picker
        kind = type(value)
        if type(picker) is not usual or picker.alias_providers is not aliases or hasattr(kind, "__getattr__"):
            return as_moto(self, value, key, shape)
        known = shape.__dict__.setdefault(_NAMES, {})
        names = known.get(kind)
        if names is None:
            names = known[kind] = tuple(dict.fromkeys(picker.get_possible_keys(context(value, key, shape))))
        found = None
        if kind is dict:
            for name in names:
                if name in value:
                    found = value[name]
                    break
        else:
            for name in names:
                one = look_up(value, name, missing)
                if one is not missing:
                    found = one
                    break
        changes = picker.response_transformers
        if changes:
            paths = _ends(changes, exceptions).get(key)
            if paths is not None:
                path = f"{'.'.join(self.path)}.{key}"
                for end in paths:
                    if path.endswith(end):
                        return changes[end](found)
        return found

    return get_value


def _ends(
    changes: Mapping[str, Any], known: dict[int, tuple[Mapping[str, Any], int, dict[str, list[str]]]]
) -> Mapping[str, list[str]]:
    """Return the ends of paths in ``changes``, by their last part. moto adds some during calls, and removes none."""
    found = known.get(id(changes))
    if found is None or found[0] is not changes or found[1] != len(changes):
        ends: dict[str, list[str]] = {}
        for path in changes:
            ends.setdefault(path.rpartition(".")[2], []).append(path)
        found = known[id(changes)] = changes, len(changes), ends
    return found[2]


# --- XML --------------------------------------------------------------------------------------------------------------


class _Unusual(Exception):
    """xmltodict has rules for this that are not here."""


def _unparse_function(as_moto: Callable[..., str]) -> Callable[..., str]:
    """Return the replacement of ``xmltodict.unparse`` for trees with one root, without line breaks."""

    def unparse(
        tree: Mapping[str, Any], *, full_document: bool = True, short_empty_elements: bool = False, pretty: bool = False
    ) -> str:
        out = ['<?xml version="1.0" encoding="utf-8"?>\n'] if full_document else []
        try:
            if pretty:
                raise _Unusual
            ((name, root),) = tree.items()
            if type(root) is not dict:
                raise _Unusual
            _write(name, root, out, short_empty_elements)
        except (_Unusual, ValueError):
            return as_moto(tree, full_document=full_document, short_empty_elements=short_empty_elements, pretty=pretty)
        return "".join(out)

    return unparse


_PLAIN = re.compile(r"[A-Za-z][\w.:-]*", re.ASCII)


def _write(name: str, value: Any, out: list[str], short: bool) -> None:
    kind = type(value)
    if kind is list or kind is tuple:
        for item in value:
            _write_one(name, item, out, short)
    elif kind in (dict, str, int, float, bool) or value is None:
        _write_one(name, value, out, short)
    else:
        raise _Unusual


def _write_one(name: str, value: Any, out: list[str], short: bool) -> None:
    if type(name) is not str or not _PLAIN.fullmatch(name):
        raise _Unusual
    kind = type(value)
    if kind is dict:
        attributes, children, text = "", [], ""
        for key, item in value.items():
            if key == "#text":
                text = _text(item)
            elif type(key) is not str:
                raise _Unusual
            elif key[:1] == "@":
                if type(item) is not str or not _PLAIN.fullmatch(key[1:]):
                    raise _Unusual
                attributes += f" {key[1:]}={quoteattr(item)}"
            elif item or not (type(item) is list or type(item) is tuple):
                children.append((key, item))
        if not children and not text:
            out.append(f"<{name}{attributes}/>" if short else f"<{name}{attributes}></{name}>")
            return
        out.append(f"<{name}{attributes}>")
        for key, item in children:
            _write(key, item, out, short)
        if text:
            out.append(escape(text))
        out.append(f"</{name}>")
        return
    text = _text(value)
    if text:
        out.append(f"<{name}>{escape(text)}</{name}>")
    else:
        out.append(f"<{name}/>" if short else f"<{name}></{name}>")


def _text(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return str(value)
    if value is None:
        return ""
    if kind is bool:
        return "true" if value else "false"
    if kind is int or kind is float:
        return str(value)
    raise _Unusual
