"""Is there anything to build? A plan whose digest has a release, all of whose images still exist, needs no build."""

from __future__ import annotations

from dataclasses import dataclass

from goldenami.aws import images
from goldenami.aws.session import Cloud
from goldenami.aws.waiters import state_of
from goldenami.each import all_of
from goldenami.events import Emit, emit, ignore_events
from goldenami.model import ImageManifest, ManifestImage, Place
from goldenami.release.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The release that a build would only repeat. ``reason``: for people."""

    release: ImageManifest
    reason: str


def find_unchanged(
    cloud: Cloud, catalog: Catalog, name: str, digest: str, *, emit: Emit = ignore_events
) -> Unchanged | None:
    """The newest release of these inputs whose images are all available to the accounts that use them.

    One describe for each account and region. A release that has lost an image is told as a note, and does not count.
    Where the channels point makes no difference: one that was moved back from this release stays where it is.
    """
    for release in catalog.with_digest(name, digest):
        missing = missing_images(cloud, release)
        if not missing:
            count = len(release.images)
            reason = (
                f"{name} {release.version} was built from the same inputs (digest {digest[:12]}), "
                f"and {'its image exists' if count == 1 else f'all of its {count} images exist'}"
            )
            return Unchanged(release, reason)
        first = missing[0]
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        _note(
            emit,
            f"{name} {release.version} was built from the same inputs, but {first.image_id} in "
            f"{first.account}/{first.region}{more} is no longer available",
        )
    return None


def missing_images(cloud: Cloud, release: ImageManifest) -> tuple[ManifestImage, ...]:
    """The rows whose image is not available to the account that is to use it, in the order of the manifest."""
    by_place: dict[Place, list[str]] = {}
    for row in release.images:
        by_place.setdefault(row.place, []).append(row.image_id)
    if not by_place:
        return ()
    described = all_of(by_place.items(), lambda item: images.describe_many(cloud, *item))
    found = dict(zip(by_place, described, strict=True))
    return tuple(row for row in release.images if state_of(found[row.place].get(row.image_id, {})) != "available")


def _note(to: Emit, message: str) -> None:
    emit(to, "note", message=message, level="info")
