"""Creates, changes, adopts and deletes DLM policies so that they match the schedules.

The tags of a policy name its schedule (goldenami:schedule), catalog and environment. Only policies of this catalog and
environment are changed or deleted. Policies of another catalog are listed, also if their schedule has the same name.

A policy without the tag of a catalog has an unknown owner. If it matches a schedule, or has the schedule's tag, nothing
is created or changed for this schedule in its place, because a second policy would create the same snapshots. With
``adopt`` it gets the tags, and later runs of ``apply`` change it with the schedule. Each policy is
taken over for one schedule. A further policy that does the same is listed, because each creates its own snapshots.

A policy that exists keeps the names of its schedules: DLM deletes snapshots by this name. DLM cannot change the type of
a policy, what it selects, or a retention by count to one by age. Such a policy is replaced: a new one is created, and
the old one is deleted. The snapshots of the old one stay.
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
    DEFAULT_KEY,
    SNAPSHOTS,
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
Action = Literal["create", "update", "adopt", "replace", "delete"]
_ORPHANS: Final = "the snapshots or images that it created stay, and DLM no longer deletes them"


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
    policies of schedules whose owner cannot be determined, with the reason. Both are not changed. ``doubled``: policies
    of unknown owners that do the same as the policy of a schedule, with its name.
    """

    steps: tuple[Step, ...]
    expressed: tuple[Expressed, ...]
    in_step: int = 0
    unreachable: Mapping[Place, str] = field(default_factory=dict)
    kept: tuple[LifecyclePolicy, ...] = ()
    others: Mapping[str, str] = field(default_factory=dict)
    unowned: Mapping[str, str] = field(default_factory=dict)
    doubled: Mapping[str, str] = field(default_factory=dict)

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
    claimed: set[str] = set()
    every: list[_Wanted] = []
    for one in expressed:
        for place, details in one.details.items():
            if place not in found:
                continue
            wanted = _Wanted(environment, one.schedule, place, details, role)
            every.append(wanted)
            mine = [policy for policy in found[place] if _is_of(policy, owner, wanted.name)]
            mine.sort(key=lambda policy: (bool(_unchangeable(policy.details, details)), policy.id))
            twin = None if mine else _twin(found[place], owner, wanted, claimed)
            claimed |= {policy.id for policy in (*mine[:1], *([twin] if twin else []))}
            if twin is not None and (why := _not_adopted(twin, owner, wanted, adopt=adopt)):
                unowned[f"{twin.id} in {place}"] = f"{why}; it belongs to {one.schedule.name}"
                continue
            step = _step(wanted, mine[0] if mine else None, twin)
            in_step += step is None
            steps += [step] if step is not None else []
            for more in mine[1:]:
                why = f"a second policy of the schedule, beside {mine[0].id}; {_ORPHANS}"
                steps.append(Step("delete", place, one.schedule.name, policy=more, changes=(why,)))
    doubled = {
        f"{policy.id} in {wanted.place}": wanted.schedule.name
        for wanted in every
        for policy in found[wanted.place]
        if policy.id not in claimed and policy.state == "ENABLED" and _may_be_of(policy, owner, wanted)
    }
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
                        changes=(f"the schedule does not exist or does not include this place; {_ORPHANS}",),
                    )
                )
    return Plan(tuple(steps), expressed, in_step, unreachable, tuple(kept), others, unowned, doubled)


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
    forms = (wanted.details, _without_default_keys(wanted), _without_default_keys(wanted, encrypted=False))
    return any(_matches(policy.details, form) for form in forms)


def _without_default_keys(wanted: _Wanted, *, encrypted: bool = True) -> Details:
    """Return details as a policy has them that encrypts copies without a key: DLM takes the default.

    ``encrypted``: False for a policy whose copies of images are not encrypted. goldenami encrypts all of them.
    """
    regions = {copy.region for copy in wanted.schedule.copies if copy.kms_key == DEFAULT_KEY}
    every = encrypted or wanted.schedule.make != "images"

    def without(rule: Details) -> Details:
        if rule.get("Target", rule.get("TargetRegion")) not in regions:
            return rule
        return {**{k: v for k, v in rule.items() if k != "CmkArn"}, "Encrypted": every}

    schedules = [
        {**s, "CrossRegionCopyRules": [without(rule) for rule in s["CrossRegionCopyRules"]]}
        if "CrossRegionCopyRules" in s
        else s
        for s in wanted.details["Schedules"]
    ]
    return {**wanted.details, "Schedules": schedules}


def _twin(
    policies: Iterable[LifecyclePolicy], owner: Owner, wanted: _Wanted, claimed: set[str]
) -> LifecyclePolicy | None:
    """Return the policy of an unknown owner that belongs to a schedule best, and to none before it."""
    text = description(wanted.environment, wanted.schedule)
    words = wanted.schedule.description
    candidates = [p for p in policies if p.id not in claimed and _may_be_of(p, owner, wanted)]
    return min(
        candidates,
        key=lambda p: (SCHEDULE_TAG not in p.tags, p.description not in (text, words), p.state != "ENABLED", p.id),
        default=None,
    )


