"""Reads the sources of a schedule, and all snapshots and images that it created.

The snapshots are found by their tags, in every place of the schedule and every region of its copies. There is no other
record of them, so a run on another machine with the same catalog gets the same result. Snapshots of another catalog
are listed separately, also if their schedule and environment have the same names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from goldenami.aws import catalogs, images, snapshots, tags
from goldenami.aws.kinds import Tagged, kind_of
from goldenami.aws.ownership import Owner
from goldenami.aws.reservations import flatten
from goldenami.aws.session import Cloud
from goldenami.each import each
from goldenami.model import Environment, Place
from goldenami.schedules.policy import SCHEDULE_TAG, SLOT_TAG, SOURCE_TAG, Schedule, parse_slot
from goldenami.schedules.retention import Saved
from goldenami.schedules.steps import Made, Source, Survey
from goldenami.store import read_identity

COPY_TAG: Final = "goldenami:copy-of"
_STATES: Final[Mapping[str, Literal["completed", "pending", "error"]]] = {
    "completed": "completed",
    "available": "completed",
    "disabled": "completed",
    "error": "error",
    "failed": "error",
    "invalid": "error",
}
_ALIVE: Final = ("pending", "running", "stopping", "stopped")
_LOCKED: Final = ("compliance", "governance", "compliance-cooloff")


def tag_value(environment: Environment, schedule: Schedule) -> str:
    """Return the value of the schedule tag. It contains the environment, since two may have schedules of one name."""
    return f"{environment.name}/{schedule.name}"


def survey(cloud: Cloud, environment: Environment, schedule: Schedule) -> Survey:
    """Read the sources and snapshots in all places in parallel.

    A place that does not answer is in ``unreachable``. The other places are read.
    """
    value = tag_value(environment, schedule)
    identity = read_identity(catalogs.open_store(environment, cloud))
    owner = Owner(identity, environment.name, catalogs.open_proofs(environment, cloud))
    others: dict[str, str] = {}
    originals = each(
        schedule.places,
        lambda place: (
            list(_sources(cloud, schedule, place)),
            _made(cloud, schedule, place, _Search(value, owner, others), copied=False),
            _successors(cloud, place) if schedule.make == "snapshots" else {},
        ),
    )
    places = [Place(p.account, c.region) for p in schedule.places for c in schedule.copies]
    copies = each(places, lambda place: _made(cloud, schedule, place, _Search(value, owner, others), copied=True))
    successors = {old: new for _, _, every in originals.results.values() for old, new in every.items()}
    return Survey(
        sources=tuple(source for found, _, _ in originals.results.values() for source in found),
        made=tuple(
            _continued(made, successors)
            for there in (*(m for _, m, _ in originals.results.values()), *copies.results.values())
            for made in there
        ),
        unreachable={**originals.reasons, **copies.reasons},
        others=dict(sorted(others.items())),
    )


# --- sources ----------------------------------------------------------------------------------------------------------


def _sources(cloud: Cloud, schedule: Schedule, place: Place) -> Iterator[Source]:
    selection = schedule.selection
    filters = [{"Name": f"tag:{key}", "Values": [tags.exactly(value)]} for key, value in selection.tags.items()]
    if selection.resource == "volumes":
        states = {"Name": "status", "Values": ["available", "in-use"]}
        for volume in cloud.pages(place, "ec2", "DescribeVolumes", "Volumes", {"Filters": [*filters, states]}):
            own = tags.from_list(volume.get("Tags"))
            # A volume that was replaced and is kept belongs to no schedule. Those of earlier versions have their tags.
            kept = tags.KEPT_FROM in own and not volume.get("Attachments")
            if not kept and not _has_any(own, selection.exclude_tags):
                yield Source(volume["VolumeId"], place, tags=_own_tags(own))
        return
    alive = {"Name": "instance-state-name", "Values": list(_ALIVE)}
    request = {"Filters": [*filters, alive]}
    found = list(flatten(cloud.pages(place, "ec2", "DescribeInstances", "Reservations", request)))
    if selection.recipe is not None:
        ids = {str(i["ImageId"]) for i in found}
        released = {
            id
            for id, image in images.describe_many(cloud, place, ids).items()
            if tags.from_list(image.get("Tags")).get(tags.RECIPE) == selection.recipe
        }
        found = [i for i in found if i["ImageId"] in released]
    for instance in found:
        # A builder belongs to its build, and is deleted when the build ends.
        own = tags.from_list(instance.get("Tags"))
        if tags.BUILD_ID not in own:
            yield Source(instance["InstanceId"], place, _excluded(cloud, schedule, place, instance), _own_tags(own))


def _excluded(cloud: Cloud, schedule: Schedule, place: Place, instance: Mapping[str, Any]) -> tuple[str, ...]:
    if not schedule.selection.exclude_tags:
        return ()
    request = {"Filters": [{"Name": "attachment.instance-id", "Values": [instance["InstanceId"]]}]}
    root = instance.get("RootDeviceName")
    return tuple(
        sorted(
            volume["VolumeId"]
            for volume in cloud.pages(place, "ec2", "DescribeVolumes", "Volumes", request)
            if _has_any(tags.from_list(volume.get("Tags")), schedule.selection.exclude_tags)
            and all(a.get("Device") != root for a in volume.get("Attachments") or ())
        )
    )


def _successors(cloud: Cloud, place: Place) -> dict[str, str]:
    """Return, by the id of each volume that was replaced, the volume that is in use in its place now."""
    replacing = {"Filters": [{"Name": "tag-key", "Values": [tags.REPLACES]}]}
    found = {}
    for volume in cloud.pages(place, "ec2", "DescribeVolumes", "Volumes", replacing):
        own = tags.from_list(volume.get("Tags"))
        if tags.KEPT_FROM not in own:
            found.update(dict.fromkeys(own[tags.REPLACES].split(), str(volume["VolumeId"])))
    return {old: new for old, new in found.items() if old != new}


def _continued(made: Made, successors: Mapping[str, str]) -> Made:
    """Return a snapshot of a replaced volume as one of the series of its successor: retention goes on for it."""
    source = successors.get(made.saved.source, made.saved.source)
    slot_source = successors.get(made.slot_source, made.slot_source)
    return replace(made, saved=replace(made.saved, source=source), slot_source=slot_source)


def _has_any(own: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return any(own.get(key) == value for key, value in wanted.items())


def _own_tags(own: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in own.items() if not k.startswith((tags.PREFIX, "aws:"))}


# --- snapshots and images ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Search:
    """What is searched: the value of the schedule tag, for an owner. ``others``: gets the snapshots of other owners."""

    value: str
    owner: Owner
    others: dict[str, str]


def _made(cloud: Cloud, schedule: Schedule, place: Place, search: _Search, *, copied: bool) -> list[Made]:
    tagged = {f"tag:{SCHEDULE_TAG}": [search.value]}
    found = images.own(cloud, place, tagged) if schedule.make == "images" else snapshots.find(cloud, place, tagged)
    kind: Literal["snapshot", "image"] = "image" if schedule.make == "images" else "snapshot"
    every, unowned = [], {}
    for item in found:
        own, id = tags.from_list(item.get("Tags")), str(item.get("SnapshotId") or item["ImageId"])
        if (COPY_TAG in own) != copied:
            continue
        answer = kind_of(kind).owner_of(cloud, place, Tagged(own, item), search.owner)
        if answer.whose == "theirs":
            search.others[f"{id} in {place}"] = answer.reason
            continue
        every.append(item)
        unowned[id] = answer.reason
    ids = [str(item.get("SnapshotId") or item["ImageId"]) for item in every]
    held = _held(cloud, place, ids) if schedule.make == "snapshots" else _protected(every)
    fast = _fast(cloud, place, ids) if schedule.fast_restore is not None and not copied else {}
    made = []
    for id, item in zip(ids, every, strict=True):
        own = tags.from_list(item.get("Tags"))
        slot = parse_slot(own.get(SLOT_TAG, ""))
        if slot is None:
            continue  # Another program changed the slot tag, so the schedule no longer manages it.
        slot_source = own.get(SOURCE_TAG, "")
        source = slot_source
        if not copied and schedule.make == "snapshots":
            source = str(item.get("VolumeId") or slot_source)
        state = _STATES.get(str(item.get("State")), "pending")
        saved = Saved(id, source, slot, state, held.get(id, ""), item.get("StartTime"))
        archived = item.get("StorageTier") == "archive"
        shared = _shared(cloud, schedule, place, id) if schedule.share_accounts and not copied else frozenset()
        encrypted = bool(item.get("Encrypted"))
        restored = fast.get(id, frozenset())
        made.append(Made(saved, place, slot_source, kind, copied, encrypted, archived, shared, restored, unowned[id]))
    return made


def _held(cloud: Cloud, place: Place, ids: Collection[str]) -> dict[str, str]:
    """Return why snapshots cannot be deleted: an image uses them, or they are locked."""
    held = {id: f"image {', '.join(using)} uses it" for id, using in snapshots.images_using(cloud, place, ids).items()}
    for id, lock in snapshots.locks(cloud, place, ids).items():
        if lock.get("LockState") in _LOCKED:
            held[id] = f"it is locked ({lock['LockState']})"
    return held


def _protected(every: Collection[Mapping[str, Any]]) -> dict[str, str]:
    protected = (i for i in every if str(i.get("DeregistrationProtection", "disabled")).startswith("enabled"))
    return {str(i["ImageId"]): "it is protected from deregistration" for i in protected}


def _shared(cloud: Cloud, schedule: Schedule, place: Place, id: str) -> frozenset[str]:
    if schedule.make == "images":
        return images.launch_permissions(cloud, place, id)
    return snapshots.volume_permissions(cloud, place, id)


def _fast(cloud: Cloud, place: Place, ids: Collection[str]) -> dict[str, frozenset[str]]:
    if not ids:
        return {}
    found: dict[str, set[str]] = {}
    for one in snapshots.fast_restores(cloud, place, ids):
        found.setdefault(one["SnapshotId"], set()).add(one["AvailabilityZone"])
    return {id: frozenset(zones) for id, zones in found.items()}
