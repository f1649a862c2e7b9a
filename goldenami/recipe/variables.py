"""Reads ``vars``: defaults, values that are given for them, and references to secrets."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from goldenami.model import Mark
from goldenami.reading import describe, hint_of
from goldenami.recipe.document import LARGEST, Document, NodePath, unusable
from goldenami.recipe.given import VARS, Written, environment_values
from goldenami.recipe.problems import Problems, translate
from goldenami.recipe.project import Project
from goldenami.recipe.rendering import Namespace, Renderer
from goldenami.recipe.scope import Scope, render_tree
from goldenami.recipe.secrets import Secret, SecretRef
from goldenami.recipe.secretspec import SecretVar
from goldenami.recipe.similar import suggestion

COMMAND_LINE = "--var"


def read_variables(
    project: Project,
    document: Document,
    context: Mapping[str, Any],
    environment: str,
    given: Mapping[str, str],
    problems: Problems,
) -> tuple[dict[str, Any], tuple[SecretRef, ...]]:
    """Return the variables for expressions, and the sources of secrets. A default may use the variables above it.

    ``given``: values of ``--var`` and of files, which win over those of the environment. A variable of the environment
    that the recipe does not declare is for other recipes.
    """
    declared = document.value.get("vars")
    declared = declared if isinstance(declared, dict) else {}
    for name, text in given.items():
        if name not in declared:
            hint = suggestion(name, declared, f"Declared in {document.file}: {', '.join(declared) or 'none'}.")
            _report(problems, text, f"{name} is not a variable of this recipe", hint, at_key=True)
    settings, own = environment_values(project, environment, problems)
    given = {**own, **given}
    values: dict[str, Any] = {}
    secrets: list[SecretRef] = []
    for name, default in declared.items():
        if isinstance(default, datetime.date):
            default = default.isoformat()  # as written, because expressions and tests have no dates
        value = given.get(name)
        if isinstance(default, dict) and "secret" in default and set(default) <= set(SecretVar.model_fields):
            ref = _secret(name, default, project, document, ("vars", name), problems)
            if name in own and settings is not None:
                ref = _secret_of_environment(name, own[name], project, settings, environment, problems)
            if ref is not None:
                secrets.append(replace(ref, in_image=default.get("in_image") is True))
            values[name] = Secret(name)
            if value is not None and value is not own.get(name):
                where = "in a file of variables" if isinstance(value, Written) else "on the command line"
                hint = "Set the environment variable, file or parameter that the recipe names."
                _report(problems, value, f"{name} is a secret, and cannot be set {where}", hint)
            continue
        renderer = Renderer({**context, "vars": Namespace("vars", values, "A default can use the variables above it.")})
        values[name] = render_tree(Scope(project, document, renderer, problems), default, ("vars", name))
        if value is not None:
            try:
                values[name] = _as(value, values[name])
            except ValueError as error:
                _report(problems, value, f"{name}: {error}")
    return values, tuple(secrets)


def _report(problems: Problems, value: str, message: str, hint: str | None = None, *, at_key: bool = False) -> None:
    """Add a problem at the place of a given value: in its file, or the command line."""
    mark = Mark(COMMAND_LINE, 0, 0)
    if isinstance(value, Written):
        mark = value.key if at_key else value.value
    problems.add(mark, message, hint)


def _secret_of_environment(
    name: str, value: str, project: Project, settings: Document, environment: str, problems: Problems
) -> SecretRef | None:
    """Return the source that an environment names for a secret of the recipe."""
    at: NodePath = ("environments", environment, VARS, name)
    if isinstance(value, Written) and value.secret:
        return _secret(name, settings.value["environments"][environment][VARS][name], project, settings, at, problems)
    hint = "Name another source: {secret: {ssm: …}}, {secret: {env: …}} or {secret: {file: …}}."
    _report(problems, value, f"{name} is a secret, and its value cannot be written here", hint)
    return None


def _secret(
    name: str, default: dict[str, Any], project: Project, document: Document, at: NodePath, problems: Problems
) -> SecretRef | None:
    try:
        spec = SecretVar.model_validate(default).secret
    except ValidationError as error:
        problems.extend(translate(error, document, at, SecretVar))
        return None
    mark = document.mark(at)
    kind, key = spec.place
    if kind == "file":
        path = document.path.parent / key
        try:
            project.files.check(path)  # the file need not exist yet; its value is read when it is needed
        except OSError as error:
            mark = document.mark((*at, "secret", "file"))
            problems.add(mark, f"file: {describe(error, key)}", hint_of(error))
        key = str(path)
    return SecretRef(name, kind, key, mark, project.files)


def _as(text: str, default: Any) -> Any:
    """Convert a given value to the type of the default. Raises ValueError with the expected form."""
    wrong = unusable(text)
    if wrong:
        raise ValueError(f"the value has {wrong}")
    if isinstance(text, Written):
        if text.secret:
            raise ValueError("the recipe does not declare it as a secret, so its value cannot be a reference to one")
        if text.kind and not isinstance(default, (list, dict)):
            raise ValueError(f"expected {_kind_of(default)}, not a {text.kind}")
    if isinstance(default, bool):
        words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
        if text.lower() not in words:
            raise ValueError(f"expected true or false, not {text!r}")
        return words[text.lower()]
    if isinstance(default, (int, float)):
        try:
            number = int(text) if isinstance(default, int) else float(text)
            if abs(number) < LARGEST:
                return number
            raise ValueError
        except ValueError:
            raise ValueError(
                f"expected a {'whole ' if isinstance(default, int) else ''}number, not {text[:60]!r}"
            ) from None
    if isinstance(default, (list, dict)):
        what = "list" if isinstance(default, list) else "mapping"
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):  # no JSON; a number of too many digits; deep nesting
            value = None
        if not isinstance(value, type(default)):
            form = "" if isinstance(text, Written) else " as JSON"
            raise ValueError(f"expected a {what}{form}, not {text[:60]!r}")
        return value
    return str(text)


def _kind_of(default: Any) -> str:
    if isinstance(default, bool):
        return "true or false"
    return "a number" if isinstance(default, (int, float)) else "a text"
