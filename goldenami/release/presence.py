"""The states of the images of releases, as every account and region reports them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from goldenami.aws import images
from goldenami.aws.session import Cloud
from goldenami.aws.waiters import state_of
from goldenami.each import each
from goldenami.model import Place

MISSING: Final = "missing"  # EC2 does not describe it: it was deregistered, or is no longer shared with the account
UNKNOWN: Final = "unknown"  # its place did not answer


class AnImage(Protocol):
    """One image of a release, from its manifest or from the index of the catalog."""

    @property
    def place(self) -> Place:
        """The account and the region that use the image."""

    @property
    def image_id(self) -> str:
        """The id of the image."""


class WithImages(Protocol):
    """A release, or some images of one."""

    @property
    def images(self) -> Sequence[AnImage]:
        """The images."""


@dataclass(frozen=True, slots=True)
class Presence:
    """The states of images. ``deprecations``: when they are or were deprecated (ISO 8601), for those that are.
    ``unreachable``: place -> reason, for places that did not answer."""

    states: Mapping[tuple[Place, str], str]
    deprecations: Mapping[tuple[Place, str], str] = field(default_factory=dict)
    unreachable: Mapping[Place, str] = field(default_factory=dict)

    def state_of(self, image: AnImage) -> str:
        """Return the state of an image for the account that uses it ("available"), or MISSING, or UNKNOWN."""
        return self.states.get((image.place, image.image_id), UNKNOWN)

    def deprecation_of(self, image: AnImage) -> str | None:
        """Return when an image is or was deprecated (ISO 8601); None if EC2 has no time."""
        return self.deprecations.get((image.place, image.image_id))


def read_presence(cloud: Cloud, releases: Iterable[WithImages]) -> Presence:
    """Read the states of all images of releases, from all places in parallel, with one describe call for each place."""
    ids: dict[Place, list[str]] = {}
    for release in releases:
        for image in release.images:
            ids.setdefault(image.place, []).append(image.image_id)
    answers = each(sorted(ids), lambda place: images.describe_many(cloud, place, ids[place]))
    states = {
        (place, id): state_of(found[id]) if id in found else MISSING
        for place, found in answers.results.items()
        for id in ids[place]
    }
    deprecations = {
        (place, id): str(item["DeprecationTime"])
        for place, found in answers.results.items()
        for id, item in found.items()
        if item.get("DeprecationTime")
    }
    return Presence(states, deprecations, answers.reasons)
