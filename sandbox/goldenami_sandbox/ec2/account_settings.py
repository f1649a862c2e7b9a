"""Settings of an account in a region that restrict images: Allowed AMIs, and the block on public images.

"Control the discovery and use of AMIs in Amazon EC2 with Allowed AMIs" (EC2 User Guide): while the setting is enabled,
an account sees and launches only its own images and those that match a criterion. In audit mode, images only show
whether they would match. "Block public access to your AMIs": new accounts block new public sharing.
"""

# ruff: noqa: ARG001  (all actions have the same signature)
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.ec2.core import Action, Ec2Cloud
from goldenami_sandbox.ec2.records import AllowedImages, ImageCriterion

_MOST_CRITERIA = 10
_BLOCKED = "block-new-sharing"
_PROVIDERS = ("amazon", "aws-marketplace", "aws-backup-vault", "none")  # or account ids


def _settings(cloud: Ec2Cloud, account: str, region: str) -> AllowedImages:
    return cloud.store.allowed_images.get(f"{account}/{region}") or AllowedImages()


def _get(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    own = _settings(cloud, ctx.account, ctx.region)
    criteria = [_rendered(one) for one in own.criteria]
    return {"State": own.state, "ImageCriteria": criteria, "ManagedBy": "account"}


def _rendered(one: ImageCriterion) -> dict[str, Any]:
    created, deprecated = one.created_within_days, one.deprecated_within_days
    return {
        "ImageProviders": list(one.providers) or None,
        "ImageNames": list(one.names) or None,
        "CreationDateCondition": {"MaximumDaysSinceCreated": created} if created is not None else None,
        "DeprecationTimeCondition": {"MaximumDaysSinceDeprecated": deprecated} if deprecated is not None else None,
    }


def _enable(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    state = params["AllowedImagesSettingsState"]
    if state not in ("enabled", "audit-mode"):
        raise Ec2Error("InvalidParameterValue", f"Value ({state}) for parameter allowedImagesSettingsState is invalid.")
    _change(cloud, ctx).state = state
    return {"AllowedImagesSettingsState": state}


def _disable(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    _change(cloud, ctx).state = "disabled"
    return {"AllowedImagesSettingsState": "disabled"}


def _replace(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    wanted = params.get("ImageCriteria") or []
    if len(wanted) > _MOST_CRITERIA:
        raise Ec2Error("InvalidParameterValue", f"At most {_MOST_CRITERIA} image criteria are allowed.")
    _change(cloud, ctx).criteria = [_criterion(one) for one in wanted]
    return {"ReturnValue": True}


def _criterion(one: Mapping[str, Any]) -> ImageCriterion:
    providers = list(one.get("ImageProviders") or ())
    for provider in providers:
        if provider not in _PROVIDERS and not (provider.isdigit() and len(provider) == 12):
            raise Ec2Error("InvalidParameterValue", f"Value ({provider}) for parameter imageProviders is invalid.")
    created = (one.get("CreationDateCondition") or {}).get("MaximumDaysSinceCreated")
    deprecated = (one.get("DeprecationTimeCondition") or {}).get("MaximumDaysSinceDeprecated")
    return ImageCriterion(providers, list(one.get("ImageNames") or ()), created, deprecated)


def _change(cloud: Ec2Cloud, ctx: Ctx) -> AllowedImages:
    return cloud.store.allowed_images.setdefault(f"{ctx.account}/{ctx.region}", AllowedImages())


def _block_state(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    return {"ImageBlockPublicAccessState": cloud.images_block(ctx.account, ctx.region), "ManagedBy": "account"}


def _block(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    state = params["ImageBlockPublicAccessState"]
    if state != _BLOCKED:
        raise Ec2Error(
            "InvalidParameterValue", f"Value ({state}) for parameter imageBlockPublicAccessState is invalid."
        )
    cloud.store.images_block[f"{ctx.account}/{ctx.region}"] = state
    return {"ImageBlockPublicAccessState": state}


def _unblock(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    cloud.store.images_block[f"{ctx.account}/{ctx.region}"] = "unblocked"
    return {"ImageBlockPublicAccessState": "unblocked"}


ACTIONS: dict[str, Action] = {
    "GetAllowedImagesSettings": _get,
    "EnableAllowedImagesSettings": _enable,
    "DisableAllowedImagesSettings": _disable,
    "ReplaceImageCriteriaInAllowedImagesSettings": _replace,
    "GetImageBlockPublicAccessState": _block_state,
    "EnableImageBlockPublicAccess": _block,
    "DisableImageBlockPublicAccess": _unblock,
}
