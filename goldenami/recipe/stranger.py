"""A recipe for an image that goldenami did not build: only what its tests need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from goldenami.model import Architecture, Mark
from goldenami.os import SYSTEMS
from goldenami.provision import PatchSpec
from goldenami.recipe.expectspec import Expected
from goldenami.recipe.loader import DEFAULT_INSTANCE_TYPES
from goldenami.recipe.recipe import BaseRef, Builder, Distribution, Recipe, TestRef
from goldenami.recipe.schema import ImageSpec, RefreshSpec, RetentionSpec
from goldenami.recipe.words import OsId, seconds

NAME: Final = "image"  # of the recipe
SUITES: Final = ("base", "hygiene", "sealed", "performance")  # what can be proved of any image


def recipe_for_image(
    image_id: str,
    os: OsId,
    architecture: Architecture,
    *,
    ssh_user: str | None = None,
    instance_types: Sequence[str] = (),
) -> Recipe:
    """Return a recipe that only tests an image. It has no operations, and nothing is expected of the image but its port
    of SSH. ``ssh_user``: None is the login user of the vendor's images."""
    nowhere = Mark("", 0, 0)
    builder = Builder(
        instance_types=tuple(instance_types) or DEFAULT_INSTANCE_TYPES[architecture],
        spot=False,
        ssh_user=ssh_user or SYSTEMS[os].login_user,
        ssh_timeout=seconds("10m"),
        stage_timeout=seconds("10m"),
        mark=nowhere,
    )
    return Recipe(
        name=NAME,
        version="0.0",
        description="",
        owner="",
        os=os,
        architectures=(architecture,),
        base={architecture: BaseRef("id", image_id, nowhere)},
        builder={architecture: builder},
        patches={architecture: PatchSpec.model_validate({"level": "none"})},
        provisioning={architecture: ()},
        tests=tuple(TestRef(name, None, "", nowhere) for name in SUITES),
        image=ImageSpec.model_validate({}),
        distribution=Distribution((), (), ""),
        retention=RetentionSpec.model_validate({}),
        refresh=RefreshSpec.model_validate({}),
        source=Path(),
        mark=nowhere,
        patches_mark=nowhere,
        volumes_mark=nowhere,
        expect={architecture: Expected()},
    )
