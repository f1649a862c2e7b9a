"""Ends a build before the capture if its image would be the last release again (``refresh.skip_same``).

Only builds for updates, for the age of the release or for a new base can end so: with any other input that differs, the
release would not be what the recipe says, or was not tested as the recipe says. The packages and files of all
architectures are compared. The catalog keeps what was compared, so that the next plan is unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from goldenami import planning
from goldenami.model import ImageManifest
from goldenami.release.catalog import Catalog
from goldenami.release.unchanged import choose
from goldenami.stages.build import BuildContext, Prepared


def last_release(build: BuildContext, catalog: Catalog) -> ImageManifest | None:
    """Return the release that a build can be the same as: the newest one, if nothing but its base, updates and age
    differs, if its files are known, and if it can be used. None without a reason for the build: then the user forces a
    release."""
    versions = catalog.versions(build.recipe.name)
    if not build.recipe.refresh.skip_same or not build.plan.facts.freshness.reasons or not versions:
        return None
    if catalog.marks.why_unusable(build.recipe.name, versions[0]) is not None:
        return None
    last = catalog.get(build.recipe.name, versions[0])
    own, theirs = _declared(build.plan.inputs), _declared(last.inputs)
    return last if own == theirs and set(last.contents) >= set(build.recipe.architectures) else None


def _declared(inputs: Mapping[str, str]) -> dict[str, str]:
    """Return the inputs without those for which a build may find nothing new."""
    return {k: v for k, v in planning.lasting(inputs).items() if not k.startswith("base:")}


def is_same(build: BuildContext, catalog: Catalog, last: ImageManifest, made: Sequence[Prepared]) -> bool:
    """Return whether builders have the packages and files of a release whose images are all available."""
    for one in made:
        if not one.contents or one.contents != last.contents[one.architecture]:
            return False
        if set(one.packages) != set(last.packages.get(one.architecture, ())):
            return False
    places = build.plan.best_effort
    return choose(build.cloud, catalog, last.recipe, [last], best_effort=places, emit=build.emit) is not None


def keep(build: BuildContext, catalog: Catalog, last: ImageManifest) -> None:
    """Note in the catalog that the inputs of a build gave nothing new."""
    updates = {
        str(architecture): tuple((one.name, one.architecture, one.after) for one in every)
        for architecture, every in build.plan.facts.freshness.updates.items()
    }
    inputs = planning.lasting(build.plan.inputs)
    catalog.marks.compared(last.recipe, last.version, inputs, updates, build.cloud.now())
