"""Collects all schedules of a project, from goldenami.yaml and from recipes."""

from __future__ import annotations

from goldenami.errors import NotFound
from goldenami.model import Environment
from goldenami.recipe.allowed import allowed_in
from goldenami.recipe.environmentsection import environment_schedules
from goldenami.recipe.loader import load
from goldenami.recipe.problems import Problems
from goldenami.recipe.project import Project
from goldenami.recipe.similar import suggestion
from goldenami.schedules.policy import Schedule


def schedules(project: Project, environment: Environment) -> tuple[Schedule, ...]:
    """Return the schedules of an environment and then of the recipes that are for it. Raises InvalidInput with every
    problem."""
    found = list(environment_schedules(project, environment.name))
    problems = Problems()
    for name in allowed_in(project, environment.name, project.recipe_names())[0]:
        path = project.recipes / f"{name}.yaml"
        document = project.document(path, Problems())
        if document is None or "schedules" not in document.value:
            continue
        with problems.collected():
            found += load(project, str(path), environment).schedules
    problems.refuse_any()
    return tuple(found)


def choose_schedules(every: tuple[Schedule, ...], names: tuple[str, ...]) -> tuple[Schedule, ...]:
    """Return the named schedules, or all of them without names. Raises NotFound for an unknown name."""
    by_name = {schedule.name: schedule for schedule in every}
    for name in names:
        if name not in by_name:
            known = f"Schedules: {', '.join(by_name)}." if by_name else "Add one under schedules."
            raise NotFound(f"there is no schedule {name!r}", hint=suggestion(name, by_name, known))
    return tuple(by_name[name] for name in dict.fromkeys(names)) if names else every
