"""Permissions to create volumes from a snapshot: for accounts or for all. EC2 has none for organizations, unlike
images.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from goldenami_sandbox.ec2 import fast_restore, snapshots
from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.ec2.core import Action, Ec2Cloud
from goldenami_sandbox.ec2.records import Snapshot

_ACCOUNT = re.compile(r"\d{12}")
_PERMISSION = "createVolumePermission"
_MOST_CHANGES = 500  # in one request (ModifySnapshotAttribute)


def modify_snapshot_attribute(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    snapshot = cloud.own_snapshot(ctx, params["SnapshotId"])
    _check_attribute(params.get("Attribute") or _PERMISSION)
    change = params.get("CreateVolumePermission") or {}
    add, remove = list(change.get("Add") or ()), list(change.get("Remove") or ())
    listed: list[Mapping[str, str]] = [{"UserId": u} for u in params.get("UserIds") or ()]
    listed += [{"Group": g} for g in params.get("GroupNames") or ()]
    if "OperationType" not in params and change == {"Add": listed}:
        listed = []  # Packer sends the users of CreateVolumePermission.Add as UserIds too, which EC2 accepts
    if change and listed:
        raise Ec2Error(
            "InvalidParameterCombination",
            "CreateVolumePermission and the lists of users cannot be used in one request.",
        )
    if listed:
        (remove if params.get("OperationType") == "remove" else add).extend(listed)
    if not add and not remove:
        raise Ec2Error("InvalidParameterCombination", "No attributes specified.")
    if add and remove:
        raise Ec2Error("InvalidParameterCombination", "Permissions cannot be added and removed in one request.")
    if len(add) + len(remove) > _MOST_CHANGES:
        raise Ec2Error(
            "InvalidParameterValue", f"A request can make at most {_MOST_CHANGES} modifications to a snapshot."
        )
    for item in (*add, *remove):
        _check_item(item)
    if add and snapshots.tier(cloud, snapshot) == "archive":
        raise Ec2Error("OperationNotPermitted", f"Snapshot '{snapshot.id}' is archived and cannot be shared.")
    if any(item.get("Group") for item in add) and cloud.public_access(ctx.account, ctx.region) != "unblocked":
        raise Ec2Error(
            "OperationNotPermitted", "Block public access for EBS snapshots is enabled in this account and Region."
        )
    if add:
        _check_shareable(snapshot, public=any(item.get("Group") for item in add))
    for items, include in ((add, True), (remove, False)):
        for item in items:
            if item.get("Group"):
                snapshot.public = include
            user = item.get("UserId")
            if include and (item.get("Group") or user not in (None, *snapshot.users)):
                cloud.lend(snapshot.id, user or "all")
            if user and include and user not in snapshot.users:
                snapshot.users.append(user)
            if user and not include and user in snapshot.users:
                snapshot.users.remove(user)
                fast_restore.end_of_sharing(snapshot, user)
    return {}


def _check_attribute(attribute: str) -> None:
    if attribute != _PERMISSION:
        raise Ec2Error("InvalidParameterValue", f"Value ({attribute}) for parameter attribute is invalid.")


def _check_item(item: Mapping[str, str]) -> None:
    user, group = item.get("UserId"), item.get("Group")
    if user is not None and not _ACCOUNT.fullmatch(user):
        raise Ec2Error("InvalidParameterValue", f"Value ({user}) for parameter userId is invalid.")
    if group is not None and group != "all":
        raise Ec2Error("InvalidParameterValue", f"Value ({group}) for parameter group is invalid.")


def _check_shareable(snapshot: Snapshot, *, public: bool) -> None:
    if snapshot.encryption is None:
        return
    if snapshot.encryption.aws_managed:
        raise Ec2Error("OperationNotPermitted", "Encrypted snapshots with EBS default key cannot be shared")
    if public:
        raise Ec2Error("OperationNotPermitted", "Encrypted snapshots cannot be made public")


def describe_snapshot_attribute(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    snapshot = cloud.own_snapshot(ctx, params["SnapshotId"])
    if params["Attribute"] == "productCodes":
        return {"SnapshotId": snapshot.id, "ProductCodes": []}
    _check_attribute(params["Attribute"])
    permissions = [{"Group": "all"}] if snapshot.public else []
    permissions += [{"UserId": user} for user in snapshot.users]
    return {"SnapshotId": snapshot.id, "CreateVolumePermissions": permissions}


def reset_snapshot_attribute(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    snapshot = cloud.own_snapshot(ctx, params["SnapshotId"])
    _check_attribute(params["Attribute"])
    for user in snapshot.users:
        fast_restore.end_of_sharing(snapshot, user)
    snapshot.public, snapshot.users = False, []
    return {}


ACTIONS: dict[str, Action] = {
    "ModifySnapshotAttribute": modify_snapshot_attribute,
    "DescribeSnapshotAttribute": describe_snapshot_attribute,
    "ResetSnapshotAttribute": reset_snapshot_attribute,
}
