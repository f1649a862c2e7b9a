"""Waits for snapshots, and reports progress."""

from __future__ import annotations

from collections.abc import Collection

from goldenami.aws import snapshots, waiters
from goldenami.aws.waiters import Item, Observation, OnProgress
from goldenami.errors import TargetsFailed
from goldenami.events import emit
from goldenami.model import Place
from goldenami.task import Task


def progress_events(job: Task, place: Place) -> OnProgress:
    """Return a callback that emits the progress of a resource as ``target.progress`` events."""

    def on_progress(observed: Observation) -> None:
        percent = round(observed.percent) if observed.percent is not None else None
        emit(job.emit, "target.progress", target=f"{place.region}/{observed.id}", state=observed.state, percent=percent)

    return on_progress


def completed(job: Task, place: Place, ids: Collection[str]) -> list[Item]:
    """Wait until all snapshots are completed, and return them.

    Raises CloudError if the only snapshot failed, and TargetsFailed if one of several failed.
    """
    observed = snapshots.wait(job.ledger, place, ids, on_progress=progress_events(job, place))
    failed = [one for one in observed.values() if not one.ok]
    if failed and len(observed) == 1:
        raise waiters.failure(failed[0], "snapshot", place)
    if failed:
        failures = {one.id: waiters.failure(one, "snapshot", place).message for one in failed}
        raise TargetsFailed(f"{len(failed)} of {len(observed)} snapshots failed", failures=failures)
    return [one.item for one in observed.values()]
