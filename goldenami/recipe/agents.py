"""Reads agents: software that many recipes install in the same way, defined once in recipes/agents/NAME/."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from goldenami.model import Environment, Mark
from goldenami.os import serving
from goldenami.provision import BoundOperation, Handler
from goldenami.recipe import operations
from goldenami.recipe.context import base_names, environment_names, recipe_names
from goldenami.recipe.document import Document, NodePath
from goldenami.recipe.expectspec import AgentExpectSpec
from goldenami.recipe.lookup import AGENT_FILE, Found
from goldenami.recipe.params import Given, ParamSpec, checked, declared, default_given
from goldenami.recipe.problems import Problems
from goldenami.recipe.project import Project
from goldenami.recipe.recipe import TestRef
from goldenami.recipe.remembered import remembered
from goldenami.recipe.rendering import Namespace, Renderer, contents
from goldenami.recipe.schema import AgentSpec, AgentUse
from goldenami.recipe.scope import Scope, condition, render_tree
from goldenami.recipe.similar import suggestion
from goldenami.recipe.testfiles import read_test
from goldenami.recipe.words import OsId


@dataclass
class Agents:
    """All agents of a recipe for one architecture. Together they are one stage."""

    names: list[str] = field(default_factory=list)
    params: dict[str, dict[str, Any]] = field(default_factory=dict)  # by agent, as its expressions see them
    operations: tuple[BoundOperation, ...] = ()
    handlers: tuple[Handler, ...] = ()
    tests: list[TestRef] = field(default_factory=list)
    expect: list[AgentExpectSpec] = field(default_factory=list)


def read(scope: Scope, os: OsId | None) -> Agents:
    """Return the agents whose ``when`` is true, in order. Problems are added to the scope."""
    found = Agents()
    given = scope.document.value.get("agents")
    if not isinstance(given, list):
        return found
    for index, item in enumerate(given):
        path: NodePath = ("agents", index)
        use = _use(scope, item, path)
        if use is None:
            continue
        if use.name in found.names:
            scope.problems.add(
                scope.document.mark(path), f"the agent {use.name} is given twice", "Remove one of the two."
            )
            continue
        document = _document(scope, use.name, path)
        if document is None:
            continue
        _add(scope, document, use, path, os, found)
    return found


def check(project: Project, name: str, environment: Environment, problems: Problems) -> None:
    """Check an agent without a recipe, with its defaults and examples, for every os that it has operations for."""
    place = project.find("agent", name)
    document = project.document(place.path, problems) if place is not None else None
    if place is None or document is None:
        return
    _check_one_form(project, place, problems)
    known = document.value.get("operations")
    for os in known if isinstance(known, dict) else ():
        context = {
            "environment": environment_names(environment),
            "recipe": recipe_names({"name": "example", "version": "1.0"}),
            "base": base_names("id", "", "", os),
            "architecture": "x86_64",
        }
        scope = Scope(project, document, Renderer(context), problems)
        _add(scope, document, AgentUse(name=name, when=None), (), os, Agents())


def _use(scope: Scope, item: Any, path: NodePath) -> AgentUse | None:
    """Return one item of the recipe's agents; None if it is left out or wrong."""
    if isinstance(item, str):
        item = {"name": item}
    if not isinstance(item, dict):
        scope.problems.add(
            scope.document.mark(path), "agents: expected the name of an agent, or {name: …, when: …, params: …}"
        )
        return None
    if "when" in item and not condition(scope, item["when"], (*path, "when")):
        item = {key: value for key, value in item.items() if key != "when"}
        _validate(scope, item, path)
        return None
    return _validate(scope, render_tree(scope, item, path), path)


def _validate(scope: Scope, item: dict[str, Any], path: NodePath) -> AgentUse | None:
    try:
        return AgentUse.model_validate(item)
    except ValidationError as error:
        scope.reject(error, path, AgentUse, "agent")
        return None


def _document(scope: Scope, name: str, path: NodePath) -> Document | None:
    place = scope.project.find("agent", name)
    if place is None:
        hint = suggestion(name, scope.project.agent_names(), scope.project.known("agent"))
        mark = scope.document.mark((*path, "name"))
        scope.problems.add(mark, f"there is no agent {name!r}", hint)
        return None
    scope.use(place)
    return scope.project.document(place.path, scope.problems)


def _check_one_form(project: Project, place: Found, problems: Problems) -> None:
    """Report an agent that the project has as a folder and also as a single file. The folder is used."""
    other = project.agents / f"{place.name}.yaml"
    if not place.shipped and place.path != other and other.is_file():
        message = f"the agent {place.name} is defined here and also in {project.shown(place.path)}, which is used"
        problems.add(Mark(project.shown(other), 1, 1), message, "Remove one of the two.")


