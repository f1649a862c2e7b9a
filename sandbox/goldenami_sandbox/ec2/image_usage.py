"""The use of images: references in the caller's account, and usage reports, which count all accounts.

A reference is an instance that is not terminated, a launch template (its ten newest versions by default), a parameter
of type ``aws:ec2:image``, or what ``note_reference`` was told of a service that the sandbox does not have. A report is
ready at once, while EC2's takes some time. It expires after 30 days.
(Amazon EC2 user guide, "Identify your resources referencing specified AMIs", "View your AMI usage".)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.ec2.core import Action, Ec2Cloud
from goldenami_sandbox.ec2.describe_instances import state_of
from goldenami_sandbox.ec2.filters import Source
from goldenami_sandbox.ec2.pagination import described, page
from goldenami_sandbox.ec2.records import ImageUsageReport
from goldenami_sandbox.ec2.store import new_id

_INSTANCE, _TEMPLATE, _PARAMETER = "ec2:Instance", "ec2:LaunchTemplate", "ssm:Parameter"
_OTHERS = ("imagebuilder:ImageRecipe", "imagebuilder:ContainerRecipe")
_DEPTH = 10  # newest versions of a launch template, the default of version-depth
_KEPT = 30 * 86400.0
_MOST_IMAGES = 10


def describe_references(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    wanted = params.get("ImageIds") or []
    if not wanted or len(wanted) > _MOST_IMAGES:
        raise Ec2Error("InvalidParameterValue", f"From 1 to {_MOST_IMAGES} image IDs must be given.")
    types = _types(params)
    found = [
        {"ImageId": image_id, "ResourceType": kind, "Arn": arn}
        for kind, options in types.items()
        for image_id, arn in _references(cloud, ctx.account, ctx.region, kind, options)
        if image_id in wanted
    ]
    unique = [dict(item) for item in dict.fromkeys(tuple(one.items()) for one in found)]
    shown, token = page(unique, params, lambda r: (r["ImageId"], r["Arn"]))
    return {"ImageReferences": shown, "NextToken": token}


def _types(params: Mapping[str, Any]) -> dict[str, dict[str, list[str]]]:
    """Return the requested resource types, with their options by name."""
    if bool(params.get("IncludeAllResourceTypes")) == bool(params.get("ResourceTypes")):
        raise Ec2Error("InvalidParameterCombination", "Either IncludeAllResourceTypes or ResourceTypes must be given.")
    if params.get("IncludeAllResourceTypes"):
        return {_INSTANCE: {}, _TEMPLATE: {}, _PARAMETER: {}, **{kind: {} for kind in _OTHERS}}
    return {
        one["ResourceType"]: {o["OptionName"]: o["OptionValues"] for o in one.get("ResourceTypeOptions") or ()}
        for one in params["ResourceTypes"]
    }


def _references(
    cloud: Ec2Cloud, account: str, region: str, kind: str, options: Mapping[str, list[str]]
) -> Iterator[tuple[str, str]]:
    """Return image ids and ARNs of one account and region."""
    prefix = f"arn:aws:ec2:{region}:{account}"
    if kind == _INSTANCE:
        states = options.get("state-name", ["pending", "running", "shutting-down", "stopping", "stopped"])
        for instance in cloud.store.instances.values():
            here = instance.owner == account and instance.region == region
            if here and state_of(cloud, instance)["Name"] in states:
                yield instance.image_id, f"{prefix}:instance/{instance.id}"
    elif kind == _TEMPLATE:
        depth = int(options.get("version-depth", [str(_DEPTH)])[0])
        for versions in cloud.hooks.launch_templates(account, region):
            for version in versions[-depth:]:
                image_id = str(version.data.get("ImageId") or "")
                if image_id.startswith("resolve:ssm:"):
                    parameter = image_id.removeprefix("resolve:ssm:")
                    image_id = cloud.hooks.ssm_image(account, region, parameter) or ""
                yield image_id, f"{prefix}:launch-template/{version.template_id}"
    elif kind == _PARAMETER:
        for name, value in cloud.hooks.image_parameters(account, region).items():
            yield value, f"arn:aws:ssm:{region}:{account}:parameter/{name.lstrip('/')}"
    else:
        yield from cloud.store.other_references.get(f"{account} {region} {kind}", {}).items()


def note_reference(cloud: Ec2Cloud, account: str, region: str, image_id: str, kind: str, arn: str) -> None:
    """Note that a resource references an image, such as a recipe of Image Builder, which the sandbox does not have."""
    if kind not in _OTHERS:
        raise ValueError(f"{kind} is not one of {', '.join(_OTHERS)}")
    cloud.store.other_references.setdefault(f"{account} {region} {kind}", {})[image_id] = arn


# --- reports ----------------------------------------------------------------------------------------------------------


def create_report(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    image = cloud.own_image(ctx, params["ImageId"])
    kinds = [one["ResourceType"] for one in params["ResourceTypes"]]
    accounts = params.get("AccountIds") or sorted({image.owner, *image.users})
    entries = {}
    for account in accounts:
        for kind in kinds:
            used = Counter(i for i, _ in _references(cloud, account, ctx.region, kind, {}) if i == image.id)
            if used[image.id]:
                entries[f"{account} {kind}"] = used[image.id]
    id = new_id("imur")
    cloud.store.usage_reports[id] = ImageUsageReport(
        id, ctx.account, ctx.region, image.id, kinds, list(params.get("AccountIds") or ()), cloud.now(), entries
    )
    return {"ReportId": id}


def describe_reports(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    answers = [
        {
            "ReportId": report.id,
            "ImageId": report.image_id,
            "ResourceTypes": [{"ResourceType": kind} for kind in report.types],
            "AccountIds": report.accounts,
            "State": "available",
            "CreationTime": report.created,
            "ExpirationTime": report.created + _KEPT,
        }
        for report in _select_reports(cloud, ctx, params)
    ]
    return described("ImageUsageReports", answers, params, FILTERS, ["ReportId"])


def describe_entries(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    answers = [
        {
            "ReportId": report.id,
            "ImageId": report.image_id,
            "AccountId": key.partition(" ")[0],
            "ResourceType": key.partition(" ")[2],
            "UsageCount": count,
            "ReportCreationTime": report.created,
        }
        for report in _select_reports(cloud, ctx, params)
        for key, count in report.entries.items()
    ]
    by = ["ReportId", "AccountId", "ResourceType"]
    return described("ImageUsageReportEntries", answers, params, FILTERS, by)


def delete_report(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    report = cloud.store.usage_reports.get(params["ReportId"])
    if report is None or (report.owner, report.region) != (ctx.account, ctx.region):
        raise Ec2Error("InvalidImageUsageReportId.NotFound", f"The report '{params['ReportId']}' does not exist.")
    del cloud.store.usage_reports[report.id]
    return {"Return": True}


FILTERS: dict[str, Source] = {
    "account-id": "AccountId",
    "creation-time": "CreationTime",
    "resource-type": "ResourceType",
    "state": "State",
}


def _select_reports(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> Iterator[ImageUsageReport]:
    images, ids = params.get("ImageIds"), params.get("ReportIds")
    for report in cloud.store.usage_reports.values():
        mine = (report.owner, report.region) == (ctx.account, ctx.region)
        asked = (not images or report.image_id in images) and (not ids or report.id in ids)
        if mine and asked and cloud.now() < report.created + _KEPT:
            yield report


ACTIONS: dict[str, Action] = {
    "DescribeImageReferences": describe_references,
    "CreateImageUsageReport": create_report,
    "DescribeImageUsageReports": describe_reports,
    "DescribeImageUsageReportEntries": describe_entries,
    "DeleteImageUsageReport": delete_report,
}
