"""Putting the values of secrets into operations, the moment before they go to the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from goldenami.errors import InvalidInput, Problem
from goldenami.provision import BoundOperation, Handler, Payload, Stage
from goldenami.recipe.secrets import fill, names_in


def reveal(stage: Stage, values: Mapping[str, str]) -> Stage:
    """The stage with the secrets' values in place of their placeholders; titles keep the placeholders.

    The result is for the host alone: it must not be stored or shown. Raises InvalidInput where an operation does not
    take a value (without saying the value), KeyError for a secret that was not read.
    """
    return Stage(
        stage.name,
        tuple(_bound(bound, values) for bound in stage.operations),
        tuple(Handler(h.name, tuple(_bound(bound, values) for bound in h.operations)) for h in stage.handlers),
    )


def _bound(bound: BoundOperation, values: Mapping[str, str]) -> BoundOperation:
    payloads = {name: _payload(payload, values) for name, payload in bound.payloads.items()}
    fields = bound.operation.model_dump()
    filled = _filled(fields, values)
    if filled == fields:
        return replace(bound, payloads=payloads)
    try:
        operation = type(bound.operation).model_validate(filled)
    except ValidationError as error:
        where = {".".join(map(str, details["loc"])) for details in error.errors(include_input=False)}
        mark = bound.mark
        message = f"{bound.operation.kind}: the value of a secret is not allowed in {', '.join(sorted(where))}"
        raise InvalidInput([Problem(mark.file, mark.line, mark.column, message)]) from None
    # The operation's own title could show a field with the value; the one made of the placeholders cannot.
    return replace(bound, operation=operation, title=bound.label, payloads=payloads)


def _payload(payload: Payload, values: Mapping[str, str]) -> Payload:
    # Only templates can hold placeholders, and they are kept as data; files are sent as they are.
    if payload.data is None:
        return payload
    try:
        text = payload.data.decode()
    except UnicodeDecodeError:
        return payload
    return Payload.of(fill(text, values).encode(), payload.mode) if names_in(text) else payload


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return fill(value, values)
    if isinstance(value, Mapping):
        return {key: _filled(item, values) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value)(_filled(item, values) for item in value)
    return value