def _add(scope: Scope, document: Document, use: AgentUse, path: NodePath, os: OsId | None, found: Agents) -> None:
    known = document.value.get("params")
    known = known if isinstance(known, dict) else {}
    for key in use.params:
        if key not in known:
            hint = suggestion(key, known, f"Parameters of the agent: {', '.join(known) or 'none'}.")
            scope.problems.add(
                scope.document.key_mark((*path, "params", key)), f"the agent {use.name} has no parameter {key!r}", hint
            )
    if _has_documents(known, use.params):  # their paths are relative to the recipe
        one = _bound(scope, document, use, path, os)
    else:
        base = scope.renderer.context["base"]
        given = ("agent", document.path, use.name, contents(use.params), bool(path), os, base["os"])
        one = remembered(scope, given, lambda: _bound(scope, document, use, path, os))
    if one is None:
        return
    found.params.update(one.params)
    found.names += one.names
    found.operations += one.operations
    found.handlers += one.handlers
    found.tests += one.tests
    found.expect += one.expect


def _has_documents(declared: dict[str, Any], given: dict[str, Any]) -> bool:
    """Return whether a parameter is given as the path of a document."""
    kinds = {key: value["type"] for key, value in declared.items() if isinstance(value, dict) and "type" in value}
    return any(kinds.get(key) == "json" and isinstance(value, str) for key, value in given.items())


def _bound(scope: Scope, document: Document, use: AgentUse, path: NodePath, os: OsId | None) -> Agents | None:
    """Return one agent with its expressions rendered; None after a problem with its file."""
    params = _params(scope, document, use, path, os)
    inner = _inside(scope, document, params)
    spec = agent_spec(inner, document)
    if spec is None or os is None:
        return None
    found = Agents(params={use.name: params})
    family = serving(os, spec.operations)
    if family is None:
        scope.problems.add(
            scope.document.mark(path),
            f"the agent {use.name} has no operations for {os}",
            f"It has operations for {', '.join(spec.operations)}. Add operations for {os}, or leave it out with when.",
        )
        return found
    path = ("operations", family)
    bound, handlers = operations.read_with_handlers(inner, document.value["operations"][family], path)
    found.names.append(use.name)
    # All agents share one stage, so the names of their handlers get the name of the agent as a prefix.
    found.operations = tuple(replace(o, notify=tuple(f"{use.name}/{n}" for n in o.notify)) for o in bound)
    found.handlers = tuple(replace(handler, name=f"{use.name}/{handler.name}") for handler in handlers)
    for index, name in enumerate(spec.tests):
        ref = read_test(name, scope.project, document, ("tests", index), scope.problems, origin=use.name)
        if ref is not None:
            found.tests.append(ref)
            inner.renderer.used.update(filter(None, [ref.path]))
    if spec.expect:
        try:
            found.expect.append(AgentExpectSpec.model_validate(render_tree(inner, spec.expect, ("expect",))))
        except ValidationError as error:
            inner.reject(error, ("expect",), AgentExpectSpec, "expect")
    return found


def _inside(scope: Scope, document: Document, params: dict[str, Any]) -> Scope:
    """Return the scope of the agent's file: expressions use the recipe's context without ``vars``, and ``params``."""
    return scope.within(document, scope.renderer.inside({"params": Namespace("params", params)}))


def _params(scope: Scope, document: Document, use: AgentUse, path: NodePath, os: OsId | None) -> dict[str, Any]:
    """Return the values of all parameters. A default may use the parameters above it."""
    written = document.value.get("params")
    values: dict[str, Any] = {}
    for key, value in (written if isinstance(written, dict) else {}).items():
        inner = _inside(scope, document, values)
        at: NodePath = ("params", key)
        given = Given(scope, (*path, "params", key), use.params[key]) if key in use.params else None
        if not declared(value):  # without a type, any value is accepted
            values[key] = given.value if given else render_tree(inner, value, at)
            continue
        try:
            spec = ParamSpec.model_validate(value)
        except ValidationError as error:
            inner.reject(error, at, ParamSpec, key)
            values[key] = given.value if given else ""
            continue
        default = spec.default_for(os)
        if default is None and not path and "example" in spec.model_fields_set:
            default = ("example",), spec.example  # the agent is checked without a recipe
        if given is None and default is not None:
            below, plain = default
            given = default_given(inner, (*at, *below), plain)
        if given is None:
            values[key] = ""
            if path:
                message = f"the agent {use.name} needs the parameter {key}"
                scope.problems.add(scope.document.mark(path), message, f"{spec.description} Add it under params.")
            else:
                message = (
                    f"{key}: a parameter without a default needs an example, which validate uses to check the agent"
                )
                inner.problems.add(document.key_mark(at), message)
            continue
        values[key] = checked(key, spec, given, use.name)
    return values


def agent_spec(scope: Scope, document: Document) -> AgentSpec | None:
    """Return the agent's file, without validating each operation; None if it is wrong."""
    name = document.value.get("name")
    expected, what = document.path.stem, "file"
    if document.path.name == AGENT_FILE:
        expected, what = document.path.parent.name, "folder"
    if isinstance(name, str) and name != expected:
        scope.problems.add(
            document.mark(("name",)),
            f"name is {name}, expected {expected}, the name of the {what}",
            f"Write {expected}.",
        )
    try:
        return AgentSpec.model_validate(document.value)
    except ValidationError as error:
        scope.reject(error, (), AgentSpec)
        return None
