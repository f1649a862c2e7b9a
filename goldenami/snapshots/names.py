"""What a person names: a snapshot, a volume or an instance, by its id or its Name tag. Two matches are an error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from goldenami.aws import snapshots, tags, volumes
from goldenami.aws.session import Cloud
from goldenami.aws.volumes import Volume
from goldenami.aws.waiters import Item
from goldenami.errors import NotFound, UsageError
from goldenami.model import Place

_T = TypeVar("_T")
_SHOWN = 10


def many(cloud: Cloud, place: Place, references: Iterable[str]) -> list[Item]:
    """The caller's snapshots of these ids and names, each once, in the order given. Every problem is told at once."""
    found: dict[str, Item] = {}
    problems: list[NotFound | UsageError] = []
    for reference in dict.fromkeys(references):
        try:
            item = snapshot(cloud, place, reference)
            found[item["SnapshotId"]] = item
        except (NotFound, UsageError) as error:
            problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise type(problems[0])("; ".join(p.message for p in problems), hint=problems[0].hint)
    return list(found.values())


def snapshot(cloud: Cloud, place: Place, reference: str) -> Item:
    """One snapshot of the caller. Raises NotFound; UsageError where the name is that of several."""
    if reference.startswith("snap-"):
        found = snapshots.find(cloud, place, {"snapshot-id": [reference]})
    else:
        found = snapshots.find(cloud, place, {"tag:Name": [reference]})
    return one(
        found, "snapshot", reference, place, lambda s: f"{s['SnapshotId']} of {s['VolumeId']} ({s['StartTime']:%F %T})"
    )


def volume(cloud: Cloud, place: Place, reference: str) -> Volume:
    """One volume of the caller. Raises NotFound; UsageError where the name is that of several."""
    key = "volume-id" if reference.startswith("vol-") else "tag:Name"
    found = volumes.find(cloud, place, {key: [reference]})
    return one(found, "volume", reference, place, lambda v: f"{v.id} ({v.size_gib} GiB, {v.state})")


def instance(cloud: Cloud, place: Place, reference: str) -> Item:
    """One instance of the caller that has not ended. Raises NotFound; UsageError where the name is that of several."""
    key = "instance-id" if reference.startswith("i-") else "tag:Name"
    request = {"Filters": [{"Name": key, "Values": [reference]}]}
    every = cloud.pages(place, "ec2", "DescribeInstances", "Reservations", request)
    found = [i for r in every for i in r["Instances"] if i["State"]["Name"] not in ("terminated", "shutting-down")]
    return one(found, "instance", reference, place, lambda i: f"{i['InstanceId']} ({i['State']['Name']})")


def one(found: Sequence[_T], what: str, reference: str, place: Place, shown: Callable[[_T], str]) -> _T:
    """The only one. Raises NotFound, or UsageError that lists those that match."""
    if not found:
        raise NotFound(
            f"there is no {what} {reference!r} in {place}",
            hint="Ids and names are those of one region and account: see --region and --account.",
        )
    if len(found) > 1:
        listed = ", ".join(shown(f) for f in found[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")
        raise UsageError(f"{reference!r} is the name of {len(found)} {what}s: {listed}", hint="Give the id.")
    return found[0]


def name_of(item: Item) -> str:
    """The Name tag; empty if there is none."""
    return tags.from_list(item.get("Tags")).get(tags.NAME, "")


def own_tags(item: Item) -> dict[str, str]:
    """The tags that say something about the contents, and so belong to a copy as well: neither AWS's nor ours."""
    every = tags.from_list(item.get("Tags"))
    return {k: v for k, v in every.items() if not k.startswith(("aws:", tags.PREFIX)) and k != tags.NAME}
