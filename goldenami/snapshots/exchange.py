"""Volumes of an instance that take the place of others, and the way back from anywhere on that way.

    note what is there → stop → detach the old ones, attach the new ones → tag → start → note that it is done

What is there is noted in the journal first, so ``put_back`` can bring it back whatever happened since, in this process
or in a later one (`goldenami clean`): it looks at what is attached now, and changes what differs. Old volumes are never
deleted here: they stay, detached and tagged, until `goldenami volume forget`.

Once the instance has been started with its new volumes there is no way back any more that loses nothing: what was
written since would be missing. So from then on a task that was cut off is brought to its end instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from goldenami.aws import instances, journals, tags, volumes, waiters
from goldenami.aws.ledger import Ledger
from goldenami.aws.volumes import Volume
from goldenami.aws.waiters import Item
from goldenami.errors import BuilderError, CloudError, UsageError
from goldenami.model import Place
from goldenami.snapshots.points import replaces
from goldenami.task import Task

REPLACED_BY: Final = tags.PREFIX + "replaced-by"  # on an old volume: the id of the new one
KEPT_FROM: Final = tags.PREFIX + "kept-from"  # on an old volume: instance and device, "i-… /dev/xvda"

_PLAN: Final = "exchange"  # stages in the journal
_COMMITTED: Final = "exchange.committed"
_START: Final = "start"  # the ledger's key


@dataclass(frozen=True, slots=True)
class Exchange:
    """``new`` is to be where ``old`` is."""

    old: Volume
    new: str

    @property
    def device(self) -> str:
        return str(self.old.device)


def check(instance: Item, chosen: Sequence[Volume]) -> None:
    """Raises UsageError for an instance whose volumes cannot be exchanged."""
    id = instance["InstanceId"]
    if instance["State"]["Name"] not in ("running", "stopped"):
        raise UsageError(f"{id} is {instance['State']['Name']}: it has to be running or stopped")
    if instance.get("InstanceLifecycle") == "spot":
        raise UsageError(f"{id} is a spot instance: one of a one-time request cannot be stopped and started again")
    if instance.get("RootDeviceType", "ebs") != "ebs":
        raise UsageError(f"{id} has its root in an instance store: it cannot be stopped")
    if not chosen:
        raise UsageError(f"no volume of {id} is meant")


@contextmanager
def alone(job: Task, instance_id: str) -> Iterator[None]:
    """Nobody else exchanges volumes of this instance meanwhile. Raises Busy, which says who does."""
    with journals.open_journals(job.environment, job.cloud).exclusive(f"instance-{instance_id}"):
        yield


def note(job: Task, place: Place, instance: Item, chosen: Sequence[Volume]) -> None:
    """Write down what is there, before anything changes."""
    job.journal.stage_done(
        _PLAN,
        account=place.account,
        region=place.region,
        instance=instance["InstanceId"],
        was_running=instance["State"]["Name"] == "running",
        volumes=[{"device": v.device, "old": v.id, "delete_on_termination": v.delete_on_termination} for v in chosen],
    )


def stop(job: Task) -> None:
    """Shut the instance down cleanly, if it runs: what it has in memory is on its volumes then."""
    plan = _plan(job)
    if plan["was_running"]:
        job.note(f"stopping {plan['instance']}")
        instances.stop(job.ledger, "stop", _place(plan), plan["instance"])


def swap(job: Task, exchanges: Sequence[Exchange]) -> None:
    """The instance is stopped: put the new volumes where the old ones are, and start it if it ran before."""
    plan, ledger = _plan(job), job.ledger
    place, instance = _place(plan), plan["instance"]
    job.journal.stage_done("exchange.new", volumes={e.device: e.new for e in exchanges})
    for exchange in exchanges:
        job.note(f"{exchange.device}: {exchange.new} takes the place of {exchange.old.id}")
        volumes.detach(ledger, f"detach/{exchange.old.id}", place, exchange.old.id)
        volumes.attach(ledger, f"attach/{exchange.new}", place, exchange.new, instance, exchange.device)
        if exchange.old.delete_on_termination:
            volumes.keep_with_instance(
                ledger, f"keep/{exchange.new}", place, instance, exchange.device, delete_on_termination=True
            )
    for exchange in exchanges:
        kept = {REPLACED_BY: exchange.new, KEPT_FROM: f"{instance} {exchange.device}"}
        volumes.tag(ledger, f"tag/{exchange.old.id}", place, exchange.old.id, kept)
    if plan["was_running"]:
        job.note(f"starting {instance}")
        instances.start(ledger, _START, place, instance)
    commit(job, [e.new for e in exchanges])


def commit(job: Task, new: Sequence[str]) -> None:
    """From here on there is no way back, and the new volumes are the instance's."""
    job.journal.stage_done(_COMMITTED)
    job.own(*new)


def tags_for(old: Volume) -> dict[str, str]:
    """The tags of what takes a volume's place: its own, and its line."""
    own = {k: v for k, v in old.tags.items() if not k.startswith(("aws:", tags.PREFIX)) and k != tags.NAME}
    return {**own, **replaces(old)}


