"""Decisions about releases: reads the facts from the catalog and the cloud, and applies the rules (``retention``)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from goldenami.aws import tags
from goldenami.aws.ownership import Owner
from goldenami.aws.session import Cloud
from goldenami.model import Environment, ImageManifest
from goldenami.release import usage
from goldenami.release.catalog import Catalog
from goldenami.release.retention import ReleaseFacts, RetentionDecision, Rules, decide
from goldenami.release.usage import Estate


def decide_releases(
    cloud: Cloud,
    environment: Environment,
    catalog: Catalog,
    rules: Mapping[str, Rules],
    now: datetime,
    only: Collection[str] = (),
) -> tuple[tuple[RetentionDecision, ...], Estate]:
    """Read the current facts of all releases and decide about each. Changes nothing.

    Returns the decisions, and the survey of all places. ``only``: the recipes to decide about; empty means all.
    """
    manifests = living(catalog)
    ids = {id for manifest in manifests for id in usage.ids_of(manifest)}
    estate = usage.survey(cloud, usage.places_of(environment, manifests), ids)
    owner = Owner(catalog.identity(), environment.name)
    releases = gather(catalog, manifests, estate, environment, owner)
    decisions = decide(releases, rules, now, only=only)
    # The permissions of an image need one call each, so they are read only for releases that would be removed.
    sharing = {
        v.release.label: usage.shared_beyond(cloud, estate, usage.ids_of(v.release.manifest), environment, now)
        for v in decisions
        if v.fate in ("disable", "delete")
    }
    doubts = {label: one.doubts for label, one in sharing.items() if one.doubts}
    if doubts:
        releases = [replace(one, unknown=(*one.unknown, *doubts.get(one.label, ()))) for one in releases]
        decisions = decide(releases, rules, now, only=only)
    unreachable = {place: reason for one in sharing.values() for place, reason in one.unreachable.items()}
    return decisions, replace(estate, unreachable={**estate.unreachable, **unreachable})


def living(catalog: Catalog) -> tuple[ImageManifest, ...]:
    """Return the manifests of all releases that are not completely retired."""
    found = []
    for name in catalog.names():
        for version in catalog.versions(name):
            retirement = catalog.marks.retirement(name, version)
            if retirement is None or retirement.status == "retiring":
                found.append(catalog.get(name, version))
    return tuple(found)


def _of_others(manifest: ImageManifest, estate: Estate, owner: Owner) -> tuple[str, ...]:
    """Return the images of a release that are not ours by their tags, with the reason. A release of another environment
    with the same catalog is not ours either, also if its images do not exist any more."""
    if manifest.environment != owner.environment:
        return (f"{manifest.label} is of the environment {manifest.environment}",)
    answers = (
        (place, image["ImageId"], owner.of_tags(tags.from_list(image.get("Tags"))))
        for place, image in usage.own_images(manifest, estate)
    )
    return tuple(f"image {id} in {place} is {answer.reason}" for place, id, answer in answers if not answer.is_ours)


def gather(
    catalog: Catalog, manifests: Iterable[ImageManifest], estate: Estate, environment: Environment, owner: Owner
) -> list[ReleaseFacts]:
    """Return the facts of each release, from the catalog and from the survey of the cloud."""
    every = list(manifests)
    of_image = {id: m.label for m in every for id in usage.ids_of(m)}
    children: dict[str, set[str]] = {}
    for manifest in every:
        for base in manifest.base.values():
            parent = base.release or of_image.get(base.image_id)
            if parent is not None and parent != manifest.label:
                children.setdefault(parent, set()).add(manifest.label)
    found = []
    for manifest in every:
        name, version = manifest.recipe, manifest.version
        channels = catalog.channels(name)
        pin = catalog.marks.pinned(name, version)
        retirement = catalog.marks.retirement(name, version)
        found.append(
            ReleaseFacts(
                manifest,
                created=datetime.fromisoformat(manifest.created),
                pin=pin.reason if pin is not None else None,
                pointed=tuple(
                    f"{which} of the channel {c.channel}"
                    for c in channels
                    for which, at in (("current", c.current), ("previous", c.previous))
                    if at == version
                ),
                channels=frozenset(c.channel for c in channels if version in {m.version for m in c.history}),
                uses=usage.uses_of(estate, manifest, environment.parameter_prefix),
                launched=usage.last_launch(estate, usage.ids_of(manifest)),
                children=frozenset(children.get(manifest.label, ())),
                others=_of_others(manifest, estate, owner),
                unknown=usage.unknown_uses(estate, manifest, environment),
                protected=usage.protected_images(estate, usage.ids_of(manifest)),
                retiring=retirement is not None,
            )
        )
    return found
