"""Who uses an image: every account and region of the environment is asked; a place that does not answer is reported.

What counts: instances in any state but terminated; launch templates in all their versions, those that name a parameter
(``resolve:ssm:``) too; launch configurations and the Auto Scaling groups behind them; SSM parameters that hold the id
(but for the release's own); other images that are copies of it or stand on its snapshots; whatever
DescribeImageReferences names besides; and, for accounts that cannot be asked, the usage reports that there are.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeVar

from goldenami.aws import images, parameters, snapshots
from goldenami.aws.session import Cloud
from goldenami.aws.waiters import Item
from goldenami.each import each
from goldenami.errors import CloudError
from goldenami.model import Environment, ImageManifest, Place
from goldenami.release import targets as modes
from goldenami.release.parameters import parameters_for

_T = TypeVar("_T")
_IMAGE: Final = re.compile(r"ami-[0-9a-f]{8,17}\b")
_RESOLVE: Final = "resolve:ssm:"
_ASKED_OURSELVES: Final = frozenset({"ec2:Instance", "ec2:LaunchTemplate", "ssm:Parameter"})
_REPORTED: Final = frozenset({"ec2:Instance", "ec2:LaunchTemplate"})
_REPORT_AGE: Final = timedelta(days=7)
# Answers of an endpoint or a partition that does not have a call; what it would tell is told by the other questions.
_UNKNOWN_CALLS: Final = frozenset({"InvalidAction", "UnsupportedOperation", "UnknownOperationException"})


@dataclass(frozen=True, slots=True)
class Use:
    """Something that uses an image. ``name``: of the parameter, where it is one."""

    image_id: str
    place: Place
    by: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.by} in {self.place}"


@dataclass(frozen=True, slots=True)
class Estate:
    """What all places answered. ``own``: the images of each place, as DescribeImages gives them. ``unreachable``:
    places that did not answer, with the reason."""

    uses: tuple[Use, ...]
    own: Mapping[Place, Mapping[str, Item]]
    unreachable: Mapping[Place, str] = field(default_factory=dict)
    asked: frozenset[Place] = frozenset()

    def using(self, image_ids: Collection[str]) -> Iterator[Use]:
        return (use for use in self.uses if use.image_id in image_ids)


def places_of(environment: Environment, manifests: Iterable[ImageManifest] = ()) -> tuple[Place, ...]:
    """Every account of an environment in every region that it, or a release, ever named."""
    regions = {environment.home_region} | {t.region for t in environment.targets}
    regions |= {image.region for manifest in manifests for image in manifest.images}
    return tuple(sorted(Place(a.id, r) for a in environment.accounts.values() for r in regions))


def survey(cloud: Cloud, places: Collection[Place], image_ids: Collection[str]) -> Estate:
    """Ask all places at once. A place that does not answer is ``unreachable``, and raises nothing."""
    wanted = frozenset(image_ids)
    known = frozenset(place.account for place in places)
    answers = each(sorted(places), lambda place: _ask(cloud, place, wanted, known))
    uses = dict.fromkeys(use for found, _ in answers.results.values() for use in found)
    own = {place: images_of for place, (_, images_of) in answers.results.items()}
    return Estate(tuple(uses), own, answers.reasons, frozenset(places))


def _ask(
    cloud: Cloud, place: Place, wanted: frozenset[str], known: frozenset[str]
) -> tuple[list[Use], dict[str, Item]]:
    own = {str(image["ImageId"]): image for image in images.own(cloud, place)}
    held = {name: ids for name, ids in _parameters(cloud, place).items() if ids}
    found = [
        *_instances(cloud, place),
        *_templates(cloud, place),
        *_scaling(cloud, place),
        *(Use(id, place, f"parameter {name}", name) for name, ids in held.items() for id in ids),
        *_copies(own, place, wanted),
        *_references(cloud, place, wanted & own.keys(), known),
    ]
    return [use for use in found if use.image_id in wanted], own


def _instances(cloud: Cloud, place: Place) -> Iterator[Use]:
    for reservation in cloud.pages(place, "ec2", "DescribeInstances", "Reservations"):
        for instance in reservation["Instances"]:
            state = instance["State"]["Name"]
            if state != "terminated":
                yield Use(instance["ImageId"], place, f"instance {instance['InstanceId']} ({state})")


def _templates(cloud: Cloud, place: Place) -> Iterator[Use]:
    for template in cloud.pages(place, "ec2", "DescribeLaunchTemplates", "LaunchTemplates"):
        request = {"LaunchTemplateId": template["LaunchTemplateId"]}
        what = f"launch template {template['LaunchTemplateName']}"
        for version in cloud.pages(place, "ec2", "DescribeLaunchTemplateVersions", "LaunchTemplateVersions", request):
            written = str(version.get("LaunchTemplateData", {}).get("ImageId") or "")
            image_id = _resolved(cloud, place, written)
            if image_id:
                yield Use(image_id, place, f"{what} version {version['VersionNumber']}")


def _resolved(cloud: Cloud, place: Place, written: str) -> str:
    """``resolve:ssm:NAME``, ``NAME:VERSION`` and ``NAME:LABEL`` as the id that an instance would be launched from."""
    if not written.startswith(_RESOLVE):
        return written
    return parameters.find(cloud, place, written.removeprefix(_RESOLVE)) or ""


def _scaling(cloud: Cloud, place: Place) -> Iterator[Use]:
    configured: dict[str, str] = {}
    for one in cloud.pages(place, "autoscaling", "DescribeLaunchConfigurations", "LaunchConfigurations"):
        configured[one["LaunchConfigurationName"]] = one["ImageId"]
        yield Use(one["ImageId"], place, f"launch configuration {one['LaunchConfigurationName']}")
    for group in cloud.pages(place, "autoscaling", "DescribeAutoScalingGroups", "AutoScalingGroups"):
        image_id = configured.get(group.get("LaunchConfigurationName") or "")
        if image_id:
            yield Use(image_id, place, f"Auto Scaling group {group['AutoScalingGroupName']}")


def _parameters(cloud: Cloud, place: Place) -> dict[str, list[str]]:
    """The ids of images in every parameter that is no secret."""
    request = {"ParameterFilters": [{"Key": "Type", "Values": ["String", "StringList"]}]}
    names = [str(p["Name"]) for p in cloud.pages(place, "ssm", "DescribeParameters", "Parameters", request)]
    found: dict[str, list[str]] = {}
    for start in range(0, len(names), 10):
        answer = cloud.call(place, "ssm", "GetParameters", {"Names": names[start : start + 10]})
        for parameter in answer["Parameters"]:
            found[parameter["Name"]] = sorted(set(_IMAGE.findall(parameter["Value"])))
    return found


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
                    yield Use(user, place, f"image {image_id}, which stands on {snapshot},")


def _references(cloud: Cloud, place: Place, ids: Collection[str], known: frozenset[str]) -> Iterator[Use]:
    """What AWS knows besides: recipes of Image Builder, and accounts that cannot be asked. What was asked for here has
    been told already, and later than a report does."""
    ordered = sorted(ids)
    for start in range(0, len(ordered), 10):
        chosen = ordered[start : start + 10]
        request = {"ImageIds": chosen, "IncludeAllResourceTypes": True}
        try:
            for one in cloud.pages(place, "ec2", "DescribeImageReferences", "ImageReferences", request):
                if one["ResourceType"] not in _ASKED_OURSELVES:
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
    return frozenset(image.image_id for image in manifest.images)


def own_images(manifest: ImageManifest, estate: Estate) -> list[tuple[Place, Item]]:
    """The release's images that exist, once each: a shared one is its owner's."""
    wanted = ids_of(manifest)
    return [(place, every[id]) for place, every in sorted(estate.own.items()) for id in sorted(wanted & every.keys())]


def snapshots_of(manifest: ImageManifest, estate: Estate) -> dict[Place, set[str]]:
    """All snapshots of all volumes: what the manifest says, and what the images really stand on."""
    behind: dict[Place, set[str]] = {}
    for row in manifest.images:
        if modes.owns(row):
            behind.setdefault(row.place, set()).update(s.snapshot_id for s in row.snapshots)
    for place, image in own_images(manifest, estate):
        behind.setdefault(place, set()).update(snapshots.of_image(image))
    return behind


def uses_of(estate: Estate, manifest: ImageManifest, prefix: str) -> tuple[str, ...]:
    """What uses a release's images, for people; its own parameters and images do not count."""
    own = {(p.place, p.name) for p in parameters_for(manifest, prefix, manifest.version)}
    uses = (use for use in estate.using(ids_of(manifest)) if (use.place, use.name) not in own)
    return tuple(sorted({str(use) for use in uses}))


