"""Checking without loading for use: everything a project has, and every problem of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from goldenami.errors import InvalidInput, NotFound, Problem, UsageError
from goldenami.recipe import agents, hardening
from goldenami.recipe.complaints import Complaints
from goldenami.recipe.environment import choose, read_environments
from goldenami.recipe.extensions import operations_of
from goldenami.recipe.loader import load
from goldenami.recipe.project import Project


def check(
    project: Project,
    recipes: Iterable[str],
    *,
    all_agents: bool = False,
    environment: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> list[Problem]:
    """Every problem of goldenami.yaml, of the recipes (names or paths) and, if asked, of all agents and all of
    hardening/, ordered by place.

    A wrong environment does not hide the mistakes of recipes, unless it is the one they are checked for. Raises
    NotFound for a recipe or environment that does not exist, UsageError where an environment must be named.
    """
    complaints = Complaints()
    found = read_environments(project, complaints)
    paths = [str(project.recipe_path(ref)) for ref in recipes]
    try:
        chosen = choose(project, found, environment)
    except (NotFound, UsageError):  # the environment that was meant may be one of those with problems
        if not complaints.problems:
            raise
        return sorted(set(complaints.problems))
    given = dict(variables or {})
    declared: set[str] = set()
    for path in paths:
        own = _declared(project, path)
        declared |= own
        # A variable goes to the recipes that declare it; one that none declares is reported for the last.
        fitting = {
            name: value for name, value in given.items() if name in own or (path == paths[-1] and name not in declared)
        }
        try:
            load(project, path, chosen, fitting)
        except InvalidInput as error:
            complaints.extend(error.problems)
    for name in project.own_names("agent") if all_agents else ():
        agents.check(project, name, chosen, complaints)
    if all_agents:
        complaints.extend(operations_of(project).problems)
        hardening.check(project, complaints)
    return sorted(set(complaints.problems), key=lambda p: (p.file, p.line, p.column, p.message))


def _declared(project: Project, path: str) -> set[str]:
    document = project.document(Path(path), Complaints())
    variables = document.value.get("vars") if document else None
    return set(variables) if isinstance(variables, dict) else set()
