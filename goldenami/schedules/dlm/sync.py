"""Schedules and the policies of DLM: what has to be created, changed, taken over and deleted so that they agree.

A policy is a schedule's by its tag goldenami:schedule. One without that tag which says the same is taken over: it is
tagged, and from then on kept in step. Others are not touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from goldenami import task
from goldenami.aws import kms, lifecycle
from goldenami.aws.lifecycle import LifecyclePolicy
from goldenami.aws.session import Cloud
from goldenami.each import each
from goldenami.errors import NotFound, TargetsFailed
from goldenami.events import Emit, ignore_events
from goldenami.model import Environment, Place
from goldenami.schedules.dlm.express import (
    Details,
    Expressed,
    description,
    differences,
    express,
    owner_of,
    plain,
    role_arn,
)
from goldenami.schedules.policy import SCHEDULE_TAG, Schedule
from goldenami.task import Task
from goldenami.work import Attempts

TASK: Final = "dlm apply"
Action = Literal["create", "update", "adopt", "delete"]


@dataclass(frozen=True, slots=True)
class Step:
    """One policy that is not as it should be. ``changes``: what differs. ``policy``: the one there is."""

    action: Action
    place: Place
    name: str
    role: str = ""
    description: str = ""
    details: Details = field(default_factory=dict)
    policy: LifecyclePolicy | None = None
    changes: tuple[str, ...] = ()

    def __str__(self) -> str:
        policy = f" {self.policy.id}" if self.policy is not None else ""
        return f"{self.action} policy{policy} of {self.name} in {self.place}"


@dataclass(frozen=True, slots=True)
class Plan:
    """``unreachable``: places that did not answer, with the reason; nothing is planned there. ``kept``: policies of
    schedules that DLM cannot have (any more): left as they are."""

    steps: tuple[Step, ...]
    expressed: tuple[Expressed, ...]
    in_step: int = 0
    unreachable: Mapping[Place, str] = field(default_factory=dict)
    kept: tuple[LifecyclePolicy, ...] = ()

    @property
    def inexpressible(self) -> tuple[Expressed, ...]:
        return tuple(one for one in self.expressed if one.reasons)


@dataclass(frozen=True, slots=True)
class Applied:
    """``ids``: of the policies by step. ``failures``: reasons by step."""

    plan: Plan
    ids: Mapping[str, str]
    failures: Mapping[str, str]
    task_id: str = ""


def make_plan(
    environment: Environment,
    schedules: Sequence[Schedule],
    *,
    role: str | None = None,
    everything: bool = True,
    cloud: Cloud | None = None,
) -> Plan:
    """What ``apply`` would do; changes nothing. ``everything``: the schedules are all there are, so that policies of
    others are of schedules that are gone, and are deleted. ``role``: see ``express.role_arn``."""
    cloud = cloud or Cloud.of(environment)
    cloud.check_caller()
    keys, unreachable = _keys(cloud, schedules)
    expressed = tuple(express(environment, one, _keys_of(one, keys)) for one in schedules)
    answers = each(places(environment, schedules), lambda place: lifecycle.policies(cloud, place))
    unreachable |= answers.reasons
    # A policy whose keys are not known would be planned with other keys: its place is left out as well.
    found = {place: policies for place, policies in answers.results.items() if place not in unreachable}
    steps: list[Step] = []
    in_step = 0
    for one in expressed:
        for place, details in one.details.items():
            if place in found:
                step = _step(environment, one.schedule, place, details, found[place], role)
                in_step += step is None
                steps += [step] if step is not None else []
    known = {owner_of(environment, one.schedule): one for one in expressed}
    kept: list[LifecyclePolicy] = []
    for place, there in found.items():
        for policy in there:
            owner = policy.tags.get(SCHEDULE_TAG, "")
            if not owner.startswith(f"{environment.name}/"):
                continue
            schedule = known.get(owner)
            if schedule is not None and schedule.reasons:
                kept.append(policy)
            elif (schedule is None and everything) or (schedule is not None and place not in schedule.details):
                name = owner.partition("/")[2]
                steps.append(Step("delete", place, name, policy=policy, changes=("it is not declared any more",)))
    return Plan(tuple(steps), expressed, in_step, unreachable, tuple(kept))


def apply(
    environment: Environment,
    plan: Plan,
    *,
    cloud: Cloud | None = None,
    emit_to: Emit = ignore_events,
) -> Applied:
    """Do the steps, through a journal; each is done and stays, whatever becomes of the others. A plan without steps
    does nothing, and opens no journal."""
    if not plan.steps:
        return Applied(plan, {}, {})
    ids: dict[str, str] = {}
    attempts = Attempts()
    names = sorted({step.name for step in plan.steps})
    with task.run(environment, TASK, {"schedules": names}, cloud=cloud, emit_to=emit_to) as job:
        for step in plan.steps:
            with attempts.attempt(str(step)):
                ids[str(step)] = _carry_out(job, step)
        task_id = job.id
    return Applied(plan, ids, attempts.failures, task_id)


def failed(applied: Applied) -> TargetsFailed | None:
    """The error that tells of all that is not in step after an ``apply``; None if everything is."""
    failures = dict(applied.failures)
    failures |= {f"{place}": reason for place, reason in applied.plan.unreachable.items()}
    failures |= {one.schedule.name: "; ".join(one.reasons) for one in applied.plan.inexpressible}
    if not failures:
        return None
    return TargetsFailed(
        f"{len(failures)} of the schedules and places are not in step with DLM",
        failures=failures,
        hint="What DLM cannot express is for `goldenami schedule run NAME`; the rest is tried again by the next apply.",
    )


# --- one step ---------------------------------------------------------------------------------------------------------


def _step(
    environment: Environment,
    schedule: Schedule,
    place: Place,
    details: Details,
    there: Iterable[LifecyclePolicy],
    role: str | None,
) -> Step | None:
    owner = owner_of(environment, schedule)
    text = description(environment, schedule)
    mine = [policy for policy in there if policy.tags.get(SCHEDULE_TAG) == owner]
    if not mine:
        twin = next((p for p in there if SCHEDULE_TAG not in p.tags and _says_the_same(p.details, details)), None)
        action: Action = "adopt" if twin is not None else "create"
        arn = twin.role if twin is not None and role is None else role_arn(details, place, role)
        return Step(action, place, schedule.name, arn, text, details, twin)
    policy = mine[0]
    # A role that somebody chose by hand stays, unless one is asked for.
    arn = role_arn(details, place, role) if role is not None else policy.role
    changes = differences(plain(details), plain(policy.details))
    if policy.state != "ENABLED":
        changes.append(f"State: {policy.state!r} → 'ENABLED'")
    if policy.role != arn:
        changes.append(f"ExecutionRoleArn: {policy.role!r} → {arn!r}")
    if policy.description != text:
        changes.append(f"Description: {policy.description!r} → {text!r}")
    if not changes:
        return None
    return Step("update", place, schedule.name, arn, text, details, policy, tuple(changes))


def _says_the_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return bool(one.get("Schedules")) and _nameless(one) == _nameless(other)


def _nameless(details: Mapping[str, Any]) -> Any:
    """Without what a schedule is called, and the tags it adds: those may become ours."""
    cleaned = plain(details)
    schedules = [{k: v for k, v in s.items() if k not in ("Name", "TagsToAdd")} for s in cleaned.get("Schedules", ())]
    return {**cleaned, "Schedules": schedules}


def _carry_out(job: Task, step: Step) -> str:
    ledger, place = job.ledger, step.place
    key = f"dlm/{place}/{step.name}"
    owner = {SCHEDULE_TAG: f"{job.environment.name}/{step.name}"}
    words: dict[str, Any] = {"description": step.description, "role": step.role, "details": step.details}
    if step.policy is None:
        id = lifecycle.create(ledger, key, place, name=step.name, tags=owner, **words)
        job.own(id)
        return id
    id = step.policy.id
    if step.action == "delete":
        lifecycle.delete(ledger, place, id)
        return id
    if step.action == "adopt":
        lifecycle.tag(ledger, f"{key}/tags", place, step.policy, owner)
    lifecycle.update(ledger, f"{key}/update", place, id, **words)
    return id


# --- where, and under which keys --------------------------------------------------------------------------------------


def places(environment: Environment, schedules: Iterable[Schedule]) -> Iterator[Place]:
    """Where policies are, or may be left from earlier: every account in every region that the environment uses."""
    regions = {environment.home_place.region, *(target.region for target in environment.targets)}
    places = {place for schedule in schedules for place in schedule.places}
    places |= {Place(account.id, region) for account in environment.accounts.values() for region in regions}
    yield from sorted(places)


_KeyIn = tuple[Place, str]  # an alias means another key in each account and region


def _keys(cloud: Cloud, schedules: Iterable[Schedule]) -> tuple[dict[_KeyIn, str], dict[Place, str]]:
    """The ARNs of the keys of copies; and the places of sources and copies where one cannot be read, with the reason.
    Raises NotFound for a key that does not exist."""
    wanted = [
        (place, copy.region, copy.kms_key)
        for schedule in schedules
        for place in schedule.places
        for copy in schedule.copies
        if copy.kms_key
    ]
    answers = each(
        [(Place(place.account, region), key) for place, region, key in wanted],
        lambda one: kms.resolve(cloud, *one).arn,
    )
    for error in answers.errors.values():
        if isinstance(error, NotFound):
            raise error
    unreachable = {place: reason for (place, _), reason in answers.reasons.items()}
    for place, region, key in wanted:
        copied_to = (Place(place.account, region), key)
        if copied_to in answers.reasons:
            unreachable[place] = f"the key {key} of its copies: {answers.reasons[copied_to]}"
    return dict(answers.results), unreachable


def _keys_of(schedule: Schedule, keys: Mapping[_KeyIn, str]) -> dict[Place, dict[str, str]]:
    return {
        place: {
            copy.kms_key: keys.get((Place(place.account, copy.region), copy.kms_key), copy.kms_key)
            for copy in schedule.copies
            if copy.kms_key
        }
        for place in schedule.places
    }
