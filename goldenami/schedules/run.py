"""Runs schedules: creates due snapshots, copies and shares them, and deletes those that no rule keeps.

Order::

    finish a killed run → survey → plan → create → survey → plan → copy, share, archive → delete

Each slot gets exactly one snapshot, even if several processes run the schedule: a run holds the schedule's lock, finds
the existing snapshots of a slot by their tags, and looks up a call of a killed run by its token before it creates a
snapshot. A snapshot belongs to its schedule as soon as it is created. If the run fails later, the snapshot is kept and
the next run continues.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from goldenami import task
from goldenami.aws import images, journals, kms, snapshots, waiters
from goldenami.aws.session import Cloud
from goldenami.each import Failures, each
from goldenami.errors import CloudError, TargetsFailed
from goldenami.events import Emit, emit, ignore_events
from goldenami.interrupts import Interrupts
from goldenami.journal import Wait
from goldenami.model import Environment, Place, timestamp
from goldenami.nextstep import step
from goldenami.schedules.policy import SCHEDULE_TAG, SLOT_TAG, SOURCE_TAG, Schedule, slot_of
from goldenami.schedules.steps import Change, Made, Make, MakeCopy, Steps, plan
from goldenami.schedules.survey import COPY_TAG, survey, tag_value
from goldenami.task import Task
from goldenami.work import Attempts

KIND: Final = "schedule run"
# Seconds to wait for another run of the same schedule, and for new snapshots before they are copied.
_WAIT_FOR_OTHERS: Final = 600.0
_WAIT_FOR_SNAPSHOTS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class ScheduleRun:
    """The outcome of one schedule's run.

    ``steps``: the steps that were done; with ``dry_run``, those that would be done. ``made``: the new ids by step.
    ``failures``: the reasons by step. ``unreachable``: places that did not answer, with the reasons. ``others``:
    snapshots of another catalog's schedule of the same name, with their owner; they are not changed.
    """

    schedule: Schedule
    steps: Steps
    made: dict[str, str]
    failures: dict[str, str]
    task_id: str = ""
    unreachable: Mapping[Place, str] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)


def run(
    environment: Environment,
    schedules: Iterable[Schedule],
    now: datetime,
    *,
    dry_run: bool = False,
    cloud: Cloud | None = None,
    emit_to: Emit = ignore_events,
    wait: float = _WAIT_FOR_SNAPSHOTS,
) -> tuple[ScheduleRun, ...]:
    """Run schedules one after the other for the time ``now``. A second call for the same time changes nothing.

    If one step fails, the other steps and the other schedules still run. ``wait``: seconds to wait for new snapshots
    before they are copied. The next run copies snapshots that are completed later.
    """
    with Interrupts() as interrupts:
        cloud = cloud or Cloud.of(environment, sleep=interrupts.sleep)
        cloud.check_caller()
        runs = []
        for schedule in schedules:
            failures = Failures[str]()
            with failures.of("run"):
                if dry_run:
                    runs.append(_plan_run(environment, schedule, now, cloud))
                else:
                    lock_wait = Wait(_WAIT_FOR_OTHERS, cloud.clock, cloud.sleep)
                    with journals.open_journals(environment, cloud).exclusive(f"schedule.{schedule.name}", lock_wait):
                        _finish_earlier(environment, schedule, cloud, emit_to)
                        runs.append(_run_one(environment, schedule, now, cloud, emit_to, wait))
            if failures.reasons:  # the run did not start: the lock was held, or a killed run could not be finished
                runs.append(ScheduleRun(schedule, Steps((), (), (), ()), {}, failures.reasons))
        return tuple(runs)


def _plan_run(environment: Environment, schedule: Schedule, now: datetime, cloud: Cloud) -> ScheduleRun:
    found = survey(cloud, environment, schedule)
    return ScheduleRun(schedule, plan(schedule, found, now), {}, {}, unreachable=found.unreachable, others=found.others)


def inspect(environment: Environment, schedule: Schedule, now: datetime, *, cloud: Cloud | None = None) -> ScheduleRun:
    """Return the snapshots of a schedule with the decision about each. This changes nothing."""
    cloud = cloud or Cloud.of(environment)
    cloud.check_caller()
    found = survey(cloud, environment, schedule)
    steps = plan(schedule, replace(found, sources=()), now)
    return ScheduleRun(schedule, steps, {}, {}, unreachable=found.unreachable, others=found.others)


def error_of(runs: Iterable[ScheduleRun]) -> TargetsFailed | None:
    """Return the error that lists all failures of runs, or None if there are none."""
    failures = {
        f"{one.schedule.name}: {what}": why
        for one in runs
        for what, why in (*one.failures.items(), *one.unreachable.items())
    }
    if not failures:
        return None
    return TargetsFailed(
        f"{len(failures)} step{'s' if len(failures) != 1 else ''} of the schedules failed",
        failures=failures,
        hint=f"The next {step('schedule run')} tries them again.",
    )


def _run_one(
    environment: Environment, schedule: Schedule, now: datetime, cloud: Cloud, emit_to: Emit, wait: float
) -> ScheduleRun:
    _await_visible(cloud)
    found = survey(cloud, environment, schedule)
    steps, unreachable = plan(schedule, found, now), dict(found.unreachable)
    if not steps:  # Without steps there is no journal: a run that starts every five minutes would fill the store.
        return ScheduleRun(schedule, steps, {}, {}, unreachable=found.unreachable, others=found.others)
    with task.run(environment, KIND, {"schedule": schedule.name}, cloud=cloud, emit_to=emit_to) as job:
        work = _Work(job, schedule, tag_value(environment, schedule))
        for make in steps.makes:
            with work.attempt(str(make)):
                work.make(make)
        second = steps
        if steps.makes:
            if schedule.copies:
                work.await_snapshots(wait)
            _await_visible(cloud)
            # Survey again: the new snapshots count now, with their actual state.
            again = survey(cloud, environment, schedule)
            second = plan(schedule, again, now)
            unreachable.update(again.unreachable)
        work.finish(second)
        _await_visible(cloud)
    done = Steps(steps.makes, second.copies, second.changes, second.decisions)
    return ScheduleRun(schedule, done, work.made, work.failures, job.id, unreachable, found.others)


def _await_visible(cloud: Cloud) -> None:
    """Wait until reads show the new snapshots and images. Otherwise the next survey, maybe that of the next run, would
    not find them by their tags, and a slot would get a second one. The survey reports places that do not answer."""
    new_snapshots, new_images = cloud.recent.ids("snap-"), cloud.recent.ids("ami-")
    each(
        new_snapshots, lambda place: waiters.Watch(cloud, place, snapshots.VISIBLE, new_snapshots[place]).until_ready()
    )
    each(new_images, lambda place: waiters.Watch(cloud, place, images.VISIBLE, new_images[place]).until_ready())


def _finish_earlier(environment: Environment, schedule: Schedule, cloud: Cloud, emit_to: Emit) -> None:
    """Conclude killed runs. Their snapshots belong to the schedule: the survey finds them by their tags."""
    arguments = {"schedule": schedule.name}
    for id in task.conclude(environment, cloud, KIND, arguments=arguments, emit_to=emit_to):
        emit(emit_to, "note", message=f"run {id} of {schedule.name} was interrupted; it is finished now")


class _Work(Attempts):
    """The steps of one run."""

    def __init__(self, job: Task, schedule: Schedule, value: str) -> None:
        super().__init__(job.emit)
        self.job = job
        self.ledger = job.ledger
        self.schedule = schedule
        self.value = value
        self.made: dict[str, str] = {}
        self.pending: dict[Place, list[str]] = {}

    def finish(self, steps: Steps) -> None:
        """Do all steps after the creation of snapshots."""
        for copy in steps.copies:
            with self.attempt(str(copy)):
                self.copy(copy)
        for change in steps.changes:
            with self.attempt(str(change)):
                self.change(change)
        for made, decision in steps.deletions:
            with self.attempt(f"delete {made.id} in {made.place} ({decision.rule})"):
                self.delete(made)

    # --- create -------------------------------------------------------------------------------------------------------

    def make(self, make: Make) -> None:
        source, slot = make.source, slot_of(make.slot)
        name = f"{self.schedule.name} {source.id} {slot}"
        key = f"{slot}/{source.place}/{source.id}"
        own = source.tags if self.schedule.copy_tags else {}
        every = {**own, **self.schedule.tags, **self.schedule_tags(slot, source.id)}
        description = f"{self.schedule.name}: {source.id} at {timestamp(make.slot)}"
        if self.schedule.make == "images":
            made = [
                images.create(
                    self.ledger,
                    key,
                    source.place,
                    instance_id=source.id,
                    name=f"{self.schedule.name}-{source.id}-{slot}",
                    description=description,
                    tags=every,
                    no_reboot=True,
                )
            ]
        elif self.schedule.selection.resource == "instances":
            found = snapshots.create_all(
                self.ledger,
                key,
                source.place,
                instance_id=source.id,
                name=name,
                description=description,
                exclude=source.exclude,
                exclude_root=self.schedule.selection.exclude_root,
                tags=every,
            )
            made = [str(s["SnapshotId"]) for s in found]
        else:
            made = [
                snapshots.create(
                    self.ledger, key, source.place, volume_id=source.id, name=name, description=description, tags=every
                )
            ]
        self.job.own(*made)
        self.pending.setdefault(source.place, []).extend(made)
        self.made[str(make)] = ", ".join(made)

    def schedule_tags(self, slot: str, source: str) -> dict[str, str]:
        return {SCHEDULE_TAG: self.value, SLOT_TAG: slot, SOURCE_TAG: source}

    def await_snapshots(self, wait: float) -> None:
        def wait_in(place: Place) -> None:
            ids = self.pending[place]
            if self.schedule.make == "images":
                images.wait(self.ledger, place, ids, timeout=wait)
            else:
                snapshots.wait(self.ledger, place, ids, timeout=wait)

        for place, reason in each(self.pending, wait_in).reasons.items():
            self.failures[f"wait for the snapshots in {place}"] = reason

    # --- afterwards ---------------------------------------------------------------------------------------------------

    def copy(self, step: MakeCopy) -> None:
        made, slot = step.made, slot_of(step.made.saved.slot)
        key = self.copy_key(step)
        every = {**self.schedule.tags, **self.schedule_tags(slot, made.saved.source), COPY_TAG: made.id}
        common: dict[str, Any] = {
            "name": f"{self.schedule.name} {made.saved.source} {slot}",
            "description": f"{self.schedule.name}: copy of {made.id} in {made.place.region}",
            "tags": every,
        }
        if made.kind == "image":
            common["name"] = f"{self.schedule.name}-{made.saved.source}-{slot}"
            id = images.copy(
                self.ledger,
                f"copy/{step.place}/{made.id}",
                step.place,
                source_image_id=made.id,
                source_region=made.place.region,
                kms_key=key or "",
                **common,
            )
        else:
            id = snapshots.copy(
                self.ledger,
                f"copy/{step.place}/{made.id}",
                step.place,
                source=made.id,
                source_region=made.place.region,
                kms_key=key,
                **common,
            )
        self.job.own(id)
        self.made[str(step)] = id

    def copy_key(self, step: MakeCopy) -> str | None:
        """Return the ARN of the copy's key, or None for an unencrypted copy.

        Raises CloudError for an encrypted snapshot without a key: EC2 would use the default key without a warning, and
        snapshots under the default key cannot be shared.
        """
        if step.copy.kms_key:
            return kms.resolve(self.job.cloud, step.place, step.copy.kms_key).arn
        if step.made.encrypted:
            raise CloudError(
                f"{step.made.id} is encrypted, and its copy in {step.copy.region} has no kms_key",
                hint=f"Add kms_key to this copy of the schedule, at {self.schedule.mark}.",
            )
        return None

    def change(self, step: Change) -> None:
        made, place, key = step.made, step.made.place, f"{step.what}/{step.made.id}"
        match step.what:
            case "share" if made.kind == "image":
                images.share(self.ledger, key, place, made.id, accounts=step.values)
            case "share":
                snapshots.share(self.ledger, key, place, made.id, step.values)
            case "unshare" if made.kind == "image":
                images.unshare(self.ledger, key, place, made.id, step.values)
            case "unshare":
                snapshots.unshare(self.ledger, key, place, made.id, step.values)
            case "fast restore":
                snapshots.fast_restore(self.ledger, key, place, made.id, step.values)
            case "end fast restore":
                snapshots.fast_restore(self.ledger, key, place, made.id, step.values, on=False)
            case "archive":
                snapshots.archive(self.ledger, key, place, made.id)

    def delete(self, made: Made) -> None:
        if made.kind == "image":
            images.delete(self.ledger, made.place, made.id)
        else:
            snapshots.delete(self.ledger, made.place, made.id)
