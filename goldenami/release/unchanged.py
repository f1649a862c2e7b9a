"""Unchanged plans: a plan needs no build if a release has its digest and all images of that release exist."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from goldenami.aws import images
from goldenami.aws.session import Cloud
from goldenami.aws.waiters import Item, state_of
from goldenami.each import Answers, each
from goldenami.errors import ConditionsUnmet
from goldenami.events import Emit, emit, ignore_events
from goldenami.model import ImageManifest, ManifestImage, Place
from goldenami.release.catalog import Catalog

Seen = Answers[Place, Mapping[str, Item]]
"""The images that are visible in each place, by id, or why the place did not answer."""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A release with the same inputs as the plan. ``reason``: text for the user."""

    release: ImageManifest
    reason: str


def find_unchanged(
    cloud: Cloud,
    catalog: Catalog,
    name: str,
    digest: str,
    *,
    best_effort: Collection[Place] = (),
    emit: Emit = ignore_events,
) -> Unchanged | None:
    """Return the newest release with a digest whose images are all available to the accounts that use them, or None.

    Makes one describe call for each account and region. See :func:`choose`.
    """
    releases = tuple(catalog.with_digest(name, digest))
    return choose(cloud, catalog, name, releases, best_effort=best_effort, emit=emit)


def choose(
    cloud: Cloud,
    catalog: Catalog,
    name: str,
    releases: Collection[ImageManifest],
    *,
    best_effort: Collection[Place] = (),
    emit: Emit = ignore_events,
    seen: Seen | None = None,
) -> Unchanged | None:
    """Return the first of the releases with the same digest whose images are all available, or None.

    ``seen``: what :func:`look_at` returned for these releases; None: the cloud is queried here.

    A release without one of its images causes a note and does not count. Channels do not matter: a channel that was
    moved back from this release is not moved again. ``best_effort``: places of targets that are not required: if one
    does not answer, its images count as available, with a note. Raises the error of any other place that does not
    answer, and ConditionsUnmet if a release with the digest is revoked.
    """
    _refuse_revoked(catalog, name, releases)
    for release in releases:
        missing, unreachable = missing_images(cloud, release, best_effort, seen)
        for place, reason in sorted(unreachable.items()):
            _note(emit, f"{name} {release.version}: the images in {place} were not checked: {reason}")
        if not missing:
            count = len(release.images)
            exist = "its image exists" if count == 1 else f"all of its {count} images exist"
            if unreachable:
                exist = "no image is missing in the places that answered"
            reason = (
                f"{name} {release.version} was built from the same inputs (digest {release.digest[:12]}), and {exist}"
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


def _refuse_revoked(catalog: Catalog, name: str, releases: Iterable[ImageManifest]) -> None:
    """Raise ConditionsUnmet if one of these releases is revoked: the same inputs would give the same bad image."""
    for release in releases:
        revocation = catalog.marks.revocation(name, release.version)
        if revocation is not None:
            raise ConditionsUnmet(
                f"{name} has the same inputs as a revoked release",
                reasons=[f"{release.label} was revoked at {revocation.revoked}: {revocation.reason}"],
                hint="Change the recipe, or wait for a new base image. `--force` builds it anyway.",
            )


def look_at(cloud: Cloud, releases: Iterable[ImageManifest]) -> Seen:
    """Read the images of releases, with one call for each account and region (and each 200 images)."""
    by_place: dict[Place, list[str]] = {}
    for row in (row for release in releases for row in release.images):
        by_place.setdefault(row.place, []).append(row.image_id)
    return each(by_place, lambda place: images.describe_many(cloud, place, by_place[place]))


def missing_images(
    cloud: Cloud, release: ImageManifest, best_effort: Collection[Place] = (), seen: Seen | None = None
) -> tuple[tuple[ManifestImage, ...], dict[Place, str]]:
    """Return the rows whose image is not available to the account that uses it, in the order of the manifest; and the
    places of ``best_effort`` that did not answer, with the reason. Raises the error of any other place.
    ``seen``: as in :func:`choose`."""
    answers = seen or look_at(cloud, [release])
    places = {row.place for row in release.images}
    for place, error in answers.errors.items():
        if place in places and place not in best_effort:
            raise error
    found = answers.results
    missing = (
        row
        for row in release.images
        if row.place in found and state_of(found[row.place].get(row.image_id, {})) != "available"
    )
    return tuple(missing), {place: reason for place, reason in answers.reasons.items() if place in places}


def _note(to: Emit, message: str) -> None:
    emit(to, "note", message=message, level="info")
