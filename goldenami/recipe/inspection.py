"""Checks a whole project, and returns every problem of it."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from goldenami.errors import NotFound, Problem, UsageError
from goldenami.hardening import WAIVER_ENDS_SOON
from goldenami.recipe import agents, hardening
from goldenami.recipe.allowed import allowed_in, skipped
from goldenami.recipe.environments import choose
from goldenami.recipe.extensions import operations_of
from goldenami.recipe.given import Written, environment_values
from goldenami.recipe.loader import load
from goldenami.recipe.lookup import Found, Kind
from goldenami.recipe.problems import Problems
from goldenami.recipe.project import Project
from goldenami.recipe.recipe import Recipe
from goldenami.recipe.similar import suggestion


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
    check of the whole project, also its own ones that have the name of a shipped one. ``notes``: recipes that were not
    checked, or were checked for other environments than the chosen one, as lines for people."""

    problems: list[Problem]
    lookups: list[Found]
    warnings: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def inspect(
    project: Project,
    recipes: Iterable[str],
    *,
    all_agents: bool = False,
    environment: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> Inspection:
    """Check as ``check`` does. Returns also where the agents, profiles and controls of the recipes were found.

    A recipe with ``environments`` is checked for the chosen one if it is listed. Otherwise it is checked for those that
    it lists if ``environment`` is None, and left out of a check of the whole project (``all_agents``).
    """
    # here: what only plans and builds does not need it
    from goldenami.recipe.environmentsection import read_environments

    problems = Problems()
    found = read_environments(project, problems)
    names = list(recipes)
    paths = [project.recipe_path(ref) for ref in names]
    try:
        chosen = choose(project, found, environment)
    except (NotFound, UsageError):  # the named environment may be one of those with problems
        if not problems.found:
            raise
        return Inspection(sorted(set(problems.found)), [], problems.warnings)
    others = allowed_in(project, chosen.name, names)[1]
    notes: list[str] = []
    lookups: dict[tuple[Kind, str], Found] = {}
    for (name, given), path in zip(fitting(project, names, variables or {}), paths, strict=True):
        places = [chosen]
        elsewhere = [found[other] for other in others.get(name, ()) if other in found]
        if elsewhere and environment is None:
            places = elsewhere
            notes.append(
                f"{name} was checked for {', '.join(one.name for one in places)}, the environments that it is for"
            )
        elif elsewhere and all_agents:
            notes += skipped({name: others[name]}, chosen.name)
            continue
        for place in places:
            with problems.collected():
                loaded = load(project, name, place, given)
                lookups.update(((one.kind, one.name), one) for one in loaded.lookups)
                _warn_of_waivers(project, path, loaded, problems)
    for name in project.own_names("agent") if all_agents else ():
        agents.check(project, name, chosen, problems)
    if all_agents:
        _check_environment_values(project, found, problems)
        problems.extend(operations_of(project).problems)
        hardening.check(project, problems)
        lookups.update(((one.kind, one.name), one) for one in _hiding(project))
    ordered = sorted(set(problems.found), key=lambda p: (p.file, p.line, p.column, p.message))
    return Inspection(ordered, [lookups[key] for key in sorted(lookups)], problems.warnings, notes)


def fitting(
    project: Project, names: Sequence[str], variables: Mapping[str, str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each recipe (a name or a path) with the variables that it declares. The last one also gets those that no
    recipe declares, and reports them."""
    declared: set[str] = set()
    for number, name in enumerate(names, 1):
        own = _declared(project, name)
        declared |= own
        yield name, {k: v for k, v in variables.items() if k in own or (number == len(names) and k not in declared)}


def _warn_of_waivers(project: Project, path: Path, loaded: Recipe, problems: Problems) -> None:
    """Warn of waivers that end soon, since the builds after their last day fail; and of waivers of a control beside
    which other controls do the same: a variable that is empty is for all of them."""
    today = datetime.datetime.now(datetime.UTC).date()
    document = project.document(path, Problems())
    if document is None:
        return
    waivers = {w.control: w for one in loaded.hardening.values() for w in one.waivers}
    for id, waiver in sorted(waivers.items()):
        days = (waiver.expires - today).days
        if waiver.expires <= today + WAIVER_ENDS_SOON:
            ends = {0: "today", 1: "tomorrow"}.get(days, f"in {days} days")
            mark = document.mark(("hardening", "waivers", id, "expires"))
            problems.warn(
                mark, f"the waiver of {id} ends {ends}", "Builds after that day fail: fix the cause, or renew it."
            )
        for name in waiver.variables:
            same = [c.id for one in loaded.hardening.values() for c in one.controls if c.site.get(name) == []]
            if same:
                others = ", ".join(dict.fromkeys(same))
                problems.warn(
                    document.key_mark(("hardening", "waivers", id)),
                    f"the waiver of {id} does not change {others}, which the variable {name} is for, too",
                    f"To allow it, set {name} under hardening.variables. Then no waiver is needed.",
                )


def _hiding(project: Project) -> Iterator[Found]:
    """Yield the project's own agents, profiles and files of controls that have the name of a shipped one."""
    for kind in ("agent", "profile", "controls"):
        for name in project.own_names(kind):
            found = project.find(kind, name)
            if found is not None and found.hides:
                yield found


def _check_environment_values(project: Project, environments: Iterable[str], problems: Problems) -> None:
    """Report variables of environments that no recipe of the project declares."""
    declared = {name for recipe in project.recipe_names() for name in _declared(project, recipe)}
    for environment in environments:
        for name, value in environment_values(project, environment, Problems())[1].items():
            if name not in declared and isinstance(value, Written):
                hint = suggestion(name, sorted(declared), f"Declared: {', '.join(sorted(declared)) or 'none'}.")
                problems.add(value.key, f"vars: no recipe of the project declares the variable {name}", hint)


def _declared(project: Project, recipe: str) -> set[str]:
    document = project.document(project.recipe_path(recipe), Problems())
    variables = document.value.get("vars") if document else None
    return set(variables) if isinstance(variables, dict) else set()
