"""Running schedules: what is due is made, what is made is copied and shared, what no rule keeps is deleted.

    finish what a killed run began → survey → plan → make → survey → plan → copy, share, … → delete

Exactly one snapshot for a slot, however often and wherever this runs: one runner at a time has a schedule's lock; what
exists for a slot is known by its tags; and a call whose answer a killed run never read is looked up by its token before
anything is made. Each snapshot is its schedule's from the moment it is made: a run that fails later keeps it, and the
next run goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from goldenami import task
from goldenami.aws import images, journals, kms, snapshots
from goldenami.aws.ledger import Patience
from goldenami.aws.session import Cloud
from goldenami.each import Failures, each
from goldenami.errors import CloudError, TargetsFailed
from goldenami.events import Emit, emit, ignore_events
from goldenami.interrupts import Interrupts
from goldenami.journal import Wait
from goldenami.model import Environment, Place
from goldenami.schedules.policy import SCHEDULE_TAG, SLOT_TAG, SOURCE_TAG, Schedule, slot_of
from goldenami.schedules.steps import Change, Made, Make, MakeCopy, Steps, plan
from goldenami.schedules.survey import COPY_TAG, survey, tag_value
from goldenami.task import Task
from goldenami.work import Attempts

KIND: Final = "schedule run"
# Seconds: how long a runner waits for another one of the same schedule, and for new snapshots before it copies them.
_WAIT_FOR_OTHERS: Final = 600.0
_WAIT_FOR_SNAPSHOTS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of one schedule. ``steps``: what was done, or with ``dry_run``, what would be. ``made``: ids by step.
    ``failures``: reasons, by step. ``unreachable``: places that did not answer, with the reason."""

    schedule: Schedule
    steps: Steps
    made: dict[str, str]
    failures: dict[str, str]
    task_id: str = ""
    unreachable: Mapping[Place, str] = field(default_factory=dict)


def run(
    environment: Environment,
    schedules: Iterable[Schedule],
    now: datetime,
    *,
    dry_run: bool = False,
    cloud: Cloud | None = None,
    emit_to: Emit = ignore_events,
    wait: float = _WAIT_FOR_SNAPSHOTS,
    patience: Patience | None = None,
) -> tuple[Ran, ...]:
    """Run them one after the other, as of ``now``; the second call for one moment does nothing.

    A failure of one step does not stop the others, nor the other schedules. ``wait``: seconds to wait for new
    snapshots before they are copied; what is not completed by then is copied by the next run.
    """
    with Interrupts() as interrupts:
        cloud = cloud or Cloud.of(environment, sleep=interrupts.sleep)
        cloud.check_caller()

        def run_one(schedule: Schedule) -> Ran:
            if dry_run:
                found = survey(cloud, environment, schedule)
                return Ran(schedule, plan(schedule, found, now), {}, {}, unreachable=found.unreachable)
            with journals.open_journals(environment, cloud).exclusive(
                f"schedule.{schedule.name}", Wait(_WAIT_FOR_OTHERS, cloud.clock, cloud.sleep)
            ):
                _finish_earlier(environment, schedule, cloud, emit_to, patience)
                return _run_one(environment, schedule, now, cloud, emit_to, wait)

        ran = []
        for schedule in schedules:
            failures = Failures[str]()
            with failures.of("run"):
                ran.append(run_one(schedule))
            if failures.reasons:  # it did not begin: its lock, or what a killed run left
                ran.append(Ran(schedule, Steps((), (), (), ()), {}, failures.reasons))
        return tuple(ran)


def look(environment: Environment, schedule: Schedule, now: datetime, *, cloud: Cloud | None = None) -> Ran:
    """What is there of a schedule, with the verdict on each; nothing is changed, and nothing is due."""
    cloud = cloud or Cloud.of(environment)
    cloud.check_caller()
    found = survey(cloud, environment, schedule)
    return Ran(schedule, plan(schedule, replace(found, sources=()), now), {}, {}, unreachable=found.unreachable)