def last_launch(estate: Estate, manifest: ImageManifest) -> datetime | None:
    """When an image of a release was last launched, as far as EC2 says so."""
    wanted = ids_of(manifest)
    found = [
        datetime.fromisoformat(str(item["LastLaunchedTime"]))
        for every in estate.own.values()
        for id, item in every.items()
        if id in wanted and item.get("LastLaunchedTime")
    ]
    return max(found, default=None)


def protected_images(estate: Estate, manifest: ImageManifest) -> tuple[str, ...]:
    wanted = ids_of(manifest)
    return tuple(
        f"{id} in {place}"
        for place, every in sorted(estate.own.items())
        for id, item in every.items()
        if id in wanted and str(item.get("DeregistrationProtection") or "disabled") != "disabled"
    )


def unknown_uses(estate: Estate, manifest: ImageManifest, environment: Environment) -> tuple[str, ...]:
    """Why it cannot be said that nobody uses a release: a place that did not answer (anybody there may have it), or an
    account that the environment does not know any more."""
    found = [f"{place} did not answer: {reason}" for place, reason in sorted(estate.unreachable.items())]
    known = {account.id for account in environment.accounts.values()}
    gone = sorted({image.account for image in manifest.images} - known)
    return (*found, *(f"account {account} is not in the environment any more" for account in gone))


