"""Changes of an image: attributes, launch permissions, deprecation, disabling, deregistration protection."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from goldenami_sandbox.ec2 import describe_images, images
from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.ec2.core import Action, Ec2Cloud
from goldenami_sandbox.ec2.protocol import check_text, timestamp
from goldenami_sandbox.ec2.records import Image

_ACCOUNT = re.compile(r"\d{12}")
_ORGANIZATION = re.compile(r"arn:aws[\w-]*:organizations::\d{12}:organization/o-[a-z0-9]{10,32}")
_UNIT = re.compile(r"arn:aws[\w-]*:organizations::\d{12}:ou/o-[a-z0-9]{10,32}/ou-[0-9a-z]{4,32}-[0-9a-z]{8,32}")
_TEN_YEARS = 10 * 365.25 * 86400
_TWO_YEARS = 2 * 365.25 * 86400  # the limit of public images
COOL_DOWN = 24 * 3600.0  # seconds that protection with a cool-down still holds after it was disabled


# The parameters that belong to each attribute, besides Attribute itself.
_PARAMETERS = {
    "description": ("Description",),
    "imdsSupport": ("ImdsSupport",),
    "launchPermission": (
        "LaunchPermission", "UserIds", "UserGroups", "OrganizationArns", "OrganizationalUnitArns",
    ),
}  # fmt: skip


def modify_image_attribute(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    """ModifyImageAttribute, in both forms: the new one with named parameters, the old one with Attribute and
    OperationType. A call changes one attribute.
    """
    image = cloud.own_image(ctx, params["ImageId"])
    attribute = _attribute(params)
    if attribute == "launchPermission":
        _check_usable(image)
        add, remove = _permission_changes(params)
        if not add and not remove:
            raise Ec2Error("InvalidParameterCombination", "No attributes specified.")
        _permit(cloud, image, add, remove)
        return {}
    name = attribute[:1].upper() + attribute[1:]
    given = params.get(name)
    _modify_value(image, name, given.get("Value") if given is not None else params.get("Value"))
    return {}


def _attribute(params: Mapping[str, Any]) -> str:
    """Return the attribute that a request changes. Raises Ec2Error for none, several, or an unknown one."""
    named = params.get("Attribute")
    if named is not None and named not in _PARAMETERS:
        raise Ec2Error("InvalidParameterValue", f"Value ({named}) for parameter attribute is invalid.")
    given = {attribute for attribute, names in _PARAMETERS.items() if any(name in params for name in names)}
    attributes = sorted(given | ({named} if named is not None else set()))
    if not attributes:
        raise Ec2Error("InvalidParameterCombination", "No attributes specified.")
    if len(attributes) > 1:
        raise Ec2Error(
            "InvalidParameterCombination", f"Fields for multiple attribute types specified: {', '.join(attributes)}"
        )
    if "Value" in params and (named is None or named == "launchPermission"):
        raise Ec2Error(
            "InvalidParameterCombination",
            "The parameter Value can be used only when Attribute is description or imdsSupport.",
        )
    if "OperationType" in params and attributes != ["launchPermission"]:
        raise Ec2Error(
            "InvalidParameterCombination",
            "The parameter OperationType can be used only when Attribute is launchPermission.",
        )
    return attributes[0]


def _permission_changes(params: Mapping[str, Any]) -> tuple[list[Mapping[str, str]], list[Mapping[str, str]]]:
    permission = params.get("LaunchPermission") or {}
    items: list[Mapping[str, str]] = [{"UserId": u} for u in params.get("UserIds") or ()]
    items += [{"Group": g} for g in params.get("UserGroups") or ()]
    items += [{"OrganizationArn": o} for o in params.get("OrganizationArns") or ()]
    items += [{"OrganizationalUnitArn": o} for o in params.get("OrganizationalUnitArns") or ()]
    if permission and "OperationType" not in params and permission == {"Add": items}:
        return items, []  # Packer sends the users of LaunchPermission.Add as UserIds too, which EC2 accepts
    if permission and items:
        raise Ec2Error(
            "InvalidParameterCombination", "LaunchPermission and the lists of users cannot be used in one request."
        )
    if items and (params.get("OperationType") or "add") == "add":
        return items, []
    return list(permission.get("Add") or ()), [*(permission.get("Remove") or ()), *items]


def _modify_value(image: Image, name: str, value: str | None) -> None:
    if name == "Description":
        check_text("Description", value or "")
        image.description = value or ""
        return
    if value != "v2.0":
        raise Ec2Error(
            "InvalidParameterValue",
            f"Value ({value}) for parameter imdsSupport is invalid. It can be set to v2.0 only.",
        )
    image.imds_support = value


def _check_usable(image: Image) -> None:
    if image.disabled:
        raise Ec2Error("InvalidAMIID.Unavailable", f"The image ID '{image.id}' is disabled and cannot be shared.")


def _permit(cloud: Ec2Cloud, image: Image, add: list[Mapping[str, str]], remove: list[Mapping[str, str]]) -> None:
    for item in (*add, *remove):
        _check_item(item)
    if add:
        _check_shareable(cloud, image, public=any(item.get("Group") for item in add))
        if any(item.get("Group") for item in add) and cloud.images_block(image.owner, image.region) != "unblocked":
            raise Ec2Error(
                "OperationNotPermitted", "You can't publicly share this image: block public access is enabled for AMIs."
            )
    for items, include in ((add, True), (remove, False)):
        for item in items:
            known = {
                *image.users,
                *image.organizations,
                *image.organizational_units,
                *(["all"] if image.public else []),
            }
            for user in item.values() if include else ():  # an account, an ARN, or "all" for a group
                if user not in known:
                    cloud.lend(image.id, user)
            if item.get("Group"):
                image.public = include
            _change(image.users, item.get("UserId"), include=include)
            _change(image.organizations, item.get("OrganizationArn"), include=include)
            _change(image.organizational_units, item.get("OrganizationalUnitArn"), include=include)


def _change(members: list[str], member: str | None, *, include: bool) -> None:
    if member and include and member not in members:
        members.append(member)
    if member and not include and member in members:
        members.remove(member)


def _check_item(item: Mapping[str, str]) -> None:
    user, group = item.get("UserId"), item.get("Group")
    organization, unit = item.get("OrganizationArn"), item.get("OrganizationalUnitArn")
    if user is not None and not _ACCOUNT.fullmatch(user):
        raise Ec2Error("InvalidAMIAttributeItemValue", f'Invalid attribute item value "{user}" for userId item type.')
    if group is not None and group != "all":
        raise Ec2Error("InvalidAMIAttributeItemValue", f'Invalid attribute item value "{group}" for group item type.')
    if organization is not None and not _ORGANIZATION.fullmatch(organization):
        raise Ec2Error("InvalidParameterValue", f"Value ({organization}) for parameter organizationArn is invalid.")
    if unit is not None and not _UNIT.fullmatch(unit):
        raise Ec2Error("InvalidParameterValue", f"Value ({unit}) for parameter organizationalUnitArn is invalid.")


def _check_shareable(cloud: Ec2Cloud, image: Image, *, public: bool) -> None:
    for snapshot_id in image.snapshot_ids:
        snapshot = cloud.store.snapshots.get(snapshot_id)
        if snapshot is None or snapshot.encryption is None:
            continue
        if snapshot.encryption.aws_managed:
            raise Ec2Error("InvalidParameter", "Snapshots encrypted with the AWS Managed CMK can't be shared.")
        if public:
            raise Ec2Error("InvalidParameter", "AMIs with encrypted snapshots can't be made public.")


def describe_image_attribute(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    image, attribute = cloud.own_image(ctx, params["ImageId"]), params["Attribute"]
    answer: dict[str, Any] = {"ImageId": image.id}
    values = {
        "description": ("Description", image.description or None),
        "kernel": ("KernelId", None),
        "ramdisk": ("RamdiskId", None),
        "sriovNetSupport": ("SriovNetSupport", image.sriov_net_support),
        "bootMode": ("BootMode", image.boot_mode),
        "tpmSupport": ("TpmSupport", image.tpm_support),
        "uefiData": ("UefiData", image.uefi_data),
        "lastLaunchedTime": (
            "LastLaunchedTime",
            timestamp(image.last_launched) if image.last_launched is not None else None,
        ),
        "imdsSupport": ("ImdsSupport", image.imds_support),
        "deregistrationProtection": ("DeregistrationProtection", image.deregistration_protection),
    }
    if attribute in values:
        name, value = values[attribute]
        answer[name] = {"Value": value}
    elif attribute == "launchPermission":
        answer["LaunchPermissions"] = _permissions(image)
    elif attribute == "blockDeviceMapping":
        made = images.state(cloud, image) != "pending"
        answer["BlockDeviceMappings"] = [describe_images.block_device(d, made=made) for d in image.devices]
    elif attribute == "productCodes":
        answer["ProductCodes"] = []
    else:
        raise Ec2Error(
            "InvalidParameterValue", f"Value ({attribute}) for parameter attribute is invalid. Unknown attribute."
        )
    return answer


def _permissions(image: Image) -> list[dict[str, str]]:
    found = [{"Group": "all"}] if image.public else []
    found += [{"UserId": u} for u in image.users]
    found += [{"OrganizationArn": o} for o in image.organizations]
    return found + [{"OrganizationalUnitArn": o} for o in image.organizational_units]


def reset_image_attribute(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    image = cloud.own_image(ctx, params["ImageId"])
    if params["Attribute"] != "launchPermission":
        raise Ec2Error("InvalidParameterValue", "Only the attribute launchPermission can be reset.")
    _strip(image)
    return {}


def _strip(image: Image) -> None:
    image.public = False
    image.users, image.organizations, image.organizational_units = [], [], []


# --- deprecation, disabling, protection -------------------------------------------------------------------------------


def enable_deprecation(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    image = cloud.own_image(ctx, params["ImageId"])
    when: datetime = params["DeprecateAt"]
    moment = when.astimezone(UTC).timestamp()
    now = cloud.now()
    if moment < now:
        raise Ec2Error("InvalidParameterValue", "The date and time specified for deprecation must be in the future.")
    limit, years = (_TWO_YEARS, 2) if image.public else (_TEN_YEARS, 10)
    if moment > now + limit:
        raise Ec2Error(
            "InvalidParameterValue",
            f"The date and time specified for deprecation must be within {years} years from now.",
        )
    image.deprecation = float(round(moment / 60) * 60)
    return {"Return": True}


def disable_deprecation(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    cloud.own_image(ctx, params["ImageId"]).deprecation = None
    return {"Return": True}


def disable_image(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    """DisableImage. It removes all launch permissions, and enabling does not restore them."""
    image = cloud.own_image(ctx, params["ImageId"])
    current = images.state(cloud, image)
    if current not in ("available", "disabled"):
        raise Ec2Error("InvalidAMIID.Unavailable", f"The image ID '{image.id}' is not available (it is {current}).")
    image.disabled = True
    _strip(image)
    return {"Return": True}


def enable_image(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    cloud.own_image(ctx, params["ImageId"]).disabled = False
    return {"Return": True}


def enable_protection(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    image = cloud.own_image(ctx, params["ImageId"])
    image.deregistration_protection = (
        "enabled-with-cooldown" if params.get("WithCooldown") else "enabled-without-cooldown"
    )
    image.protection_until = None
    return {"Return": "true"}


def disable_protection(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    image = cloud.own_image(ctx, params["ImageId"])
    if image.deregistration_protection == "enabled-with-cooldown":
        image.protection_until = cloud.now() + COOL_DOWN
    image.deregistration_protection = "disabled"
    return {"Return": "true"}


ACTIONS: dict[str, Action] = {
    "ModifyImageAttribute": modify_image_attribute,
    "DescribeImageAttribute": describe_image_attribute,
    "ResetImageAttribute": reset_image_attribute,
    "EnableImageDeprecation": enable_deprecation,
    "DisableImageDeprecation": disable_deprecation,
    "DisableImage": disable_image,
    "EnableImage": enable_image,
    "EnableImageDeregistrationProtection": enable_protection,
    "DisableImageDeregistrationProtection": disable_protection,
}
