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
from tests.worlds.builds import RECIPE, World

LATER = timedelta(days=400)
RULES = {RECIPE: Rules(keep=1)}


class Tomorrow(datetime):
    """In the place of ``datetime`` of a module: what a world made is in the past then, though its clock is ahead."""

    @classmethod
    def now(cls, tz: Any = UTC) -> Any:
        return datetime.now(tz) + timedelta(days=1)


def releases(world: World, count: int) -> list[ImageManifest]:
    """That many more, oldest first: the last is current in the channel, the one before it previous (see
    ``World.remember``)."""
    return list(world.remember(("releases", count), lambda: _build(world, count))) if count else []


def _build(world: World, count: int) -> tuple[ImageManifest, ...]:
    made = releases(world, count - 1) if count > 1 else []
    world.cloud.start_process()
    made.append(world.built().manifest)
    file = world.path / "recipes" / "web.yaml"
    file.write_text(re.sub("content: .*}", f"content: hello {made[-1].build_id}}}", file.read_text()))
    world.project = recipe.load_project(world.path)
    return tuple(made)


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
