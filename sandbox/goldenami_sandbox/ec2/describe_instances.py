"""Describes instances, their status and their network interfaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from goldenami_sandbox.ec2 import addresses, metadata, tags, types, volumes
from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.ec2.core import Action, Ec2Cloud
from goldenami_sandbox.ec2.filters import Source
from goldenami_sandbox.ec2.pagination import described
from goldenami_sandbox.ec2.protocol import whole_seconds
from goldenami_sandbox.ec2.records import Instance, Interface, Volume

STATE_CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
TERMINATED_SHOWN = 3600.0  # seconds for which a terminated instance is still described, as on AWS


def state_of(cloud: Ec2Cloud, instance: Instance) -> dict[str, Any]:
    name = instance.state(cloud.now())
    return {"Code": STATE_CODES[name], "Name": name}


def block_devices(cloud: Ec2Cloud, instance: Instance) -> list[dict[str, Any]]:
    return [_block_device(cloud, volume) for volume in cloud.volumes_of(instance)]


def _block_device(cloud: Ec2Cloud, volume: Volume) -> dict[str, Any]:
    attachment = volume.attachment
    assert attachment is not None
    return {
        "DeviceName": attachment.device,
        "Ebs": {
            "AttachTime": whole_seconds(attachment.attached),
            "DeleteOnTermination": attachment.delete_on_termination,
            "Status": volumes.attachment_state(cloud, attachment),
            "VolumeId": volume.id,
        },
    }


def groups(of: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"GroupId": group_id, "GroupName": name} for group_id, name in of.items()]


def rendered(cloud: Ec2Cloud, instance: Instance) -> dict[str, Any]:
    interfaces = [i for i in (cloud.store.interfaces.get(n) for n in instance.interface_ids) if i is not None]
    gone = instance.state(cloud.now()) == "terminated"
    down = instance.state(cloud.now()) in ("stopped", "stopping")
    associations = [a for a in (_association(cloud, i, down=down) for i in interfaces) if a is not None]
    public = associations[0]["PublicIp"] if associations else None
    answer: dict[str, Any] = {
        "InstanceId": instance.id,
        "ImageId": instance.image_id,
        "State": state_of(cloud, instance),
        "StateTransitionReason": instance.reason,
        "PrivateDnsName": "" if gone else metadata.hostname(instance),
        "PublicDnsName": "",
        "KeyName": instance.key_name,
        "AmiLaunchIndex": instance.launch_index,
        "ProductCodes": [],
        "InstanceType": instance.type,
        "LaunchTime": whole_seconds(instance.launched),
        "Placement": {"AvailabilityZone": instance.availability_zone, "GroupName": "", "Tenancy": "default"},
        "Monitoring": {"State": "enabled" if instance.monitoring else "disabled"},
        "Architecture": instance.architecture,
        "BlockDeviceMappings": block_devices(cloud, instance),
        "ClientToken": instance.client_token,
        "EbsOptimized": instance.ebs_optimized,
        "EnaSupport": instance.ena_support,
        "Hypervisor": "xen",  # EC2 returns this for Nitro instances too
        "RootDeviceName": instance.root_device_name,
        "RootDeviceType": "ebs",
        "SecurityGroups": [] if gone else groups(instance.groups),
        "Tags": tags.rendered(instance),
        "VirtualizationType": instance.virtualization_type,
        "MetadataOptions": metadata_options(instance),
        "PlatformDetails": instance.platform_details,
        "UsageOperation": instance.usage_operation,
        "UsageOperationUpdateTime": instance.created,
        "BootMode": instance.boot_mode,
        "CurrentInstanceBootMode": types.current_boot_mode(types.find(instance.type), instance.boot_mode),
        "TpmSupport": instance.tpm_support,
        "CapacityReservationSpecification": {"CapacityReservationPreference": "open"},
        "HibernationOptions": {"Configured": instance.hibernation},
        "EnclaveOptions": {"Enabled": False},
        "MaintenanceOptions": {"AutoRecovery": "default"},
        "NetworkInterfaces": [_attached(cloud, i, down=down) for i in interfaces],
    }
    if instance.profile_arn:
        answer["IamInstanceProfile"] = {"Arn": instance.profile_arn, "Id": instance.profile_id}
    if instance.spot_request_id:
        answer |= {"InstanceLifecycle": "spot", "SpotInstanceRequestId": instance.spot_request_id}
    if instance.reason_code:
        answer["StateReason"] = {"Code": instance.reason_code, "Message": instance.reason_message}
    if not gone:
        answer |= {
            "PrivateIpAddress": instance.address,
            "PublicIpAddress": public,
            "SubnetId": instance.subnet_id,
            "VpcId": instance.vpc_id,
            "SourceDestCheck": instance.source_dest_check,
        }
    return answer


def metadata_options(instance: Instance) -> dict[str, Any]:
    options = instance.metadata
    return {
        "State": "applied",
        "HttpTokens": options.tokens,
        "HttpPutResponseHopLimit": options.hop_limit,
        "HttpEndpoint": options.endpoint,
        "HttpProtocolIpv6": options.ipv6,
        "InstanceMetadataTags": options.tags,
    }


def reservation(cloud: Ec2Cloud, instances: Sequence[Instance]) -> dict[str, Any]:
    first = instances[0]
    return {
        "ReservationId": first.reservation_id,
        "OwnerId": first.owner,
        "Groups": [],
        "Instances": [rendered(cloud, i) for i in sorted(instances, key=lambda i: i.launch_index)],
    }


# --- network interfaces -----------------------------------------------------------------------------------------------


def _association(cloud: Ec2Cloud, interface: Interface, *, down: bool) -> dict[str, Any] | None:
    """Return the public address of an interface: its Elastic IP address, or the one that EC2 assigned while the
    instance runs.
    """
    elastic = addresses.of_interface(cloud, interface)
    if elastic is not None:
        return {
            "IpOwnerId": elastic.owner,
            "PublicDnsName": "",
            "PublicIp": elastic.public_address,
        }
    if interface.public_address and not down:
        return {"IpOwnerId": "amazon", "PublicDnsName": "", "PublicIp": interface.public_address}
    return None


def _attached(cloud: Ec2Cloud, interface: Interface, *, down: bool) -> dict[str, Any]:
    """Return a network interface as DescribeInstances lists it."""
    answer = _interface(cloud, interface, down=down)
    attachment = answer["Attachment"]
    return {
        "Attachment": {
            k: attachment[k] for k in ("AttachmentId", "AttachTime", "DeleteOnTermination", "DeviceIndex", "Status")
        },
        **{
            k: answer[k]
            for k in (
                "Description",
                "Groups",
                "InterfaceType",
                "Ipv6Addresses",
                "MacAddress",
                "NetworkInterfaceId",
                "OwnerId",
                "PrivateDnsName",
                "PrivateIpAddress",
                "SourceDestCheck",
                "Status",
                "SubnetId",
                "VpcId",
            )
        },
        "PrivateIpAddresses": answer["PrivateIpAddresses"],
        "Association": answer["Association"],
    }


def _interface(cloud: Ec2Cloud, interface: Interface, *, down: bool) -> dict[str, Any]:
    association = _association(cloud, interface, down=down)
    private_name = f"ip-{interface.address.replace('.', '-')}.{interface.region}.compute.internal"
    return {
        "NetworkInterfaceId": interface.id,
        "AvailabilityZone": interface.availability_zone,
        "Description": interface.description,
        "Groups": groups(interface.groups),
        "InterfaceType": "interface",
        "Ipv6Addresses": [],
        "MacAddress": interface.mac,
        "OwnerId": interface.owner,
        "PrivateDnsName": private_name,
        "PrivateIpAddress": interface.address,
        "PrivateIpAddresses": [
            {
                "Primary": True,
                "PrivateDnsName": private_name,
                "PrivateIpAddress": interface.address,
                "Association": association,
            }
        ],
        "Association": association,
        "RequesterManaged": False,
        "SourceDestCheck": interface.source_dest_check,
        "Status": "in-use",
        "SubnetId": interface.subnet_id,
        "VpcId": interface.vpc_id,
        "TagSet": tags.rendered(interface),
        "Attachment": {
            "AttachmentId": interface.attachment_id,
            "AttachTime": whole_seconds(interface.attached),
            "DeleteOnTermination": interface.delete_on_termination,
            "DeviceIndex": interface.device_index,
            "InstanceId": interface.instance_id,
            "InstanceOwnerId": interface.owner,
            "Status": "attached",
        },
    }


_INTERFACE_FILTERS: dict[str, Source] = {
    "addresses.private-ip-address": "PrivateIpAddresses.PrivateIpAddress",
    "association.public-ip": "Association.PublicIp",
    "attachment.attachment-id": "Attachment.AttachmentId",
    "attachment.device-index": "Attachment.DeviceIndex",
    "attachment.instance-id": "Attachment.InstanceId",
    "attachment.status": "Attachment.Status",
    "availability-zone": "AvailabilityZone",
    "description": "Description",
    "group-id": "Groups.GroupId",
    "group-name": "Groups.GroupName",
    "interface-type": "InterfaceType",
    "mac-address": "MacAddress",
    "network-interface-id": "NetworkInterfaceId",
    "owner-id": "OwnerId",
    "private-ip-address": "PrivateIpAddress",
    "requester-managed": "RequesterManaged",
    "status": "Status",
    "subnet-id": "SubnetId",
    "vpc-id": "VpcId",
}


def describe_network_interfaces(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    found = cloud.select("eni", cloud.store.interfaces, ctx, params.get("NetworkInterfaceIds"))
    now, instances = cloud.now(), cloud.store.instances
    answers = [
        _interface(
            cloud,
            i,
            down=i.instance_id in instances and instances[i.instance_id].state(now) in ("stopped", "stopping"),
        )
        for i in found
    ]
    return described("NetworkInterfaces", answers, params, _INTERFACE_FILTERS, ["NetworkInterfaceId"])


# --- instances --------------------------------------------------------------------------------------------------------

FILTERS: dict[str, Source] = {
    "architecture": "Architecture",
    "availability-zone": "Placement.AvailabilityZone",
    "block-device-mapping.attach-time": "BlockDeviceMappings.Ebs.AttachTime",
    "block-device-mapping.delete-on-termination": "BlockDeviceMappings.Ebs.DeleteOnTermination",
    "block-device-mapping.device-name": "BlockDeviceMappings.DeviceName",
    "block-device-mapping.status": "BlockDeviceMappings.Ebs.Status",
    "block-device-mapping.volume-id": "BlockDeviceMappings.Ebs.VolumeId",
    "boot-mode": "BootMode",
    "client-token": "ClientToken",
    "current-instance-boot-mode": "CurrentInstanceBootMode",
    "dns-name": "PublicDnsName",
    "ebs-optimized": "EbsOptimized",
    "ena-support": "EnaSupport",
    "group-id": "SecurityGroups.GroupId",
    "group-name": "SecurityGroups.GroupName",
    "hypervisor": "Hypervisor",
    "iam-instance-profile.arn": "IamInstanceProfile.Arn",
    "iam-instance-profile.id": "IamInstanceProfile.Id",
    "image-id": "ImageId",
    "instance-id": "InstanceId",
    "instance-lifecycle": "InstanceLifecycle",
    "instance-state-code": "State.Code",
    "instance-state-name": "State.Name",
    "instance-type": "InstanceType",
    "instance.group-id": "SecurityGroups.GroupId",
    "instance.group-name": "SecurityGroups.GroupName",
    "ip-address": "PublicIpAddress",
    "key-name": "KeyName",
    "launch-index": "AmiLaunchIndex",
    "launch-time": "LaunchTime",
    "metadata-options.http-endpoint": "MetadataOptions.HttpEndpoint",
    "metadata-options.http-put-response-hop-limit": "MetadataOptions.HttpPutResponseHopLimit",
    "metadata-options.http-tokens": "MetadataOptions.HttpTokens",
    "monitoring-state": "Monitoring.State",
    "network-interface.mac-address": "NetworkInterfaces.MacAddress",
    "network-interface.network-interface-id": "NetworkInterfaces.NetworkInterfaceId",
    "network-interface.subnet-id": "NetworkInterfaces.SubnetId",
    "network-interface.vpc-id": "NetworkInterfaces.VpcId",
    "owner-id": "OwnerId",
    "placement-group-name": "Placement.GroupName",
    "platform-details": "PlatformDetails",
    "private-dns-name": "PrivateDnsName",
    "private-ip-address": "PrivateIpAddress",
    "reason": "StateTransitionReason",
    "reservation-id": "ReservationId",
    "root-device-name": "RootDeviceName",
    "root-device-type": "RootDeviceType",
    "source-dest-check": "SourceDestCheck",
    "spot-instance-request-id": "SpotInstanceRequestId",
    "state-reason-code": "StateReason.Code",
    "state-reason-message": "StateReason.Message",
    "subnet-id": "SubnetId",
    "tenancy": "Placement.Tenancy",
    "usage-operation": "UsageOperation",
    "virtualization-type": "VirtualizationType",
    "vpc-id": "VpcId",
}


def select_instances(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> list[Instance]:
    """Return the caller's instances, or those with the given ids. Raises InvalidInstanceID.NotFound."""
    ids = params.get("InstanceIds")
    if ids and params.get("MaxResults") is not None:
        raise Ec2Error(
            "InvalidParameterCombination",
            "The parameter instancesSet cannot be used with the parameter maxResults",
        )
    forget_old(cloud)
    return cloud.select("i", cloud.store.instances, ctx, ids)


