"""RunInstances: creates instances, volumes and interfaces from a checked request, and queues the work that
boots them.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from goldenami_sandbox.ec2 import describe_instances, guests, launch_request, metadata, volumes
from goldenami_sandbox.ec2.context import Ctx
from goldenami_sandbox.ec2.core import Action, Ec2Cloud
from goldenami_sandbox.ec2.hooks import KeyRefused
from goldenami_sandbox.ec2.launch_request import LaunchPlan
from goldenami_sandbox.ec2.records import Attachment, Instance, Interface, Progress, SpotRequest, Volume
from goldenami_sandbox.ec2.store import new_id


def run_instances(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    earlier = cloud.earlier_ids(ctx, "RunInstances", params)
    if earlier is not None:
        known = [cloud.store.instances[i] for i in earlier if i in cloud.store.instances]
        if known:
            return describe_instances.reservation(cloud, known)
    plan = launch_request.plan(cloud, ctx, params)
    reservation_id = new_id("r")
    made = [_make(cloud, ctx, plan, reservation_id, index) for index in range(plan.most)]
    plan.image.last_launched = cloud.now()
    cloud.remember(ctx, "RunInstances", params, [i.id for i in made])
    return describe_instances.reservation(cloud, made)


def _make(cloud: Ec2Cloud, ctx: Ctx, plan: LaunchPlan, reservation_id: str, index: int) -> Instance:
    image, params = plan.image, plan.params
    spot = _spot_request(cloud, ctx, plan) if plan.spot is not None else None
    instance = Instance(
        id=new_id("i"),
        **cloud.birth(ctx, plan.tags["instance"]),
        reservation_id=reservation_id,
        launch_index=index,
        image_id=image.id,
        type=plan.type.name,
        architecture=image.architecture,
        key_name=plan.key_pair.name if plan.key_pair else None,
        public_key=plan.key_pair.public_key if plan.key_pair else None,
        availability_zone=plan.subnet.availability_zone,
        subnet_id=plan.subnet.subnet_id,
        vpc_id=plan.subnet.vpc_id,
        groups={g.group_id: g.name for g in plan.groups},
        root_device_name=image.root_device_name or "",
        user_data=plan.user_data,
        default_user=image.default_user,
        client_token=params.get("ClientToken") or "",
        profile_arn=plan.profile.arn if plan.profile else None,
        profile_id=plan.profile.profile_id if plan.profile else None,
        metadata=plan.metadata,
        shutdown_behavior=params.get("InstanceInitiatedShutdownBehavior") or "stop",
        disable_api_termination=bool(params.get("DisableApiTermination")),
        disable_api_stop=bool(params.get("DisableApiStop")),
        hibernation=bool((params.get("HibernationOptions") or {}).get("Configured")),
        ebs_optimized=bool(params.get("EbsOptimized")),
        monitoring=bool((params.get("Monitoring") or {}).get("Enabled")),
        ena_support=image.ena_support,
        tpm_support=image.tpm_support,
        boot_mode=image.boot_mode,
        imds_support=image.imds_support,
        uefi_data=image.uefi_data,
        virtualization_type=image.virtualization_type,
        platform_details=image.platform_details,
        usage_operation=image.usage_operation,
        credits=(params.get("CreditSpecification") or {}).get("CpuCredits"),
        spot_request_id=spot.id if spot else None,
        launched=cloud.now(),
        transition=cloud.progress(cloud.settings.pending.instance),
    )
    instance.address = cloud.node.allocate_address(instance.id)
    cloud.store.instances[instance.id] = instance
    if spot is not None:
        spot.instance_id = instance.id
    _add_interface(cloud, ctx, plan, instance)
    attached = [_add_volume(cloud, ctx, plan, instance, request) for request in plan.volumes]
    problem = next((v.progress for v in attached if v.progress.failure), None)
    if problem is None and spot is not None:
        problem = _spot_problem(cloud, instance, attached)
    if problem is not None:
        # As in EC2, the call succeeds, and the instance goes from pending to terminated.
        guests.record_failure(
            instance, instance.transition, problem.failure_code or "Client.InternalError", problem.failure or ""
        )
        _give_back(cloud, instance)
    else:
        queue_boot(cloud, instance, attached)
    return instance


def _spot_problem(cloud: Ec2Cloud, instance: Instance, attached: list[Volume]) -> Progress | None:
    """Return the failure of a spot instance whose volumes are encrypted under keys that Spot may not use."""
    keys = {v.encryption.key_arn for v in attached if v.encryption is not None}
    if all(cloud.hooks.kms_serves_spot(key, instance.owner) for key in keys):
        return None
    problem = cloud.progress(0.0)
    problem.fail("Client error on launch", "Client.InternalError")
    return problem


def _spot_request(cloud: Ec2Cloud, ctx: Ctx, plan: LaunchPlan) -> SpotRequest:
    assert plan.spot is not None
    request = SpotRequest(
        id=new_id("sir"),
        **cloud.birth(ctx, plan.tags["spot-instances-request"]),
        type=plan.spot.type,
        status_updated=cloud.now(),
        price=plan.spot.price,
        image_id=plan.image.id,
        instance_type=plan.type.name,
        key_name=plan.key_pair.name if plan.key_pair else None,
        subnet_id=plan.subnet.subnet_id,
        availability_zone=plan.subnet.availability_zone,
        groups={g.group_id: g.name for g in plan.groups},
        interruption_behavior=plan.spot.interruption_behavior,
        valid_until=plan.spot.valid_until,
    )
    cloud.store.spot_requests[request.id] = request
    return request


def _add_interface(cloud: Ec2Cloud, ctx: Ctx, plan: LaunchPlan, instance: Instance) -> None:
    interface = Interface(
        id=new_id("eni"),
        **cloud.birth(ctx, plan.tags["network-interface"]),
        instance_id=instance.id,
        attachment_id=new_id("eni-attach"),
        attached=cloud.now(),
        subnet_id=instance.subnet_id,
        vpc_id=instance.vpc_id,
        availability_zone=instance.availability_zone,
        mac="02:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(5)),
        address=instance.address,
        public_address=instance.address if plan.public_address else None,
        groups=dict(instance.groups),
        description=plan.interface.get("Description") or "",
        delete_on_termination=bool(plan.interface.get("DeleteOnTermination", True)),
    )
    cloud.store.interfaces[interface.id] = interface
    instance.interface_ids.append(interface.id)


def _add_volume(
    cloud: Ec2Cloud, ctx: Ctx, plan: LaunchPlan, instance: Instance, request: launch_request.VolumeRequest
) -> Volume:
    volume = volumes.new_volume(
        cloud,
        ctx,
        zone=instance.availability_zone,
        source=cloud.store.snapshots[request.snapshot_id] if request.snapshot_id else None,
        size=request.size,
        kind=request.type,
        iops=request.iops,
        throughput=request.throughput,
        encrypted=request.encrypted,
        key=request.key,
        given=plan.tags["volume"],
    )
    # A volume of a launch has no pending time of its own, only its instance has.
    volume.progress.until = cloud.now()
    volume.attachment = Attachment(
        instance.id, request.device, cloud.now(), request.delete_on_termination, cloud.progress(0.0)
    )
    return volume


# --- the work ---------------------------------------------------------------------------------------------------------


def queue_boot(cloud: Ec2Cloud, instance: Instance, attached: list[Volume]) -> None:
    """Queue the first task of an instance: fill its volumes and boot it. Called with the lock held."""
    transition = instance.transition
    # The snapshot objects instead of their ids, because they may be deleted before the task begins.
    sources = {v.id: cloud.store.snapshots[v.snapshot_id] for v in attached if v.snapshot_id}
    pinned = [s.id for s in sources.values()]

    def boot() -> None:
        try:
            for volume in attached:
                volumes.fill(cloud, volume, sources.get(volume.id))
            with cloud.lock:
                instance.on_node = True
                spec = metadata.spec(cloud, instance)
            cloud.node.launch(spec)
            guests.attach_data_volumes(cloud, instance)
        except Exception as error:
            cloud.node.terminate(instance.id)
            with cloud.lock:
                instance.on_node = False
                code = "Client.InternalError" if isinstance(error, KeyRefused) else "Server.InternalError"
                guests.record_failure(instance, transition, code, str(error) or type(error).__name__)
                _give_back(cloud, instance)
            raise
        finally:
            cloud.unpin(pinned)
        with cloud.lock:
            guests.record_running(cloud, instance, transition)

    cloud.pin(pinned)
    cloud.work.submit(instance.id, boot)


def _give_back(cloud: Ec2Cloud, instance: Instance) -> None:
    """Remove the resources of an instance that never ran. Called with the lock held."""
    for volume in cloud.volumes_of(instance):
        volumes.discard(cloud, volume)
    for interface_id in instance.interface_ids:
        cloud.store.interfaces.pop(interface_id, None)
    cloud.work.submit(instance.id, lambda: cloud.node.release_address(instance.id))


ACTIONS: dict[str, Action] = {"RunInstances": run_instances}
