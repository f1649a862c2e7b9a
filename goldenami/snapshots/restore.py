"""``snapshot restore``: restores the volumes of an instance from snapshots, and undoes this.

Steps::

    record → create a volume from each snapshot → stop → exchange → start → check the health

The old volumes are kept, detached and tagged. ``undo`` attaches them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from goldenami.aws import volumes
from goldenami.aws.session import Cloud
from goldenami.aws.volumes import Volume
from goldenami.aws.waiters import Item
from goldenami.errors import NotFound
from goldenami.model import Place
from goldenami.nextstep import step
from goldenami.snapshots import exchange, make, names
from goldenami.snapshots.encrypt import volume_like
from goldenami.snapshots.exchange import REPLACED_BY, Exchange
from goldenami.snapshots.points import Point, line, replaces
from goldenami.task import Task


@dataclass(frozen=True, slots=True)
class Step:
    """The change of one volume. ``source``: the snapshot to restore from, or the kept volume to attach again."""

    device: str
    old: str
    source: str
    taken: str  # the time of the source's contents; empty for a kept volume
    name: str


def plan(points: Sequence[Point]) -> list[Step]:
    """Return the changes of a restore, to show them before it starts."""
    return [
        Step(
            str(p.volume.device),
            p.volume.id,
            p.snapshot["SnapshotId"],
            f"{p.taken:%Y-%m-%d %H:%M:%S} UTC",
            names.name_of(p.snapshot),
        )
        for p in points
    ]


def restore(job: Task, place: Place, instance: Item, points: Sequence[Point]) -> list[Exchange]:
    """Restore volumes from their snapshots.

    An encrypted volume stays encrypted: if its snapshot is unencrypted, the new volume gets the key of the old one.
    """
    chosen = [p.volume for p in points]
    exchange.check(job.cloud, place, instance, chosen)
    for point in points:
        make.check_usable(point.snapshot)
    with exchange.alone(job, instance["InstanceId"]):
        exchange.note(job, place, instance, chosen)
        new = {p.volume.id: volume_like(job, place, p.volume, p.snapshot["SnapshotId"], _key(p)) for p in points}
        volumes.wait_available(job.ledger, place, list(new.values()))
        exchange.stop(job)
        exchanges = [Exchange(v, new[v.id]) for v in chosen]
        exchange.swap(job, exchanges)
    return exchanges


def _key(point: Point) -> str | None:
    return point.volume.kms_key if point.volume.encrypted and not point.snapshot.get("Encrypted") else None


# --- undo -------------------------------------------------------------------------------------------------------------


def undo_plan(cloud: Cloud, place: Place, instance: Item) -> list[tuple[Volume, Volume]]:
    """Return pairs of an attached volume and the kept volume that it replaced. Raises NotFound if there is none."""
    attached = volumes.of_instance(cloud, place, instance["InstanceId"])
    before = {line(v)[1] for v in attached if len(line(v)) > 1}
    known = {id: v for id, v in volumes.describe_many(cloud, place, before).items() if v.instance_id is None}
    pairs = [(v, known[line(v)[1]]) for v in attached if len(line(v)) > 1 and line(v)[1] in known]
    pairs = [(now, kept) for now, kept in pairs if kept.tags.get(REPLACED_BY) == now.id]
    if not pairs:
        raise NotFound(
            f"there is no kept volume that a volume of {instance['InstanceId']} replaced",
            hint=f"{step('volume kept')} lists the kept volumes.",
        )
    return pairs


def undo_steps(pairs: Sequence[tuple[Volume, Volume]]) -> list[Step]:
    """Return the changes of an undo, to show them before it starts."""
    return [Step(str(now.device), now.id, kept.id, "", kept.name) for now, kept in pairs]


def undo(job: Task, place: Place, instance: Item, pairs: Sequence[tuple[Volume, Volume]]) -> list[Exchange]:
    """Attach the kept volumes again. The volumes that they replace are kept, so this can be undone as well."""
    chosen = [now for now, _ in pairs]
    exchange.check(job.cloud, place, instance, chosen)
    with exchange.alone(job, instance["InstanceId"]):
        exchange.note(job, place, instance, chosen)
        exchange.stop(job)
        exchanges = [Exchange(now, kept.id) for now, kept in pairs]
        exchange.swap(job, exchanges)
        for now, kept in pairs:
            # The volume is attached again, so it is no longer a kept one. A further undo needs the tag `replaces`.
            volumes.untag(job.ledger, f"untag/{kept.id}", place, kept.id, {REPLACED_BY, exchange.KEPT_FROM})
            volumes.tag(job.ledger, f"line/{kept.id}", place, kept.id, replaces(now))
    return exchanges
