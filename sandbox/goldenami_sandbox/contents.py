"""Reads what the sandbox contains, without the AWS APIs: resources of all accounts and regions, consoles, image
contents.
"""

from __future__ import annotations

import base64
import difflib
from pathlib import Path
from typing import Any, cast, get_args

from goldenami_sandbox.cloud import Cloud
from goldenami_sandbox.ec2.hooks import KeyRefused
from goldenami_sandbox.ec2.service import Ctx
from goldenami_sandbox.errors import NotFound, SandboxError, UsageError
from goldenami_sandbox.node.api import DataKey, ExportForm, Node
from goldenami_sandbox.policy import Caller
from goldenami_sandbox.services.kms import Kms


def inventory(cloud: Cloud) -> dict[str, list[dict[str, Any]]]:
    """Return instances that are not terminated, images and snapshots of all accounts and regions, without vendors'
    images.
    """
    kept = cloud.ec2.dump()
    instances = []
    for account, region in _places(cloud, kept["instances"]):
        for reservation in _describe(cloud, account, region, "DescribeInstances").get("Reservations", []):
            for item in reservation["Instances"]:
                if item["State"]["Name"] != "terminated":
                    instances.append(
                        {
                            "instance_id": item["InstanceId"],
                            "account": account,
                            "region": region,
                            "state": item["State"]["Name"],
                            "address": item.get("PrivateIpAddress"),
                            "image_id": item.get("ImageId"),
                            "name": _name(item),
                        }
                    )
    images = []
    for account, region in _places(cloud, kept["images"]):
        reply = _describe(cloud, account, region, "DescribeImages", {"Owners": ["self"], "IncludeDisabled": True})
        images += [
            {
                "image_id": item["ImageId"],
                "account": account,
                "region": region,
                "state": item["State"],
                "name": item.get("Name"),
                "encrypted": any(device.get("Ebs", {}).get("Encrypted") for device in item["BlockDeviceMappings"]),
            }
            for item in reply.get("Images", [])
        ]
    snapshots = [
        {
            "snapshot_id": item["id"],
            "account": item["owner"],
            "region": item["region"],
            "size_gib": item["size"],
            "full_bytes": item["full_bytes"],
            "stored_bytes": item["stored_bytes"],
            "encrypted": item["encryption"] is not None,
        }
        for item in kept["snapshots"].values()
        if item["owner"] in cloud.accounts.values()
    ]
    return {"instances": instances, "images": images, "snapshots": snapshots}


def _places(cloud: Cloud, table: dict[str, Any]) -> list[tuple[str, str]]:
    places = {(item["owner"], item["region"]) for item in table.values()}
    return sorted(place for place in places if place[0] in cloud.accounts.values())


def _describe(
    cloud: Cloud, account: str, region: str, action: str, params: dict[str, Any] | None = None
) -> dict[str, Any]:
    return cloud.ec2.call(Ctx(account, region, f"arn:aws:iam::{account}:root", "status"), action, params or {})


def _name(item: dict[str, Any]) -> str | None:
    return next((tag["Value"] for tag in item.get("Tags", []) if tag["Key"] == "Name"), None)


def console(cloud: Cloud, node: Node, instance: str) -> bytes:
    """Return the console output of a guest. Raises NotFound."""
    _require_entry(cloud, "instances", instance, "instance")
    return node.console(instance)


def export(cloud: Cloud, node: Node, image: str, output: Path, form: str) -> None:
    """Write the contents of an image's root volume.

    Raises NotFound for an unknown image, SandboxError if the image has no contents or if the KMS key cannot be used.
    """
    if form not in get_args(ExportForm):
        raise UsageError(f"form {form!r}: dir, tar or raw is expected")
    kept = cloud.ec2.dump()
    record = _require_entry(cloud, "images", image, "image", kept)
    roots = [device["snapshot_id"] for device in record["devices"] if device["device"] == record["root_device_name"]]
    snapshot = kept["snapshots"].get(roots[0]) if roots else None
    if snapshot is None or snapshot["hollow"]:
        raise SandboxError(
            f"{image} has no contents in the sandbox: this image of a vendor can only be described and copied"
        )
    key: DataKey | None = None
    if snapshot["encryption"] is not None:
        try:
            wrapped = base64.b64decode(snapshot["encryption"]["wrapped"])
            owner = Caller(str(snapshot["owner"]))
            key = DataKey(cloud.services.of(Kms).decrypt(wrapped, str(snapshot["encryption"]["key_arn"]), owner))
        except KeyRefused as refusal:
            raise SandboxError(f"{image} cannot be decrypted: {refusal.message}") from refusal
    source = node.base(snapshot["release"]) if snapshot["release"] else snapshot["id"]
    if not node.has_snapshot(source):
        raise SandboxError(f"the snapshot {source} of {image} is not complete yet")
    node.export(source, key, output, cast(ExportForm, form))


def _require_entry(
    cloud: Cloud, table: str, resource_id: str, noun: str, kept: dict[str, Any] | None = None
) -> dict[str, Any]:
    entries: dict[str, dict[str, Any]] = (kept or cloud.ec2.dump())[table]
    if resource_id not in entries:
        near = difflib.get_close_matches(resource_id, entries, n=1, cutoff=0.8)
        raise NotFound(
            f"there is no {noun} {resource_id} in the sandbox",
            hint=f"Did you mean {near[0]}?"
            if near
            else "`goldenami-sandbox status` lists instances, images and snapshots.",
        )
    return entries[resource_id]
