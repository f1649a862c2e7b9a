"""Parameters of agents: declares their types, and checks the values of recipes.

A parameter is declared as a mapping with ``type``. Any other value is a default, and the parameter accepts any value::

    params:
      port: {type: integer, default: 9100, minimum: 1, maximum: 65535, description: Port to listen on.}

There are two types in addition to those of YAML. ``json`` is a document for a program that reads JSON: a mapping in the
recipe, or the path of a JSON template relative to the recipe. ``source`` is the source of a package: ``distribution``,
``{repository: {…}}`` with the fields of the operation, or ``{url: …, sha256: …}``. Expressions of the agent see a
mapping with the keys ``kind`` (distribution, repository, url), ``repository``, ``url`` and ``sha256``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError, model_validator

from goldenami import bounded
from goldenami.model import Mark
from goldenami.os import LIKENESSES, serving
from goldenami.provision.fields import Sha256, Url
from goldenami.provision.repositories import Repository
from goldenami.reading import describe, hint_of
from goldenami.recipe.document import NodePath
from goldenami.recipe.project import shown
from goldenami.recipe.scope import Scope, render_tree
from goldenami.recipe.similar import suggestion
from goldenami.recipe.words import OsId, Spec, check_pattern

ParamType = Literal["string", "integer", "number", "boolean", "list", "mapping", "json", "source"]
Plain = Literal["string", "integer", "number", "boolean", "mapping"]

_WORDS: Mapping[str, str] = {
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "list": "a list",
    "mapping": "a mapping",
    "json": "a mapping, or the path of a JSON template relative to the recipe",
    "source": "distribution, {repository: …} or {url: …, sha256: …}",
}


class ParamSpec(Spec):
    """A parameter of an agent, declared with its type."""

    type: ParamType = Field(
        description="string, integer, number, boolean, list, mapping; json: a document, inline or in a template; "
        "source: the source of a package."
    )
    description: Annotated[str, StringConstraints(min_length=1)] = Field(description="Description of the parameter.")
    default: Any = Field(None, description="Value if a recipe sets none. A parameter without a default is required.")
    defaults: dict[OsId, Any] = Field(
        default_factory=dict, description=f"Defaults by os, used before default. If an os has none, {LIKENESSES}."
    )
    items: Plain = Field("string", description="With type list: type of the items.")
    choices: tuple[str | int | float, ...] = Field((), description="Allowed values. With type list: allowed items.")
    pattern: str | None = Field(
        None, description="Regular expression that the string, or each item of the list, matches as a whole."
    )
    minimum: float | None = Field(None, description="Lowest number.")
    maximum: float | None = Field(None, description="Highest number.")
    keys: tuple[str, ...] = Field((), description="With type mapping or json: allowed keys at the top level.")
    example: Any = Field(
        None, description="Example for the documentation. A parameter without a default is checked with it."
    )

    @model_validator(mode="after")
    def _fits_its_type(self) -> ParamSpec:
        if self.pattern is not None:
            check_pattern("pattern", self.pattern)
        if (self.minimum is not None or self.maximum is not None) and self.type not in ("integer", "number"):
            raise ValueError("minimum and maximum are allowed only with type integer or number")
        if self.keys and self.type not in ("mapping", "json"):
            raise ValueError("keys is allowed only with type mapping or json")
        return self

    @property
    def required(self) -> bool:
        return "default" not in self.model_fields_set and not self.defaults

    def default_for(self, os: OsId | None) -> tuple[tuple[str, ...], Any] | None:
        """Return the path of an os's default below the parameter, and its value; None if there is none."""
        if os is not None:
            name = serving(os, self.defaults)
            if name is not None:
                return ("defaults", name), self.defaults[name]
        return (("default",), self.default) if "default" in self.model_fields_set else None


def declared(value: Any) -> bool:
    """Return whether a value is a declaration with a type, and not a plain default."""
    return isinstance(value, dict) and "type" in value


class SourceFile(Spec):
    """A package file at a URL."""

    url: Url
    sha256: Sha256


@dataclass(frozen=True, slots=True)
class Given:
    """A value and its place, in the recipe or in the agent's file. ``scope`` has the document."""

    scope: Scope
    path: NodePath
    value: Any


def checked(name: str, spec: ParamSpec, given: Given, agent: str) -> Any:
    """Check a value, and return it as the agent's expressions see it. Problems are added to the scope."""
    if any(path[: len(given.path)] == given.path for path in given.scope.failed):
        return given.value  # the failed rendering was already reported
    if spec.type == "json":
        return _json(name, spec, given)
    if spec.type == "source":
        return _source(name, given, agent)
    if not _is(spec.type, given.value):
        _report(given, (), f"{name}: expected {_WORDS[spec.type]}, not {_shown(given.value)}", spec.description)
    elif spec.type == "list":
        for index, item in enumerate(given.value):
            if not _is(spec.items, item):
                _report(given, (index,), f"{name}: expected {_WORDS[spec.items]}, not {_shown(item)}")
            else:
                _one(name, spec, item, given, (index,))
    elif spec.type == "mapping":
        _known_keys(name, spec, given.value, given)
    else:
        _one(name, spec, given.value, given, ())
    return given.value


