"""Remembers what was rendered for one recipe, for the next recipe with the same values.

Many recipes use the same agents and controls. What these render to depends on the values that their expressions use and
on files, and seldom on the recipe. So a result is kept with the names that its expressions used, the contents of these
names and the state of the files, and is used again where they are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from goldenami.recipe.project import Project, state_of
from goldenami.recipe.rendering import contents
from goldenami.recipe.scope import Scope

_MISSING = object()
_KEPT = "remembered"
_Used = tuple[str | Path, ...]
T = TypeVar("T")


def remembered(scope: Scope, key: Hashable, work: Callable[[], T]) -> T:
    """Return the result of ``work``, which renders with ``scope`` or :meth:`Renderer.inside`, or its earlier result.

    ``key``: everything that decides the result, except the names of expressions and the files that are read. A result
    with problems is not kept. Results are shared, so nobody may change them.
    """
    context, used = scope.renderer.context, scope.renderer.used
    known = _kept(scope.project).setdefault(key, {})
    for uses, results in tuple(known.items()):
        found = results.get(_state(uses, context), _MISSING)
        if found is not _MISSING:
            used.update(uses)
            result: T = found
            return result
    problems = scope.problems
    before = len(problems.found) + len(problems.warnings)
    outside = set(used)
    used.clear()
    made = work()
    if len(problems.found) + len(problems.warnings) == before:
        uses = tuple(sorted(used, key=str))
        known.setdefault(uses, {})[_state(uses, context)] = made
    used |= outside
    return made


def _state(uses: _Used, context: Mapping[str, Any]) -> Hashable:
    """Return what the names of the context and the files are now."""
    return tuple(
        state_of(one) if isinstance(one, Path) else contents(context[one]) if one in context else _MISSING
        for one in uses
    )


def _kept(project: Project) -> dict[Hashable, dict[_Used, dict[Hashable, Any]]]:
    kept: dict[Hashable, dict[_Used, dict[Hashable, Any]]] = project.kept.setdefault(_KEPT, {})
    return kept
