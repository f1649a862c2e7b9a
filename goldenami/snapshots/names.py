"""Finds snapshots, volumes and instances by id or Name tag. More than one match is an error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TypeVar

from goldenami.aws import snapshots, tags, volumes
from goldenami.aws.reservations import instances_in
from goldenami.aws.session import Cloud
from goldenami.aws.volumes import Volume
from goldenami.aws.waiters import Item
from goldenami.errors import NotFound, UsageError
from goldenami.model import Place, utc_text

_T = TypeVar("_T")
_SHOWN = 10


def many(cloud: Cloud, place: Place, references: Iterable[str], *, shared: bool = False) -> list[Item]:
    """Return the caller's snapshots by ids and Name tags, each once, in the given order. ``shared``: as of
    ``snapshot``.

    Raises NotFound or UsageError with all problems at once.
    """
    found: dict[str, Item] = {}
    problems: list[NotFound | UsageError] = []
    for reference in dict.fromkeys(references):
        try:
            item = snapshot(cloud, place, reference, shared=shared)
            found[item["SnapshotId"]] = item
        except (NotFound, UsageError) as error:
            problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise type(problems[0])("; ".join(p.message for p in problems), hint=problems[0].hint)
    return list(found.values())


def snapshot(cloud: Cloud, place: Place, reference: str, *, shared: bool = False) -> Item:
    """Return one snapshot of the caller. Raises NotFound, or UsageError if several have the name.

    ``shared``: also, by its id, a snapshot of another account that the caller may use. EC2 does not show its tags.
    """
    if reference.startswith("snap-"):
        owners = () if shared else ("self",)
        found = snapshots.find(cloud, place, {"snapshot-id": [tags.exactly(reference)]}, owners=owners)
    else:
        found = snapshots.find(cloud, place, {"tag:Name": [tags.exactly(reference)]})
    return one(
        found,
        "snapshot",
        reference,
        place,
        lambda s: f"{s['SnapshotId']} of {s['VolumeId']} ({utc_text(s['StartTime'])})",
    )


def volume(cloud: Cloud, place: Place, reference: str) -> Volume:
    """Return one volume of the caller. Raises NotFound, or UsageError if several have the name."""
    if reference.startswith("vol-"):
        found = volumes.find(cloud, place, {"volume-id": [tags.exactly(reference)]})
    else:
        # A kept volume of an earlier version has the name of the volume that replaced it.
        named = volumes.find(cloud, place, {"tag:Name": [tags.exactly(reference)]})
        found = [v for v in named if not v.is_kept] or named
    return one(found, "volume", reference, place, lambda v: f"{v.id} ({v.size_gib} GiB, {v.state})")


def volume_or_instance(cloud: Cloud, place: Place, reference: str) -> tuple[Volume | None, Item | None]:
    """Return a volume or an instance, by its id or Name tag. Raises NotFound, or UsageError if both have the name."""
    if reference.startswith("vol-"):
        return volume(cloud, place, reference), None
    if reference.startswith("i-"):
        return None, instance(cloud, place, reference)
    try:
        named = volume(cloud, place, reference)
    except NotFound:
        return None, instance(cloud, place, reference)
    with suppress(NotFound):
        other = instance(cloud, place, reference)
        raise UsageError(
            f"{reference!r} is the Name tag of the volume {named.id} and of the instance {other['InstanceId']}",
            hint="Give the id instead.",
        )
    return named, None


def instance(cloud: Cloud, place: Place, reference: str) -> Item:
    """Return one instance that is not terminated. Raises NotFound, or UsageError if several have the name."""
    key = "instance-id" if reference.startswith("i-") else "tag:Name"
    every = instances_in(cloud, place, **{key: [tags.exactly(reference)]})
    found = [i for i in every if i["State"]["Name"] not in ("terminated", "shutting-down")]
    return one(found, "instance", reference, place, lambda i: f"{i['InstanceId']} ({i['State']['Name']})")


def one(found: Sequence[_T], what: str, reference: str, place: Place, shown: Callable[[_T], str]) -> _T:
    """Return the only match. Raises NotFound if there is none, and UsageError with the matches if there are several."""
    if not found:
        raise NotFound(
            f"there is no {what} {reference!r} in {place}",
            hint="Ids and Name tags belong to one region and account. Give --region and --account for another one.",
        )
    if len(found) > 1:
        listed = ", ".join(shown(f) for f in found[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")
        raise UsageError(
            f"{reference!r} is the Name tag of {len(found)} {what}s: {listed}", hint="Give the id instead."
        )
    return found[0]


def name_of(item: Item) -> str:
    """Return the Name tag, or an empty string."""
    return tags.from_list(item.get("Tags")).get(tags.NAME, "")


def own_tags(item: Item) -> dict[str, str]:
    """Return the tags that a copy inherits: all but Name and the tags of AWS and goldenami."""
    every = tags.from_list(item.get("Tags"))
    return {k: v for k, v in every.items() if not k.startswith(("aws:", tags.PREFIX)) and k != tags.NAME}
