"""The variables of a release that jobs pass on: its version, and its image ids in the home region."""

from __future__ import annotations

from goldenami.model import ImageManifest, Place


def lines(manifest: ImageManifest, home: Place) -> list[str]:
    """Return ``NAME=VALUE`` lines: AMI_DEBIAN_12_WEB_VERSION, and an image id for each architecture."""
    name = variable(manifest.recipe)
    ids = {image.architecture: image.image_id for image in manifest.images if image.place == home}
    return [
        f"{name}_VERSION={manifest.version}",
        *(f"{name}_{architecture.upper()}={image_id}" for architecture, image_id in ids.items()),
    ]


def variable(recipe: str) -> str:
    """Return the first part of the names of a recipe's variables: AMI_DEBIAN_12_WEB."""
    return "AMI_" + "".join(c if c.isalnum() else "_" for c in recipe.upper())
