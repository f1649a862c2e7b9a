"""What carries goldenami's tags and belongs to nobody any more: found by asking every account and region.

    facts (``find``) → verdicts (``decide``, pure) → deletions (``delete``)

Something is owned by the release whose manifest names it, by an image that stands on it, by an instance that uses it,
by a build or task that has not ended (`goldenami clean` is for those), by a schedule, or by the task that made it for
its user. What is left is an orphan, unless it is too young to tell: a build on another machine may be making it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from goldenami import task
from goldenami.aws import images, journals, recyclebin, snapshots, tags
from goldenami.aws.kinds import kind_of, parameter_tags
from goldenami.aws.session import Cloud
from goldenami.each import each
from goldenami.events import Emit, ignore_events
from goldenami.model import Environment, Place
from goldenami.release import usage
from goldenami.release.catalog import Catalog
from goldenami.release.judge import living
from goldenami.release.parameters import parameters_for
from goldenami.work import Attempts

TASK: Final = "orphans"
MINIMUM_AGE: Final = timedelta(days=1)  # what is younger may be of a build that runs on another machine
_KINDS: Final = ("instance", "image", "snapshot", "volume", "key-pair", "security-group", "parameter")
_SCHEDULE_TAG: Final = "goldenami:schedule"


@dataclass(frozen=True, slots=True)
class Thing:
    """Something with goldenami's tags. ``used_by``: an instance, image or interface that uses it, or empty. ``made``:
    when, as far as AWS or the build's id say."""

    place: Place
    kind: str
    id: str
    tags: Mapping[str, str]
    made: datetime | None = None
    used_by: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.id} in {self.place}"


@dataclass(frozen=True, slots=True)
class Known:
    """What owns things: ids and names of manifests, by what ("web 1.0.20261124.1"); builds and tasks that have not
    ended, by id."""

    released: Mapping[tuple[Place, str], str]
    unfinished: frozenset[str]


@dataclass(frozen=True, slots=True)
class Ownership:
    thing: Thing
    orphan: bool
    rule: str


@dataclass(frozen=True, slots=True)
class Orphans:
    verdicts: tuple[Ownership, ...]
    unreachable: Mapping[Place, str]  # places that did not answer, with the reason
    deleted: tuple[Thing, ...] = ()
    left: Mapping[str, str] = field(default_factory=dict)
    recoverable: Mapping[str, datetime] = field(default_factory=dict)  # until when it lies in the Recycle Bin
    unknown_bins: Mapping[Place, str] = field(default_factory=dict)  # places that do not tell the rules of theirs

    @property
    def found(self) -> tuple[Thing, ...]:
        return tuple(v.thing for v in self.verdicts if v.orphan)


# --- deciding ---------------------------------------------------------------------------------------------------------


def decide(things: Iterable[Thing], known: Known, now: datetime) -> tuple[Ownership, ...]:
    """The verdict on each thing, sorted by place and kind. A snapshot of an image that is an orphan is one, too; what
    an owned image or an instance uses is not."""
    ordered = sorted(things, key=lambda t: (t.place, _KINDS.index(t.kind), t.id))
    verdicts: dict[tuple[Place, str], Ownership] = {}
    for thing in ordered:
        owner = _owner(thing, known, now)
        using = verdicts.get((thing.place, thing.used_by))
        if owner is None and thing.used_by and not (using is not None and using.orphan):
            owner = f"used by {thing.used_by}"
        rule = owner or "no release, instance, build, task or schedule owns it"
        verdicts[thing.place, thing.id] = Ownership(thing, owner is None, rule)
    return tuple(verdicts.values())


def _owner(thing: Thing, known: Known, now: datetime) -> str | None:
    release = known.released.get((thing.place, thing.id))
    if release is not None:
        return f"of the release {release}"
    build = thing.tags.get(tags.BUILD_ID, "")
    if build in known.unfinished:
        return f"of {build}, which has not ended: goldenami clean {build}"
    if _SCHEDULE_TAG in thing.tags:
        return f"of the schedule {thing.tags[_SCHEDULE_TAG]}"
    if tags.TASK in thing.tags:
        return f"made by {thing.tags[tags.TASK]!r} for its user"
    if not tags.made_by(thing.tags, build):
        return "its tags are not goldenami's own: somebody copied them"
    expires = tags.parse_timestamp(thing.tags.get(tags.EXPIRES_AT, ""))
    if expires is not None and expires > now:
        return f"of build {build}, which may run until {expires:%Y-%m-%dT%H:%M}Z"
    made = thing.made or _moment_of_build(build)
    if expires is None and made is not None and now - made < MINIMUM_AGE:
        return f"of build {build}, which may still run: it is younger than a day"
    return None