def forget_old(cloud: Ec2Cloud) -> None:
    """Remove instances that were terminated long ago."""
    now = cloud.now()
    for instance in list(cloud.store.instances.values()):
        if instance.state(now) == "terminated" and now - instance.transition.until > TERMINATED_SHOWN:
            del cloud.store.instances[instance.id]


def describe_instances(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    found = select_instances(cloud, ctx, params)
    answers = []
    for instance in found:
        # Filters also apply to the fields of the reservation.
        answers.append(
            {**rendered(cloud, instance), "OwnerId": instance.owner, "ReservationId": instance.reservation_id}
        )
    reply = described("Instances", answers, params, FILTERS, ["LaunchTime", "ReservationId", "AmiLaunchIndex"])
    reservations: dict[str, dict[str, Any]] = {}
    for answer in reply["Instances"]:
        owner, reservation_id = answer.pop("OwnerId"), answer.pop("ReservationId")
        entry = reservations.setdefault(
            reservation_id, {"ReservationId": reservation_id, "OwnerId": owner, "Groups": [], "Instances": []}
        )
        entry["Instances"].append(answer)
    return {"Reservations": list(reservations.values()), "NextToken": reply["NextToken"]}


_STATUS_FILTERS: dict[str, Source] = {
    "availability-zone": "AvailabilityZone",
    "instance-state-code": "InstanceState.Code",
    "instance-state-name": "InstanceState.Name",
    "instance-status.reachability": "InstanceStatus.Details.Status",
    "instance-status.status": "InstanceStatus.Status",
    "system-status.reachability": "SystemStatus.Details.Status",
    "system-status.status": "SystemStatus.Status",
}


def describe_instance_status(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the status of running instances, or of all instances if requested."""
    now = cloud.now()
    answers = []
    for instance in select_instances(cloud, ctx, params):
        running = instance.state(now) == "running"
        if not running and not params.get("IncludeAllInstances"):
            continue
        if not running:
            summary: dict[str, Any] = {"Status": "not-applicable"}
        elif now < instance.status_ok_from:
            summary = {"Status": "initializing", "Details": [{"Name": "reachability", "Status": "initializing"}]}
        else:
            summary = {"Status": "ok", "Details": [{"Name": "reachability", "Status": "passed"}]}
        answers.append(
            {
                "InstanceId": instance.id,
                "AvailabilityZone": instance.availability_zone,
                "InstanceState": state_of(cloud, instance),
                "InstanceStatus": summary,
                "SystemStatus": summary,
                "Tags": tags.rendered(instance),
            }
        )
    reply = described("InstanceStatuses", answers, params, _STATUS_FILTERS, ["InstanceId"])
    for answer in reply["InstanceStatuses"]:
        del answer["Tags"]  # for filters
    return reply


ACTIONS: dict[str, Action] = {
    "DescribeInstances": describe_instances,
    "DescribeInstanceStatus": describe_instance_status,
    "DescribeNetworkInterfaces": describe_network_interfaces,
}
