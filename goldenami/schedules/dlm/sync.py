"""Creates, changes, adopts and deletes DLM policies so that they match the schedules.

The tags of a policy name its schedule (goldenami:schedule), catalog and environment. Only policies of this catalog and
environment are changed or deleted. Policies of another catalog are listed, also if their schedule has the same name.

A policy without the tag of a catalog has an unknown owner. If it matches a schedule, or has the schedule's tag, nothing
is created or changed for this schedule in its place, because a second policy would create the same snapshots. With
``adopt`` it gets the tags, and later runs of ``apply`` change it with the schedule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from goldenami import task
from goldenami.aws import catalogs, kms, lifecycle
from goldenami.aws.lifecycle import LifecyclePolicy
from goldenami.aws.ownership import Owner
from goldenami.aws.session import Cloud
from goldenami.aws.tags import CATALOG, ENVIRONMENT
from goldenami.each import each
from goldenami.errors import NotFound, TargetsFailed
from goldenami.events import Emit, ignore_events
from goldenami.model import Environment, Place
from goldenami.nextstep import step
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
from goldenami.store import ensure_identity, read_identity
from goldenami.task import Task
from goldenami.work import Attempts

TASK: Final = "dlm apply"
Action = Literal["create", "update", "adopt", "delete"]


@dataclass(frozen=True, slots=True)
class Step:
    """A change of one policy. ``changes``: the differences. ``policy``: the existing policy, or None."""

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
    """The steps that make the policies match the schedules.

    ``in_step``: the number of policies that match already. ``unreachable``: places that did not answer, with the
    reasons; nothing is planned there. ``kept``: policies of schedules that DLM can no longer run; they are not changed.
    ``others``: policies of another catalog that have the tag of a schedule of this name, with their owner. ``unowned``:
    policies of schedules whose owner cannot be determined, with the reason. Both are not changed.
    """

    steps: tuple[Step, ...]
    expressed: tuple[Expressed, ...]
    in_step: int = 0
    unreachable: Mapping[Place, str] = field(default_factory=dict)
    kept: tuple[LifecyclePolicy, ...] = ()
    others: Mapping[str, str] = field(default_factory=dict)
    unowned: Mapping[str, str] = field(default_factory=dict)

    @property
    def inexpressible(self) -> tuple[Expressed, ...]:
        return tuple(one for one in self.expressed if one.reasons)


@dataclass(frozen=True, slots=True)
class Applied:
    """The outcome of ``apply``. ``ids``: policy ids by step. ``failures``: reasons by step."""

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
    to_apply: bool = False,
    adopt: bool = False,
) -> Plan:
    """Plan the steps of ``apply``. This changes nothing in the cloud.

    ``to_apply``: ``apply`` follows, so the catalog gets its id now if it has none. The policies carry it.

    ``everything``: ``schedules`` are all schedules of the environment, so policies of other schedules are planned for
    deletion. ``adopt``: take over policies of unknown owners that belong to a schedule. ``role``: see
    ``express.role_arn``.
    """
    cloud = cloud or Cloud.of(environment)
    cloud.check_caller()
    store = catalogs.open_store(environment, cloud)
    identity = ensure_identity(store, cloud.now()) if to_apply else read_identity(store)
    keys, unreachable = _keys(cloud, schedules)
    expressed = tuple(express(environment, one, _keys_of(one, keys), identity) for one in schedules)
    answers = each(places(environment, schedules), lambda place: lifecycle.policies(cloud, place))
    unreachable |= answers.reasons
    # Without the ARN of a key, a policy would be planned with another key. So such a place is omitted as well.
    found = {place: policies for place, policies in answers.results.items() if place not in unreachable}
    owner = Owner(identity, environment.name)
    steps: list[Step] = []
    in_step = 0
    unowned: dict[str, str] = {}
    for one in expressed:
        for place, details in one.details.items():
            if place not in found:
                continue
            wanted = _Wanted(environment, one.schedule, place, details, role)
            mine = [policy for policy in found[place] if _is_of(policy, owner, wanted.name)]
            twin = None if mine else next((p for p in found[place] if _may_be_of(p, owner, wanted)), None)
            if twin is not None and not adopt:
                reason = "an unknown owner has the policy"
                if SCHEDULE_TAG in twin.tags:
                    reason = owner.of_tags(twin.tags).reason
                unowned[f"{twin.id} in {place}"] = f"{reason}; it belongs to {one.schedule.name}"
                continue
            step = _step(wanted, mine[0] if mine else None, twin)
            in_step += step is None
            steps += [step] if step is not None else []
    known = {owner_of(environment, one.schedule): one for one in expressed}
    kept: list[LifecyclePolicy] = []
    others: dict[str, str] = {}
    for place, there in found.items():
        for policy in there:
            named = policy.tags.get(SCHEDULE_TAG, "")
            if not named.startswith(f"{environment.name}/"):
                continue
            answer, what = owner.of_tags(policy.tags), f"{policy.id} in {place}"
            if not answer.is_ours:
                if answer.whose == "theirs":
                    others[what] = answer.reason
                elif not any(step.policy is policy for step in steps):
                    unowned.setdefault(what, answer.reason)
                continue
            schedule = known.get(named)
            if schedule is not None and schedule.reasons:
                kept.append(policy)
            elif (schedule is None and everything) or (schedule is not None and place not in schedule.details):
                name = named.partition("/")[2]
                steps.append(
                    Step(
                        "delete",
                        place,
                        name,
                        policy=policy,
                        changes=("the schedule does not exist or does not include this place",),
                    )
                )
    return Plan(tuple(steps), expressed, in_step, unreachable, tuple(kept), others, unowned)


def apply(
    environment: Environment,
    plan: Plan,
    *,
    cloud: Cloud | None = None,
    emit_to: Emit = ignore_events,
) -> Applied:
    """Do the steps of a plan, with a journal. If one step fails, the others are still done. A plan without steps opens
    no journal."""
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


def error_of(applied: Applied) -> TargetsFailed | None:
    """Return the error that lists all mismatches after ``apply``, or None if every policy matches its schedule."""
    failures = dict(applied.failures)
    failures |= {f"{place}": reason for place, reason in applied.plan.unreachable.items()}
    failures |= {one.schedule.name: "; ".join(one.reasons) for one in applied.plan.inexpressible}
    failures |= dict(applied.plan.unowned)
    if not failures:
        return None
    return TargetsFailed(
        f"{len(failures)} schedules or places do not match the policies of DLM",
        failures=failures,
        hint=f"Use {step('schedule run', 'NAME')} for schedules that DLM cannot run. Policies of an unknown owner are "
        f"taken over with {step('dlm apply', '--adopt')}. Run {step('dlm apply')} again for the other failures.",
    )


# --- one step ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The policy that a schedule needs in a place. ``role``: that of the option; None if it is not given."""

    environment: Environment
    schedule: Schedule
    place: Place
    details: Details
    role: str | None

    @property
    def name(self) -> str:
        """The value of the schedule tag."""
        return owner_of(self.environment, self.schedule)


