"""Real releases of a recipe, built on paper; a year and more later, somebody retires them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from goldenami import recipe
from goldenami.model import ImageManifest
from goldenami.release.retention import Rules
from goldenami.release.retire import Retired, retire
from tests.worlds import inventory
from tests.worlds.builds import RECIPE, Reached, World

LATER = timedelta(days=400)
RULES = {RECIPE: Rules(keep=1)}


# What a worker's tests have in common: the releases that they begin with, by what they are made of.
_MADE: dict[object, tuple[Reached, list[ImageManifest]]] = {}


def releases(world: World, count: int) -> list[ImageManifest]:
    """That many more, oldest first: the last is current in the channel, the one before it previous. In an untouched
    world, they are those that another test made of the same project, if there was one: its builds are not made again,
    and the world is as it was after them."""
    inputs, made = world.inputs(), list[ImageManifest]()
    while inputs is not None and len(made) < count and (inputs, len(made) + 1) in _MADE:
        reached, made = _MADE[inputs, len(made) + 1]
    if made:
        world.reach(reached)
    made = list(made)
    while len(made) < count:
        world.cloud.start_process()
        made.append(world.build().manifest)
        file = world.path / "recipes" / "web.yaml"
        file.write_text(re.sub("content: .*}", f"content: hello {made[-1].build_id}}}", file.read_text()))
        world.project = recipe.load_project(world.path)
        if inputs is not None:
            _MADE[inputs, len(made)] = world.reached(), list(made)
    return made


def go(world: World, rules: Any = None, *, dry_run: bool = False, later: timedelta = LATER) -> Retired:
    return retire(
        world.environment,
        world.catalog,
        RULES if rules is None else rules,
        datetime.now(UTC) + later,
        dry_run=dry_run,
        cloud=world.cloud,
        emit_to=world.events.append,
    )


def differences(world: World, kept: list[ImageManifest], before: inventory.Inventory = frozenset()) -> list[str]:
    """What is there beyond what the kept releases own, and the other way round. ``before``: of others."""
    expected = frozenset(line for manifest in kept for line in inventory.owned(manifest, channel=manifest == kept[-1]))
    return inventory.difference(inventory.take(world) - before, expected, releases=len(kept))
