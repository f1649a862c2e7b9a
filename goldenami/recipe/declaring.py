"""Converts what a recipe says about its distribution to the declaration of ``goldenami distribute`` and ``drift``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta

from goldenami.model import Declaration, Environment
from goldenami.recipe.allowed import allowed_in
from goldenami.recipe.loader import load
from goldenami.recipe.problems import Problems
from goldenami.recipe.project import Project
from goldenami.recipe.words import seconds


def declaration(
    project: Project, environment: Environment, name: str, variables: Mapping[str, str] | None = None
) -> Declaration:
    """Return what the recipe of a name declares now. Raises InvalidInput with every problem, NotFound."""
    recipe = load(project, name, environment, variables)
    after = recipe.retention.deprecate_after
    return Declaration(
        recipe=recipe.name,
        targets=recipe.distribution.targets,
        share_accounts=recipe.distribution.share_accounts,
        share_organizations=recipe.distribution.share_organizations,
        tags=dict(recipe.image.tags),
        imds_v2=recipe.image.imds == "v2",
        deprecate_after=timedelta(seconds=seconds(after)) if after is not None else None,
        protection=recipe.distribution.protection,
        fast_restore=recipe.distribution.fast_restore,
        share_tags=recipe.distribution.share_tags,
    )


def declarations(project: Project, environment: Environment, names: Iterable[str] = ()) -> dict[str, Declaration]:
    """Return the declarations by recipe; of all recipes of the environment if none is named. Raises as
    :func:`declaration` does, with the problems of all recipes."""
    problems = Problems()
    found: dict[str, Declaration] = {}
    for name in list(names) or allowed_in(project, environment.name, project.recipe_names())[0]:
        with problems.collected():
            one = declaration(project, environment, name)
            found[one.recipe] = one
    problems.refuse_any()
    return found
