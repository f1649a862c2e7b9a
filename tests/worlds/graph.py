"""A project of several recipes, of which some are the bases of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from goldenami import recipe as recipes
from tests.worlds.builds import World

# app and shop are built on web, cart on shop.
GRAPH: Final[Mapping[str, str | None]] = {"web": None, "app": "web", "shop": "web", "cart": "shop", "other": None}


def write_graph(world: World, graph: Mapping[str, str | None]) -> None:
    """Write a recipe for each name, on its base or on Debian's image, for one target; web is that of the world."""
    text = (world.path / "recipes/web.yaml").read_text()
    base = next(line for line in text.splitlines() if line.startswith("base:"))
    for name, parent in graph.items():
        on = f"base: {{recipe: {parent}, channel: stable}}" if parent else base
        own = text.replace("name: web", f"name: {name}").replace(base, on)
        (world.path / f"recipes/{name}.yaml").write_text(
            own.replace("{channel: stable}", "{channel: stable, targets: [home/eu-central-1]}")
        )
    world.project = recipes.load_project(world.path)
