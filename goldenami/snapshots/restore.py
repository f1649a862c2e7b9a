"""``snapshot restore``: the volumes of an instance, back at a chosen point; and back again (``undo``).

    note → a volume of each snapshot → stop → exchange → start → health

The volumes that were there are kept, detached and tagged: they are the way back.
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
from goldenami.snapshots import exchange, make, names
from goldenami.snapshots.encrypt import volume_like
from goldenami.snapshots.exchange import REPLACED_BY, Exchange
from goldenami.snapshots.points import Point, line, replaces
from goldenami.task import Task


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to one volume. ``source``: the snapshot it comes from, or the kept volume that returns."""

    device: str
    old: str
    source: str
    taken: str  # when the source's contents are of; empty for a kept volume
    name: str


def plan(points: Sequence[Point]) -> list[Step]:
    """What a restore would do, for people to read before it does."""
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
    """Bring volumes back to their points. A volume that is encrypted stays so: its successor has the same key, if the
    snapshot is plain."""
    chosen = [p.volume for p in points]
    exchange.check(instance, chosen)
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


# --- and back ---------------------------------------------------------------------------------------------------------


def undo_plan(cloud: Cloud, place: Place, instance: Item) -> list[tuple[Volume, Volume]]:
    """What is attached, and the kept volume that it replaced, for every device where there is one. Raises NotFound."""
    attached = volumes.of_instance(cloud, place, instance["InstanceId"])
    before = {line(v)[1] for v in attached if len(line(v)) > 1}
    known = {id: v for id, v in volumes.describe_many(cloud, place, before).items() if v.instance_id is None}
    pairs = [(v, known[line(v)[1]]) for v in attached if len(line(v)) > 1 and line(v)[1] in known]
    pairs = [(now, kept) for now, kept in pairs if kept.tags.get(REPLACED_BY) == now.id]
    if not pairs:
        raise NotFound(
            f"nothing is kept that the volumes of {instance['InstanceId']} replaced",
            hint="`goldenami volume kept` lists what is kept.",
        )
    return pairs


def undo_steps(pairs: Sequence[tuple[Volume, Volume]]) -> list[Step]:
    return [Step(str(now.device), now.id, kept.id, "", kept.name) for now, kept in pairs]


def undo(job: Task, place: Place, instance: Item, pairs: Sequence[tuple[Volume, Volume]]) -> list[Exchange]:
    """Give the instance its kept volumes back; those that are there now are kept instead, so this can be undone."""
    chosen = [now for now, _ in pairs]
    exchange.check(instance, chosen)
    with exchange.alone(job, instance["InstanceId"]):
        exchange.note(job, place, instance, chosen)
        exchange.stop(job)
        exchanges = [Exchange(now, kept.id) for now, kept in pairs]
        exchange.swap(job, exchanges)
        for now, kept in pairs:
            # It is nobody's predecessor any more, and what it replaced now may be asked for again.
            volumes.untag(job.ledger, f"untag/{kept.id}", place, kept.id, {REPLACED_BY, exchange.KEPT_FROM})
            volumes.tag(job.ledger, f"line/{kept.id}", place, kept.id, replaces(now))
    return exchanges
