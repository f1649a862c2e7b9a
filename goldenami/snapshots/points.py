"""Points in time that an instance can go back to: for each of its volumes, the snapshot that is meant.

A volume that was exchanged (encrypted, restored) carries the ids of those it replaced as a tag, so that the snapshots
of its predecessors are found as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from goldenami.aws import snapshots, tags, volumes
from goldenami.aws.session import Cloud
from goldenami.aws.volumes import Volume
from goldenami.aws.waiters import Item
from goldenami.errors import NotFound, UsageError
from goldenami.model import Place
from goldenami.snapshots import names

REPLACES: Final = tags.PREFIX + "replaces"  # on a volume: the ids of those it took the place of, the last one first
_MOST: Final = 10  # ids that fit into a tag's 256 characters


@dataclass(frozen=True, slots=True)
class Point:
    """What one volume goes back to."""

    volume: Volume
    snapshot: Item

    @property
    def taken(self) -> datetime:
        moment: datetime = self.snapshot["StartTime"]
        return moment


def volumes_behind(cloud: Cloud, place: Place, instance_id: str) -> dict[str, tuple[str, ...]]:
    """The volumes of an instance; for each device the id of the one that is attached, and of those it replaced."""
    return {str(v.device): line(v) for v in volumes.of_instance(cloud, place, instance_id)}


def line(volume: Volume) -> tuple[str, ...]:
    """The volume's id, and those of its predecessors."""
    return tuple(dict.fromkeys([volume.id, *volume.tags.get(REPLACES, "").split()]))


def replaces(volume: Volume) -> dict[str, str]:
    """The tag for what takes the volume's place."""
    return {REPLACES: " ".join(line(volume)[:_MOST])}


def choose(cloud: Cloud, place: Place, instance_id: str, to: str | datetime) -> list[Point]:
    """The points for the volumes of an instance: by a time (the last snapshot of each that is not later), by the name
    or the id of a snapshot (the others of its set, taken by the same call, belong to it).

    Raises NotFound if there is none, and UsageError where several could be meant.
    """
    attached = volumes.of_instance(cloud, place, instance_id)
    if isinstance(to, datetime):
        return _by_time(cloud, place, attached, to)
    if to.startswith("snap-"):
        item = names.snapshot(cloud, place, to)
        mark = tags.from_list(item.get("Tags")).get(tags.TOKEN)
        found = snapshots.find(cloud, place, {f"tag:{tags.TOKEN}": [mark]}) if mark else [item]
        found = [s for s in found if s["SnapshotId"] == to or s["VolumeId"] != item["VolumeId"]]
    else:
        found = snapshots.find(cloud, place, {"tag:Name": [to], "status": ["completed"]})
    points = _by_volume(attached, found, to)
    if not points:
        raise NotFound(
            f"no snapshot {to!r} in {place} is of a volume of {instance_id}",
            hint=f"`goldenami snapshot list --instance {instance_id}` shows those there are.",
        )
    return points


def _by_time(cloud: Cloud, place: Place, attached: Sequence[Volume], moment: datetime) -> list[Point]:
    every = [id for v in attached for id in line(v)]
    found = snapshots.find(cloud, place, {"volume-id": every, "status": ["completed"]}) if every else []
    points, missing = [], []
    for volume in attached:
        earlier = [s for s in found if s["VolumeId"] in line(volume) and s["StartTime"] <= moment]
        if earlier:
            points.append(Point(volume, earlier[-1]))
        else:
            missing.append(f"{volume.id} ({volume.device})")
    if missing:
        raise NotFound(
            f"there is no snapshot from before {moment:%F %T %Z} of {', '.join(missing)}",
            hint="Name a later time, or a snapshot; --device restores only some of the volumes.",
        )
    return points


def _by_volume(attached: Sequence[Volume], found: Sequence[Item], to: str) -> list[Point]:
    points = []
    for volume in attached:
        own = [s for s in found if s["VolumeId"] in line(volume)]
        if len(own) > 1:
            listed = ", ".join(f"{s['SnapshotId']} ({s['StartTime']:%F %T})" for s in own)
            raise UsageError(
                f"{to!r} is the name of {len(own)} snapshots of {volume.device}: {listed}", hint="Give the id."
            )
        points += [Point(volume, s) for s in own]
    return points


def only(points: Sequence[Point], devices: Sequence[str]) -> list[Point]:
    """Those of some devices. Raises UsageError for a device without a point."""
    by_device: Mapping[str, Point] = {str(p.volume.device): p for p in points}
    unknown = [d for d in devices if d not in by_device]
    if unknown:
        raise UsageError(f"no snapshot is chosen for {', '.join(unknown)}", hint=f"There are: {', '.join(by_device)}.")
    return [by_device[d] for d in devices] if devices else list(points)
