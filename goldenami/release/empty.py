"""Refuses to delete anything for an empty catalog beside released resources.

A catalog is empty if it has no id or no release. In a fresh clone the default catalog is such a directory. Images that
were released from another machine would look as if no release owned them. So commands that delete stop here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from goldenami.aws import images, tags
from goldenami.aws.ownership import Owner
from goldenami.aws.session import Cloud
from goldenami.each import each
from goldenami.errors import CatalogError
from goldenami.model import Environment, Place
from goldenami.nextstep import step
from goldenami.release import usage
from goldenami.release.catalog import Catalog
from goldenami.release.catalogfiles import Reservation


def rebuild_hint() -> str:
    """Return the next step of a user whose catalog does not have the released resources that exist."""
    return (
        f"If they belong to this environment, run {step('catalog rebuild')}, or set `catalog` in goldenami.yaml to the "
        "catalog that owns them. Several machines need a catalog in a bucket: s3://BUCKET/PREFIX."
    )


def refuse_empty(cloud: Cloud, environment: Environment, catalog: Catalog) -> None:
    """Raise CatalogError if the catalog is empty, and released images or parameters exist that may belong to it.

    A catalog without an id may own all of them. A catalog with an id may own those that carry its id or none; the
    resources of other catalogs are never changed, so they do not count then. Resources of a version that the catalog
    has reserved do not count: they belong to a build that made no release. A place that does not answer does not
    count either: nothing is deleted there. Makes no call if the catalog has a release.
    """
    identity = catalog.identity()
    if identity is not None and any(catalog.versions(name) for name in catalog.names()):
        return
    owner = Owner(identity, environment.name)
    reserved = catalog.all_reservations() if identity is not None else ()
    answers = each(
        usage.places_of(environment), lambda place: next(_released(cloud, environment, place, owner, reserved), None)
    )
    found = [one for _, one in sorted(answers.results.items()) if one is not None]
    if not found:
        return
    what = "has no release" if identity is not None else "does not exist yet"
    more = f", and in {len(found) - 1} more places" if len(found) > 1 else ""
    raise CatalogError(
        f"the catalog {environment.catalog} {what}, but there are released resources: {found[0]}{more}. "
        "Nothing is deleted",
        hint=rebuild_hint(),
    )


def _released(
    cloud: Cloud, environment: Environment, place: Place, owner: Owner, reserved: Sequence[Reservation]
) -> Iterator[str]:
    """Yield the images and the parameters of releases in a place, as text."""
    builds = {one.build_id for one in reserved}
    versions = {(one.name, one.version) for one in reserved}
    for image in images.own(cloud, place, {"tag-key": [tags.VERSION]}):
        own = tags.from_list(image.get("Tags"))
        # A candidate belongs to no release.
        if tags.BUILD_ID not in own or tags.EXPIRES_AT in own or own[tags.BUILD_ID] in builds:
            continue
        answer = owner.of_tags(own)
        if owner.catalog is None or answer.whose != "theirs":
            yield f"image {image['ImageId']} in {place}"
    under = {"Key": "Name", "Option": "BeginsWith", "Values": [f"{environment.parameter_prefix}/"]}
    ours = [] if owner.catalog is None else [{"Key": f"tag:{tags.CATALOG}", "Values": [owner.catalog]}]
    request = {"ParameterFilters": [under, *ours]}
    for parameter in cloud.pages(place, "ssm", "DescribeParameters", "Parameters", request):
        parts = str(parameter["Name"]).split("/")
        if not any(name in parts and version in parts for name, version in versions):
            yield f"parameter {parameter['Name']} in {place}"
