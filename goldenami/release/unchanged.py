"""Unchanged plans: a plan needs no build if a release has its digest and all images of that release exist."""

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
    """A release with the same inputs as the plan. ``reason``: text for the user."""

    release: ImageManifest
    reason: str


def find_unchanged(
    cloud: Cloud, catalog: Catalog, name: str, digest: str, *, emit: Emit = ignore_events
) -> Unchanged | None:
    """Return the newest release with a digest whose images are all available to the accounts that use them, or None.

    Makes one describe call for each account and region. A release without one of its images causes a note and does not
    count. Channels do not matter: a channel that was moved back from this release is not moved again.
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
    """Return the rows whose image is not available to the account that uses it, in the order of the manifest."""
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
