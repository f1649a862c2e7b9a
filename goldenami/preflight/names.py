"""Checks of names: the names of the next version are free, and the channel's parameters belong to this catalog."""

from __future__ import annotations

from collections.abc import Iterator

from goldenami.aws.ownership import Owner
from goldenami.each import Failures
from goldenami.preflight.context import Context
from goldenami.preflight.finding import Finding, from_error
from goldenami.recipe import Recipe
from goldenami.release import availability
from goldenami.release.availability import ReleaseNames


def check_names(context: Context) -> Iterator[Finding]:
    """Yield a finding for each recipe whose next release has a name that another image or parameter has."""
    owner = Owner(context.catalog.identity(), context.environment.name)
    today = context.cloud.now().date()
    failures: Failures[str] = Failures()
    for recipe in context.recipes:
        wanted = _names(context, recipe)
        parameters, images = f"{recipe.name}: parameters", f"{recipe.name}: images"
        with failures.of(parameters):
            channel = recipe.distribution.channel
            availability.check_channel(context.cloud, context.catalog, owner, wanted, channel)
        with failures.of(images):
            taken = availability.find_taken(context.cloud, context.catalog, wanted, today)
            for warning in taken.warnings:
                yield Finding("names", "warning", warning, mark=recipe.mark)
        for item, key in ((parameters, "parameter_prefix"), (images, "image_name")):
            if item in failures.errors:
                yield from_error("names", failures.errors[item], mark=context.mark(key))


def _names(context: Context, recipe: Recipe) -> ReleaseNames:
    chosen = recipe.distribution.targets
    return ReleaseNames(
        recipe.name,
        recipe.version,
        recipe.architectures,
        tuple(target for target in chosen if target.account.id not in context.refused),
        context.environment.image_name,
        context.environment.parameter_prefix,
    )
