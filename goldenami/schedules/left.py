"""The snapshots and images of schedules that no run deletes any more, with what they cost at most.

A run looks after the snapshots of schedules that are defined. The snapshots of a schedule that was taken out of the
file stay. So do the last ones of a volume or an instance that does not exist any more: its series gets no new slots.
A volume that was replaced goes on in the volume that replaced it (``survey``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from goldenami.aws import catalogs, images, snapshots, tags
from goldenami.aws.ownership import Owner
from goldenami.aws.reservations import instances_in
from goldenami.aws.session import Cloud
from goldenami.aws.waiters import Item
from goldenami.each import each
from goldenami.model import Environment, Place
from goldenami.schedules.policy import SCHEDULE_TAG, SLOT_TAG, SOURCE_TAG, parse_slot
from goldenami.store import read_identity

_GONE_VOLUME: Final = "the {0} {1} does not exist any more"


@dataclass(frozen=True, slots=True)
class Left:
    """Snapshots (or images) of one schedule and one source in a place. ``reason``: why no run deletes them.
    ``full_bytes``: the size of their contents, by storage tier; AWS bills less in the standard tier. ``newest``: the
    latest slot."""

    schedule: str
    place: Place
    source: str
    reason: str
    ids: tuple[str, ...]
    full_bytes: Mapping[str, int]
    newest: datetime | None


@dataclass(frozen=True, slots=True)
class _Place:
    found: list[Item]
    sources: frozenset[str]  # volumes and instances that exist, and the volumes that those replaced


def find(
    cloud: Cloud, environment: Environment, places: Collection[Place], defined: Collection[str]
) -> tuple[list[Left], Mapping[Place, str]]:
    """Search places for such snapshots. ``defined``: the names of the schedules that exist.

    Also returns the places that did not answer, with the reason. If one did not answer, no source counts as gone: it
    may be there.
    """
    owner = Owner(read_identity(catalogs.open_store(environment, cloud)), environment.name)
    answers = each(sorted(places), lambda place: _read(cloud, environment, place))
    alive = frozenset(source for one in answers.results.values() for source in one.sources)
    left: list[Left] = []
    for place, one in sorted(answers.results.items()):
        series: dict[tuple[str, str], list[Item]] = {}
        for item in one.found:
            own = tags.from_list(item.get("Tags"))
            if owner.of_tags(own).whose == "ours":
                name = own[SCHEDULE_TAG].partition("/")[2]
                series.setdefault((name, _source(item, own)), []).append(item)
        for (name, source), items in sorted(series.items()):
            if name not in defined:
                left.append(_left(name, place, source, "the schedule is not defined any more", items))
            elif source not in alive and not answers.reasons:
                kind = "instance" if source.startswith("i-") else "volume"
                left.append(_left(name, place, source, _GONE_VOLUME.format(kind, source), items))
    return left, answers.reasons


def _read(cloud: Cloud, environment: Environment, place: Place) -> _Place:
    tagged = {f"tag:{SCHEDULE_TAG}": [f"{tags.exactly(environment.name)}/*"]}
    found = [*snapshots.find(cloud, place, tagged), *images.own(cloud, place, tagged)]
    sources: set[str] = set()
    if found:
        for volume in cloud.pages(place, "ec2", "DescribeVolumes", "Volumes"):
            sources |= {volume["VolumeId"], *_replaced(volume)}
        living = (i for i in instances_in(cloud, place) if i["State"]["Name"] != "terminated")
        sources |= {instance["InstanceId"] for instance in living}
    return _Place(found, frozenset(sources))


def _replaced(volume: Item) -> Iterable[str]:
    own = tags.from_list(volume.get("Tags"))
    return () if tags.KEPT_FROM in own else own.get(tags.REPLACES, "").split()


def _source(item: Item, own: Mapping[str, str]) -> str:
    """Return the volume or instance of a snapshot. A copy has no volume, but the tag of its source."""
    volume = str(item.get("VolumeId") or "")
    return volume if volume and volume != snapshots.COPIED else own.get(SOURCE_TAG, "")


def _left(schedule: str, place: Place, source: str, reason: str, items: Collection[Item]) -> Left:
    sizes: dict[str, int] = {}
    for item in items:
        tier = str(item.get("StorageTier") or "standard")
        sizes[tier] = sizes.get(tier, 0) + int(item.get("FullSnapshotSizeInBytes") or 0)
    slots = [parse_slot(tags.from_list(item.get("Tags")).get(SLOT_TAG, "")) for item in items]
    ids = tuple(str(item.get("SnapshotId") or item["ImageId"]) for item in items)
    return Left(schedule, place, source, reason, ids, sizes, max((s for s in slots if s is not None), default=None))
