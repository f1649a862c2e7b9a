"""The instance metadata that EC2 has. The node adds the values that it determines itself."""

from __future__ import annotations

import base64
import json
from typing import Literal

from goldenami_sandbox.ec2 import types
from goldenami_sandbox.ec2.core import Ec2Cloud
from goldenami_sandbox.ec2.protocol import timestamp
from goldenami_sandbox.ec2.records import Instance
from goldenami_sandbox.errors import SandboxError
from goldenami_sandbox.node.api import InstanceSpec


def hostname(instance: Instance) -> str:
    """Return the private DNS name for an address. Its zone is ec2.internal in us-east-1 only."""
    zone = "ec2.internal" if instance.region == "us-east-1" else f"{instance.region}.compute.internal"
    return f"ip-{instance.address.replace('.', '-')}.{zone}"


def spec(cloud: Ec2Cloud, instance: Instance) -> InstanceSpec:
    """Return the instance's spec for the node. Called with the lock held. Raises SandboxError without a root volume."""
    root = cloud.root_volume(instance)
    if root is None:
        raise SandboxError(f"{instance.id} has no root volume at {instance.root_device_name}")
    options = instance.metadata
    interface = cloud.store.interfaces[instance.interface_ids[0]]
    imds: Literal["optional", "required", "disabled"] = "required" if options.tokens == "required" else "optional"
    return InstanceSpec(
        instance=instance.id,
        address=instance.address,
        root_volume=root.id,
        hostname=hostname(instance),
        user_data=base64.b64decode(instance.user_data),
        ssh_public_key=instance.public_key,
        ssh_key_name=instance.key_name,
        default_user=instance.default_user or "admin",
        metadata=_paths(cloud, instance),
        imds="disabled" if options.endpoint == "disabled" else imds,
        metadata_tags=dict(instance.tags) if options.tags == "enabled" else None,
        public=bool(interface.public_address or interface.elastic_id),
        data_volumes={
            v.attachment.device: v.id
            for v in cloud.volumes_of(instance)
            if v.attachment and not v.attachment.detaching and v.id != root.id
        },
        nvme=types.find(instance.type).nitro,
    )


def _paths(cloud: Ec2Cloud, instance: Instance) -> dict[str, str]:
    interface = cloud.store.interfaces[instance.interface_ids[0]]
    zone = instance.availability_zone
    paths = {
        "ami-id": instance.image_id,
        "ami-launch-index": str(instance.launch_index),
        "ami-manifest-path": "(unknown)",
        "block-device-mapping/ami": instance.root_device_name,
        "block-device-mapping/root": instance.root_device_name,
        "instance-action": "none",
        "instance-life-cycle": "spot" if instance.spot_request_id else "on-demand",
        "instance-type": instance.type,
        "mac": interface.mac,
        "placement/availability-zone": zone,
        "placement/region": instance.region,
        "profile": "default-hvm",
        "reservation-id": instance.reservation_id,
        "security-groups": "\n".join(instance.groups.values()),
        "services/domain": "amazonaws.com",
        "services/partition": "aws",
        f"network/interfaces/macs/{interface.mac}/device-number": "0",
        f"network/interfaces/macs/{interface.mac}/interface-id": interface.id,
        f"network/interfaces/macs/{interface.mac}/local-ipv4s": interface.address,
        f"network/interfaces/macs/{interface.mac}/mac": interface.mac,
        f"network/interfaces/macs/{interface.mac}/owner-id": instance.owner,
        f"network/interfaces/macs/{interface.mac}/security-group-ids": "\n".join(instance.groups),
        f"network/interfaces/macs/{interface.mac}/subnet-id": instance.subnet_id,
        f"network/interfaces/macs/{interface.mac}/vpc-id": instance.vpc_id,
        "/dynamic/instance-identity/document": _identity(instance),
    }
    request = cloud.store.spot_requests.get(instance.spot_request_id or "")
    if request is not None and request.interrupted_at is not None:
        when = timestamp(request.interrupted_at)[:19] + "Z"
        paths["spot/instance-action"] = json.dumps({"action": "terminate", "time": when})
        paths["spot/termination-time"] = when
    if interface.public_address:
        paths["public-ipv4"] = interface.public_address
    if instance.profile_arn:
        paths["iam/info"] = json.dumps(
            {
                "Code": "Success",
                "LastUpdated": timestamp(instance.launched)[:19] + "Z",
                "InstanceProfileArn": instance.profile_arn,
                "InstanceProfileId": instance.profile_id,
            },
            indent=2,
        )
    return paths


def _identity(instance: Instance) -> str:
    return json.dumps(
        {
            "accountId": instance.owner,
            "architecture": instance.architecture,
            "availabilityZone": instance.availability_zone,
            "imageId": instance.image_id,
            "instanceId": instance.id,
            "instanceType": instance.type,
            "kernelId": None,
            "pendingTime": timestamp(instance.launched)[:19] + "Z",
            "privateIp": instance.address,
            "ramdiskId": None,
            "region": instance.region,
            "version": "2017-09-30",
        },
        indent=2,
    )
