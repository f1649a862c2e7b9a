"""A RunInstances request: merges its launch template, looks up all its references, and checks all rules.

The result is a ``LaunchPlan``: plain data from which instances can be created without any further error.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from goldenami_sandbox.ec2 import devices, images, snapshots, tags, types, volumes
from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.ec2.core import Ec2Cloud
from goldenami_sandbox.ec2.hooks import InstanceProfile, KeyPair, SecurityGroup, Subnet
from goldenami_sandbox.ec2.records import Image, MetadataOptions

_USER_DATA_LIMIT = 16384  # bytes, before base64
_TAGGABLE = ("instance", "volume", "network-interface", "spot-instances-request")


@dataclass(frozen=True, slots=True)
class VolumeRequest:
    """One volume of a launch. ``encrypted`` None: as the snapshot, or the account's default."""

    device: str
    snapshot_id: str | None
    size: int
    type: str
    iops: int | None
    throughput: int | None
    delete_on_termination: bool
    encrypted: bool | None
    key: str | None


@dataclass(frozen=True, slots=True)
class Spot:
    type: str
    price: str
    interruption_behavior: str
    valid_until: float | None


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    image: Image
    type: types.InstanceType
    least: int
    most: int
    key_pair: KeyPair | None
    subnet: Subnet
    groups: tuple[SecurityGroup, ...]
    public_address: bool
    interface: Mapping[str, Any]
    volumes: tuple[VolumeRequest, ...]
    user_data: str
    metadata: MetadataOptions
    profile: InstanceProfile | None
    spot: Spot | None
    tags: Mapping[str, Mapping[str, str]]
    params: Mapping[str, Any]


def plan(cloud: Ec2Cloud, ctx: Ctx, request: Mapping[str, Any]) -> LaunchPlan:
    """Return the plan of a request. Raises Ec2Error with RunInstances's errors."""
    params, template_tags = _with_template(cloud, ctx, request)
    least, most = params["MinCount"], params["MaxCount"]
    if least < 1 or most < least:
        raise Ec2Error(
            "InvalidParameterValue",
            f"Value ({least}) for parameter minCount is invalid. It must be between 1 and maxCount.",
        )
    given = tags.from_specifications(params, *_TAGGABLE)
    given["instance"].update(template_tags)
    image = _image(cloud, ctx, params)
    kind = types.find(params.get("InstanceType") or "m1.small")
    _check_match(image, kind)
    subnet, groups, interface = _network(cloud, ctx, params)
    public = interface.get("AssociatePublicIpAddress")
    spot = _spot(params)
    if spot is not None and not cloud.hooks.spot_role(ctx.caller):
        raise Ec2Error(
            "AuthFailure.ServiceLinkedRoleCreationNotPermitted",
            "The provided credentials do not have permission to create the service-linked role for EC2 Spot Instances.",
            403,
        )
    _check_quota(cloud, ctx, kind.vcpus * least, is_spot=spot is not None)
    _check_capacity(cloud, kind.name, subnet.availability_zone, is_spot=spot is not None)
    return LaunchPlan(
        image=image,
        type=kind,
        least=least,
        most=most,
        key_pair=_key_pair(cloud, ctx, params),
        subnet=subnet,
        groups=groups,
        public_address=subnet.map_public_ip_on_launch if public is None else bool(public),
        interface=interface,
        volumes=_volumes(cloud, ctx, image, params.get("BlockDeviceMappings") or []),
        user_data=_user_data(params.get("UserData") or ""),
        metadata=metadata_options(params.get("MetadataOptions") or {}, _default_metadata(image)),
        profile=_profile(cloud, ctx, params),
        spot=spot,
        tags=given,
        params=params,
    )


