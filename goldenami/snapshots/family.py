"""Finds the snapshots of a lineage, and reads their blocks.

The snapshots of a volume follow each other. A volume that was created from a snapshot continues its lineage. Both
directions are followed: up to the snapshot that a volume was created from, and down to the volumes that were created
from its snapshots, if EC2 still has the volumes. A copy has no volume ("vol-ffffffff"). It is compared with the
previous copy; only the EBS direct APIs return whether this is possible.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from goldenami.aws import blocks, images, snapshots
from goldenami.aws.blocks import NotComparable
from goldenami.aws.limits import FILTER_VALUES
from goldenami.aws.session import Cloud
from goldenami.each import all_of, parts
from goldenami.errors import NotFound
from goldenami.model import Place, timestamp
from goldenami.snapshots.lineage import Described, Lineage, Reading, weigh

_AT_ONCE: Final = 8  # snapshots whose blocks are listed in parallel


def of_volume(cloud: Cloud, place: Place, volume_id: str) -> Lineage:
    """Return the lineage of a volume, which may be deleted. Raises NotFound if it has no snapshot."""
    described = _family(cloud, place, {volume_id})
    if not any(s.volume_id == volume_id for s in described):
        raise NotFound(f"volume {volume_id} has no snapshots in {place}")
    return read(cloud, place, described)


def of_image(cloud: Cloud, place: Place, image_id: str) -> Lineage:
    """Return the lineages of the snapshots of an image. Raises NotFound."""
    image = images.describe_many(cloud, place, [image_id]).get(image_id)
    if image is None:
        raise NotFound(f"there is no image {image_id} in {place}")
    return of_snapshots(cloud, place, snapshots.of_image(image))


def of_snapshots(cloud: Cloud, place: Place, ids: Sequence[str]) -> Lineage:
    """Return the whole lineages of the volumes of some snapshots.

    Copies are in order of time, and each is compared with the previous one. Raises NotFound for a missing snapshot.
    """
    found = snapshots.describe_many(cloud, place, ids)
    if missing := sorted(set(ids) - set(found)):
        raise NotFound(f"there is no snapshot {', '.join(missing)} in {place}")
    volumes = {s["VolumeId"] for s in found.values() if s["VolumeId"] != snapshots.COPIED}
    family = _family(cloud, place, volumes) if volumes else []
    known = {s.id for s in family}
    copies = sorted((s for id, s in found.items() if id not in known), key=_moment)
    chained: list[Described] = []
    for copy in copies:
        chained.append(_described(copy, chained[-1].id if chained else None))
    return read(cloud, place, [*family, *chained])


def read(cloud: Cloud, place: Place, described: Sequence[Described]) -> Lineage:
    """Read the blocks of snapshots in parallel, and compute the lineage. Parents come before their children."""
    known = {s.id for s in described}

    def reading(snapshot: Described) -> Reading:
        parent = snapshot.parent if snapshot.parent in known else None
        broken: str | None = None
        try:
            if parent is not None:
                try:
                    return Reading(changes=blocks.list_changes(cloud, place, parent, snapshot.id))
                except NotComparable as cut:
                    broken = f"not comparable with {parent}: {cut.detail}"
            return Reading(blocks=blocks.list_blocks(cloud, place, snapshot.id), broken=broken)
        except NotComparable as unreadable:
            return Reading(broken=f"its blocks cannot be read: {unreadable.detail}")

    readings = all_of(described, reading, at_once=_AT_ONCE)
    return weigh(described, dict(zip([s.id for s in described], readings, strict=True)))


# --- related snapshots ------------------------------------------------------------------------------------------------


def _family(cloud: Cloud, place: Place, start: Iterable[str]) -> list[Described]:
    """Return all snapshots of these volumes and of related volumes, parents first."""
    found: dict[str, dict[str, Any]] = {}
    origin: dict[str, str] = {}  # the snapshot that a volume was made from
    waiting = {v for v in start if v != snapshots.COPIED}
    seen: set[str] = set()
    while waiting:
        seen |= waiting
        new = _snapshots(cloud, place, "volume-id", waiting)
        new_volumes = [*_volumes(cloud, place, "volume-id", waiting), *_volumes(cloud, place, "snapshot-id", new)]
        origin |= {v["VolumeId"]: v["SnapshotId"] for v in new_volumes if v.get("SnapshotId")}
        sources = set(origin.values()) - set(found) - set(new)
        above = _snapshots(cloud, place, "snapshot-id", sources)
        found |= new | above
        waiting = (
            ({v["VolumeId"] for v in new_volumes} | {s["VolumeId"] for s in above.values()}) - seen - {snapshots.COPIED}
        )
    ordered = sorted(found.values(), key=_moment)
    latest: dict[str, str] = {}
    family = []
    for snapshot in ordered:
        volume = snapshot["VolumeId"]
        before = None if volume == snapshots.COPIED else latest.get(volume, origin.get(volume))
        family.append(_described(snapshot, before))
        if volume != snapshots.COPIED:
            latest[volume] = snapshot["SnapshotId"]
    return family


def _snapshots(cloud: Cloud, place: Place, by: str, values: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the completed snapshots of the caller's account."""
    found = _filtered(cloud, place, "DescribeSnapshots", "Snapshots", by, values, {"OwnerIds": ["self"]})
    return {s["SnapshotId"]: s for s in found if s["State"] == "completed"}


def _volumes(cloud: Cloud, place: Place, by: str, values: Iterable[str]) -> list[dict[str, Any]]:
    return _filtered(cloud, place, "DescribeVolumes", "Volumes", by, values, {})


def _filtered(
    cloud: Cloud, place: Place, operation: str, result: str, by: str, values: Iterable[str], request: dict[str, Any]
) -> list[dict[str, Any]]:
    wanted = sorted(values)
    found: list[dict[str, Any]] = []
    for part in parts(wanted, FILTER_VALUES):
        filters = [{"Name": by, "Values": part}]
        found.extend(cloud.pages(place, "ec2", operation, result, {**request, "Filters": filters}))
    return found


def _moment(snapshot: Any) -> tuple[Any, str]:
    return snapshot["StartTime"], snapshot["SnapshotId"]


def _described(snapshot: Any, parent: str | None) -> Described:
    tags = {t["Key"]: t["Value"] for t in snapshot.get("Tags") or ()}
    return Described(
        id=snapshot["SnapshotId"],
        volume_id=snapshot["VolumeId"],
        started=timestamp(snapshot["StartTime"]),
        volume_gib=snapshot["VolumeSize"],
        name=tags.get("Name", ""),
        full_bytes=snapshot.get("FullSnapshotSizeInBytes"),
        tier=snapshot.get("StorageTier") or "standard",
        encrypted=bool(snapshot.get("Encrypted")),
        parent=parent,
    )
