"""Replaces the placeholders of secrets with their values, just before the operations are sent to a host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from goldenami.errors import InvalidInput, Problem
from goldenami.provision import BoundOperation, BuildNetwork, Handler, Payload, Stage
from goldenami.recipe.secrets import Secret, fill, names_in


def fill_stage(stage: Stage, values: Mapping[str, str]) -> Stage:
    """Return the stage with every placeholder replaced by the value of its secret.

    Raises KeyError for a secret without a value, and InvalidInput if a value is not valid for its field.
    """
    return replace(
        stage,
        operations=tuple(_bound(o, values) for o in stage.operations),
        handlers=tuple(Handler(h.name, tuple(_bound(o, values) for o in h.operations)) for h in stage.handlers),
    )


def fill_network(network: BuildNetwork, values: Mapping[str, str]) -> BuildNetwork:
    """Return the network of a build with the values of its secrets. Raises KeyError as ``fill_stage``."""
    return replace(
        network,
        http=fill(network.http, values),
        https=fill(network.https, values),
        mirrors={before: fill(after, values) for before, after in network.mirrors.items()},
    )


def _bound(bound: BoundOperation, values: Mapping[str, str]) -> BoundOperation:
    operation = bound.operation
    plain = operation.model_dump()
    full = _fill(plain, values)
    if full != plain:
        try:
            operation = operation.with_fields(full)
        except ValidationError as error:
            # The text of pydantic's error contains the value.
            fields = ", ".join(sorted({".".join(map(str, e["loc"])) for e in error.errors(include_input=False)}))
            text = f"{bound.label}: with the value of its secret, {fields or 'it'} is not valid"
            raise InvalidInput([Problem(bound.mark.file, bound.mark.line, bound.mark.column, text)]) from None
    payloads = {name: _payload(p, values) for name, p in bound.payloads.items()}
    shown = {name: value if "." in name else Secret(name) for name, value in values.items()}  # facts are no secrets
    return replace(bound, operation=operation, payloads=payloads, title=fill(bound.label, shown))


def _payload(payload: Payload, values: Mapping[str, str]) -> Payload:
    if payload.data is None:  # a file of the user, which is sent unchanged
        return payload
    try:
        text = payload.data.decode()
    except UnicodeDecodeError:
        return payload
    return Payload.of(fill(text, values).encode(), payload.mode) if names_in(text) else payload


def _fill(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return fill(value, values)
    if isinstance(value, Mapping):
        return {k: _fill(v, values) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_fill(v, values) for v in value)
    return value
