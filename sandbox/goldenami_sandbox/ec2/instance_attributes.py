"""Reads and changes attributes of an instance, its metadata options and its credit options."""

# ruff: noqa: ARG001  (all actions have the same signature)
from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

from goldenami_sandbox.ec2 import describe_instances, launch_request, metadata, types
from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.ec2.core import Action, Ec2Cloud
from goldenami_sandbox.ec2.records import Instance

Change = Callable[[Ec2Cloud, Ctx, Instance, Any], None]


def describe_instance_attribute(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    instance, attribute = cloud.instance(ctx, params["InstanceId"]), params["Attribute"]
    answers: dict[str, tuple[str, Any]] = {
        "blockDeviceMapping": ("BlockDeviceMappings", describe_instances.block_devices(cloud, instance)),
        "disableApiStop": ("DisableApiStop", {"Value": instance.disable_api_stop}),
        "disableApiTermination": ("DisableApiTermination", {"Value": instance.disable_api_termination}),
        "ebsOptimized": ("EbsOptimized", {"Value": instance.ebs_optimized}),
        "enaSupport": ("EnaSupport", {"Value": instance.ena_support}),
        "enclaveOptions": ("EnclaveOptions", {"Enabled": False}),
        "groupSet": ("Groups", describe_instances.groups(instance.groups)),
        "instanceInitiatedShutdownBehavior": (
            "InstanceInitiatedShutdownBehavior",
            {"Value": instance.shutdown_behavior},
        ),
        "instanceType": ("InstanceType", {"Value": instance.type}),
        "kernel": ("KernelId", {}),
        "productCodes": ("ProductCodes", []),
        "ramdisk": ("RamdiskId", {}),
        "rootDeviceName": ("RootDeviceName", {"Value": instance.root_device_name}),
        "sourceDestCheck": ("SourceDestCheck", {"Value": instance.source_dest_check}),
        "sriovNetSupport": ("SriovNetSupport", {}),
        "userData": ("UserData", {"Value": instance.user_data} if instance.user_data else {}),
    }
    if attribute not in answers:
        raise Ec2Error(
            "InvalidParameterValue", f"Value ({attribute}) for parameter attribute is invalid. Unknown attribute."
        )
    name, value = answers[attribute]
    return {"InstanceId": instance.id, name: value}


# --- changing ---------------------------------------------------------------------------------------------------------


def _boolean(field: str) -> Change:
    def change(cloud: Ec2Cloud, ctx: Ctx, instance: Instance, value: Any) -> None:
        setattr(instance, field, value in (True, "true"))

    return change


def _require_stopped(cloud: Ec2Cloud, instance: Instance) -> None:
    if instance.state(cloud.now()) != "stopped":
        raise Ec2Error("IncorrectInstanceState", f"The instance '{instance.id}' is not in the 'stopped' state.")


def _type(cloud: Ec2Cloud, ctx: Ctx, instance: Instance, value: Any) -> None:
    _require_stopped(cloud, instance)
    kind = types.find(value)
    if instance.architecture not in kind.architectures:
        raise Ec2Error(
            "InvalidParameterValue",
            f"The instance type '{value}' does not match the architecture '{instance.architecture}' of the instance.",
        )
    instance.type = value
    configure_guest(cloud, instance)


def _user_data(cloud: Ec2Cloud, ctx: Ctx, instance: Instance, value: Any) -> None:
    _require_stopped(cloud, instance)
    # The typed form comes decoded, the plain one as base64 text.
    instance.user_data = base64.b64encode(value).decode() if isinstance(value, bytes) else str(value or "")
    configure_guest(cloud, instance)


def _shutdown_behavior(cloud: Ec2Cloud, ctx: Ctx, instance: Instance, value: Any) -> None:
    if value not in ("stop", "terminate"):
        raise Ec2Error(
            "InvalidParameterValue", f"Value ({value}) for parameter instanceInitiatedShutdownBehavior is invalid."
        )
    instance.shutdown_behavior = cast(Literal["stop", "terminate"], value)


def _groups(cloud: Ec2Cloud, ctx: Ctx, instance: Instance, value: Any) -> None:
    if instance.state(cloud.now()) in ("shutting-down", "terminated"):
        raise Ec2Error("IncorrectInstanceState", f"The instance '{instance.id}' is not in a valid state.")
    found = [launch_request.group(cloud, ctx, name, instance.vpc_id) for name in value]
    if not found:
        raise Ec2Error("InvalidParameterValue", "An instance must have at least one security group.")
    instance.groups = {g.group_id: g.name for g in found}
    for interface_id in instance.interface_ids:
        cloud.store.interfaces[interface_id].groups = dict(instance.groups)
    configure_guest(cloud, instance)


def _source_dest_check(cloud: Ec2Cloud, ctx: Ctx, instance: Instance, value: Any) -> None:
    instance.source_dest_check = value in (True, "true")
    for interface_id in instance.interface_ids:
        cloud.store.interfaces[interface_id].source_dest_check = instance.source_dest_check


def _block_devices(cloud: Ec2Cloud, ctx: Ctx, instance: Instance, value: Any) -> None:
    attached = {v.attachment.device: v.attachment for v in cloud.volumes_of(instance) if v.attachment}
    for item in value:
        attachment = attached.get(item.get("DeviceName", ""))
        if attachment is None:
            raise Ec2Error(
                "InvalidInstanceAttributeValue", f"No device is currently mapped at {item.get('DeviceName')}"
            )
        ebs = item.get("Ebs") or {}
        if "DeleteOnTermination" in ebs:
            attachment.delete_on_termination = ebs["DeleteOnTermination"]


# Parameter and attribute name, and what a new value does.
_CHANGES: Mapping[str, Change] = {
    "BlockDeviceMappings": _block_devices,
    "DisableApiStop": _boolean("disable_api_stop"),
    "DisableApiTermination": _boolean("disable_api_termination"),
    "EbsOptimized": _boolean("ebs_optimized"),
    "EnaSupport": _boolean("ena_support"),
    "Groups": _groups,
    "InstanceInitiatedShutdownBehavior": _shutdown_behavior,
    "InstanceType": _type,
    "SourceDestCheck": _source_dest_check,
    "UserData": _user_data,
}


# Attributes whose parameter has another name.
_ATTRIBUTE_PARAMETERS = {"groupSet": "Groups", "blockDeviceMapping": "BlockDeviceMappings"}


def modify_instance_attribute(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    """ModifyInstanceAttribute. A call changes one attribute: by its own parameter, or by Attribute and Value."""
    instance = cloud.instance(ctx, params["InstanceId"])
    given = {name: params[name] for name in _CHANGES if name in params}
    named = params.get("Attribute")
    if named:
        name = _ATTRIBUTE_PARAMETERS.get(named, named[0].upper() + named[1:])
        if name not in _CHANGES:
            raise Ec2Error("InvalidParameterValue", f"Value ({named}) for parameter attribute is invalid.")
        if "Value" in params:
            given[name] = params["Value"]
        elif name not in given:  # another attribute is given, or none
            given = {**given, name: None} if given else {}
    elif "Value" in params:
        raise Ec2Error("InvalidParameterCombination", "The parameter Value requires the parameter Attribute.")
    if len(given) != 1:
        what = "Only one attribute can be modified at a time." if given else "No attributes specified."
        raise Ec2Error("InvalidParameterCombination", what)
    (name, value), *_ = given.items()
    _CHANGES[name](cloud, ctx, instance, value.get("Value") if isinstance(value, Mapping) else value)
    return {}


def reset_instance_attribute(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    instance = cloud.instance(ctx, params["InstanceId"])
    if params["Attribute"] != "sourceDestCheck":
        raise Ec2Error("InvalidParameterValue", "Only the attribute sourceDestCheck can be reset here.")
    _source_dest_check(cloud, ctx, instance, True)
    return {}


def configure_guest(cloud: Ec2Cloud, instance: Instance) -> None:
    """Apply the instance's attributes to the node."""

    def configure() -> None:
        with cloud.lock:
            if not instance.on_node:
                return
            spec = metadata.spec(cloud, instance)
        cloud.node.configure(spec)

    cloud.work.submit(instance.id, configure)


def modify_instance_metadata_options(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    instance = cloud.instance(ctx, params["InstanceId"])
    if instance.state(cloud.now()) not in ("pending", "running", "stopped", "stopping"):
        raise Ec2Error("IncorrectInstanceState", f"The instance '{instance.id}' is not in a valid state.")
    instance.metadata = launch_request.metadata_options(params, instance.metadata)
    configure_guest(cloud, instance)
    return {
        "InstanceId": instance.id,
        "InstanceMetadataOptions": {**describe_instances.metadata_options(instance), "State": "pending"},
    }


def describe_credits(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the credit options of burstable instances."""
    found = [
        {"InstanceId": i.id, "CpuCredits": i.credits or ("standard" if i.type.startswith("t2.") else "unlimited")}
        for i in describe_instances.select_instances(cloud, ctx, params)
        if types.find(i.type).burstable
    ]
    return {"InstanceCreditSpecifications": found}


ACTIONS: dict[str, Action] = {
    "DescribeInstanceAttribute": describe_instance_attribute,
    "ModifyInstanceAttribute": modify_instance_attribute,
    "ResetInstanceAttribute": reset_instance_attribute,
    "ModifyInstanceMetadataOptions": modify_instance_metadata_options,
    "DescribeInstanceCreditSpecifications": describe_credits,
}
