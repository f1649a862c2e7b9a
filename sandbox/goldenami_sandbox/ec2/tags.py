"""Tags: set at creation or later, within EC2's limits, by the resource's owner, and by the accounts that an image or
snapshot is shared with. Other services keep tags of their resources.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.ec2.core import Action, Ec2Cloud, not_found
from goldenami_sandbox.ec2.pagination import described
from goldenami_sandbox.ec2.records import Image, Resource, Snapshot
from goldenami_sandbox.ec2.store import RESOURCE_TYPES

_MAX_TAGS = 50
_MAX_KEY = 127
_MAX_VALUE = 256


def from_specifications(params: Mapping[str, Any], *allowed: str) -> dict[str, dict[str, str]]:
    """Return the tags by resource type for a creating call. Raises Ec2Error for types that it cannot tag and for
    invalid tags.
    """
    result: dict[str, dict[str, str]] = {kind: {} for kind in allowed}
    for specification in params.get("TagSpecifications") or ():
        kind = specification.get("ResourceType")
        if not kind:
            raise Ec2Error("InvalidParameterValue", "Tag specification resource type must have a value")
        if kind not in allowed:
            raise Ec2Error(
                "InvalidParameterValue", f"'{kind}' is not a valid taggable resource type for this operation."
            )
        if result[kind]:
            raise Ec2Error(
                "InvalidParameter", "The same resource type may not be specified more than once in tag specifications"
            )
        tags = specification.get("Tags") or []
        if not tags:
            raise Ec2Error("InvalidParameterValue", "Tag specification must have at least one tag")
        result[kind] = parse(tags)
    return result


def parse(items: list[Mapping[str, Any]]) -> dict[str, str]:
    """Return tags. Raises Ec2Error for reserved, empty, repeated or overlong keys and for overlong values."""
    tags: dict[str, str] = {}
    for item in items:
        key, value = item.get("Key") or "", item.get("Value") or ""
        if not key:
            raise Ec2Error("InvalidParameterValue", "Tag keys must have a value")
        if key.lower().startswith("aws:"):
            raise Ec2Error(
                "InvalidParameterValue",
                "Tag keys starting with 'aws:' are reserved for internal use",
            )
        if len(key) > _MAX_KEY:
            raise Ec2Error("InvalidParameterValue", f"Tag key exceeds the maximum length of {_MAX_KEY} characters")
        if len(value) > _MAX_VALUE:
            raise Ec2Error("InvalidParameterValue", f"Tag value exceeds the maximum length of {_MAX_VALUE} characters")
        if key in tags:
            raise Ec2Error("InvalidParameterValue", f"Duplicate tag key '{key}' specified.")
        tags[key] = value
    _check_count(tags)
    return tags


def _check_count(tags: Mapping[str, str]) -> None:
    if sum(not key.startswith("aws:") for key in tags) > _MAX_TAGS:
        raise Ec2Error("TagLimitExceeded", f"The maximum number of Tags for a resource has been reached ({_MAX_TAGS}).")


def rendered(resource: Resource, account: str | None = None) -> list[dict[str, str]]:
    """Return the tags that an account sees; None: the owner."""
    seen = resource.tags_of(account or resource.owner)
    return [{"Key": key, "Value": value} for key, value in sorted(seen.items())]


def create_tags(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    tags = parse(params["Tags"])
    resources = _resources(cloud, ctx, params["Resources"])
    merged = [{**resource.tags_of(ctx.account), **tags} for resource in resources]
    for all_tags in merged:
        _check_count(all_tags)
    for resource, all_tags in zip(resources, merged, strict=True):
        resource.set_tags(ctx.account, all_tags)
    return {}


def delete_tags(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    """DeleteTags. Without Tags it deletes all; a tag with a value is deleted only if the value is equal."""
    for resource in _resources(cloud, ctx, params["Resources"]):
        own = resource.tags_of(ctx.account)
        if "Tags" not in params:
            resource.set_tags(ctx.account, {k: v for k, v in own.items() if k.startswith("aws:")})
            continue
        for tag in params["Tags"]:
            key, value = tag.get("Key", ""), tag.get("Value")
            if key.startswith("aws:"):
                raise Ec2Error("InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use")
            if value is None or own.get(key) == value:
                own.pop(key, None)
    return {}


def _resources(cloud: Ec2Cloud, ctx: Ctx, ids: list[str]) -> list[Resource]:
    found = []
    for resource_id in ids:
        prefix = resource_id.partition("-")[0]
        if prefix not in RESOURCE_TYPES:
            raise Ec2Error("InvalidID", f"The ID '{resource_id}' is not valid")
        resource = cloud.store.resource(resource_id)
        if resource is None or not cloud.is_known(resource, ctx.region) or not _may_tag(cloud, ctx, resource):
            raise not_found(prefix, [resource_id])
        found.append(resource)
    return found


def _may_tag(cloud: Ec2Cloud, ctx: Ctx, resource: Resource) -> bool:
    """Return whether the caller owns a resource, or sees an image or snapshot of another account."""
    if isinstance(resource, Image):
        return cloud.may_see_image(ctx.account, resource)
    if isinstance(resource, Snapshot):
        return cloud.may_read_snapshot(ctx.account, resource)
    return resource.owner == ctx.account


_FILTERS = {"key": "Key", "resource-id": "ResourceId", "resource-type": "ResourceType", "value": "Value"}


def describe_tags(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    answers: list[dict[str, Any]] = []
    for resource in cloud.store.resources():
        if not cloud.is_visible(resource, ctx) or not _may_tag(cloud, ctx, resource):
            continue
        kind = RESOURCE_TYPES[resource.id.partition("-")[0]]
        answers += [
            {"Key": k, "Value": v, "ResourceId": resource.id, "ResourceType": kind}
            for k, v in resource.tags_of(ctx.account).items()
        ]
    for answer in answers:
        # For the filter tag:KEY, each answer contains only its own tag.
        answer["Tags"] = [{"Key": answer["Key"], "Value": answer["Value"]}]
    reply = described("Tags", answers, params, _FILTERS, ["ResourceType", "ResourceId", "Key"])
    for answer in reply["Tags"]:
        del answer["Tags"]
    return reply


ACTIONS: dict[str, Action] = {
    "CreateTags": create_tags,
    "DeleteTags": delete_tags,
    "DescribeTags": describe_tags,
}
