"""Renders the values of a document, and reports problems at their places."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from goldenami.model import Mark
from goldenami.recipe.document import Document, NodePath, find_name
from goldenami.recipe.lookup import Found, Kind
from goldenami.recipe.problems import Problems, translate
from goldenami.recipe.project import Project, shown
from goldenami.recipe.rendering import Renderer, has_expression
from goldenami.recipe.secrets import called, is_secret


@dataclass(frozen=True, slots=True)
class Scope:
    """One document, the names for its expressions, its problems, and the definitions that it uses."""

    project: Project
    document: Document
    renderer: Renderer
    problems: Problems
    failed: set[NodePath] = field(default_factory=set)
    lookups: dict[tuple[Kind, str], Found] = field(default_factory=dict)

    def within(self, document: Document, renderer: Renderer) -> Scope:
        """Return a scope for another document that collects problems in the same list."""
        return replace(self, document=document, renderer=renderer, failed=set())

    def reject(self, error: ValidationError, at: NodePath, model: type[BaseModel], what: str = "") -> None:
        """Report the errors of a model for the value at a place, except those of values whose rendering failed."""
        self.problems.extend(translate(error, self.document, at, model, what=what, known=self.failed))

    def use(self, found: Found) -> None:
        """Record that an agent, profile or file of controls is used, and where it was found."""
        self.lookups[found.kind, found.name] = found

    def resolve(self, src: str) -> Path:
        """Return the absolute form of a path that is relative to the document."""
        return self.document.path.parent / src

    def template(self, path: Path, source: str) -> str | None:
        """Render a template file. Problems have the line in the template. None after a problem."""
        lines = source.splitlines()

        def report(line: int, needle: str, message: str, hint: str | None) -> None:
            text = lines[line - 1] if 0 < line <= len(lines) else ""
            self.problems.add(Mark(shown(path), line, find_name(text, needle)), message, hint)

        return self.renderer.text(source, report, self.problems.budget)


def render_tree(scope: Scope, value: Any, path: NodePath) -> Any:
    """Return a value with all its expressions rendered. A failed one is reported, and stays as written."""
    if isinstance(value, dict):
        return {  # most values are texts without an expression: they need no call
            key: item if type(item) is str and "{" not in item else render_tree(scope, item, (*path, key))
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [render_tree(scope, item, (*path, index)) for index, item in enumerate(value)]
    if not isinstance(value, str) or not has_expression(value):
        return value
    return _rendered(scope, value, path, bare=False)


def condition(scope: Scope, value: Any, path: NodePath) -> bool:
    """Return whether a ``when`` is true: a boolean, or an expression with or without {{ }}. False after a problem."""
    if isinstance(value, str):
        value = _rendered(scope, value, path, bare=not has_expression(value))
        if path in scope.failed:
            return False
        if isinstance(value, str) and value.strip().lower() in ("", "false", "no", "0"):
            return False
        if is_secret(value):
            what = called(value) if called(value) != "secret" else "a secret"
            message = f"{what} cannot be a condition, because its value is not known yet when templates are rendered"
            scope.problems.add(scope.document.mark(path), message)
            return False
    if value is None:
        scope.problems.add(
            scope.document.key_mark(path),
            "when has no value, expected a condition",
            "Add one, or remove the key.",
        )
        return False
    return bool(value)


def _rendered(scope: Scope, source: str, path: NodePath, *, bare: bool) -> Any:
    def report(line: int, needle: str, message: str, hint: str | None) -> None:
        scope.failed.add(path)
        mark = scope.document.position(path, line, needle)
        scope.problems.add(mark, message, hint)

    if bare:
        rendered = scope.renderer.expression(source, report, scope.problems.budget)
    else:
        rendered = scope.renderer.value(source, report, scope.problems.budget)
    return source if path in scope.failed else rendered
