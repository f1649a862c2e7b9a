"""The SSM parameters that name the images of a release, one in every account and region that has an image."""

from __future__ import annotations

from dataclasses import dataclass

from goldenami.model import Architecture, ImageManifest, ManifestImage, Place


@dataclass(frozen=True, slots=True)
class Parameter:
    """One SSM parameter, and the image it is to name."""

    place: Place
    name: str
    image: ManifestImage

    @property
    def key(self) -> str:
        return f"parameter/{self.place}{self.name}"


def parameter_name(prefix: str, recipe: str, architecture: Architecture, which: str) -> str:
    """``/golden-ami/debian-12-web/x86_64/stable/image-id``; ``which``: a channel or a version."""
    return f"{prefix}/{recipe}/{architecture}/{which}/image-id"


def parameters_for(manifest: ImageManifest, prefix: str, which: str) -> tuple[Parameter, ...]:
    """One for each row of a manifest: in the row's own account and region."""
    return tuple(
        Parameter(
            image.place,
            parameter_name(prefix, manifest.recipe, image.architecture, which),
            image,
        )
        for image in manifest.images
    )