@dataclass(frozen=True, slots=True)
class Sharing:
    """``doubts``: why it cannot be known that nobody uses a release. ``unreachable``: places that did not answer."""

    doubts: tuple[str, ...]
    unreachable: Mapping[Place, str]


def shared_beyond(
    cloud: Cloud, estate: Estate, manifest: ImageManifest, environment: Environment, now: datetime
) -> Sharing:
    """Whom a release is shared with and cannot be asked: accounts outside the environment, organizations, everybody.
    An account of which a usage report of the last days says that it does not use the image counts as asked. A call or
    two for each image, so it is asked last, for what would go otherwise."""
    known = {account.id for account in environment.accounts.values()}
    wanted = ids_of(manifest)
    images_of = [(place, id) for place, every in sorted(estate.own.items()) for id in sorted(wanted & every.keys())]

    def others(one: tuple[Place, str]) -> list[str]:
        place, id = one
        strangers = sorted(images.launch_permissions(cloud, place, id) - known)
        return [stranger for stranger in strangers if not _cleared(cloud, place, id, stranger, now)]

    answers = each(images_of, others)
    found = [f"{place} did not say who may use {id}: {reason}" for (place, id), reason in answers.reasons.items()]
    for (_, id), strangers in answers.results.items():
        found += [f"{id} is shared with {stranger}, which cannot be asked" for stranger in strangers]
    return Sharing(tuple(found), {place: reason for (place, _), reason in answers.reasons.items()})


def _cleared(cloud: Cloud, place: Place, image_id: str, account: str, now: datetime) -> bool:
    """Whether a young report on all that EC2 reports about says that an account does not use an image."""
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
