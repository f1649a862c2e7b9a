"""Converts ``retention:`` of recipes to the rules of ``goldenami retire``."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from goldenami.model import Environment
from goldenami.recipe.allowed import allowed_in
from goldenami.recipe.loader import load
from goldenami.recipe.problems import Problems
from goldenami.recipe.project import Project
from goldenami.recipe.schema import RetentionSpec
from goldenami.recipe.words import seconds
from goldenami.release.retention import ChannelRules, Rules


def retention_rules(project: Project, environment: Environment, recipes: Iterable[str] = ()) -> dict[str, Rules]:
    """Return the rules by recipe; of all recipes for the environment if none is named. Raises InvalidInput with every
    problem, NotFound."""
    names = list(recipes) or allowed_in(project, environment.name, project.recipe_names())[0]
    problems = Problems()
    found: dict[str, Rules] = {}
    for name in names:
        with problems.collected():
            recipe = load(project, name, environment)
            found[recipe.name] = as_rules(recipe.retention)
    problems.refuse_any()
    return found


def as_rules(spec: RetentionSpec) -> Rules:
    """Return the rules of one recipe. Durations become timedeltas."""
    return Rules(
        keep=spec.keep,
        minimum_age=timedelta(seconds=seconds(spec.minimum_age)),
        unused_for=timedelta(seconds=seconds(spec.unused_for)),
        deprecate_after=_span(spec.deprecate_after),
        disable_after=_span(spec.disable_after),
        delete_after=_span(spec.delete_after),
        monthly=spec.monthly or 0,
        channels={
            name: ChannelRules(
                own.keep or 0,
                own.monthly or 0,
                _span(own.deprecate_after),
                _span(own.disable_after),
                _span(own.delete_after),
            )
            for name, own in spec.channels.items()
        },
    )


def _span(duration: str | None) -> timedelta | None:
    return timedelta(seconds=seconds(duration)) if duration is not None else None
