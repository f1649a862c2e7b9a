"""What the parameters of a place say about a release: for a consumer without goldenami.yaml and without a catalog."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, get_args

from goldenami.aws import parameters
from goldenami.aws.session import Cloud
from goldenami.errors import NotFound, UsageError
from goldenami.model import Account, Architecture, Place
from goldenami.release.parameters import CHANNEL_PARAMETERS, manifest_facts, parameter_name
from goldenami.release.versions import Reference

DEFAULT_PREFIX: Final = "/golden-ami"


@dataclass(frozen=True, slots=True)
class PublishedImage:
    """An image as parameters name it. ``version``: None for a channel that has only image ids, because its last move
    was by an earlier version of goldenami. ``created``: when the release was built (ISO 8601, UTC), if it is known."""

    image_id: str
    architecture: Architecture
    place: Place
    version: str | None
    created: str | None


def open_caller(region: str) -> Cloud:
    """Return a cloud with the caller's own credentials, for the caller's account in a region. Calls STS."""
    caller = Cloud({}, Place("", region)).caller()
    return Cloud({"caller": Account("caller", caller.account)}, Place(caller.account, region))


def read_published(
    cloud: Cloud, reference: Reference, *, prefix: str = DEFAULT_PREFIX, architecture: Architecture | None = None
) -> PublishedImage:
    """Return the image of NAME@CHANNEL or NAME@VERSION in the home of ``cloud``, from its parameters alone.

    The version and the time are only returned if they certainly belong to the image: while a channel moves, they can be
    newer. Raises NotFound if there is no such parameter, and UsageError for a reference that has none, and if there are
    images of several architectures and ``architecture`` is None.
    """
    which = reference.channel or reference.version
    if which is None:
        raise UsageError(
            f"{reference} has no parameter", hint=f"Write {reference.name}@CHANNEL or {reference.name}@VERSION."
        )
    place = cloud.home
    wanted: tuple[Architecture, ...] = (architecture,) if architecture else get_args(Architecture)
    kinds = CHANNEL_PARAMETERS if reference.channel else ("image-id",)
    names = {(a, what): parameter_name(prefix, reference.name, a, which, what) for a in wanted for what in kinds}
    values = parameters.find_many(cloud, place, names.values())
    found = [a for a in wanted if names[a, "image-id"] in values]
    if not found:
        raise NotFound(
            f"parameter {names[wanted[0], 'image-id']} does not exist in {place}",
            hint="Check the name, the region, the account of your credentials, and --prefix.",
        )
    if len(found) > 1:
        raise UsageError(
            f"{reference} has several images in {place}: {', '.join(found)}", hint="Choose one with --architecture."
        )
    (one,) = found
    image_id = values[names[one, "image-id"]]
    if reference.version:
        return PublishedImage(image_id, one, place, reference.version, None)
    facts = manifest_facts(values.get(names[one, "manifest"], ""))
    same = facts.get("image_id") == image_id
    return PublishedImage(
        image_id, one, place, facts.get("version") if same else None, facts.get("created") if same else None
    )
