"""Instances after their launch: stop, start, reboot, terminate, and power-off by the guest."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from goldenami_sandbox.ec2 import addresses, describe_instances, encryption, guests, metadata, volumes
from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.ec2.core import Action, Ec2Cloud, select_resources
from goldenami_sandbox.ec2.protocol import timestamp
from goldenami_sandbox.ec2.records import Instance
from goldenami_sandbox.node.api import ExitReason


def _targets(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> list[Instance]:
    return select_resources("i", params["InstanceIds"], cloud.known_resources(cloud.store.instances, ctx))


def _changes(cloud: Ec2Cloud, instances: list[Instance], change: Callable[[Instance], None]) -> list[dict[str, Any]]:
    before = [describe_instances.state_of(cloud, i) for i in instances]
    for instance in instances:
        change(instance)
    return [
        {"InstanceId": i.id, "PreviousState": b, "CurrentState": describe_instances.state_of(cloud, i)}
        for i, b in zip(instances, before, strict=True)
    ]


def _require(cloud: Ec2Cloud, instances: list[Instance], states: tuple[str, ...], verb: str) -> None:
    for instance in instances:
        if instance.state(cloud.now()) not in states:
            raise Ec2Error(
                "IncorrectInstanceState",
                f"The instance '{instance.id}' is not in a state from which it can be {verb}.",
            )


def _user_initiated(cloud: Ec2Cloud, instance: Instance, code: str) -> None:
    instance.reason = f"User initiated ({timestamp(cloud.now())[:19].replace('T', ' ')} GMT)"
    instance.reason_code, instance.reason_message = code, f"{code}: User initiated shutdown"


# --- stop and start ---------------------------------------------------------------------------------------------------


def stop_instances(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    instances = _targets(cloud, ctx, params)
    _require(cloud, instances, ("running", "stopping", "stopped"), "stopped")
    for instance in instances:
        request = cloud.store.spot_requests.get(instance.spot_request_id or "")
        if request is not None and request.type == "one-time":
            raise Ec2Error(
                "UnsupportedOperation",
                f"You can't stop the Spot Instance '{instance.id}' because it is associated with a one-time "
                "Spot Instance request. You can only stop Spot Instances associated with persistent Spot Instance "
                "requests.",
            )
        if instance.disable_api_stop:
            raise Ec2Error(
                "OperationNotPermitted",
                f"The instance '{instance.id}' may not be stopped. "
                "Modify its 'disableApiStop' instance attribute and try again.",
            )
        if params.get("Hibernate") and not instance.hibernation:
            raise Ec2Error(
                "UnsupportedHibernationConfiguration", f"The instance '{instance.id}' is not enabled for hibernation."
            )
    force = bool(params.get("Force"))
    code = "Client.UserInitiatedHibernate" if params.get("Hibernate") else "Client.UserInitiatedShutdown"
    return {"StoppingInstances": _changes(cloud, instances, lambda i: _stop(cloud, i, force, code))}


def _stop(cloud: Ec2Cloud, instance: Instance, force: bool, code: str) -> None:
    if instance.goal == "stopped":
        return
    _user_initiated(cloud, instance, code)
    begin_stop(cloud, instance, force)


def begin_stop(cloud: Ec2Cloud, instance: Instance, force: bool = False) -> None:
    transition = instance.transition = cloud.progress(cloud.settings.pending.stop)
    instance.goal = "stopped"

    def stop() -> None:
        with cloud.recording(transition):
            cloud.node.stop(instance.id, force)
        with cloud.lock:
            transition.succeed()

    cloud.work.submit(instance.id, stop)


def start_instances(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    instances = _targets(cloud, ctx, params)
    _require(cloud, instances, ("stopped", "running", "pending"), "started")
    for instance in instances:
        if cloud.root_volume(instance) is None:
            raise Ec2Error(
                "InvalidParameterValue",
                f"Invalid value '{instance.id}' for instanceId. "
                f"Instance does not have a volume attached at root ({instance.root_device_name})",
            )
    return {"StartingInstances": _changes(cloud, instances, lambda i: _start(cloud, ctx, i))}


def _start(cloud: Ec2Cloud, ctx: Ctx, instance: Instance) -> None:
    if instance.state(cloud.now()) != "stopped":
        return
    instance.goal = "running"
    instance.launched = cloud.now()
    instance.reason, instance.reason_code, instance.reason_message = "", None, None
    transition = instance.transition = cloud.progress(cloud.settings.pending.instance)
    for volume in cloud.volumes_of(instance):
        problem = encryption.readable(cloud, volume.encryption, ctx.caller)
        if problem is not None:
            guests.record_failure(instance, transition, problem.code, problem.message)
            return
    begin_start(cloud, instance)


def begin_start(cloud: Ec2Cloud, instance: Instance) -> None:
    """Boot an instance that exists on the node. The caller has set the goal and the transition."""
    transition = instance.transition

    def start() -> None:
        try:
            with cloud.lock:
                spec = metadata.spec(cloud, instance)  # the root volume may have been replaced
            cloud.node.configure(spec)
            cloud.node.start_instance(instance.id)
            guests.attach_data_volumes(cloud, instance)
        except Exception as error:
            with cloud.lock:
                guests.record_failure(instance, transition, "Server.InternalError", str(error))
            raise
        with cloud.lock:
            guests.record_running(cloud, instance, transition)

    cloud.work.submit(instance.id, start)


def reboot_instances(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    """RebootInstances. The state stays ``running``."""
    instances = _targets(cloud, ctx, params)
    _require(cloud, instances, ("running",), "rebooted")
    for instance in instances:
        cloud.work.submit(instance.id, partial(cloud.node.reboot, instance.id))
    return {}


# --- terminate --------------------------------------------------------------------------------------------------------


def terminate_instances(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    """TerminateInstances. All are refused if one of them is protected."""
    instances = _targets(cloud, ctx, params)
    for instance in instances:
        if instance.disable_api_termination:
            raise Ec2Error(
                "OperationNotPermitted",
                f"The instance '{instance.id}' may not be terminated. "
                "Modify its 'disableApiTermination' instance attribute and try again.",
            )

    def change(instance: Instance) -> None:
        if instance.state(cloud.now()) not in ("terminated", "shutting-down"):
            _user_initiated(cloud, instance, "Client.UserInitiatedShutdown")
            begin_terminate(cloud, instance)

    return {"TerminatingInstances": _changes(cloud, instances, change)}


def end_member(cloud: Ec2Cloud, instance_id: str) -> None:
    """Terminate a member of an Auto Scaling group. Called with the lock held."""
    instance = cloud.store.instances[instance_id]
    if instance.goal != "terminated":
        _user_initiated(cloud, instance, "Client.UserInitiatedShutdown")
        begin_terminate(cloud, instance)


def begin_terminate(cloud: Ec2Cloud, instance: Instance) -> None:
    transition = instance.transition = cloud.progress(cloud.settings.pending.stop)
    instance.goal = "terminated"
    request = cloud.store.spot_requests.get(instance.spot_request_id or "")
    if request is not None and request.state == "active":
        request.state, request.status_code = "closed", "instance-terminated-by-user"
        request.status_message, request.status_updated = "The instance was terminated by the user.", cloud.now()

    def terminate() -> None:
        with cloud.recording(transition):
            cloud.node.terminate(instance.id)
        with cloud.lock:
            instance.on_node = False
            transition.succeed()
            cloud.ending.append(instance)

    cloud.work.submit(instance.id, terminate)


def release_ended(cloud: Ec2Cloud) -> None:
    """Delete or detach the volumes of instances that are terminated by now, and delete their network interfaces. An
    instance that is shutting down has them still. Called with the lock held, before each call."""
    now = cloud.now()
    ended = [instance for instance in cloud.ending if instance.state(now) == "terminated"]
    if not ended:
        return
    cloud.ending = [instance for instance in cloud.ending if instance not in ended]
    for instance in ended:
        for volume in cloud.volumes_of(instance):
            if volume.attachment and volume.attachment.delete_on_termination:
                volumes.discard(cloud, volume)
            else:
                volume.attachment = None
        for interface_id in instance.interface_ids:
            interface = cloud.store.interfaces.pop(interface_id, None)
            if interface is not None:
                addresses.forget(cloud, interface)


# --- what the guest does ----------------------------------------------------------------------------------------------


def guest_exited(cloud: Ec2Cloud, instance_id: str, reason: ExitReason) -> None:
    """Record that the guest powered off or crashed. The node calls this from one of its threads."""
    with cloud.lock:
        instance = cloud.store.instances.get(instance_id)
        if instance is None or instance.goal != "running":
            return
        if reason == "crashed":
            code = "Server.InternalError"
            instance.reason_code, instance.reason_message = code, f"{code}: The guest ended unexpectedly"
        else:
            code = "Client.InstanceInitiatedShutdown"
            instance.reason_code, instance.reason_message = code, f"{code}: Instance initiated shutdown"
        instance.reason = ""
        if reason == "poweroff" and _terminates_on_shutdown(cloud, instance):
            begin_terminate(cloud, instance)
        else:
            begin_stop(cloud, instance)


def _terminates_on_shutdown(cloud: Ec2Cloud, instance: Instance) -> bool:
    """Return whether a power-off by the guest terminates its instance. A one-time spot instance cannot be stopped."""
    request = cloud.store.spot_requests.get(instance.spot_request_id or "")
    return instance.shutdown_behavior == "terminate" or (request is not None and request.type == "one-time")


def get_console_output(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    instance = cloud.instance(ctx, params["InstanceId"])
    output = cloud.node.console(instance.id) if instance.on_node else b""
    return {
        "InstanceId": instance.id,
        "Timestamp": cloud.now(),
        "Output": base64.b64encode(output[-65536:]).decode(),
    }


ACTIONS: dict[str, Action] = {
    "StopInstances": stop_instances,
    "StartInstances": start_instances,
    "RebootInstances": reboot_instances,
    "TerminateInstances": terminate_instances,
    "GetConsoleOutput": get_console_output,
}
