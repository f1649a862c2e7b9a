"""Waiting for many snapshots, with progress, and what the failure of one means."""

from __future__ import annotations

from collections.abc import Collection

from goldenami.aws import snapshots, waiters
from goldenami.aws.waiters import Item, Observation, OnProgress
from goldenami.errors import TargetsFailed
from goldenami.events import emit
from goldenami.model import Place
from goldenami.task import Task


def told(job: Task, place: Place) -> OnProgress:
    """What a wait has to say about a resource, as events."""

    def on_progress(seen: Observation) -> None:
        percent = round(seen.percent) if seen.percent is not None else None
        emit(job.emit, "target.progress", target=f"{place.region}/{seen.id}", state=seen.state, percent=percent)

    return on_progress


def completed(job: Task, place: Place, ids: Collection[str]) -> list[Item]:
    """The snapshots, once all are completed. Raises CloudError for one that failed, TargetsFailed for one of many."""
    seen = snapshots.wait(job.ledger, place, ids, on_progress=told(job, place))
    bad = [one for one in seen.values() if not one.ok]
    if bad and len(seen) == 1:
        raise waiters.failure(bad[0], "snapshot", place)
    if bad:
        failures = {one.id: waiters.failure(one, "snapshot", place).message for one in bad}
        raise TargetsFailed(f"{len(bad)} of {len(seen)} snapshots failed", failures=failures)
    return [one.item for one in seen.values()]
