"""``snapshot restore``: restores the volumes of an instance from snapshots, and undoes an exchange of volumes.

Steps::

    record → create a volume from each snapshot → stop → exchange → start → check the health

The old volumes are kept, detached and tagged. ``undo`` attaches those of one task again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from goldenami.aws import tags, volumes
from goldenami.aws.session import Cloud
from goldenami.aws.volumes import Volume
from goldenami.aws.waiters import Item
from goldenami.errors import NotFound, UsageError
from goldenami.model import Place, utc_text
from goldenami.nextstep import step
from goldenami.snapshots import exchange, names
from goldenami.snapshots.encrypt import volume_like
from goldenami.snapshots.exchange import KEPT_BY, KEPT_FROM, REPLACED_BY, Exchange
from goldenami.snapshots.points import Point, restorable
from goldenami.task import Task


@dataclass(frozen=True, slots=True)
class Step:
    """The change of one volume. ``source``: the snapshot to restore from, or the kept volume to attach again; empty if
    the volume stays as it is (``stays``: why), or if it cannot be restored (``problem``: why)."""

    device: str
    old: str
    source: str
    taken: str  # the time of the source's contents
    name: str
    problem: str = ""
    stays: str = ""


def plan(points: Sequence[Point]) -> list[Step]:
    """Return the changes of a restore, to show them before it starts."""
    return [
        Step(
            str(p.volume.device),
            p.volume.id,
            p.snapshot["SnapshotId"] if p.snapshot is not None else "",
            _text(p.taken),
            names.name_of(p.snapshot) if p.snapshot is not None else "",
            p.problem,
            p.stays,
        )
        for p in points
    ]


def _text(moment: datetime | None) -> str:
    return utc_text(moment) if moment is not None else ""


def restore(job: Task, place: Place, instance: Item, points: Sequence[Point]) -> list[Exchange]:
    """Restore volumes from their snapshots. Raises NotFound, before the first change, if one cannot be restored.

    An encrypted volume stays encrypted: if its snapshot is unencrypted, the new volume gets the key of the old one.
    """
    sources = {p.volume.id: p.snapshot for p in restorable(points) if p.snapshot is not None}
    chosen = [p.volume for p in points if p.volume.id in sources]
    exchange.check(job.cloud, place, instance, chosen)
    with exchange.alone(job, instance["InstanceId"]):
        exchange.note(job, place, instance, chosen)
        new = {
            v.id: volume_like(job, place, v, sources[v.id]["SnapshotId"], "restored", kms_key=_key(v, sources[v.id]))
            for v in chosen
        }
        volumes.wait_available(job.ledger, place, list(new.values()))
        exchange.stop(job)
        exchanges = [Exchange(v, new[v.id]) for v in chosen]
        exchange.swap(job, exchanges)
    return exchanges


def _key(volume: Volume, snapshot: Item) -> str | None:
    return volume.kms_key if volume.encrypted and not snapshot.get("Encrypted") else None


# --- undo -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Undo:
    """An exchange that can be undone. ``task``: the task that did it; empty for one of an unknown task. ``pairs``: each
    attached volume with the kept volume that it replaced."""

    task: str
    pairs: tuple[tuple[Volume, Volume], ...]

    @property
    def done(self) -> datetime | None:
        """When the task began."""
        return tags.start_of_build(self.task)

    @property
    def decrypted(self) -> list[str]:
        """The devices whose volume is encrypted now, and would not be afterwards."""
        return [str(now.device) for now, kept in self.pairs if now.encrypted and not kept.encrypted]


def undo_choices(cloud: Cloud, place: Place, instance: Item) -> list[Undo]:
    """Return the exchanges of an instance that can be undone, one for each task, the last one first."""
    id = instance["InstanceId"]
    attached = {v.id: v for v in volumes.of_instance(cloud, place, id)}
    every = volumes.find(cloud, place, {f"tag:{KEPT_FROM}": [f"{id} {v.device}" for v in attached.values()]})
    found: dict[str, list[tuple[Volume, Volume]]] = {}
    for kept in every:
        now = attached.get(kept.tags.get(REPLACED_BY, ""))
        if now is None or kept.instance_id is not None or kept.tags[KEPT_FROM] != f"{id} {now.device}":
            continue
        task = kept.tags.get(KEPT_BY) or now.tags.get(tags.BUILD_ID, "")
        found.setdefault(task, []).append((now, kept))
    return sorted((Undo(task, tuple(pairs)) for task, pairs in found.items()), key=_attached, reverse=True)


def _attached(one: Undo) -> tuple[datetime, str]:
    """Return when EC2 attached the volumes of an exchange: the clocks of the machines that did them may differ."""
    never = datetime.min.replace(tzinfo=UTC)
    return max(now.attached or never for now, _ in one.pairs), one.task


def choose_undo(choices: Sequence[Undo], instance: str, task: str | None, devices: Sequence[str]) -> Undo:
    """Return the exchange of a task, by default the last one; with ``devices``, only their part of it.

    Raises NotFound if there is none, and UsageError for a device that the task did not exchange.
    """
    if not choices:
        raise NotFound(
            f"there is no kept volume that a volume of {instance} replaced",
            hint=f"{step('volume kept')} lists the kept volumes.",
        )
    chosen = next((c for c in choices if task in (None, c.task)), None)
    known = ", ".join(f"{c.task} ({', '.join(str(now.device) for now, _ in c.pairs)})" for c in choices)
    if chosen is None:
        raise NotFound(f"--task: {task} exchanged no volume of {instance} that can be undone", hint=f"Found: {known}.")
    pairs = tuple(p for p in chosen.pairs if not devices or p[0].device in devices)
    missing = set(devices) - {str(now.device) for now, _ in pairs}
    if missing:
        raise UsageError(
            f"--device: task {chosen.task} did not exchange {', '.join(sorted(missing))}",
            hint=f"Give --task with another task. Found: {known}.",
        )
    return replace(chosen, pairs=pairs)


def undo_steps(chosen: Undo) -> list[Step]:
    """Return the changes of an undo, to show them before it starts."""
    return [
        Step(str(now.device), now.id, kept.id, _text(chosen.done), exchange.tags_before(kept).get(tags.NAME, ""))
        for now, kept in chosen.pairs
    ]


def undo(job: Task, place: Place, instance: Item, pairs: Sequence[tuple[Volume, Volume]]) -> list[Exchange]:
    """Attach the kept volumes again. The volumes that they replace are kept, so this can be undone as well."""
    chosen = [now for now, _ in pairs]
    exchange.check(job.cloud, place, instance, chosen)
    with exchange.alone(job, instance["InstanceId"]):
        exchange.note(job, place, instance, chosen)
        exchange.stop(job)
        exchanges = [Exchange(now, kept.id, kept) for now, kept in pairs]
        exchange.swap(job, exchanges)
    return exchanges
