"""Builds the JSON Schemas (draft 2020-12) of recipes, goldenami.yaml and agents, for completion and checks in editors.

The schemas accept more than ``validate``: each place for a number, a choice or a pattern also takes an expression,
``{{ … }}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel

from goldenami.notify.document import EventDocument
from goldenami.os import SYSTEMS
from goldenami.provision import OPERATIONS, Operation
from goldenami.recipe.environmentspec import ProjectSpec
from goldenami.recipe.operations import COMMON, MOST_RETRIES
from goldenami.recipe.params import ParamSpec
from goldenami.recipe.schema import LITERAL, AgentSpec, AgentUse, RecipeSpec

Kind = Literal["recipe", "environment", "agent", "event"]
KINDS: tuple[Kind, ...] = ("recipe", "environment", "agent", "event")

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_EXPRESSION = {"type": "string", "pattern": r"\{\{.*\}\}"}


def json_schema(kind: Kind, known: Mapping[str, type[Operation]] = OPERATIONS) -> dict[str, Any]:
    """Return the schema of recipes, goldenami.yaml, agents or events. ``known``: the operations, by kind."""
    if kind == "event":
        body = EventDocument.model_json_schema(mode="serialization", by_alias=True)
        return {"$schema": DIALECT, **body, "title": "goldenami.event/1"}
    if kind == "environment":
        return _document(ProjectSpec, "goldenami.yaml", {})
    definitions: dict[str, Any] = {}
    operations = {"type": "array", "items": _operation(known, definitions)}
    handlers = {
        "type": "object",
        "additionalProperties": {"anyOf": [operations["items"], operations]},
    }
    if kind == "agent":
        schema = _document(AgentSpec, "goldenami agent", definitions)
        by_os = schema["properties"]["operations"]
        by_os["additionalProperties"] = operations
        by_os.pop("propertyNames", None)
        by_os["properties"] = dict.fromkeys(SYSTEMS, operations)
        by_os["additionalProperties"] = False
        params = schema["properties"]["params"]
        plain = {"description": "The default of a parameter that takes any value.", "not": {"required": ["type"]}}
        params["additionalProperties"] = {"anyOf": [_model(ParamSpec, schema["$defs"]), plain]}
    else:
        schema = _document(RecipeSpec, "goldenami recipe", definitions)
        written = RecipeSpec.model_json_schema()["properties"]
        schema["properties"].update({name: written[name] for name in LITERAL})
        _describe(schema["properties"]["setup"], operations)
        _describe(schema["properties"]["software"], operations)
        use = _model(AgentUse, schema["$defs"])
        _describe(schema["properties"]["agents"], {"type": "array", "items": {"anyOf": [{"type": "string"}, use]}})
    _describe(schema["properties"]["handlers"], handlers)
    return schema


def _document(model: type[BaseModel], title: str, definitions: dict[str, Any]) -> dict[str, Any]:
    body = model.model_json_schema(mode="validation")
    merged = {**body.pop("$defs", {}), **definitions}
    schema = {
        "$schema": DIALECT,
        **_open(body),
        "title": title,
        "$defs": {k: _open(v) for k, v in sorted(merged.items())},
    }
    if not merged:
        del schema["$defs"]
    return schema


def _describe(place: dict[str, Any], form: Mapping[str, Any]) -> None:
    """Replace the form of a field, and keep its description and title."""
    kept: dict[str, Any] = {key: place[key] for key in ("description", "title") if key in place}
    place.clear()
    place.update({**form, **kept})


def _model(model: type[BaseModel], definitions: dict[str, Any], namespace: str = "") -> dict[str, Any]:
    """Add the schema of a model to the definitions, and return a reference to it.

    ``namespace``: a prefix that separates the names of an extension from the built-in ones.
    """
    prefix = f"{namespace}." if namespace else ""
    body = model.model_json_schema(ref_template=f"#/$defs/{prefix}{{model}}")
    definitions.update({prefix + name: _open(value) for name, value in body.pop("$defs", {}).items()})
    definitions[prefix + model.__name__] = _open(body)
    return {"$ref": f"#/$defs/{prefix}{model.__name__}"}


def _operation(known: Mapping[str, type[Operation]], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of one operation: exactly one kind, and the common keys."""
    kinds: dict[str, Any] = {}
    for kind, model in sorted(known.items()):
        body = _model(model, definitions, "" if OPERATIONS.get(kind) is model else kind)
        forms = [body, dict(_EXPRESSION)]
        if model.shorthand is not None:
            forms.append({"description": f"Short for {{{model.shorthand}: …}}.", "type": ["string", "array"]})
        kinds[kind] = {"description": _summary(model), "anyOf": forms}
    common: dict[str, Any] = {
        "when": {"description": COMMON["when"], "type": ["string", "boolean"]},
        "notify": {
            "description": COMMON["notify"],
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        },
        "retries": {"description": COMMON["retries"], "type": "integer", "minimum": 0, "maximum": MOST_RETRIES},
        "name": {"description": COMMON["name"], "type": "string"},
    }
    definitions["Operation"] = {
        "type": "object",
        "properties": {**kinds, **common},
        "additionalProperties": False,
        "oneOf": [{"required": [kind]} for kind in kinds],
    }
    return {"$ref": "#/$defs/Operation"}


def _summary(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")


def _open(schema: Any) -> Any:
    """Allow an expression in each place whose value is not a free string. Names and structure are not changed."""
    if isinstance(schema, list):
        return [_open(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    opened: dict[str, Any] = {}
    for key, value in schema.items():
        if key in (
            "properties",
            "patternProperties",
            "$defs",
        ):  # keys are names, not keywords of JSON Schema
            opened[key] = {name: _open(inner) for name, inner in value.items()}
        else:
            opened[key] = value if key in ("default", "enum", "const", "required", "propertyNames") else _open(value)
    strict = opened.get("type") in ("integer", "number", "boolean") or not opened.keys().isdisjoint(
        ("enum", "const", "pattern")
    )
    if not strict:
        return opened
    kept = {key: opened.pop(key) for key in ("description", "title", "default") if key in opened}
    return {**kept, "anyOf": [opened, dict(_EXPRESSION)]}
