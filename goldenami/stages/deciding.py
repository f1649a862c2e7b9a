"""What a build would do: its plan from the facts of now, the bases that are built first, and whether a channel moves.

`goldenami plan` needs no more of a build than this, so it loads none of the other stages.
"""

from __future__ import annotations

from collections.abc import Mapping

from goldenami import planning
from goldenami import recipe as recipes
from goldenami.errors import NotFound
from goldenami.model import Architecture, BaseImage, Environment, ImageManifest
from goldenami.nextstep import step
from goldenami.planning import BuildPlan
from goldenami.recipe import Project, Recipe
from goldenami.release.catalog import Catalog
from goldenami.release.catalogfiles import Channel
from goldenami.stages import facts, freshness
from goldenami.stages.tools import Tools


def plan_for(
    recipe: Recipe,
    environment: Environment,
    tools: Tools,
    *,
    bases: Mapping[Architecture, BaseImage] | None = None,
    shared: facts.Shared | None = None,
    builds: bool = False,
) -> BuildPlan:
    """Read the current facts, and make the plan of a recipe. ``bases``, ``shared``, ``builds``: as in
    ``facts.gather``."""
    found = facts.gather(tools.cloud, environment, tools.catalog, recipe, bases=bases, shared=shared, builds=builds)
    return freshness.complete(
        planning.make(recipe, environment, found), tools.catalog, tools.indices, now=tools.cloud.now()
    )


def unreleased_parents(
    project: Project,
    environment: Environment,
    catalog: Catalog,
    recipe: Recipe,
    loaded: dict[str, Recipe] | None = None,
) -> list[Recipe]:
    """Return the base recipes without a release in the channel that their child uses; the lowest base is first.

    ``loaded``: recipes by name, which are not loaded again. Others are added to it.

    Raises NotFound if builds of such a recipe move another channel than the one that its child uses.
    """
    found: list[Recipe] = []
    loaded = {} if loaded is None else loaded
    current = recipe
    while True:
        bases = {ref.value: ref.channel for ref in current.base.values() if ref.kind == "recipe"}
        if not bases:
            return found
        # A recipe has at most one base recipe: loading refuses several of them, and cycles.
        name, channel = next(iter(bases.items()))
        if channel is not None and catalog.channel(name, channel) is not None:
            return found
        if name not in loaded:
            loaded[name] = recipes.load(project, name, environment)
        current = loaded[name]
        if current.distribution.channel != channel:
            raise NotFound(
                f"the base {name}@{channel} of {recipe.name} does not exist: the channel has no release",
                hint=f"Builds of {name} move the channel {current.distribution.channel!r}. "
                f"Write {name}@{current.distribution.channel} as the base.",
            )
        found.insert(0, current)


def stays(pointer: Channel | None, release: ImageManifest) -> str:
    """Return why a build does not point a channel to a release: it was moved away from it on purpose. Empty if it
    does."""
    away = pointer.rolled_back(release.version) if pointer is not None else None
    if away is None or pointer is None:
        return ""
    why = f" ({away.reason})" if away.reason else ""
    there = step("promote", f"{release.recipe}@{release.version}", "--to", pointer.channel)
    return (
        f"{release.recipe}@{pointer.channel} was moved away from it at {away.moved} by a {away.action}{why}, so it "
        f"stays at {away.version}; {there} moves it there"
    )
