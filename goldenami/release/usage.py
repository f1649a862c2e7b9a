"""The uses of an image, in every account and region of the environment. Places that do not answer are reported.

These count as a use: instances in any state except terminated; whatever can launch the image, or create a volume from
one of its snapshots (``launchers``), also by a parameter (``resolve:ssm:``); SSM parameters that contain the id, except
the release's own; other images that are copies of it or use its snapshots; other resources that DescribeImageReferences
returns; and, for accounts outside the environment, the existing image usage reports.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeVar

from goldenami.aws import images, parameters, snapshots
from goldenami.aws.reservations import instances_in
from goldenami.aws.session import Cloud
from goldenami.aws.waiters import Item
from goldenami.each import each, parts
from goldenami.errors import CloudError
from goldenami.model import Environment, ImageManifest, Place
from goldenami.release import launchers, protection
from goldenami.release import targets as modes
from goldenami.release.parameters import parameters_for

_T = TypeVar("_T")
_IMAGE: Final = re.compile(r"ami-[0-9a-f]{8,17}\b")
_QUERIED_HERE: Final = frozenset({"ec2:Instance", "ec2:LaunchTemplate", "ssm:Parameter"})
_REPORTED: Final = frozenset({"ec2:Instance", "ec2:LaunchTemplate"})
_REPORT_AGE: Final = timedelta(days=7)
# Error codes of an endpoint or a partition without the call. The other queries find the same uses there.
_UNKNOWN_CALLS: Final = frozenset({"InvalidAction", "UnsupportedOperation", "UnknownOperationException"})


@dataclass(frozen=True, slots=True)
class Use:
    """One use of an image, or of a snapshot whose id is ``image_id``. ``by``: what uses it. ``name``: the name of the
    parameter, if a parameter uses it."""

    image_id: str
    place: Place
    by: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.by} in {self.place}"


@dataclass(frozen=True, slots=True)
class Estate:
    """The uses and images of all places.

    ``own``: the images of each place, as DescribeImages returns them. ``unreachable``: places that did not answer ->
    reason. ``asked``: all places of the survey.
    """

    uses: tuple[Use, ...]
    own: Mapping[Place, Mapping[str, Item]]
    unreachable: Mapping[Place, str] = field(default_factory=dict)
    asked: frozenset[Place] = frozenset()

    def using(self, image_ids: Collection[str]) -> Iterator[Use]:
        """Return the uses of these images."""
        return (use for use in self.uses if use.image_id in image_ids)


def places_of(environment: Environment, manifests: Iterable[ImageManifest] = ()) -> tuple[Place, ...]:
    """Return every account of an environment in every region of the environment and of the releases."""
    regions = {environment.home_region} | {t.region for t in environment.targets}
    regions |= {image.region for manifest in manifests for image in manifest.images}
    return tuple(sorted(Place(a.id, r) for a in environment.accounts.values() for r in regions))


def survey(cloud: Cloud, places: Collection[Place], image_ids: Collection[str]) -> Estate:
    """Survey all places in parallel. A place that does not answer is listed in ``unreachable``; no error is raised."""
    wanted = frozenset(image_ids)
    known = frozenset(place.account for place in places)
    answers = each(sorted(places), lambda place: _survey_place(cloud, place, wanted, known))
    own = {place: images_of for place, (_, images_of) in answers.results.items()}
    behind = _images_behind(own, wanted)
    uses = dict.fromkeys(
        named
        for found, _ in answers.results.values()
        for use in found
        for named in _with_images(use, behind)
        if named.image_id in wanted
    )
    return Estate(tuple(uses), own, answers.reasons, frozenset(places))


def _images_behind(own: Mapping[Place, Mapping[str, Item]], wanted: frozenset[str]) -> dict[str, list[str]]:
    """Return the wanted images of all places by snapshot. Another account may use a snapshot that it has a share of."""
    behind: dict[str, list[str]] = defaultdict(list)
    for every in own.values():
        for image_id in wanted & every.keys():
            for snapshot in snapshots.of_image(every[image_id]):
                behind[snapshot].append(image_id)
    return behind


def _with_images(use: Use, behind: Mapping[str, list[str]]) -> Iterator[Use]:
    """Yield the use. For the use of a snapshot, also yield one of each image that the snapshot belongs to."""
    yield use
    for image_id in behind.get(use.image_id, ()):
        yield Use(image_id, use.place, f"{use.by}, with {use.image_id},")


def _survey_place(
    cloud: Cloud, place: Place, wanted: frozenset[str], known: frozenset[str]
) -> tuple[list[Use], dict[str, Item]]:
    own = {str(image["ImageId"]): image for image in images.own(cloud, place)}
    held = {name: ids for name, ids in _parameters(cloud, place).items() if ids}
    found = [
        *_instances(cloud, place),
        *(Use(id, place, what) for id, what in launchers.named(cloud, place)),
        *(Use(id, place, f"parameter {name}", name) for name, ids in held.items() for id in ids),
        *_copies(own, place, wanted),
        *_references(cloud, place, wanted & own.keys(), known),
    ]
    return [use for use in found if use.image_id in wanted or use.image_id.startswith("snap-")], own


def instances(cloud: Cloud, place: Place) -> Iterator[tuple[str, str, str]]:
    """Yield image id, instance id and state of every instance of a place that is not terminated."""
    for instance in instances_in(cloud, place):
        state = str(instance["State"]["Name"])
        if state != "terminated":
            yield str(instance["ImageId"]), str(instance["InstanceId"]), state


def _instances(cloud: Cloud, place: Place) -> Iterator[Use]:
    for image_id, id, state in instances(cloud, place):
        yield Use(image_id, place, f"instance {id} ({state})")


def _parameters(cloud: Cloud, place: Place) -> dict[str, list[str]]:
    """Return parameter name -> image ids in its value, for all parameters except secure strings."""
    request = {"ParameterFilters": [{"Key": "Type", "Values": ["String", "StringList"]}]}
    names = [str(p["Name"]) for p in cloud.pages(place, "ssm", "DescribeParameters", "Parameters", request)]
    values = parameters.find_many(cloud, place, names)
    return {name: sorted(set(_IMAGE.findall(value))) for name, value in values.items()}


def _copies(own: Mapping[str, Item], place: Place, wanted: frozenset[str]) -> Iterator[Use]:
    behind: dict[str, list[str]] = defaultdict(list)
    for image_id, image in own.items():
        if image_id in wanted:
            for snapshot in snapshots.of_image(image):
                behind[snapshot].append(image_id)
    for image_id, image in own.items():
        source = str(image.get("SourceImageId") or "")
        if source in wanted and image_id not in wanted:
            yield Use(source, place, f"image {image_id}, which is a copy of it,")
        if image_id not in wanted:
            for snapshot in snapshots.of_image(image):
                for user in behind.get(snapshot, ()):
                    yield Use(user, place, f"image {image_id}, which uses {snapshot},")


def _references(cloud: Cloud, place: Place, ids: Collection[str], known: frozenset[str]) -> Iterator[Use]:
    """Yield the uses that only AWS reports: recipes of Image Builder, and accounts outside the environment.

    Resource types that this module queries are skipped, because the queries are more recent than a report.
    """
    for chosen in parts(sorted(ids), 10):
        request = {"ImageIds": chosen, "IncludeAllResourceTypes": True}
        try:
            for one in cloud.pages(place, "ec2", "DescribeImageReferences", "ImageReferences", request):
                if one["ResourceType"] not in _QUERIED_HERE:
                    yield Use(one["ImageId"], place, f"{one['ResourceType']} {one['Arn']}")
            reports = {"ImageIds": chosen}
            for one in cloud.pages(place, "ec2", "DescribeImageUsageReportEntries", "ImageUsageReportEntries", reports):
                if one.get("UsageCount") and one["AccountId"] not in known:
                    by = f"account {one['AccountId']}, {one['UsageCount']} times {one['ResourceType']} (usage report),"
                    yield Use(one["ImageId"], place, by)
        except CloudError as error:
            if error.code not in _UNKNOWN_CALLS:
                raise


# --- of one release ---------------------------------------------------------------------------------------------------


def ids_of(manifest: ImageManifest) -> frozenset[str]:
    """Return the ids of all images of a release."""
    return frozenset(image.image_id for image in manifest.images)


def own_images(manifest: ImageManifest, estate: Estate) -> list[tuple[Place, Item]]:
    """Return the existing images of a release, each in the place of its owner."""
    wanted = ids_of(manifest)
    return [(place, every[id]) for place, every in sorted(estate.own.items()) for id in sorted(wanted & every.keys())]


def snapshots_of(manifest: ImageManifest, estate: Estate) -> dict[Place, set[str]]:
    """Return the snapshots of a release by place: those of the manifest, and those that its images use."""
    behind: dict[Place, set[str]] = {}
    for row in manifest.images:
        if modes.owns(row):
            behind.setdefault(row.place, set()).update(s.snapshot_id for s in row.snapshots)
    for place, image in own_images(manifest, estate):
        behind.setdefault(place, set()).update(snapshots.of_image(image))
    return behind


def uses_of(estate: Estate, manifest: ImageManifest, prefix: str) -> tuple[str, ...]:
    """Return the uses of a release's images as text. The release's own parameters and images do not count."""
    every = {account for row in manifest.images for account in row.shared_with}
    own = {(p.place, p.name) for p in parameters_for(manifest, prefix, manifest.version, every)}
    uses = (use for use in estate.using(ids_of(manifest)) if (use.place, use.name) not in own)
    return tuple(sorted({str(use) for use in uses}))


def last_launch(estate: Estate, image_ids: Collection[str]) -> datetime | None:
    """Return when one of these images was last launched, or None if EC2 reports no launch."""
    found = [
        datetime.fromisoformat(str(item["LastLaunchedTime"]))
        for every in estate.own.values()
        for id, item in every.items()
        if id in image_ids and item.get("LastLaunchedTime")
    ]
    return max(found, default=None)


def protected_images(estate: Estate, image_ids: Collection[str]) -> tuple[str, ...]:
    """Return which of these images somebody else than goldenami protects from deregistration."""
    return tuple(
        f"{id} in {place}"
        for place, every in sorted(estate.own.items())
        for id, item in every.items()
        if id in image_ids and protection.is_of_others(item)
    )


def unknown_uses(estate: Estate, manifest: ImageManifest, environment: Environment) -> tuple[str, ...]:
    """Return why the uses of a release cannot be determined.

    A place did not answer, or an account of the manifest was removed from the environment.
    """
    found = [f"{place} did not answer: {reason}" for place, reason in sorted(estate.unreachable.items())]
    known = {account.id for account in environment.accounts.values()}
    gone = sorted({image.account for image in manifest.images} - known)
    return (*found, *(f"account {account} is not in the environment any more" for account in gone))


@dataclass(frozen=True, slots=True)
class Sharing:
    """``doubts``: why the uses of images cannot be determined. ``unreachable``: places that did not answer."""

    doubts: tuple[str, ...]
    unreachable: Mapping[Place, str]


def shared_beyond(
    cloud: Cloud, estate: Estate, image_ids: Collection[str], environment: Environment, now: datetime
) -> Sharing:
    """Find accounts outside the environment, organizations and the public that images are shared with.

    An account does not count if a recent usage report shows that it does not use the image. Each image needs one or two
    calls, so call this only for images that would be removed.
    """
    known = {account.id for account in environment.accounts.values()}
    wanted = frozenset(image_ids)
    images_of = [(place, id) for place, every in sorted(estate.own.items()) for id in sorted(wanted & every.keys())]

    def others(one: tuple[Place, str]) -> list[str]:
        place, id = one
        strangers = sorted(images.launch_permissions(cloud, place, id) - known)
        return [stranger for stranger in strangers if not _cleared(cloud, place, id, stranger, now)]

    answers = each(images_of, others)
    found = [f"{place} did not return who may use {id}: {reason}" for (place, id), reason in answers.reasons.items()]
    for (_, id), strangers in answers.results.items():
        found += [f"{id} is shared with {stranger}, which is outside the environment" for stranger in strangers]
    return Sharing(tuple(found), {place: reason for (place, _), reason in answers.reasons.items()})


def _cleared(cloud: Cloud, place: Place, image_id: str, account: str, now: datetime) -> bool:
    """Return whether a recent usage report on all resource types shows that an account does not use an image."""
    try:
        reports = list(
            cloud.pages(place, "ec2", "DescribeImageUsageReports", "ImageUsageReports", {"ImageIds": [image_id]})
        )
        for report in reports:
            types = {one["ResourceType"] for one in report.get("ResourceTypes") or ()}
            accounts = report.get("AccountIds") or [account]
            young = now - report["CreationTime"] < _REPORT_AGE
            if report.get("State") == "available" and types >= _REPORTED and account in accounts and young:
                request = {"ReportIds": [report["ReportId"]]}
                entries = cloud.pages(
                    place, "ec2", "DescribeImageUsageReportEntries", "ImageUsageReportEntries", request
                )
                return all(entry["AccountId"] != account for entry in entries)
    except CloudError as error:
        if error.code not in _UNKNOWN_CALLS:
            raise
    return False
