"""Continues the work after the sandbox process ended for any reason: work in progress is completed, or fails with a
reason.
"""

from __future__ import annotations

from functools import partial

from goldenami_sandbox.ec2 import copies, instances, launch, snapshots, volumes
from goldenami_sandbox.ec2.core import Ec2Cloud
from goldenami_sandbox.ec2.records import Instance, Snapshot, Volume

_LOST = "The sandbox was stopped before this was completed"


def resume(cloud: Ec2Cloud) -> None:
    """Continue the work. Called once, with the lock held, after the store was loaded and the node was started."""
    for snapshot in list(cloud.store.snapshots.values()):
        if not snapshot.progress.done and snapshot.progress.failure is None:
            _snapshot(cloud, snapshot)
    for volume in list(cloud.store.volumes.values()):
        if volume.attachment is None and not volume.progress.done and volume.progress.failure is None:
            _volume(cloud, volume)
        elif volume.attachment is not None and volume.attachment.detaching:
            volume.attachment = None
    known = cloud.node.instances()
    for stray in set(known) - set(cloud.store.instances):  # launched after the state was last written
        cloud.work.submit(stray, partial(cloud.node.terminate, stray))
    for instance in list(cloud.store.instances.values()):
        _instance(cloud, instance, on_node=instance.id in known)


def _snapshot(cloud: Ec2Cloud, snapshot: Snapshot) -> None:
    if not snapshot.is_copy:
        if snapshot.frozen:
            snapshots.queue_storing(cloud, snapshot)
        else:
            snapshot.progress.fail(_LOST)
        return
    source = cloud.store.snapshots.get(snapshot.source_id or "")
    if source is None:
        snapshot.progress.fail(_LOST)
        return
    # An interrupted copy may have left a partial snapshot on the node.
    cloud.work.submit(snapshot.id, lambda: cloud.node.delete_snapshot(snapshot.id))
    copies.queue_copying(cloud, source, snapshot)


def _volume(cloud: Ec2Cloud, volume: Volume) -> None:
    source = cloud.store.snapshots.get(volume.snapshot_id or "")
    if volume.snapshot_id and source is None:
        volume.progress.fail(_LOST)
        return
    cloud.work.submit(volume.id, lambda: cloud.node.delete_volume(volume.id))
    volumes.queue_filling(cloud, volume, source)


def _instance(cloud: Ec2Cloud, instance: Instance, *, on_node: bool) -> None:
    if instance.transition.failure is not None and not (on_node and instance.goal == "terminated"):
        return
    pending = not instance.transition.done
    if instance.goal == "terminated":
        if pending or on_node:
            instances.begin_terminate(cloud, instance)
        else:
            cloud.ending.append(instance)
        return
    if instance.goal == "stopped":
        instance.transition.succeed()  # after a restart of the node every guest is down
        return
    instance.on_node = on_node
    if on_node:
        instance.address = _address(cloud, instance)
        instance.transition = cloud.progress(0.0)
        instances.begin_start(cloud, instance)
    elif pending and _sources_exist(cloud, instance):
        attached = cloud.volumes_of(instance)
        for volume in attached:
            cloud.work.submit(instance.id, partial(cloud.node.delete_volume, volume.id))
        launch.queue_boot(cloud, instance, attached)
    else:
        instances.begin_terminate(cloud, instance)
        instance.reason_code, instance.reason_message = "Server.InternalError", f"Server.InternalError: {_LOST}"


def _sources_exist(cloud: Ec2Cloud, instance: Instance) -> bool:
    return all(not v.snapshot_id or v.snapshot_id in cloud.store.snapshots for v in cloud.volumes_of(instance))


def _address(cloud: Ec2Cloud, instance: Instance) -> str:
    """Update the address of an instance. The sandbox may use another range of addresses since the restart."""
    address = cloud.node.address(instance.id)
    for interface_id in instance.interface_ids:
        interface = cloud.store.interfaces[interface_id]
        interface.address = address
        if interface.public_address:
            interface.public_address = address
    return address
