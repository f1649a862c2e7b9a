"""The distribution that the recipe of a world declares: change it, carry it out, and compare it with what is there."""

from __future__ import annotations

import re
from typing import Any

from goldenami import recipe
from goldenami.model import ImageManifest
from goldenami.release import redistribute
from goldenami.release.difference import Difference
from goldenami.release.versions import Reference
from tests.worlds.builds import RECIPE, World


def declare(world: World, text: str) -> None:
    """Make ``text`` the rest of the recipe's distribution, beside its channel."""
    file = world.path / "recipes" / "web.yaml"
    line = f"distribution: {{channel: stable{', ' * bool(text)}{text}}}"
    file.write_text(re.sub("distribution: .*}", line, file.read_text()))
    world.project = recipe.load_project(world.path)
    world.environment = recipe.environment(world.project, "test")


def distribute(world: World, manifest: ImageManifest, **more: Any) -> redistribute.Redistributed:
    declaration = recipe.declaration(world.project, world.environment, RECIPE)
    reference = Reference(RECIPE, version=manifest.version)
    return redistribute.distribute(world.environment, reference, declaration, cloud=world.cloud, **more)


def drift(world: World) -> tuple[Difference, ...]:
    wanted = recipe.declarations(world.project, world.environment)
    return redistribute.find_drift(world.cloud, world.environment, world.catalog, wanted)
