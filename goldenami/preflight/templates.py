"""Checks of the launch templates that follow the channels of recipes."""

from __future__ import annotations

from collections.abc import Iterator

from goldenami.aws import launch_templates
from goldenami.each import each
from goldenami.errors import NotFound, UsageError
from goldenami.model import LaunchTemplate, Place
from goldenami.preflight.context import Context
from goldenami.preflight.finding import Finding, Level, from_error
from goldenami.release import templates


def check_launch_templates(context: Context) -> Iterator[Finding]:
    """Each declared template exists in all its places, and names an architecture if the recipe has several."""
    declared = dict(enumerate(context.environment.launch_templates))
    chosen = {
        number: one
        for number, one in declared.items()
        if not context.recipes
        or any(templates.following([one], r.name, r.distribution.channel) for r in context.recipes)
    }
    for number, one in chosen.items():
        for recipe in context.recipes:
            if recipe.name == one.recipe:
                try:
                    templates.check_architecture(one, recipe.architectures)
                except UsageError as error:
                    mark = context.mark("launch_templates", str(number))
                    yield from_error("launch-template", error, mark=mark)
    wanted = [(number, place) for number, one in chosen.items() for place in _places(context, one)]
    answers = each(wanted, lambda at: launch_templates.find(context.cloud, at[1], declared[at[0]].template))
    best_effort = {target.place for target in context.targets if not target.required}
    for (number, place), found in answers.results.items():
        level: Level = "warning" if place in best_effort else "error"
        if found is None:
            message = f"launch template {declared[number].template} does not exist"
            mark = context.mark("launch_templates", str(number), "template")
            yield Finding("launch-template", level, message, templates.MISSING, place, mark, NotFound.exit_code)
    for (_, place), problem in answers.errors.items():
        yield from_error("launch-template", problem, level="unknown", place=place)


def _places(context: Context, template: LaunchTemplate) -> Iterator[Place]:
    """Yield the places of a template that get images and whose account answers."""
    own = {target.place for target in context.targets}
    all_targets = {target.place for target in context.environment.targets}
    for place in template.places:
        if place.account not in context.refused and (place in own or place not in all_targets):
            yield place
