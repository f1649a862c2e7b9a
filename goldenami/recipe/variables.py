"""Reads ``vars``: defaults, overrides from the command line, and references to secrets."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from goldenami.errors import Problem
from goldenami.reading import describe, hint_of
from goldenami.recipe.document import LARGEST, Document, unusable
from goldenami.recipe.problems import Problems, translate
from goldenami.recipe.project import Project
from goldenami.recipe.rendering import Namespace, Renderer, nearest
from goldenami.recipe.schema import SecretVar
from goldenami.recipe.scope import Scope, render_tree
from goldenami.recipe.secrets import Secret, SecretRef

COMMAND_LINE = "--var"


def read_variables(
    project: Project,
    document: Document,
    context: Mapping[str, Any],
    overrides: Mapping[str, str],
    problems: Problems,
) -> tuple[dict[str, Any], tuple[SecretRef, ...]]:
    """Return the variables for expressions, and the sources of secrets. A default may use the variables above it."""
    declared = document.value.get("vars")
    declared = declared if isinstance(declared, dict) else {}
    for name in overrides:
        if name not in declared:
            near = nearest(name, declared)
            hint = f"Did you mean {near}?" if near else f"Declared in {document.file}: {', '.join(declared) or 'none'}."
            problems.extend([Problem(COMMAND_LINE, 0, 0, f"{name} is not a variable of this recipe", hint)])
    values: dict[str, Any] = {}
    secrets: list[SecretRef] = []
    for name, default in declared.items():
        if isinstance(default, datetime.date):
            default = default.isoformat()  # as written, because expressions and tests have no dates
        if isinstance(default, dict) and set(default) == {"secret"}:
            ref = _secret(name, default, project, document, problems)
            if ref is not None:
                secrets.append(ref)
            values[name] = Secret(name)
            if name in overrides:
                problems.extend(
                    [
                        Problem(
                            COMMAND_LINE,
                            0,
                            0,
                            f"{name} is a secret, and cannot be set on the command line",
                            "Set the environment variable, file or parameter that the recipe names.",
                        )
                    ]
                )
            continue
        renderer = Renderer({**context, "vars": Namespace("vars", values, "A default can use the variables above it.")})
        values[name] = render_tree(Scope(project, document, renderer, problems), default, ("vars", name))
        if name in overrides:
            try:
                values[name] = _as(overrides[name], values[name])
            except ValueError as error:
                problems.extend([Problem(COMMAND_LINE, 0, 0, f"{name}: {error}")])
    return values, tuple(secrets)


def _secret(
    name: str, default: dict[str, Any], project: Project, document: Document, problems: Problems
) -> SecretRef | None:
    try:
        spec = SecretVar.model_validate(default).secret
    except ValidationError as error:
        problems.extend(translate(error, document, ("vars", name), SecretVar))
        return None
    mark = document.mark(("vars", name))
    kind, key = spec.place
    if kind == "file":
        path = document.path.parent / key
        try:
            project.files.check(path)  # the file need not exist yet; its value is read when it is needed
        except OSError as error:
            mark = document.mark(("vars", name, "secret", "file"))
            problems.add(mark, f"file: {describe(error, key)}", hint_of(error))
        key = str(path)
    return SecretRef(name, kind, key, mark, project.files)


def _as(text: str, default: Any) -> Any:
    """Convert text from the command line to the type of the default. Raises ValueError with the expected form."""
    wrong = unusable(text)
    if wrong:
        raise ValueError(f"the value has {wrong}")
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
            raise ValueError(f"expected a {what} as JSON, not {text[:60]!r}")
        return value
    return text
