"""Exchanges volumes of an instance, and undoes an exchange that failed.

Steps::

    record the volumes → keep all volumes if the instance is terminated → stop → detach the old, attach the new
    volumes → start → restore DeleteOnTermination → record the commit → tag

The attached volumes are recorded in the journal first. So ``put_back`` can restore them from any state, in this process
or in a later one (``goldenami clean``): it compares the attached volumes with the record, and corrects the differences.
Old volumes are never deleted here. They stay detached and tagged until ``goldenami volume forget``. Their own tags get
other names, so that no schedule, DLM policy or other program goes on with them (``kept_tags``).

After the instance was started with its new volumes, an undo would lose the writes since the start. From then on an
interrupted task is completed instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from goldenami.aws import instances, journals, tags, volumes, waiters
from goldenami.aws.ledger import Ledger
from goldenami.aws.reservations import flatten
from goldenami.aws.session import Cloud
from goldenami.aws.tagcalls import tag, untag
from goldenami.aws.volumes import Volume
from goldenami.aws.waiters import Item
from goldenami.errors import BuilderError, CloudError, UsageError
from goldenami.model import Place, timestamp
from goldenami.snapshots import interruption
from goldenami.snapshots.history import ATTACHED, How, attached_tag, tags_after
from goldenami.task import Task

REPLACED_BY: Final = tags.PREFIX + "replaced-by"  # on an old volume: the id of the new one
KEPT_BY: Final = tags.PREFIX + "kept-by"  # on an old volume: the id of the task
KEPT_FROM: Final = tags.KEPT_FROM

_PLAN: Final = "exchange"  # stages in the journal
_COMMITTED: Final = "exchange.committed"
_OUR_TAGS: Final = 12  # of a task's resource and of `history`; the marks of a kept volume are fewer
_MOST_TAGS: Final = 50
_LONGEST_KEY: Final = 127
_START: Final = "start"  # keys of the ledger
_KEEP: Final = "keep-with-instance"


@dataclass(frozen=True, slots=True)
class Exchange:
    """Replace the volume ``old`` by the volume with the id ``new``. ``kept``: the new volume, if it is a kept one."""

    old: Volume
    new: str
    kept: Volume | None = None

    @property
    def device(self) -> str:
        return str(self.old.device)


def check(cloud: Cloud, place: Place, instance: Item, chosen: Sequence[Volume], *, replaces_root: bool = False) -> None:
    """Raises UsageError for an instance whose volumes cannot be exchanged, or that would lose data."""
    interruption.check(cloud, place, instance, reboots=replaces_root)
    if not chosen:
        id = instance["InstanceId"]
        raise UsageError(f"no volume of {id} is selected", hint="Give --device with the device of an attached volume.")
    for volume in chosen:
        if volume.multi_attach:
            others = [one for one in volume.instances if one != instance["InstanceId"]]
            found = f", and {', '.join(others)} {'have' if len(others) > 1 else 'has'} it, too" if others else ""
            raise UsageError(
                f"{volume.id} ({volume.device}) has Multi-Attach{found}. Expected a volume of one instance: the others "
                "would go on with the old volume",
                hint="Select the other volumes with --device. Exchange this one by hand, on all its instances at once.",
            )


@contextmanager
def alone(job: Task, instance_id: str) -> Iterator[None]:
    """Hold the lock of an instance, so that no other process exchanges its volumes. Raises Busy with the holder."""
    with journals.open_journals(job.environment, job.cloud).exclusive(f"instance-{instance_id}"):
        yield


def note(job: Task, place: Place, instance: Item, chosen: Sequence[Volume]) -> None:
    """Record the attached volumes in the journal, before the first change."""
    for volume in chosen:
        check_tags(job, volume)
    ids = {v.id for v in chosen}
    others = [v for v in volumes.of_instance(job.cloud, place, instance["InstanceId"]) if v.id not in ids]
    job.journal.stage_done(
        _PLAN,
        account=place.account,
        region=place.region,
        instance=instance["InstanceId"],
        was_running=instance["State"]["Name"] == "running",
        at=timestamp(job.cloud.now()),
        volumes=[_entry(v) for v in chosen],
        others=[_entry(v) for v in others],
    )


def _entry(volume: Volume) -> dict[str, Any]:
    return {
        "device": volume.device,
        "old": volume.id,
        "delete_on_termination": volume.delete_on_termination,
        "attached": timestamp(volume.attached) if volume.attached is not None else None,
        "tags": own_tags(volume),
    }


def check_tags(job: Task, volume: Volume) -> None:
    """Raises UsageError for a volume whose tags would not fit. Call it before the first change."""
    own = own_tags(volume)
    # On a new volume: the tags of every resource of a task, and those of `new_tags`.
    expected = len({*own, *job.ledger.tags, *job.ledger.owner_tags(), tags.NAME}) + _OUR_TAGS
    long = [key for key in own if len(tags.KEPT_TAG + key) > _LONGEST_KEY]
    if expected > _MOST_TAGS or long:
        found = f"the tag key {long[0]!r}" if long else f"{len(own)} tags"
        raise UsageError(
            f"{volume.id} ({volume.device}) has {found}. An exchange adds {_OUR_TAGS} tags to the new volume, and "
            f"writes {tags.KEPT_TAG} before the keys of the old volume; AWS accepts {_MOST_TAGS} tags, and "
            f"{_LONGEST_KEY} characters in a key",
            hint="Remove some tags of the volume first, or shorten the key.",
        )


def noted_at(job: Task) -> datetime:
    """Return when the attached volumes were recorded. They were attached then."""
    return _time(_plan(job)["at"])


def stop(job: Task) -> None:
    """Stop the instance if it is running. The operating system flushes its data to the volumes.

    Until ``swap`` has started it again, its volumes are kept if another program terminates it.
    """
    plan = _plan(job)
    if plan["was_running"]:
        place, instance = _place(plan), plan["instance"]
        volumes.delete_with_instance(job.ledger, _KEEP, place, instance, _deleted(plan), deleted=False)
        job.note(f"stopping {plan['instance']}")
        instances.stop(job.ledger, "stop", _place(plan), plan["instance"])


def swap(job: Task, exchanges: Sequence[Exchange]) -> None:
    """Exchange the volumes of the stopped instance. Start the instance if it was running before."""
    plan, ledger = _plan(job), job.ledger
    place, instance = _place(plan), plan["instance"]
    again = {
        e.new: {**tags_after(e.old, noted_at(job), "reattached"), **tags_before(e.kept)} for e in exchanges if e.kept
    }
    job.journal.stage_done("exchange.new", volumes={e.device: e.new for e in exchanges}, reattached=again)
    for exchange in exchanges:
        job.note(f"{exchange.device}: {exchange.new} replaces {exchange.old.id}")
        volumes.detach(ledger, f"detach/{exchange.old.id}", place, exchange.old.id)
        volumes.attach(ledger, f"attach/{exchange.new}", place, exchange.new, instance, exchange.device)
    if plan["was_running"]:
        job.note(f"starting {instance}")
        instances.start(ledger, _START, place, instance)
    commit(job, [e.new for e in exchanges])


def commit(job: Task, new: Sequence[str]) -> None:
    """Restore DeleteOnTermination, and record that the exchange is final. The task no longer owns the new volumes, so
    a cleanup keeps them. Then tag the volumes."""
    plan = _plan(job)
    volumes.delete_with_instance(
        job.ledger, "delete-with-instance", _place(plan), plan["instance"], _deleted(plan), deleted=True
    )
    job.journal.stage_done(_COMMITTED)
    job.own(*new)
    _tag(job, plan)


def _tag(job: Task, plan: Any) -> None:
    """Tag the exchanged volumes. A second call completes a first one that was interrupted."""
    stage = job.journal.stage("exchange.new") or {}
    new: Mapping[str, str] = stage.get("volumes", {})
    again: Mapping[str, Mapping[str, str]] = stage.get("reattached", {})
    place, instance = _place(plan), plan["instance"]
    attached = volumes.describe_many(job.cloud, place, new.values())
    for entry in plan["volumes"]:
        device, id = str(entry["device"]), new[str(entry["device"])]
        now = attached.get(id)
        if now is not None:
            # First the tags that a kept volume loses: with both at once it might have more than EC2 accepts.
            marks = {k for k in now.tags if k in (REPLACED_BY, KEPT_FROM, KEPT_BY) or k.startswith(tags.KEPT_TAG)}
            if marks:
                untag(job.ledger, f"untag/{id}", place, id, dict.fromkeys(marks))
            tag(job.ledger, f"line/{id}", place, id, {**again.get(id, {}), **attached_tag(now)})
        keep(job, place, entry["old"], entry.get("tags", {}), id, instance, device)


def keep(job: Task, place: Place, old: str, own: Mapping[str, str], new: str, instance: str, device: str) -> None:
    """Tag a volume that was replaced and is kept. ``own``: its own tags, which get other names."""
    if own:
        untag(job.ledger, f"untag/{old}", place, old, dict.fromkeys(own))
    marks = {REPLACED_BY: new, KEPT_FROM: f"{instance} {device}", KEPT_BY: job.id}
    tag(job.ledger, f"tag/{old}", place, old, {**kept_tags(own), **marks})


def own_tags(volume: Volume) -> dict[str, str]:
    """Return the tags of a volume that are neither AWS's nor goldenami's."""
    return {k: v for k, v in volume.tags.items() if not k.startswith(("aws:", tags.PREFIX))}


def kept_tags(own: Mapping[str, str]) -> dict[str, str]:
    """Return the own tags of a kept volume under other names, and a Name tag that says that it is kept."""
    found = {tags.KEPT_TAG + key: value for key, value in own.items()}
    return {**found, tags.NAME: f"{own[tags.NAME][:240]} (kept)"} if tags.NAME in own else found


def tags_before(kept: Volume) -> dict[str, str]:
    """Return the own tags of a kept volume under their names of before."""
    found = {k.removeprefix(tags.KEPT_TAG): v for k, v in kept.tags.items() if k.startswith(tags.KEPT_TAG)}
    return found or own_tags(kept)  # volumes of earlier versions have kept their tags


def new_tags(old: Volume, until: datetime, how: How) -> dict[str, str]:
    """Return the tags of a replacement volume: those of the old volume, and its history (``history.tags_after``)."""
    own = {k: v for k, v in own_tags(old).items() if k != tags.NAME}
    return {**own, **tags_after(old, until, how)}


# --- undo -------------------------------------------------------------------------------------------------------------


def put_back(job: Task) -> None:
    """Restore the recorded volumes, or complete an exchange that can no longer be undone.

    It can be called repeatedly and from any process. Without a record it does nothing; after the commit it only tags.
    """
    plan = job.journal.stage(_PLAN)
    if plan is None:
        return
    if job.journal.stage(_COMMITTED) is not None:
        _tag(job, plan)
        return
    place, instance = _place(plan), plan["instance"]
    new: dict[str, str] = dict((job.journal.stage("exchange.new") or {}).get("volumes", {}))
    if _is_past_the_start(job, plan, new):
        job.note(f"{instance} already runs with its new volumes: they are kept")
        commit(job, list(new.values()))
        return
    number = int((job.journal.stage("undo") or {}).get("number", 0)) + 1
    job.journal.stage_done("undo", number=number)
    undo = f"undo-{number}"
    wanted = {str(v["device"]): v for v in plan["volumes"]}
    # A volume that is being detached counts as detached: EC2 completes the detachment.
    found = volumes.of_instance(job.cloud, place, instance)
    attached = {str(v.device): v for v in found if v.attachment != "detaching"}
    wrong = [d for d, v in wanted.items() if d not in attached or attached[d].id != v["old"]]
    if wrong:
        job.note(f"attaching {', '.join(wanted[d]['old'] for d in wrong)} again", "warning")
        _stop(job.ledger, undo, place, instance)
        for device in wrong:
            _put_back(job.ledger, undo, place, instance, wanted[device], attached.get(device), new.get(device))
    # Start the instance first, because its applications are down. Attributes and tags can follow later.
    if plan["was_running"] and _state(job, place, instance) != "running":
        _settle(job, place, instance)
        if _state(job, place, instance) == "stopped":
            instances.start(job.ledger, f"{undo}/start", place, instance)
    there = {str(v.device): v for v in volumes.of_instance(job.cloud, place, instance)}
    changed = {
        bool(goes): {d for d in devices if d in there and there[d].delete_on_termination != goes}
        for goes, devices in ((True, _deleted(plan)), (False, set(wanted) - _deleted(plan)))
    }
    for goes, devices in changed.items():
        key = f"{undo}/delete-with-instance/{goes}"
        volumes.delete_with_instance(job.ledger, key, place, instance, devices, deleted=goes)
    for device, entry in wanted.items():
        _tag_again(job.ledger, undo, place, plan, entry, there[device])


def _tag_again(ledger: Ledger, undo: str, place: Place, plan: Any, entry: Any, old: Volume) -> None:
    """Correct the tags of an old volume that is attached again: EC2 shows another time of attachment."""
    names = {REPLACED_BY, KEPT_FROM} & set(old.tags)  # tasks of earlier versions tag before the commit
    if names:
        untag(ledger, f"{undo}/untag/{old.id}", place, old.id, dict.fromkeys(names))
    since, now = entry.get("attached"), old.attached
    if since is None or now is None or timestamp(now) == since or old.tags.get(ATTACHED) == timestamp(now):
        return
    before = replace(old, attached=_time(since))
    found = {**tags_after(before, _time(plan["at"]), "reattached"), **attached_tag(old)}
    tag(ledger, f"{undo}/line/{old.id}", place, old.id, found)


def _put_back(
    ledger: Ledger, undo: str, place: Place, instance: str, entry: Any, there: Volume | None, new: str | None
) -> None:
    old, device = entry["old"], entry["device"]
    if there is not None:
        if there.id != new:
            raise UsageError(
                f"{there.id} is attached at {device} of {instance}, expected {old} or {new}",
                hint=f"Another program attached it. Detach it and attach {old} at {device}; no volume was deleted.",
            )
        volumes.detach(ledger, f"{undo}/detach/{there.id}", place, there.id)
    volumes.wait_available(ledger, place, [old])
    volumes.attach(ledger, f"{undo}/attach/{old}", place, old, instance, device)


def _is_past_the_start(job: Task, plan: Any, new: dict[str, str]) -> bool:
    """Return whether the instance was started and runs with its new volumes."""
    if not plan["was_running"] or not new or job.journal.latest(_START) is None:
        return False
    place, instance = _place(plan), plan["instance"]
    attached = {str(v.device): v.id for v in volumes.of_instance(job.cloud, place, instance)}
    if any(attached.get(device) != id for device, id in new.items()):
        return False
    _settle(job, place, instance)
    return _state(job, place, instance) == "running"


def _stop(ledger: Ledger, undo: str, place: Place, instance: str) -> None:
    seen = waiters.Watch(ledger.cloud, place, _SETTLED, [instance], timeout=600.0).until_ready()[instance]
    if seen.state != "stopped":
        instances.stop(ledger, f"{undo}/stop", place, instance)


def _settle(job: Task, place: Place, instance: str) -> None:
    """Wait until the instance is neither starting nor stopping, at most 600 seconds."""
    waiters.Watch(job.cloud, place, _SETTLED, [instance], timeout=600.0).until_ready()


def _classify_settled(item: Item) -> tuple[waiters.Readiness, str]:
    return ("pending", "") if waiters.state_of(item) in ("pending", "stopping") else ("ready", "")


_SETTLED: Final = waiters.Watched(
    "DescribeInstances",
    "Reservations",
    "instance-id",
    "InstanceId",
    _classify_settled,
    flatten,
    kind="settled",
)


def _state(job: Task, place: Place, instance: str) -> str:
    found = instances.find(job.ledger, place, instance)
    if found is None:
        raise BuilderError(f"instance {instance} no longer exists in {place}")
    return found.state


def _plan(job: Task) -> Any:
    plan = job.journal.stage(_PLAN)
    if plan is None:
        raise CloudError("the journal has no record of the attached volumes: note() must be called first")
    return plan


def _deleted(plan: Any) -> set[str]:
    """Return the devices whose volumes are deleted with the instance, by the record."""
    entries = [*plan["volumes"], *plan.get("others", ())]  # records of older versions have no others
    return {str(v["device"]) for v in entries if v["delete_on_termination"]}


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _place(plan: Any) -> Place:
    return Place(plan["account"], plan["region"])
