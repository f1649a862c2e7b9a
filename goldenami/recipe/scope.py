"""Rendering the values of a document where they stand, with their marks."""

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


@dataclass(frozen=True, slots=True)
class Scope:
    """One document, the names that its expressions can use, where its problems go, and what was looked up for it."""

    project: Project
    document: Document
    renderer: Renderer
    problems: Problems
    failed: set[NodePath] = field(default_factory=set)
    lookups: dict[tuple[Kind, str], Found] = field(default_factory=dict)

    def within(self, document: Document, renderer: Renderer) -> Scope:
        """The same collection of problems for another document."""
        return replace(self, document=document, renderer=renderer, failed=set())

    def reject(self, error: ValidationError, at: NodePath, model: type[BaseModel], what: str = "") -> None:
        """Report what a model says of the value at a place, but for what could not be rendered: that was reported."""
        self.problems.extend(translate(error, self.document, at, model, what=what, known=self.failed))

    def use(self, found: Found) -> None:
        """Note that an agent, profile or file of controls was used, and where it was found."""
        self.lookups[found.kind, found.name] = found

    def resolve(self, src: str) -> Path:
        """A path that the document names, relative to the document."""
        return self.document.path.parent / src

    def template(self, path: Path, source: str) -> str | None:
        """Render a template file; its problems have the template's own lines. None after a problem."""
        lines = source.splitlines()

        def report(line: int, needle: str, message: str, hint: str | None) -> None:
            text = lines[line - 1] if 0 < line <= len(lines) else ""
            self.problems.add(Mark(shown(path), line, find_name(text, needle)), message, hint)

        return self.renderer.text(source, report)


def render_tree(scope: Scope, value: Any, path: NodePath) -> Any:
    """The value with every expression in it rendered. What fails is reported, and stays as it was written."""
    if isinstance(value, dict):
        return {key: render_tree(scope, item, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [render_tree(scope, item, (*path, index)) for index, item in enumerate(value)]
    if not isinstance(value, str) or not has_expression(value):
        return value
    return _rendered(scope, value, path, bare=False)


def condition(scope: Scope, value: Any, path: NodePath) -> bool:
    """Whether a ``when`` holds: a truth value, one expression in {{ }}, or it bare. False after a problem."""
    if isinstance(value, str):
        value = _rendered(scope, value, path, bare=not has_expression(value))
        if path in scope.failed:
            return False
        if isinstance(value, str) and value.strip().lower() in ("", "false", "no", "0"):
            return False
    if value is None:
        scope.problems.add(
            scope.document.key_mark(path), "when: no condition is given", "Remove the key if it always holds."
        )
        return False
    return bool(value)


def _rendered(scope: Scope, source: str, path: NodePath, *, bare: bool) -> Any:
    def report(line: int, needle: str, message: str, hint: str | None) -> None:
        scope.failed.add(path)
        mark = scope.document.position(path, line, needle)
        scope.problems.add(mark, message, hint)

    if bare:
        rendered = scope.renderer.expression(source, report)
    else:
        rendered = scope.renderer.value(source, report)
    return source if path in scope.failed else rendered
