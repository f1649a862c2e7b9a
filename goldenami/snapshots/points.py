"""Selects the snapshots from which the volumes of an instance are restored.

A time means what the instance had then: ``history`` knows the volumes that were in use. A name or an id means snapshots
of the attached volumes or of their predecessors. A volume without a snapshot is in the plan, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from goldenami.aws import snapshots, tags, volumes
from goldenami.aws.session import Cloud
from goldenami.aws.volumes import Volume
from goldenami.aws.waiters import Item
from goldenami.errors import GoldenAmiError, NotFound, UsageError
from goldenami.model import Place, utc_text
from goldenami.nextstep import step
from goldenami.snapshots import make, names
from goldenami.snapshots.history import Unknown, line, source_at, uses


@dataclass(frozen=True, slots=True)
class Point:
    """A volume, and the snapshot to restore it from; or why it cannot be restored (``problem``), or why it stays as it
    is (``stays``)."""

    volume: Volume
    snapshot: Item | None
    problem: str = ""
    stays: str = ""

    @property
    def taken(self) -> datetime | None:
        return self.snapshot["StartTime"] if self.snapshot is not None else None


def volumes_behind(cloud: Cloud, place: Place, instance_id: str) -> dict[str, tuple[str, ...]]:
    """Return, for each device of an instance, the ids of the attached volume and its predecessors."""
    return {str(v.device): line(v) for v in volumes.of_instance(cloud, place, instance_id)}


def choose(cloud: Cloud, place: Place, instance_id: str, to: str | datetime) -> list[Point]:
    """Select a snapshot for each volume of an instance.

    ``to`` is a time (the last snapshot of what the instance had then), a Name tag, or the id of a snapshot (with all
    snapshots of the same call). Raises NotFound if no volume has a snapshot of that name or id, and UsageError if a
    volume has several.
    """
    attached = volumes.of_instance(cloud, place, instance_id)
    if isinstance(to, datetime):
        return [_usable(p) for p in _by_time(cloud, place, attached, to)]
    if to.startswith("snap-"):
        item = names.snapshot(cloud, place, to)
        mark = tags.from_list(item.get("Tags")).get(tags.TOKEN)
        found = snapshots.find(cloud, place, {f"tag:{tags.TOKEN}": [mark]}) if mark else [item]
        found = [s for s in found if s["SnapshotId"] == to or s["VolumeId"] != item["VolumeId"]]
    else:
        found = snapshots.find(cloud, place, {"tag:Name": [tags.exactly(to)], "status": ["completed"]})
    points = _by_volume(attached, found, to)
    if all(p.snapshot is None for p in points):
        raise NotFound(
            f"--to: found no snapshot {to!r} of a volume of {instance_id} in {place}",
            hint=f"{step('snapshot list', '--instance', instance_id)} lists the snapshots of its volumes.",
        )
    return [_usable(p) for p in points]


def _usable(point: Point) -> Point:
    """Return the point, with the problem of its snapshot if no volume can be created from it now."""
    if point.snapshot is None:
        return point
    try:
        make.check_usable(point.snapshot)
    except GoldenAmiError as error:
        return replace(point, problem=f"{error.message}. {error.hint or ''}".rstrip())
    return point


def _by_time(cloud: Cloud, place: Place, attached: Sequence[Volume], moment: datetime) -> list[Point]:
    ids = {id for v in attached for id in (*line(v), *(u.volume for u in uses(v)))}
    known = volumes.describe_many(cloud, place, ids)
    origins = {id: v.snapshot_id for id, v in known.items()}
    found = {
        s["SnapshotId"]: s
        for s in (
            *snapshots.of_volumes(cloud, place, ids, {"status": ["completed"]}),
            *snapshots.describe_many(cloud, place, {s for s in origins.values() if s is not None}).values(),
        )
    }
    points = []
    for volume in attached:
        answer = source_at(volume, moment, list(found.values()), origins)
        points.append(
            Point(volume, None, problem=answer.reason) if isinstance(answer, Unknown) else Point(volume, answer)
        )
    return points


def _by_volume(attached: Sequence[Volume], found: Sequence[Item], to: str) -> list[Point]:
    points = []
    for volume in attached:
        own = [s for s in found if s["VolumeId"] in line(volume)]
        if len(own) > 1:
            listed = ", ".join(f"{s['SnapshotId']} ({utc_text(s['StartTime'])})" for s in own)
            raise UsageError(
                f"--to: {to!r} is the Name tag of {len(own)} snapshots of {volume.device}: {listed}",
                hint="Give the id of one snapshot.",
            )
        points.append(Point(volume, own[0]) if own else Point(volume, None, stays=f"it has no snapshot {to!r}"))
    return points


def only(points: Sequence[Point], devices: Sequence[str]) -> list[Point]:
    """Return the points of some devices, or all without ``devices``. Raises UsageError for a device without a point."""
    by_device: Mapping[str, Point] = {str(p.volume.device): p for p in points}
    wrong = {d: "no volume is attached there" for d in devices if d not in by_device}
    wrong |= {d: by_device[d].stays for d in devices if d in by_device and by_device[d].stays}
    if wrong:
        raise UsageError(
            f"--device: there is no matching snapshot for {'; '.join(f'{d} ({why})' for d, why in wrong.items())}",
            hint=f"There are snapshots for {', '.join(d for d, p in by_device.items() if p.snapshot) or 'no device'}.",
        )
    return [by_device[d] for d in devices] if devices else list(points)


def restorable(points: Sequence[Point]) -> list[Point]:
    """Return the points that have a snapshot. Raises NotFound with the problems of all volumes, if there are any."""
    problems = [f"{p.volume.id} ({p.volume.device}): {p.problem}" for p in points if p.problem]
    if problems:
        raise NotFound(
            "--to: nothing was changed: " + "; ".join(problems),
            hint="Give another time or a snapshot, or select other volumes with --device.",
        )
    return [p for p in points if p.snapshot is not None]
