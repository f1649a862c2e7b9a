"""Selects the snapshots from which the volumes of an instance are restored.

A volume that replaced another one (``volume encrypt``, ``snapshot restore``) has a tag with the ids of its
predecessors. So the snapshots of the predecessors are found as well.
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
from goldenami.nextstep import step
from goldenami.snapshots import names

REPLACES: Final = tags.PREFIX + "replaces"  # on a volume: the ids of its predecessors, the latest first
_MOST: Final = 10  # ids that fit into the 256 characters of a tag value


@dataclass(frozen=True, slots=True)
class Point:
    """A volume, and the snapshot to restore it from."""

    volume: Volume
    snapshot: Item

    @property
    def taken(self) -> datetime:
        moment: datetime = self.snapshot["StartTime"]
        return moment


def volumes_behind(cloud: Cloud, place: Place, instance_id: str) -> dict[str, tuple[str, ...]]:
    """Return, for each device of an instance, the ids of the attached volume and its predecessors."""
    return {str(v.device): line(v) for v in volumes.of_instance(cloud, place, instance_id)}


def line(volume: Volume) -> tuple[str, ...]:
    """Return the ids of a volume and its predecessors, the latest first."""
    return tuple(dict.fromkeys([volume.id, *volume.tags.get(REPLACES, "").split()]))


def replaces(volume: Volume) -> dict[str, str]:
    """Return the tag for the replacement of a volume."""
    return {REPLACES: " ".join(line(volume)[:_MOST])}


def choose(cloud: Cloud, place: Place, instance_id: str, to: str | datetime) -> list[Point]:
    """Select a snapshot for each volume of an instance.

    ``to`` is a time (the last snapshot of each volume at or before it), a Name tag, or the id of a snapshot (with all
    snapshots of the same call). Raises NotFound if there is no snapshot, and UsageError if a volume has several.
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
            f"--to: found no snapshot {to!r} of a volume of {instance_id} in {place}",
            hint=f"{step('snapshot list', '--instance', instance_id)} lists the snapshots of its volumes.",
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
            f"--to: there is no snapshot from {moment:%F %T %Z} or earlier of {', '.join(missing)}",
            hint="Give a later time or a snapshot, or select other volumes with --device.",
        )
    return points


def _by_volume(attached: Sequence[Volume], found: Sequence[Item], to: str) -> list[Point]:
    points = []
    for volume in attached:
        own = [s for s in found if s["VolumeId"] in line(volume)]
        if len(own) > 1:
            listed = ", ".join(f"{s['SnapshotId']} ({s['StartTime']:%F %T})" for s in own)
            raise UsageError(
                f"--to: {to!r} is the Name tag of {len(own)} snapshots of {volume.device}: {listed}",
                hint="Give the id of one snapshot.",
            )
        points += [Point(volume, s) for s in own]
    return points


def only(points: Sequence[Point], devices: Sequence[str]) -> list[Point]:
    """Return the points of some devices, or all without ``devices``. Raises UsageError for a device without a point."""
    by_device: Mapping[str, Point] = {str(p.volume.device): p for p in points}
    unknown = [d for d in devices if d not in by_device]
    if unknown:
        raise UsageError(
            f"--device: there is no matching snapshot for {', '.join(unknown)}",
            hint=f"There are snapshots for {', '.join(by_device)}.",
        )
    return [by_device[d] for d in devices] if devices else list(points)