def _not_adopted(twin: LifecyclePolicy, owner: Owner, wanted: _Wanted, *, adopt: bool) -> str:
    """Return why a policy is not taken over; empty if it is."""
    if adopt:
        return _unchangeable(twin.details, wanted.details)
    return owner.of_tags(twin.tags).reason if SCHEDULE_TAG in twin.tags else "an unknown owner has the policy"


def _unchangeable(actual: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Return what UpdateLifecyclePolicy cannot change in a policy; empty if it can change everything."""
    kind, other = (one.get("PolicyType", SNAPSHOTS) for one in (actual, wanted))
    if kind != other:
        return f"DLM cannot change the type of a policy: {kind} → {other}"
    if actual.get("ResourceTypes") != wanted.get("ResourceTypes"):
        return f"DLM cannot change what a policy selects: {actual.get('ResourceTypes')} → {wanted['ResourceTypes']}"
    counts = [bool((s.get("RetainRule") or {}).get("Count")) for one in (actual, wanted) for s in one["Schedules"][:1]]
    return "DLM cannot change a retention by count to one by age" if counts == [True, False] else ""


def _named_as(wanted: Details, actual: Mapping[str, Any]) -> Details:
    """Return details with the names that the schedules of a policy have already.

    A schedule whose name the policy does not have gets the name of the one that has the same times, or of the only one
    that is left: DLM finds the snapshots that it deletes by this name.
    """
    mine: list[Details] = list(wanted["Schedules"])
    names = {schedule["Name"] for schedule in mine}
    free = [s for s in actual.get("Schedules") or () if s.get("Name") and s["Name"] not in names]
    known = {s.get("Name") for s in actual.get("Schedules") or ()}
    lost = [schedule for schedule in mine if schedule["Name"] not in known]
    named: dict[str, str] = {}
    for schedule in lost:
        same = [s for s in free if plain(s.get("CreateRule")) == plain(schedule["CreateRule"])]
        same = [s for s in same if plain(s.get("RetainRule")) == plain(schedule["RetainRule"])] or same
        chosen = same[:1] or (free if len(free) == len(lost) == 1 else [])
        if chosen:
            named[schedule["Name"]] = str(chosen[0]["Name"])
            free.remove(chosen[0])
    return {**wanted, "Schedules": [{**s, "Name": named.get(s["Name"], s["Name"])} for s in mine]}


def _step(wanted: _Wanted, mine: LifecyclePolicy | None, twin: LifecyclePolicy | None) -> Step | None:
    """Return the step for a schedule in a place. ``mine``: its policy. ``twin``: the policy to adopt."""
    schedule, place, details, role = wanted.schedule, wanted.place, wanted.details, wanted.role
    text = description(wanted.environment, schedule)
    there = mine or twin
    if there is not None:
        details = _named_as(details, there.details)
    if mine is None:
        action: Action = "adopt" if twin is not None else "create"
        arn = twin.role if twin is not None and role is None else role_arn(details, place, role)
        changed = differences(_comparable(details), _comparable(twin.details)) if twin is not None else []
        return Step(action, place, schedule.name, arn, text, details, twin, tuple(changed))
    policy = mine
    # Keep a role that was set outside goldenami, unless --role is given.
    arn = role_arn(details, place, role) if role is not None else policy.role
    if why := _unchangeable(policy.details, details):
        return Step(
            "replace", place, schedule.name, arn, text, wanted.details, policy, (why, f"{policy.id}: {_ORPHANS}")
        )
    changes = differences(_comparable(details), _comparable(policy.details))
    names = {s["Name"] for s in details["Schedules"]}
    ended = [s["Name"] for s in policy.details.get("Schedules") or () if s.get("Name") not in names]
    changes += [f"the schedule {name!r} of the policy ends: {_ORPHANS}" for name in ended]
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
    return {**cleaned, "Schedules": sorted(schedules, key=str)}


def _comparable(details: Mapping[str, Any]) -> Any:
    """Return details in one form, with the schedules by name."""
    cleaned = plain(details)
    return {**cleaned, "Schedules": sorted(cleaned.get("Schedules", ()), key=lambda s: str(s.get("Name")))}


def _carry_out(job: Task, step: Step) -> str:
    ledger, place = job.ledger, step.place
    key = f"dlm/{place}/{step.name}"
    owner = {SCHEDULE_TAG: f"{job.environment.name}/{step.name}"}
    words: dict[str, Any] = {"description": step.description, "role": step.role, "details": step.details}
    if step.policy is None or step.action == "replace":
        # The old policy is deleted last. A run that ends between both leaves two, and the next one deletes the old one.
        key = key if step.policy is None else f"{key}/instead-of-{step.policy.id}"
        id = lifecycle.create(ledger, key, place, name=step.name, tags=owner, **words)
        job.own(id)
        if step.policy is not None:
            lifecycle.delete(ledger, place, step.policy.id)
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