# --- the way back -----------------------------------------------------------------------------------------------------


def put_back(job: Task) -> None:
    """Bring back what was noted, or finish what can only go on. Any number of calls, from any process."""
    plan = job.journal.stage(_PLAN)
    if plan is None or job.journal.stage(_COMMITTED) is not None:
        return
    place, instance = _place(plan), plan["instance"]
    new: dict[str, str] = dict((job.journal.stage("exchange.new") or {}).get("volumes", {}))
    if _is_past_the_start(job, plan, new):
        job.note(f"{instance} runs from its new volumes already: it stays so")
        commit(job, list(new.values()))
        return
    number = int((job.journal.stage("undo") or {}).get("number", 0)) + 1
    job.journal.stage_done("undo", number=number)
    undo = f"undo-{number}"
    wanted = {str(v["device"]): v for v in plan["volumes"]}
    # What is on its way out is not there any more: a detachment that was asked for goes on without us.
    found = volumes.of_instance(job.cloud, place, instance)
    attached = {str(v.device): v for v in found if v.attachment != "detaching"}
    wrong = [d for d, v in wanted.items() if d not in attached or attached[d].id != v["old"]]
    if wrong:
        job.note(f"putting back {', '.join(wanted[d]['old'] for d in wrong)}", "warning")
        _stop(job.ledger, undo, place, instance)
        for device in wrong:
            _put_back(job.ledger, undo, place, instance, wanted[device], attached.get(device), new.get(device))
    # What an application misses most comes first: that it runs. What only we and a later termination need, after it.
    if plan["was_running"] and _state(job, place, instance) != "running":
        _settle(job, place, instance)
        if _state(job, place, instance) == "stopped":
            instances.start(job.ledger, f"{undo}/start", place, instance)
    there = {str(v.device): v for v in volumes.of_instance(job.cloud, place, instance)}
    for device, entry in wanted.items():
        old = there[device]
        if old.delete_on_termination != entry["delete_on_termination"]:
            goes = bool(entry["delete_on_termination"])
            key = f"{undo}/keep/{old.id}"
            volumes.keep_with_instance(job.ledger, key, place, instance, device, delete_on_termination=goes)
        names = {REPLACED_BY, KEPT_FROM} & set(old.tags)
        if names:
            volumes.untag(job.ledger, f"{undo}/untag/{old.id}", place, old.id, names)


def _put_back(
    ledger: Ledger, undo: str, place: Place, instance: str, entry: Any, there: Volume | None, new: str | None
) -> None:
    old, device = entry["old"], entry["device"]
    if there is not None:
        if there.id != new:
            raise UsageError(
                f"{there.id} is at {device} of {instance}, and nobody here put it there",
                hint=f"Attach {old} there if that is right; nothing was deleted.",
            )
        volumes.detach(ledger, f"{undo}/detach/{there.id}", place, there.id)
    volumes.wait_available(ledger, place, [old])
    volumes.attach(ledger, f"{undo}/attach/{old}", place, old, instance, device)


def _is_past_the_start(job: Task, plan: Any, new: dict[str, str]) -> bool:
    """Whether the instance runs from its new volumes: it was told to start, and did."""
    if not plan["was_running"] or not new or job.journal.latest(_START) is None:
        return False
    place, instance = _place(plan), plan["instance"]
    attached = {str(v.device): v.id for v in volumes.of_instance(job.cloud, place, instance)}
    if any(attached.get(device) != id for device, id in new.items()):
        return False
    _settle(job, place, instance)
    return _state(job, place, instance) == "running"


def _stop(ledger: Ledger, undo: str, place: Place, instance: str) -> None:
    seen = waiters.watch(ledger.cloud, place, _SETTLED, [instance], timeout=600.0)[instance]
    if seen.state != "stopped":
        instances.stop(ledger, f"{undo}/stop", place, instance)


def _settle(job: Task, place: Place, instance: str) -> None:
    """Wait until it is neither starting nor stopping."""
    waiters.watch(job.cloud, place, _SETTLED, [instance], timeout=600.0)


def _classify_settled(item: Item) -> tuple[waiters.Readiness, str]:
    return ("pending", "") if waiters.state_of(item) in ("pending", "stopping") else ("ready", "")


_SETTLED: Final = waiters.Watched(
    "DescribeInstances",
    "Reservations",
    "instance-id",
    "InstanceId",
    _classify_settled,
    lambda reservations: (i for r in reservations for i in r["Instances"]),
)


def _state(job: Task, place: Place, instance: str) -> str:
    found = instances.describe_many(job.cloud, place, [instance]).get(instance)
    if found is None:
        raise BuilderError(f"{instance} does not exist in {place} any more")
    return found.state


def _plan(job: Task) -> Any:
    plan = job.journal.stage(_PLAN)
    if plan is None:
        raise CloudError("what is there was not noted")
    return plan


def _place(plan: Any) -> Place:
    return Place(plan["account"], plan["region"])