def _is(kind: str, value: Any) -> bool:
    if kind == "boolean" or isinstance(value, bool):
        return kind == "boolean" and isinstance(value, bool)
    types: Mapping[str, type | tuple[type, ...]] = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "list": list,
        "mapping": dict,
    }
    return isinstance(value, types[kind])


def _one(name: str, spec: ParamSpec, value: Any, given: Given, below: NodePath) -> None:
    if spec.choices and value not in spec.choices:
        hint = suggestion(str(value), [str(c) for c in spec.choices])
        _report(given, below, f"{name}: {_shown(value)} is not one of {', '.join(map(str, spec.choices))}", hint)
    if spec.pattern is not None and isinstance(value, str):
        try:
            if not bounded.matches(given.scope.problems.budget, spec.pattern, value):
                _report(given, below, f"{name}: {_shown(value)} is not of the form {spec.pattern}", spec.description)
        except bounded.TooMuch as error:
            _report(given, below, f"{name}: the comparison with the pattern {spec.pattern} needs more than {error}")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if spec.minimum is not None and value < spec.minimum:
            _report(given, below, f"{name}: {value} is less than {spec.minimum:g}")
        if spec.maximum is not None and value > spec.maximum:
            _report(given, below, f"{name}: {value} is more than {spec.maximum:g}")


def _known_keys(name: str, spec: ParamSpec, value: Mapping[Any, Any], given: Given) -> None:
    for key in value:
        if spec.keys and key not in spec.keys:
            hint = suggestion(str(key), list(spec.keys), f"Known keys: {', '.join(spec.keys)}.")
            mark = given.scope.document.key_mark((*given.path, key))
            given.scope.problems.add(mark, f"{name}: unknown key {str(key)!r}", hint)


# --- documents of JSON ------------------------------------------------------------------------------------------------


def _json(name: str, spec: ParamSpec, given: Given) -> Any:
    if isinstance(given.value, dict):
        _known_keys(name, spec, given.value, given)
        return given.value
    if not isinstance(given.value, str):
        _report(given, (), f"{name}: expected {_WORDS['json']}, not {_shown(given.value)}", spec.description)
        return {}
    path = given.scope.resolve(given.value)
    given.scope.renderer.used.add(path)
    try:
        source = given.scope.project.files.read_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        _report(given, (), f"{name}: {given.value} is not UTF-8 text", "Save the file as UTF-8.")
        return {}
    except OSError as error:
        hint = hint_of(error, f"Paths are relative to {given.scope.document.file}.")
        _report(given, (), f"{name}: {describe(error, given.value)}", hint)
        return {}
    text = given.scope.template(path, source)
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        hint = None if text == source else "The place is that in the rendered text."
        _in_file(given, Mark(shown(path), error.lineno, error.colno), f"{name}: not valid JSON: {error.msg}", hint)
        return {}
    if not isinstance(value, dict):
        _in_file(given, Mark(shown(path), 1, 1), f"{name}: expected a mapping, not {_shown(value)}", None)
        return {}
    for key in value:
        if spec.keys and key not in spec.keys:
            hint = suggestion(key, list(spec.keys), f"Known keys: {', '.join(spec.keys)}.")
            line, column = _position(text, json.dumps(key))
            _in_file(given, Mark(shown(path), line, column), f"{name}: unknown key {key!r}", hint)
    return value


def _position(text: str, word: str) -> tuple[int, int]:
    at = max(text.find(word), 0)
    return text.count("\n", 0, at) + 1, at - (text.rfind("\n", 0, at) + 1) + 1


def _in_file(given: Given, mark: Mark, message: str, hint: str | None) -> None:
    given.scope.problems.add(mark, message, hint)


# --- sources of packages ----------------------------------------------------------------------------------------------


def _source(name: str, given: Given, agent: str) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": "distribution", "repository": None, "url": None, "sha256": None}
    value, scope = given.value, given.scope
    if value == "distribution":
        return found
    if isinstance(value, dict) and set(value) == {"repository"}:
        path = (*given.path, "repository")
        fields = {"name": agent, **value["repository"]} if isinstance(value["repository"], dict) else {}
        if isinstance(
            fields.get("key_src"), str
        ):  # relative to the file that has the value, which is not always the agent's
            fields["key_src"] = str(scope.resolve(fields["key_src"]))
        try:
            Repository.model_validate(fields)
        except ValidationError as error:
            scope.reject(error, path, Repository, "repository")
        return {**found, "kind": "repository", "repository": fields}
    if isinstance(value, dict) and "url" in value:
        try:
            file = SourceFile.model_validate(value)
        except ValidationError as error:
            scope.reject(error, given.path, SourceFile, name)
            return found
        return {**found, "kind": "url", "url": file.url, "sha256": file.sha256}
    _report(given, (), f"{name}: expected {_WORDS['source']}, not {_shown(value)}")
    return found


def _report(given: Given, below: NodePath, message: str, hint: str | None = None) -> None:
    given.scope.problems.add(given.scope.document.mark((*given.path, *below)), message, hint)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:57] + "…")
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nothing"}[value]
    return "a mapping" if isinstance(value, dict) else "a list" if isinstance(value, list) else str(value)


def default_given(scope: Scope, path: NodePath, value: Any) -> Given:
    """Render a default at its place in the agent's file."""
    return Given(scope, path, render_tree(scope, value, path))
