"""Writes the references of recipes, environments, agents and operations as Markdown, from their models.

This module writes ``docs/operations.md`` and ``docs/agents.md``. The references of recipes, of goldenami.yaml and of
agent definitions are written when the documentation site is built.
"""

from __future__ import annotations

import datetime
import inspect
import json
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from goldenami.notify.document import EventDocument
from goldenami.os import serving
from goldenami.provision import OPERATIONS, Operation
from goldenami.recipe.environmentspec import NetworkSpec, ProjectSpec
from goldenami.recipe.params import ParamSpec, declared
from goldenami.recipe.problems import Problems
from goldenami.recipe.project import Project
from goldenami.recipe.schema import AgentSpec, AgentUse, RecipeSpec
from goldenami.recipe.secretspec import SecretVar
from goldenami.recipe.transports import BUILT_IN

HEAD = """# Operations

The operations for `software`, handlers and agents. `goldenami schema operations` writes this page. Every operation
checks the host first, and changes it only if needed. Each may also have the keys `name`, `when`, `notify` and `retries`
([recipes.md](recipes.md)).
"""


def operations_reference(known: Mapping[str, type[Operation]] = OPERATIONS) -> str:
    """Return the reference of operations: one section per operation, by name."""
    return "\n".join([HEAD, *(line for kind, model in sorted(known.items()) for line in _section(kind, model))])


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


def agents_reference(project: Project) -> str:
    """Return the reference of agents: one section per agent of the project and per shipped one, by name.

    Raises InvalidInput for an agent that cannot be read.
    """
    problems = Problems()
    found = [project.find("agent", name) for name in project.agent_names()]
    documents = [project.document(place.path, problems) for place in found if place is not None]
    problems.refuse_any()
    head = Path(__file__).with_name("agents_head.md").read_text(encoding="utf-8")
    return head + "\n".join(line for d in documents if d is not None for line in _agent(d.value))


def _agent(value: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {value.get('name')}"
    yield ""
    yield f"{value.get('description', '')}. For {', '.join(value.get('operations', ()))}."
    yield ""
    params = value.get("params") or {}
    if not params:
        return
    yield "| parameter | takes | default | |"
    yield "|---|---|---|---|"
    for name, given in params.items():
        spec = ParamSpec.model_validate(given) if declared(given) else None
        words = (spec.description if spec else "").replace("|", "\\|")
        default = _param_default(spec, given, value.get("operations", ()))
        yield f"| `{name}` | {_param_takes(spec)} | {default} | {words} |"
    yield ""


# Fields whose annotation is wider than what their values are validated against, one by one, after rendering.
_ITEMS: Mapping[type[BaseModel], Mapping[str, type[BaseModel]]] = {
    RecipeSpec: {"agents": AgentUse, "vars": SecretVar},
    AgentSpec: {"params": ParamSpec},
}


# Fields whose value is a map with one of these names and its options.
_CHOICES: Mapping[type[BaseModel], Mapping[str, Mapping[str, type[BaseModel]]]] = {
    NetworkSpec: {"transport": {name: model for name, model in BUILT_IN.items() if model.model_fields}},
}


def recipe_reference() -> str:
    """Return the reference of recipes: all sections and their fields, without the operations."""
    return "\n".join(_sections(RecipeSpec, ""))


def environment_reference() -> str:
    """Return the reference of goldenami.yaml: all sections and their fields."""
    return "\n".join(_sections(ProjectSpec, ""))


def event_reference() -> str:
    """Return the reference of the document of notifications."""
    return "\n".join(_sections(EventDocument, ""))


def agent_reference() -> str:
    """Return the reference of agent definitions: all sections and their fields."""
    return "\n".join(_sections(AgentSpec, ""))


def _sections(model: type[BaseModel], path: str) -> Iterator[str]:
    """Yield a table of the fields of one model, then one section for each field that is a map or a list of maps."""
    nested: list[tuple[str, type[BaseModel]]] = []
    if path:
        yield f"## {path}"
        yield ""
    yield inspect.cleandoc(model.__doc__ or "").replace("``", "`")
    yield ""
    yield "| field | takes | default | |"
    yield "|---|---|---|---|"
    for name, field in model.model_fields.items():
        key = field.alias or name
        inner = _model_in(field.annotation) or _ITEMS.get(model, {}).get(key)
        takes = " or ".join(dict.fromkeys(_takes(field.annotation)))
        if inner is not None:
            place = f"{path}.{key}" if path else key
            place += ".NAME" if "dict" in str(get_origin(field.annotation)) else ""
            nested.append((place, inner))
            takes += f": {_link(place)}"
        choices = {f"{path}.{key}.{name}": one for name, one in _CHOICES.get(model, {}).get(key, {}).items()}
        if choices:
            nested.extend(choices.items())
            takes += f": {', '.join(map(_link, choices))}"
        yield f"| `{key}` | {_cell(takes)} | {_cell(_default(field))} | {_cell(field.description or '')} |"
    yield ""
    for place, inner in nested:
        yield from _sections(inner, place)


def _link(place: str) -> str:
    return f"[{place}](#{place.lower().replace('.', '')})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model in an annotation, or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner)) is not None), None)


def describe_params(agent: Mapping[str, Any]) -> dict[str, tuple[str, str, str]]:
    """Return the allowed values, the default and the description of each parameter of an agent, as plain text."""
    found = {}
    for name, given in (agent.get("params") or {}).items():
        try:
            spec = ParamSpec.model_validate(given) if declared(given) else None
        except ValidationError:  # goldenami validate reports it
            spec = None
        shown = _param_default(spec, given, agent.get("operations", ()))
        texts = (_param_takes(spec), shown, spec.description if spec else "")
        takes, default, words = (text.replace("`", "").replace("**", "").replace("\\|", "|") for text in texts)
        found[name] = takes, default, words
    return found


def _param_takes(spec: ParamSpec | None) -> str:
    if spec is None:
        return "anything"
    if spec.choices:
        return " or ".join(f"`{choice}`" for choice in spec.choices)
    if spec.type == "list":
        return f"list of {spec.items}"
    if spec.type == "json" and spec.keys:
        return f"json: {', '.join(spec.keys)}"
    return spec.type


def _param_default(spec: ParamSpec | None, given: Any, systems: Iterable[str]) -> str:
    if spec is None:
        return _shown(given)
    if spec.required:
        return "**required**"
    shown = [f"{_shown(value)} on {os}" for os, value in spec.defaults.items()]
    if "default" in spec.model_fields_set:
        shown.append(_shown(spec.default))
    elif any(serving(os, spec.defaults) is None for os in systems):
        shown.append("else **required**")
    return ", ".join(shown)


def _shown(value: Any) -> str:
    """Return a default as a short text. For a long one, the text refers to the file."""
    if isinstance(value, dict) and set(value) == {"repository"}:
        return f"the repository at {value['repository']['uris'][0]}"
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    if text in ("", "[]", "{}"):
        return "none"
    return f"`{text}`".replace("|", "\\|") if len(text) <= 60 else "see the file"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value in (None, PydanticUndefined, (), {}, [], "") or isinstance(value, BaseModel):
        return ""
    return f"`{json.dumps(value)}`" if not isinstance(value, str) else f"`{value}`"


_WORDS: dict[Any, str] = {str: "text", int: "number", float: "number", bool: "true or false", Any: "anything"}


def _takes(annotation: Any) -> Iterator[str]:
    """Yield the types that a field accepts, as text."""
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
    elif isinstance(annotation, type) and issubclass(annotation, datetime.date):
        yield "date"
    elif annotation is not NoneType:
        yield _WORDS.get(annotation, "map")
