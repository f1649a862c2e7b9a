"""The reference of all operations as Markdown, from the same models that validate them: docs/operations.md."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from goldenami.provision import OPERATIONS, Operation

HEAD = """# Operations

What may stand in `software`, in handlers and in agents; made by `goldenami schema operations`. Every operation checks
first, and applies only if needed. Beside each may stand `name`, `when` and `notify` ([recipes.md](recipes.md)).
"""


def operations_reference() -> str:
    """One section an operation, by name."""
    return "\n".join([HEAD, *(line for kind in sorted(OPERATIONS) for line in _section(kind, OPERATIONS[kind]))])


def _section(kind: str, model: type[Operation]) -> Iterator[str]:
    yield f"## {kind}"
    yield ""
    yield inspect.cleandoc(model.__doc__ or "").replace("``", "`")
    yield ""
    if model.shorthand is not None:
        yield f"`{kind}: x` is short for `{kind}: {{{model.shorthand}: x}}`."
        yield ""
    yield "| field | takes | default | |"
    yield "|---|---|---|---|"
    for name, field in model.model_fields.items():
        takes, words = (
            " or ".join(dict.fromkeys(_takes(field.annotation))),
            (field.description or "").replace("|", "\\|"),
        )
        yield f"| `{field.alias or name}` | {takes.replace('|', chr(92) + '|')} | {_default(field)} | {words} |"
    yield ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value in (None, PydanticUndefined, (), {}, ""):
        return ""
    return f"`{json.dumps(value)}`" if not isinstance(value, str) else f"`{value}`"


_WORDS: dict[Any, str] = {str: "text", int: "number", float: "number", bool: "true or false", Any: "anything"}


def _takes(annotation: Any) -> Iterator[str]:
    """What a field takes, in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is typing.Annotated:
        yield from _takes(arguments[0])
    elif origin is Literal:
        yield from (f"`{value}`" for value in arguments)
    elif origin in (typing.Union, UnionType):
        for argument in arguments:
            yield from _takes(argument)
    elif origin in (tuple, list, frozenset, set):
        inner = " or ".join(dict.fromkeys(w for a in arguments if a is not ... for w in _takes(a)))
        yield f"list of {inner or 'anything'}"
    elif origin is not None:
        yield "map"
    elif annotation is not NoneType:
        yield _WORDS.get(annotation, "map")