def _moment_of_build(build_id: str) -> datetime | None:
    try:
        return datetime.strptime(build_id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


# --- reading ----------------------------------------------------------------------------------------------------------


def find(cloud: Cloud, environment: Environment, catalog: Catalog, now: datetime) -> Orphans:
    """Look everywhere; changes nothing. A place that does not answer is reported, and nothing in it is an orphan."""
    known = _known(cloud, environment, catalog)
    answers = each(usage.places_of(environment, living(catalog)), lambda place: list(_things(cloud, place, known)))
    things = (thing for answer in answers.results.values() for thing in answer)
    return Orphans(decide(things, known, now), answers.reasons)


def _known(cloud: Cloud, environment: Environment, catalog: Catalog) -> Known:
    released: dict[tuple[Place, str], str] = {}
    for manifest in living(catalog):
        for image in manifest.images:
            # A shared image, and what it stands on, is its owner's: with the home account.
            for at in {image.place, Place(environment.home.id, image.region)}:
                released[at, image.image_id] = manifest.label
                released.update({(at, s.snapshot_id): manifest.label for s in image.snapshots})
        channels = [c.channel for c in catalog.channels(manifest.recipe)]
        for which in (manifest.version, *channels):
            for p in parameters_for(manifest, environment.parameter_prefix, which):
                released[p.place, p.name] = manifest.label
    unfinished = {s.build_id for s in journals.of(environment, cloud).unfinished()}
    return Known(released, frozenset(unfinished))


def _things(cloud: Cloud, place: Place, known: Known) -> Iterator[Thing]:
    """What has the tag of a build. A release's parameters come without their tags, which nobody asks about."""
    instances = [
        instance
        for reservation in cloud.pages(place, "ec2", "DescribeInstances", "Reservations")
        for instance in reservation["Instances"]
        if instance["State"]["Name"] not in ("terminated", "shutting-down")
    ]
    keys = {str(i["KeyName"]): str(i["InstanceId"]) for i in instances if i.get("KeyName")}
    for instance in instances:
        own = tags.from_list(instance.get("Tags"))
        if tags.BUILD_ID in own:
            yield Thing(place, "instance", instance["InstanceId"], own, instance.get("LaunchTime"))
    every = images.own(cloud, place)
    behind = {snapshot: str(image["ImageId"]) for image in every for snapshot in snapshots.of_image(image)}
    for image in every:
        own = tags.from_list(image.get("Tags"))
        if tags.BUILD_ID in own:
            made = datetime.fromisoformat(str(image["CreationDate"]))
            yield Thing(place, "image", image["ImageId"], own, made)
    tagged = {"Filters": [{"Name": "tag-key", "Values": [tags.BUILD_ID]}]}
    for one in cloud.pages(place, "ec2", "DescribeSnapshots", "Snapshots", {"OwnerIds": ["self"], **tagged}):
        id = str(one["SnapshotId"])
        yield Thing(place, "snapshot", id, tags.from_list(one["Tags"]), one.get("StartTime"), behind.get(id, ""))
    for one in cloud.pages(place, "ec2", "DescribeVolumes", "Volumes", tagged):
        used = next((str(a["InstanceId"]) for a in one.get("Attachments") or ()), "")
        yield Thing(place, "volume", one["VolumeId"], tags.from_list(one["Tags"]), one.get("CreateTime"), used)
    for one in cloud.pages(place, "ec2", "DescribeKeyPairs", "KeyPairs", tagged):
        name = str(one["KeyName"])
        yield Thing(place, "key-pair", name, tags.from_list(one["Tags"]), one.get("CreateTime"), keys.get(name, ""))
    yield from _groups(cloud, place, tagged)
    query = {"ParameterFilters": [{"Key": f"tag:{tags.BUILD_ID}"}]}
    for one in cloud.pages(place, "ssm", "DescribeParameters", "Parameters", query):
        name = str(one["Name"])
        # A call for each: SSM tells the tags of one parameter at a time.
        marks = {} if (place, name) in known.released else parameter_tags(cloud, place, name)
        yield Thing(place, "parameter", name, marks, one.get("LastModifiedDate"))


def _groups(cloud: Cloud, place: Place, tagged: Mapping[str, Any]) -> Iterator[Thing]:
    groups = list(cloud.pages(place, "ec2", "DescribeSecurityGroups", "SecurityGroups", tagged))
    users: dict[str, str] = {}
    if groups:
        ids = [g["GroupId"] for g in groups]
        request = {"Filters": [{"Name": "group-id", "Values": ids[:200]}]}
        for one in cloud.pages(place, "ec2", "DescribeNetworkInterfaces", "NetworkInterfaces", request):
            instance = (one.get("Attachment") or {}).get("InstanceId") or one["NetworkInterfaceId"]
            users.update({g["GroupId"]: str(instance) for g in one.get("Groups") or ()})
    for group in groups:
        id = str(group["GroupId"])
        yield Thing(place, "security-group", id, tags.from_list(group["Tags"]), used_by=users.get(id, ""))


# --- deleting ---------------------------------------------------------------------------------------------------------


def delete(
    cloud: Cloud,
    environment: Environment,
    catalog: Catalog,
    now: datetime,
    *,
    emit_to: Emit = ignore_events,
    only: Collection[str] = (),
) -> Orphans:
    """Find again, and delete what is an orphan now; ``only``: of these, by id. A second call does nothing."""
    found = find(cloud, environment, catalog, now)
    to_delete = [thing for thing in found.found if not only or thing.id in only]
    if not to_delete:
        return found
    deleted: list[Thing] = []
    attempts = Attempts(emit_to, prefix="not deleted: ")
    bins = recyclebin.Bins(cloud)
    recoverable: dict[str, datetime] = {}
    with task.run(environment, TASK, {"count": len(to_delete)}, cloud=cloud, emit_to=emit_to) as job:
        for thing in sorted(to_delete, key=lambda t: (t.place, kind_of(t.kind).order, t.id)):
            with attempts.attempt(str(thing)):
                kind_of(thing.kind).delete(job.ledger, thing.place, thing.id)
                deleted.append(thing)
                until = bins.until(thing.place, thing.kind, thing.tags, cloud.now())
                if until is not None:
                    recoverable[str(thing)] = until
    return Orphans(found.verdicts, found.unreachable, tuple(deleted), attempts.failures, recoverable, bins.unreachable)
