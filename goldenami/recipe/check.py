"""Checks a whole project, and returns every problem of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from goldenami.errors import InvalidInput, NotFound, Problem, UsageError
from goldenami.recipe import agents, hardening
from goldenami.recipe.environment import choose, read_environments
from goldenami.recipe.extensions import operations_of
from goldenami.recipe.loader import load
from goldenami.recipe.lookup import Found, Kind
from goldenami.recipe.problems import Problems
from goldenami.recipe.project import Project


def check(
    project: Project,
    recipes: Iterable[str],
    *,
    all_agents: bool = False,
    environment: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> list[Problem]:
    """Return every problem of goldenami.yaml and of the recipes (names or paths), ordered by place.

    ``all_agents``: check all agents, operations and hardening files of the project as well. Problems of one environment
    do not prevent the check of recipes for another one. Raises NotFound for a recipe or environment that does not
    exist, UsageError if an environment must be named.
    """
    return inspect(project, recipes, all_agents=all_agents, environment=environment, variables=variables).problems


@dataclass(frozen=True, slots=True)
class Inspection:
    """The result of a check. ``lookups``: the agents, profiles and files of controls that valid recipes use. After a
    check of the whole project, also its own ones that have the name of a shipped one."""

    problems: list[Problem]
    lookups: list[Found]
    warnings: list[Problem] = field(default_factory=list)


def inspect(
    project: Project,
    recipes: Iterable[str],
    *,
    all_agents: bool = False,
    environment: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> Inspection:
    """Check as ``check`` does. Returns also where the agents, profiles and controls of the recipes were found."""
    problems = Problems()
    found = read_environments(project, problems)
    paths = [str(project.recipe_path(ref)) for ref in recipes]
    try:
        chosen = choose(project, found, environment)
    except (NotFound, UsageError):  # the named environment may be one of those with problems
        if not problems.found:
            raise
        return Inspection(sorted(set(problems.found)), [], problems.warnings)
    given = dict(variables or {})
    declared: set[str] = set()
    lookups: dict[tuple[Kind, str], Found] = {}
    for path in paths:
        own = _declared(project, path)
        declared |= own
        # A variable is used for the recipes that declare it. If no recipe declares it, the last one reports it.
        fitting = {
            name: value for name, value in given.items() if name in own or (path == paths[-1] and name not in declared)
        }
        try:
            loaded = load(project, path, chosen, fitting)
            lookups.update(((one.kind, one.name), one) for one in loaded.lookups)
        except InvalidInput as error:
            problems.extend(error.problems)
    for name in project.own_names("agent") if all_agents else ():
        agents.check(project, name, chosen, problems)
    if all_agents:
        problems.extend(operations_of(project).problems)
        hardening.check(project, problems)
        lookups.update(((one.kind, one.name), one) for one in _hiding(project))
    ordered = sorted(set(problems.found), key=lambda p: (p.file, p.line, p.column, p.message))
    return Inspection(ordered, [lookups[key] for key in sorted(lookups)], problems.warnings)


def _hiding(project: Project) -> Iterator[Found]:
    """Yield the project's own agents, profiles and files of controls that have the name of a shipped one."""
    for kind in ("agent", "profile", "controls"):
        for name in project.own_names(kind):
            found = project.find(kind, name)
            if found is not None and found.hides:
                yield found


def _declared(project: Project, path: str) -> set[str]:
    document = project.document(Path(path), Problems())
    variables = document.value.get("vars") if document else None
    return set(variables) if isinstance(variables, dict) else set()
