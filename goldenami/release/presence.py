"""The states of the images of releases, as every account and region reports them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from goldenami.aws import images
from goldenami.aws.session import Cloud
from goldenami.aws.waiters import state_of
from goldenami.each import each
from goldenami.model import ImageManifest, ManifestImage, Place

MISSING: Final = "missing"  # EC2 does not describe it: it was deregistered, or is no longer shared with the account
UNKNOWN: Final = "unknown"  # its place did not answer


@dataclass(frozen=True, slots=True)
class Presence:
    """The states of images. ``unreachable``: place -> reason, for places that did not answer."""

    states: Mapping[tuple[Place, str], str]
    unreachable: Mapping[Place, str] = field(default_factory=dict)

    def state_of(self, image: ManifestImage) -> str:
        """Return the state of an image for the account that uses it ("available"), or MISSING, or UNKNOWN."""
        return self.states.get((image.place, image.image_id), UNKNOWN)


def read_presence(cloud: Cloud, manifests: Iterable[ImageManifest]) -> Presence:
    """Read the states of all images of releases, from all places in parallel, with one describe call for each place."""
    ids: dict[Place, list[str]] = {}
    for manifest in manifests:
        for image in manifest.images:
            ids.setdefault(image.place, []).append(image.image_id)
    answers = each(sorted(ids), lambda place: images.describe_many(cloud, place, ids[place]))
    states = {
        (place, id): state_of(found[id]) if id in found else MISSING
        for place, found in answers.results.items()
        for id in ids[place]
    }
    return Presence(states, answers.reasons)
