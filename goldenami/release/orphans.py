"""Orphans: resources with goldenami's tags that have no owner, in every account and region.

::

    facts (``find``) → decisions (``decide``, pure) → deletions (``delete``)

Only a resource of this catalog and environment can be an orphan (``aws.ownership``). Resources of another catalog or
environment are listed as theirs. A resource whose tags name no catalog has an unknown owner. Both are kept.

The owner of a resource is the release whose manifest names it, an image that uses it, an instance that uses it, a build
or task that has not ended (``goldenami clean`` deletes those), a schedule, or the task that created it for its user. A
resource without an owner is an orphan, unless it is younger than ``MINIMUM_AGE``: a build on another machine may need
it. An image without an owner is kept if it is in use in any account, or if its use cannot be determined: the questions
are those of ``retire``. The parameter of a channel is kept as well, because consumers may read it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from goldenami import task
from goldenami.aws import catalogs, images, journals, recyclebin, snapshots, tags
from goldenami.aws.kinds import Tagged, kind_of, parameter_tags
from goldenami.aws.limits import FILTER_VALUES
from goldenami.aws.ownership import UNPROVEN, Answer, Owner, Whose
from goldenami.aws.reservations import instances_in
from goldenami.aws.session import Cloud
from goldenami.each import each, parts
from goldenami.events import Emit, ignore_events
from goldenami.model import Environment, Place, utc_text
from goldenami.nextstep import command
from goldenami.release import usage
from goldenami.release.catalog import Catalog, Evidence
from goldenami.release.decisions import living
from goldenami.release.empty import refuse_empty
from goldenami.release.parameters import channel_parameters, parameters_for
from goldenami.release.retention import Rules
from goldenami.release.versions import is_version
from goldenami.work import Attempts

TASK: Final = "orphans"
MINIMUM_AGE: Final = timedelta(days=1)  # a younger resource may belong to a build on another machine
UNUSED_FOR: Final = Rules().unused_for  # an image that was launched more recently is in use
_KINDS: Final = ("instance", "image", "snapshot", "volume", "key-pair", "security-group", "parameter")
_SCHEDULE_TAG: Final = "goldenami:schedule"
_NO_EVIDENCE: Final = Evidence(None, "")  # only the names of the parameters matter here


@dataclass(frozen=True, slots=True)
class TaggedResource:
    """A resource with goldenami's tags.

    ``used_by``: the instance, image or interface that uses it, or empty. ``made``: its creation time; None if AWS
    returns none. ``proven``: its proof is right, so goldenami created it for this environment.
    """

    place: Place
    kind: str
    id: str
    tags: Mapping[str, str]
    made: datetime | None = None
    used_by: str = ""
    proven: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.id} in {self.place}"


@dataclass(frozen=True, slots=True)
class Owners:
    """The owners of resources.

    ``owner``: the catalog and environment of the search. ``released``: place and id or name -> release
    ("web 1.0.20261124.1"). ``unfinished``: ids of builds and tasks that have not ended.
    """

    released: Mapping[tuple[Place, str], str]
    unfinished: frozenset[str]
    owner: Owner


@dataclass(frozen=True, slots=True)
class Ownership:
    """The decision whether a resource is an orphan. ``rule``: the owner, or the reason. ``whose``: only a resource of
    ours can be an orphan."""

    resource: TaggedResource
    orphan: bool
    rule: str
    whose: Whose = "ours"


@dataclass(frozen=True, slots=True)
class Orphans:
    """The result of a search, and of the deletion if there was one. ``left``: resource -> reason why it was kept."""

    decisions: tuple[Ownership, ...]
    unreachable: Mapping[Place, str]  # places that did not answer, with the reason
    deleted: tuple[TaggedResource, ...] = ()
    left: Mapping[str, str] = field(default_factory=dict)
    recoverable: Mapping[str, datetime] = field(default_factory=dict)  # resource -> end of its time in the Recycle Bin
    unknown_bins: Mapping[Place, str] = field(
        default_factory=dict
    )  # places whose Recycle Bin rules are unknown -> reason

    @property
    def orphaned(self) -> tuple[TaggedResource, ...]:
        return tuple(v.resource for v in self.decisions if v.orphan)

    def of(self, whose: Whose) -> tuple[Ownership, ...]:
        """Return the decisions about resources that are ours, theirs or of an unknown owner."""
        return tuple(v for v in self.decisions if v.whose == whose)


# --- deciding ---------------------------------------------------------------------------------------------------------


def decide(
    resources: Iterable[TaggedResource],
    owners: Owners,
    now: datetime,
    uses: Mapping[tuple[Place, str], str] = MappingProxyType({}),
) -> tuple[Ownership, ...]:
    """Decide for each resource whether it is an orphan; sorted by place and kind.

    A snapshot of an orphaned image is an orphan. A resource that an owned image or an instance uses is not. ``uses``:
    why images are kept although they have no owner, by place and id.
    """
    ordered = sorted(resources, key=lambda t: (t.place, _KINDS.index(t.kind), t.id))
    decisions: dict[tuple[Place, str], Ownership] = {}
    for resource in ordered:
        whose = _whose(resource, owners)
        if whose.whose != "ours":
            decisions[resource.place, resource.id] = Ownership(resource, False, whose.reason, whose.whose)
            continue
        owner = _find_owner(resource, owners, now) or uses.get((resource.place, resource.id))
        using = decisions.get((resource.place, resource.used_by))
        if owner is None and resource.used_by and not (using is not None and using.orphan):
            owner = f"used by {resource.used_by}"
        rule = owner or "no release, instance, build, task or schedule owns it"
        decided: Whose = "unknown" if rule == UNPROVEN.reason else "ours"
        decisions[resource.place, resource.id] = Ownership(resource, owner is None, rule, decided)
    return tuple(decisions.values())


def _whose(resource: TaggedResource, owners: Owners) -> Answer:
    """Return whose a resource is. A resource in a manifest of this catalog is ours, whatever its tags are."""
    if (resource.place, resource.id) in owners.released:
        return Answer("ours")
    return owners.owner.of_tags(resource.tags)


def _find_owner(resource: TaggedResource, owners: Owners, now: datetime) -> str | None:
    release = owners.released.get((resource.place, resource.id))
    if release is not None:
        return f"of the release {release}"
    build = resource.tags.get(tags.BUILD_ID, "")
    if build in owners.unfinished:
        return f"of {build}, which has not ended: {command('clean', build)}"
    if _SCHEDULE_TAG in resource.tags:
        return f"of the schedule {resource.tags[_SCHEDULE_TAG]}"
    if tags.TASK in resource.tags:
        return f"made by {resource.tags[tags.TASK]!r} for its user"
    if not resource.proven:
        return UNPROVEN.reason
    expires = tags.parse_timestamp(resource.tags.get(tags.EXPIRES_AT, ""))
    if expires is not None and expires > now:
        return f"of build {build}, which may run until {utc_text(expires, seconds=False)}"
    if resource.kind == "parameter" and not any(is_version(part) for part in resource.id.split("/")):
        return "the parameter of a channel, which consumers may read"
    made = resource.made or tags.start_of_build(build)
    if expires is None and made is not None and now - made < MINIMUM_AGE:
        return f"of build {build}, which may still run: it is younger than a day"
    return None


# --- reading ----------------------------------------------------------------------------------------------------------


def find(cloud: Cloud, environment: Environment, catalog: Catalog, now: datetime) -> Orphans:
    """Search every account and region for orphans. Changes nothing.

    A place that does not answer is listed in ``unreachable``. None of its resources is reported as an orphan.
    """
    owners = _read_owners(cloud, environment, catalog)
    places = usage.places_of(environment, living(catalog))
    answers = each(places, lambda place: list(_read_resources(cloud, place, owners)))
    resources = [resource for answer in answers.results.values() for resource in answer]
    decisions, unreachable = decide(resources, owners, now), dict(answers.reasons)
    images_of = [v.resource for v in decisions if v.orphan and v.resource.kind == "image"]
    if images_of:
        uses, unsure = _read_uses(cloud, environment, places, images_of, now)
        decisions, unreachable = decide(resources, owners, now, uses), {**unsure, **unreachable}
    return Orphans(decisions, unreachable)


def _read_uses(
    cloud: Cloud, environment: Environment, places: Collection[Place], found: Iterable[TaggedResource], now: datetime
) -> tuple[dict[tuple[Place, str], str], Mapping[Place, str]]:
    """Return why images must be kept, by place and id: they are in use, or that cannot be determined. Also return the
    places that did not answer, with the reason."""
    wanted = {resource.id: resource for resource in found}
    estate = usage.survey(cloud, places, wanted)
    reasons: dict[tuple[Place, str], str] = {}
    unreachable = dict(estate.unreachable)
    for id, resource in wanted.items():
        version = resource.tags.get(tags.VERSION, "")
        # The parameter of the version belongs to the release of the image, and has no other user. An image that is an
        # orphan itself is no user either.
        used = [
            str(use)
            for use in estate.using({id})
            if not (version and f"/{version}/" in use.name)
            and not any(use.by.startswith(f"image {other},") for other in wanted)
        ]
        launched = usage.last_launch(estate, {id})
        doubts = [f"{place} did not answer: {reason}" for place, reason in sorted(estate.unreachable.items())]
        protected = usage.protected_images(estate, {id})
        reason = ""
        if used:
            reason = f"in use: {sorted(used)[0]}"
        elif launched is not None and now - launched < UNUSED_FOR:
            reason = f"in use: launched less than {UNUSED_FOR.days} days ago, on {launched:%Y-%m-%d}"
        elif protected:
            reason = f"protected from deregistration: {protected[0]}"
        elif not doubts:
            sharing = usage.shared_beyond(cloud, estate, {id}, environment, now)
            doubts += sharing.doubts
            unreachable.update(sharing.unreachable)
        if doubts and not reason:
            reason = f"its use cannot be determined: {doubts[0]}"
        if reason:
            reasons[resource.place, id] = reason
            named = ((use.place, use.name) for use in estate.using({id}) if use.name)
            reasons.update(dict.fromkeys(named, f"it names {id}, which is kept"))
    return reasons, unreachable


def _read_owners(cloud: Cloud, environment: Environment, catalog: Catalog) -> Owners:
    released: dict[tuple[Place, str], str] = {}
    for manifest in living(catalog):
        for image in manifest.images:
            # The home account owns a shared image and its snapshots.
            for at in {image.place, Place(environment.home.id, image.region)}:
                released[at, image.image_id] = manifest.label
                released.update({(at, s.snapshot_id): manifest.label for s in image.snapshots})
        prefix, accounts = environment.parameter_prefix, {account.id for account in environment.accounts.values()}
        own = [*parameters_for(manifest, prefix, manifest.version, accounts)]
        for channel in catalog.channels(manifest.recipe):
            own += channel_parameters(manifest, prefix, channel.channel, _NO_EVIDENCE, accounts)
        released.update({(parameter.place, parameter.name): manifest.label for parameter in own})
    unfinished = {s.build_id for s in journals.open_journals(environment, cloud).unfinished()}
    owner = Owner(catalog.identity(), environment.name, catalogs.open_proofs(environment, cloud))
    return Owners(released, frozenset(unfinished), owner)


def _read_resources(cloud: Cloud, place: Place, owners: Owners) -> Iterator[TaggedResource]:
    """Yield the resources with the tag of a build. The tags of a release's parameters are not read."""

    def resource(kind: str, id: str, item: Mapping[str, Any], made: datetime | None, used: str = "") -> TaggedResource:
        found = Tagged(tags.from_list(item.get("Tags")), item)
        return _resource(cloud, place, owners.owner, kind, id, found, made, used)

    instances = [
        instance
        for instance in instances_in(cloud, place)
        if instance["State"]["Name"] not in ("terminated", "shutting-down")
    ]
    keys = {str(i["KeyName"]): str(i["InstanceId"]) for i in instances if i.get("KeyName")}
    for instance in instances:
        if tags.BUILD_ID in tags.from_list(instance.get("Tags")):
            yield resource("instance", instance["InstanceId"], instance, instance.get("LaunchTime"))
    every = images.own(cloud, place)
    behind = {snapshot: str(image["ImageId"]) for image in every for snapshot in snapshots.of_image(image)}
    for image in every:
        if tags.BUILD_ID in tags.from_list(image.get("Tags")):
            yield resource("image", image["ImageId"], image, datetime.fromisoformat(str(image["CreationDate"])))
    tagged = {"Filters": [{"Name": "tag-key", "Values": [tags.BUILD_ID]}]}
    for one in cloud.pages(place, "ec2", "DescribeSnapshots", "Snapshots", {"OwnerIds": ["self"], **tagged}):
        id = str(one["SnapshotId"])
        yield resource("snapshot", id, one, one.get("StartTime"), behind.get(id, ""))
    for one in cloud.pages(place, "ec2", "DescribeVolumes", "Volumes", tagged):
        used = next((str(a["InstanceId"]) for a in one.get("Attachments") or ()), "")
        yield resource("volume", one["VolumeId"], one, one.get("CreateTime"), used)
    for one in cloud.pages(place, "ec2", "DescribeKeyPairs", "KeyPairs", tagged):
        name = str(one["KeyName"])
        yield resource("key-pair", name, one, one.get("CreateTime"), keys.get(name, ""))
    groups = list(cloud.pages(place, "ec2", "DescribeSecurityGroups", "SecurityGroups", tagged))
    users = users_of_groups(cloud, place, [str(group["GroupId"]) for group in groups])
    for group in groups:
        yield resource("security-group", group["GroupId"], group, None, users.get(group["GroupId"], ""))
    query = {"ParameterFilters": [{"Key": f"tag:{tags.BUILD_ID}"}]}
    for one in cloud.pages(place, "ssm", "DescribeParameters", "Parameters", query):
        name = str(one["Name"])
        # One call for each parameter: ListTagsForResource returns the tags of one parameter.
        marks = {} if (place, name) in owners.released else parameter_tags(cloud, place, name)
        found = Tagged(marks, one)
        yield _resource(cloud, place, owners.owner, "parameter", name, found, one.get("LastModifiedDate"))