def _is_of(policy: LifecyclePolicy, owner: Owner, name: str) -> bool:
    return policy.tags.get(SCHEDULE_TAG) == name and owner.of_tags(policy.tags).is_ours


def _may_be_of(policy: LifecyclePolicy, owner: Owner, wanted: _Wanted) -> bool:
    """Return whether a policy of an unknown owner has the schedule's tag, or does the same without a tag."""
    if owner.of_tags(policy.tags).whose != "unknown":
        return False
    if SCHEDULE_TAG in policy.tags:
        return policy.tags[SCHEDULE_TAG] == wanted.name
    return _matches(policy.details, wanted.details)


def _step(wanted: _Wanted, mine: LifecyclePolicy | None, twin: LifecyclePolicy | None) -> Step | None:
    """Return the step for a schedule in a place. ``mine``: its policy. ``twin``: the policy to adopt."""
    schedule, place, details, role = wanted.schedule, wanted.place, wanted.details, wanted.role
    text = description(wanted.environment, schedule)
    if mine is None:
        action: Action = "adopt" if twin is not None else "create"
        arn = twin.role if twin is not None and role is None else role_arn(details, place, role)
        return Step(action, place, schedule.name, arn, text, details, twin)
    policy = mine
    # Keep a role that was set outside goldenami, unless --role is given.
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


def _matches(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return bool(one.get("Schedules")) and _nameless(one) == _nameless(other)


def _nameless(details: Mapping[str, Any]) -> Any:
    """Return details without the names and added tags of schedules. An adopted policy may get new ones."""
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
        catalog = job.journal.header.catalog or ""
        every = {**owner, CATALOG: catalog, ENVIRONMENT: job.environment.name}
        lifecycle.tag(ledger, f"{key}/tags", place, step.policy, every)
    lifecycle.update(ledger, f"{key}/update", place, id, **words)
    return id


# --- where, and under which keys --------------------------------------------------------------------------------------


def places(environment: Environment, schedules: Iterable[Schedule]) -> Iterator[Place]:
    """Yield all places where policies can be: every account in every region that the environment uses."""
    regions = {environment.home_place.region, *(target.region for target in environment.targets)}
    places = {place for schedule in schedules for place in schedule.places}
    places |= {Place(account.id, region) for account in environment.accounts.values() for region in regions}
    yield from sorted(places)


_KeyIn = tuple[Place, str]  # an alias means another key in each account and region


def _keys(cloud: Cloud, schedules: Iterable[Schedule]) -> tuple[dict[_KeyIn, str], dict[Place, str]]:
    """Return the ARNs of the copies' keys, and the reasons for places whose keys cannot be read.

    These places are those of the sources and of the copies. Raises NotFound for a key that does not exist.
    """
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
            unreachable[place] = f"key {key} of its copies: {answers.reasons[copied_to]}"
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