def _check_quota(cloud: Ec2Cloud, ctx: Ctx, vcpus: int, *, is_spot: bool) -> None:
    """Refuse a launch that would exceed the vCPUs of a market (RunInstances error codes)."""
    quota = cloud.settings.vcpu_quotas["L-34B43A08" if is_spot else "L-1216C47A"]
    used = sum(
        types.find(instance.type).vcpus
        for instance in cloud.owned_resources(cloud.store.instances, ctx).values()
        if instance.goal == "running" and (instance.spot_request_id is not None) == is_spot
    )
    if used + vcpus <= quota:
        return
    if is_spot:
        raise Ec2Error("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
    raise Ec2Error(
        "VcpuLimitExceeded",
        f"You have requested more vCPU capacity than your current vCPU limit of {quota} allows for the instance bucket "
        "that the specified instance type belongs to. Please visit http://aws.amazon.com/contact-us/ec2-request to "
        "request an adjustment to this limit.",
    )


def _check_capacity(cloud: Ec2Cloud, kind: str, zone: str, *, is_spot: bool) -> None:
    """Refuse a launch for which the settings leave no capacity."""
    wanted = f"{'spot' if is_spot else 'on-demand'}/{kind}/{zone}"
    if not any(fnmatch.fnmatchcase(wanted, pattern) for pattern in cloud.settings.no_capacity):
        return
    raise Ec2Error(
        "InsufficientInstanceCapacity",
        "There is no Spot capacity available that matches your request."
        if is_spot
        else f"We currently do not have sufficient {kind} capacity in the Availability Zone you requested ({zone}). "
        "Our system will be working on provisioning additional capacity.",
        500,
    )


def _with_template(cloud: Ec2Cloud, ctx: Ctx, request: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Merge the launch template below the parameters, and add EC2's tags for a template."""
    params = dict(request)
    template = params.pop("LaunchTemplate", None)
    if template is None:
        return params, {}
    by_id, name = template.get("LaunchTemplateId"), template.get("LaunchTemplateName")
    if bool(by_id) == bool(name):
        raise Ec2Error("InvalidRequest", "Specify either a launch template ID or a launch template name, and not both.")
    found = cloud.hooks.launch_template(ctx.account, ctx.region, by_id or name, template.get("Version"))
    if found is None:
        if by_id:
            raise Ec2Error(
                "InvalidLaunchTemplateId.NotFound",
                f"The specified launch template, with template ID {by_id}, does not exist.",
            )
        raise Ec2Error(
            "InvalidLaunchTemplateName.NotFoundException",
            f"The specified launch template, with template name {name}, does not exist.",
        )
    marks = {"aws:ec2launchtemplate:id": found.template_id, "aws:ec2launchtemplate:version": str(found.version)}
    beneath = {k: v for k, v in found.data.items() if v not in (None, [], {}, "")}
    _drop_contradicted(beneath, params)
    return {**beneath, **params}, marks


def _drop_contradicted(beneath: dict[str, Any], params: Mapping[str, Any]) -> None:
    """Remove the template's network parameters in the other form, if the request has network parameters."""
    if "NetworkInterfaces" in params:
        for name in ("SecurityGroupIds", "SecurityGroups"):
            beneath.pop(name, None)
    if (
        any(name in params for name in ("SecurityGroupIds", "SecurityGroups", "SubnetId"))
        and "NetworkInterfaces" in beneath
    ):
        beneath.pop("NetworkInterfaces")


def _image(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> Image:
    image_id = params.get("ImageId") or ""
    if not image_id:
        raise Ec2Error("MissingParameter", "The request must contain the parameter ImageId")
    if image_id.startswith("resolve:ssm:"):
        parameter = image_id.removeprefix("resolve:ssm:")
        found = cloud.hooks.ssm_image(ctx.account, ctx.region, parameter)
        if found is None:
            raise Ec2Error(
                "InvalidParameterValue", f"Invalid SSM parameter '{parameter}': it does not exist or holds no image ID."
            )
        image_id = found
    image = cloud.image(ctx, image_id)
    if images.state(cloud, image) != "available":
        raise Ec2Error(
            "InvalidAMIID.Unavailable",
            f"The image ID '{image_id}' is not available (it is {images.state(cloud, image)}).",
        )
    for snapshot_id in image.snapshot_ids:
        if cloud.store.snapshots[snapshot_id].hollow:
            raise snapshots.no_contents_error(f"{image_id} ({image.name})")
    return image


def _check_match(image: Image, kind: types.InstanceType) -> None:
    if image.architecture not in kind.architectures:
        raise Ec2Error(
            "InvalidParameterValue",
            f"The architecture '{','.join(kind.architectures)}' of the specified instance type does not match "
            f"the architecture '{image.architecture}' of the specified AMI. Specify an instance type and an AMI that "
            "have matching architectures, and try again. You can use 'describe-instance-types' or 'describe-images' to "
            "discover the architecture of the instance type or AMI.",
        )
    if kind.nitro and not image.ena_support:
        raise Ec2Error(
            "InvalidParameterCombination",
            f"Enhanced networking with the Elastic Network Adapter (ENA) is required for the '{kind.name}' "
            "instance type. Ensure that you are using an AMI that is enabled for ENA.",
        )
    if image.boot_mode in ("uefi", "legacy-bios") and image.boot_mode not in types.boot_modes(kind):
        raise Ec2Error(
            "UnsupportedOperation",
            f"The instance type '{kind.name}' does not support the boot mode '{image.boot_mode}'.",
        )


def _key_pair(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> KeyPair | None:
    name = params.get("KeyName")
    if not name:
        return None
    found = cloud.hooks.key_pair(ctx.account, ctx.region, name)
    if found is None:
        raise Ec2Error("InvalidKeyPair.NotFound", f"The key pair '{name}' does not exist")
    return found


# --- the network ------------------------------------------------------------------------------------------------------


def _network(
    cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]
) -> tuple[Subnet, tuple[SecurityGroup, ...], Mapping[str, Any]]:
    interfaces = params.get("NetworkInterfaces") or []
    names, ids = params.get("SecurityGroups") or [], params.get("SecurityGroupIds") or []
    subnet_id = params.get("SubnetId")
    interface: Mapping[str, Any] = {}
    if interfaces:
        if subnet_id or ids or names:
            what = "subnet ID" if subnet_id else "security groups"
            raise Ec2Error(
                "InvalidParameterCombination",
                f"Network interfaces and an instance-level {what} may not be specified on the same request",
            )
        interface = interfaces[0]
        if len(interfaces) > 1:
            raise Ec2Error("Unsupported", "The sandbox gives an instance one network interface.")
        if interface.get("NetworkInterfaceId"):
            missing = interface["NetworkInterfaceId"]
            raise Ec2Error("InvalidNetworkInterfaceID.NotFound", f"The networkInterface ID '{missing}' does not exist")
        subnet_id, ids = interface.get("SubnetId"), interface.get("Groups") or []
    subnet = cloud.hooks.subnet(
        ctx.account, ctx.region, subnet_id or None, (params.get("Placement") or {}).get("AvailabilityZone") or None
    )
    if subnet is None:
        if subnet_id:
            raise Ec2Error("InvalidSubnetID.NotFound", f"The subnet ID '{subnet_id}' does not exist")
        raise Ec2Error(
            "VPCIdNotSpecified",
            "No default VPC for this user. GroupName is only supported for EC2-Classic and default VPC.",
        )
    wanted = [*ids, *names] or ["default"]
    return subnet, tuple(group(cloud, ctx, name, subnet.vpc_id) for name in wanted), interface


def group(cloud: Ec2Cloud, ctx: Ctx, name: str, vpc_id: str) -> SecurityGroup:
    """Return a security group by id or name, for use in this VPC."""
    found = cloud.hooks.security_group(ctx.account, ctx.region, name, vpc_id)
    if found is None:
        raise Ec2Error("InvalidGroup.NotFound", f"The security group '{name}' does not exist")
    if found.vpc_id != vpc_id:
        raise Ec2Error(
            "InvalidParameter", f"Security group {found.group_id} and the subnet belong to different networks."
        )
    return found


# --- volumes ----------------------------------------------------------------------------------------------------------


def _volumes(cloud: Ec2Cloud, ctx: Ctx, image: Image, overrides: list[Mapping[str, Any]]) -> tuple[VolumeRequest, ...]:
    root = next((d for d in image.devices if d.device == image.root_device_name), None)
    own = set(image.snapshot_ids)
    requests = []
    for item in devices.merged(image.devices, overrides):
        device, ebs = item["DeviceName"], item["Ebs"]
        snapshot_id = ebs.get("SnapshotId")
        if device == image.root_device_name and root is not None and snapshot_id != root.snapshot_id:
            raise Ec2Error("InvalidBlockDeviceMapping", f"snapshotId cannot be modified on root device {device}")
        # The permission to launch an image includes the use of its snapshots.
        source = cloud.store.snapshots[snapshot_id] if snapshot_id in own else None
        if snapshot_id and source is None:
            source = cloud.readable_snapshot(ctx, snapshot_id)
            volumes.check_source(cloud, source)
        if ebs.get("KmsKeyId") and not ebs.get("Encrypted"):
            raise Ec2Error(
                "InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted to be set."
            )
        kind, size, iops, throughput = devices.check(item, source)
        requests.append(
            VolumeRequest(
                device=device,
                snapshot_id=snapshot_id,
                size=size,
                type=kind,
                iops=iops,
                throughput=throughput,
                delete_on_termination=bool(ebs.get("DeleteOnTermination", True)),
                encrypted=ebs.get("Encrypted"),
                key=ebs.get("KmsKeyId"),
            )
        )
    if image.root_device_name not in {r.device for r in requests}:
        raise Ec2Error("InvalidBlockDeviceMapping", f"The root device {image.root_device_name} has no volume.")
    return tuple(requests)


# --- the rest ---------------------------------------------------------------------------------------------------------


def _user_data(encoded: str) -> str:
    """Check user data and return it as sent. Text that is not base64 is refused."""
    try:
        plain = base64.b64decode(encoded, validate=False) if encoded else b""
    except (ValueError, binascii.Error):
        raise Ec2Error("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.") from None
    if len(plain) > _USER_DATA_LIMIT:
        raise Ec2Error("InvalidParameterValue", f"User data is limited to {_USER_DATA_LIMIT} bytes")
    return base64.b64encode(plain).decode()


def _default_metadata(image: Image) -> MetadataOptions:
    return MetadataOptions(tokens="required", hop_limit=2) if image.imds_support == "v2.0" else MetadataOptions()


_METADATA_VALUES = {
    "HttpTokens": ("optional", "required"),
    "HttpEndpoint": ("enabled", "disabled"),
    "InstanceMetadataTags": ("enabled", "disabled"),
    "HttpProtocolIpv6": ("enabled", "disabled"),
}


def metadata_options(given: Mapping[str, Any], base: MetadataOptions) -> MetadataOptions:
    """Return the options with the given changes. Raises Ec2Error for unknown values."""
    for name, allowed in _METADATA_VALUES.items():
        if name in given and given[name] not in allowed:
            raise Ec2Error("InvalidParameterValue", f"Value ({given[name]}) for parameter {name} is invalid.")
    hops = given.get("HttpPutResponseHopLimit", base.hop_limit)
    if not 1 <= hops <= 64:
        raise Ec2Error(
            "InvalidParameterValue",
            f"Value ({hops}) for parameter HttpPutResponseHopLimit is invalid. It must be between 1 and 64.",
        )
    return MetadataOptions(
        tokens=given.get("HttpTokens", base.tokens),
        hop_limit=hops,
        endpoint=given.get("HttpEndpoint", base.endpoint),
        tags=given.get("InstanceMetadataTags", base.tags),
        ipv6=given.get("HttpProtocolIpv6", base.ipv6),
    )


def _profile(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> InstanceProfile | None:
    given = params.get("IamInstanceProfile") or {}
    wanted = given.get("Arn") or given.get("Name")
    if not wanted:
        return None
    found = cloud.hooks.instance_profile(ctx.account, wanted)
    if found is None:
        which = "arn" if given.get("Arn") else "name"
        raise Ec2Error(
            "InvalidParameterValue",
            f"Value ({wanted}) for parameter iamInstanceProfile.{which} is invalid. "
            f"Invalid IAM Instance Profile {which}",
        )
    return found


def _spot(params: Mapping[str, Any]) -> Spot | None:
    market = params.get("InstanceMarketOptions") or {}
    if not market:
        return None
    if market.get("MarketType", "spot") != "spot":
        raise Ec2Error("InvalidParameterValue", f"Value ({market['MarketType']}) for parameter marketType is invalid.")
    options = market.get("SpotOptions") or {}
    until = options.get("ValidUntil")
    behavior = options.get("InstanceInterruptionBehavior", "terminate")
    kind = options.get("SpotInstanceType", "one-time")
    if behavior != "terminate" and kind == "one-time":
        raise Ec2Error(
            "InvalidParameterCombination",
            f"The interruption behavior '{behavior}' needs a persistent Spot Instance request.",
        )
    return Spot(kind, options.get("MaxPrice", ""), behavior, until.timestamp() if until is not None else None)