def _resource(
    cloud: Cloud,
    place: Place,
    owner: Owner,
    kind: str,
    id: str,
    found: Tagged,
    made: datetime | None,
    used_by: str = "",
) -> TaggedResource:
    proven = kind_of(kind).owner_of(cloud, place, found, owner).is_ours
    return TaggedResource(place, kind, id, found.tags, made, used_by, proven)


def users_of_groups(cloud: Cloud, place: Place, ids: Sequence[str]) -> dict[str, str]:
    """Return the instance or interface that uses a security group, by the group's id."""
    users: dict[str, str] = {}
    for part in parts(ids, FILTER_VALUES):
        request = {"Filters": [{"Name": "group-id", "Values": list(part)}]}
        for one in cloud.pages(place, "ec2", "DescribeNetworkInterfaces", "NetworkInterfaces", request):
            instance = (one.get("Attachment") or {}).get("InstanceId") or one["NetworkInterfaceId"]
            users.update({g["GroupId"]: str(instance) for g in one.get("Groups") or ()})
    return users


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
    """Search again, and delete the orphans. A second call does nothing. ``only``: delete only these ids.

    Raises CatalogError for an empty catalog beside released resources.
    """
    refuse_empty(cloud, environment, catalog)
    found = find(cloud, environment, catalog, now)
    to_delete = [resource for resource in found.orphaned if not only or resource.id in only]
    if not to_delete:
        return found
    deleted: list[TaggedResource] = []
    attempts = Attempts(emit_to, prefix="not deleted: ")
    bins = recyclebin.Bins(cloud)
    recoverable: dict[str, datetime] = {}
    with task.run(environment, TASK, {"count": len(to_delete)}, cloud=cloud, emit_to=emit_to) as job:
        for resource in sorted(to_delete, key=lambda t: (t.place, kind_of(t.kind).order, t.id)):
            with attempts.attempt(str(resource)):
                kind_of(resource.kind).delete(job.ledger, resource.place, resource.id)
                deleted.append(resource)
                until = bins.until(resource.place, resource.kind, resource.tags, cloud.now())
                if until is not None:
                    recoverable[str(resource)] = until
    return Orphans(found.decisions, found.unreachable, tuple(deleted), attempts.failures, recoverable, bins.unreachable)