def failed(ran: Iterable[Ran]) -> TargetsFailed | None:
    """The error that tells of every failure of a run; None if there was none."""
    failures = {
        f"{one.schedule.name}: {what}": why
        for one in ran
        for what, why in (*one.failures.items(), *one.unreachable.items())
    }
    if not failures:
        return None
    return TargetsFailed(
        f"{len(failures)} step{'s' if len(failures) != 1 else ''} of the schedules failed",
        failures=failures,
        hint="The next `goldenami schedule run` tries them again.",
    )


def _run_one(
    environment: Environment, schedule: Schedule, now: datetime, cloud: Cloud, emit_to: Emit, wait: float
) -> Ran:
    found = survey(cloud, environment, schedule)
    steps, unreachable = plan(schedule, found, now), dict(found.unreachable)
    if not steps:  # nothing to journal: a runner that looks every five minutes leaves no trace
        return Ran(schedule, steps, {}, {}, unreachable=found.unreachable)
    with task.run(environment, KIND, {"schedule": schedule.name}, cloud=cloud, emit_to=emit_to) as job:
        work = _Work(job, schedule, tag_value(environment, schedule))
        for make in steps.makes:
            with work.attempt(str(make)):
                work.make(make)
        second = steps
        if steps.makes:
            if schedule.copies:
                work.await_snapshots(wait)
            # Read again: what was made counts from now on, as what it is.
            again = survey(cloud, environment, schedule)
            second = plan(schedule, again, now)
            unreachable.update(again.unreachable)
        work.finish(second)
    done = Steps(steps.makes, second.copies, second.changes, second.verdicts)
    return Ran(schedule, done, work.made, work.failures, job.id, unreachable)


def _finish_earlier(
    environment: Environment, schedule: Schedule, cloud: Cloud, emit_to: Emit, patience: Patience | None
) -> None:
    """What a killed run made is the schedule's: its snapshots carry slot and source, and are found by the survey."""
    asked = {"schedule": schedule.name}
    for id in task.conclude(environment, cloud, KIND, arguments=asked, emit_to=emit_to, patience=patience):
        emit(emit_to, "note", message=f"run {id} of {schedule.name} had not ended: continued")


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
        """Everything but making."""
        for copy in steps.copies:
            with self.attempt(str(copy)):
                self.copy(copy)
        for change in steps.changes:
            with self.attempt(str(change)):
                self.change(change)
        for made, verdict in steps.deletions:
            with self.attempt(f"delete {made.id} in {made.place} ({verdict.rule})"):
                self.delete(made)

    # --- making -------------------------------------------------------------------------------------------------------

    def make(self, make: Make) -> None:
        source, slot = make.source, slot_of(make.slot)
        name = f"{self.schedule.name} {source.id} {slot}"
        key = f"{slot}/{source.place}/{source.id}"
        own = source.tags if self.schedule.copy_tags else {}
        every = {**own, **self.schedule.tags, **self.marks(slot, source.id)}
        description = f"{self.schedule.name}: {source.id} at {make.slot.isoformat()}"
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

    def marks(self, slot: str, source: str) -> dict[str, str]:
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
        key = self.key_in(step)
        every = {**self.schedule.tags, **self.marks(slot, made.saved.source), COPY_TAG: made.id}
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

    def key_in(self, step: MakeCopy) -> str | None:
        """The ARN of the copy's key. An encrypted snapshot is never copied without one being named: EC2 would take the
        default key, whose snapshots cannot be shared, in silence."""
        if step.copy.kms_key:
            return kms.resolve(self.job.cloud, step.place, step.copy.kms_key).arn
        if step.made.encrypted:
            raise CloudError(
                f"{step.made.id} is encrypted, and the copy in {step.copy.region} has no key",
                hint=f"Name one under copies: kms_key: …, in {self.schedule.mark}.",
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
