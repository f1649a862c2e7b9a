"""Replaces the root volume of a running instance: by its launch state, a snapshot of its lineage, or an image.

The instance's state stays ``running`` meanwhile. The guest stops, gets the new volume, and boots. If the new volume
does not boot, the task is "failed" and the old volume stays in use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from goldenami_sandbox.ec2 import guests, metadata, snapshots, tags, volumes
from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.ec2.core import Action, Ec2Cloud
from goldenami_sandbox.ec2.filters import Source
from goldenami_sandbox.ec2.pagination import described
from goldenami_sandbox.ec2.protocol import timestamp
from goldenami_sandbox.ec2.records import Attachment, Instance, ReplaceRootTask, Snapshot, Volume
from goldenami_sandbox.ec2.store import new_id


def create_task(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    earlier = cloud.earlier_ids(ctx, "CreateReplaceRootVolumeTask", params)
    if earlier is not None and earlier[0] in cloud.store.replace_root_tasks:
        return {"ReplaceRootVolumeTask": _rendered(cloud, cloud.store.replace_root_tasks[earlier[0]])}
    instance = cloud.instance(ctx, params["InstanceId"])
    if instance.state(cloud.now()) != "running":
        raise Ec2Error("IncorrectInstanceState", f"The instance '{instance.id}' is not in the 'running' state.")
    old = cloud.root_volume(instance)
    if old is None or old.attachment is None:
        raise Ec2Error("IncorrectState", f"The instance '{instance.id}' has no root volume.")
    tasks = [t for t in cloud.store.replace_root_tasks.values() if t.instance_id == instance.id]
    if any(t.progress.condition(cloud.now()) == "pending" for t in tasks):
        raise Ec2Error("IncorrectState", f"The root volume of '{instance.id}' is being replaced already.")
    source = _source(cloud, ctx, instance, old, params)
    given = tags.from_specifications(params, "replace-root-volume-task")["replace-root-volume-task"]
    new = volumes.new_volume(
        cloud,
        ctx,
        zone=instance.availability_zone,
        source=source,
        size=max(old.size, source.size),
        kind=old.type,
        iops=old.iops if old.type != "gp2" else None,
        throughput=old.throughput,
        encrypted=None,
        key=None,
        given={},
    )
    task = ReplaceRootTask(
        id=new_id("replacevol"),
        **cloud.birth(ctx, given),
        instance_id=instance.id,
        image_id=params.get("ImageId"),
        snapshot_id=params.get("SnapshotId"),
        old_volume_id=old.id,
        new_volume_id=new.id,
        delete_replaced=bool(params.get("DeleteReplacedRootVolume")),
        progress=cloud.progress(cloud.settings.pending.instance),
    )
    cloud.store.replace_root_tasks[task.id] = task
    cloud.remember(ctx, "CreateReplaceRootVolumeTask", params, [task.id])
    if new.progress.failure is not None:
        task.progress.fail(new.progress.failure)
        cloud.store.volumes.pop(new.id)
    else:
        _queue(cloud, instance, old, new, source, task)
    return {"ReplaceRootVolumeTask": _rendered(cloud, task)}


def _source(cloud: Ec2Cloud, ctx: Ctx, instance: Instance, old: Volume, params: Mapping[str, Any]) -> Snapshot:
    if params.get("SnapshotId") and params.get("ImageId"):
        raise Ec2Error("InvalidParameterCombination", "SnapshotId and ImageId exclude each other.")
    if params.get("VolumeId"):
        raise Ec2Error("Unsupported", "The sandbox replaces root volumes by a snapshot or an image.")
    if params.get("ImageId"):
        image = cloud.image(ctx, params["ImageId"])
        if image.architecture != instance.architecture or image.virtualization_type != instance.virtualization_type:
            raise Ec2Error(
                "InvalidParameterValue", f"The image '{image.id}' does not match the instance '{instance.id}'."
            )
        root = next((d for d in image.devices if d.device == image.root_device_name and d.snapshot_id), None)
        if root is None:
            raise Ec2Error("InvalidParameterValue", f"The image '{image.id}' has no root snapshot.")
        snapshot = cloud.store.snapshots[root.snapshot_id or ""]
    elif params.get("SnapshotId"):
        snapshot = cloud.own_snapshot(ctx, params["SnapshotId"])
        if not _is_related(cloud, old, snapshot):
            raise Ec2Error(
                "InvalidParameterValue",
                f"The snapshot '{snapshot.id}' is not in the lineage of the root volume of '{instance.id}'.",
            )
    else:
        found = cloud.store.snapshots.get(old.snapshot_id or "")
        if found is None:
            raise Ec2Error("IncorrectState", f"The snapshot that '{old.id}' was made of does not exist any more.")
        snapshot = found
    volumes.check_source(cloud, snapshot)
    return snapshot


def _is_related(cloud: Ec2Cloud, volume: Volume, snapshot: Snapshot) -> bool:
    """Return whether a snapshot is of the volume, or of the volumes that it descends from.

    Snapshots of another instance of the same image do not count.
    """
    line = snapshots.ancestry(cloud, volume.lineage or volume.snapshot_id or "")
    earlier = {s.volume_id for s in cloud.store.snapshots.values() if s.id in line and s.owner == volume.owner}
    return snapshot.id in line or (not snapshot.is_copy and snapshot.volume_id in {volume.id, *earlier})


def _queue(
    cloud: Ec2Cloud, instance: Instance, old: Volume, new: Volume, source: Snapshot, task: ReplaceRootTask
) -> None:
    cloud.pin([source.id])

    def replace() -> None:
        try:
            with cloud.recording(task.progress):
                volumes.fill(cloud, new, source)
                _swap(cloud, instance, old, new)
        except Exception:
            with cloud.lock:
                volumes.discard(cloud, new)
            raise
        finally:
            cloud.unpin([source.id])
        with cloud.lock:
            if task.delete_replaced:
                volumes.discard(cloud, old)
            task.progress.succeed()

    cloud.work.submit(instance.id, replace)


def _swap(cloud: Ec2Cloud, instance: Instance, old: Volume, new: Volume) -> None:
    cloud.node.stop(instance.id)
    with cloud.lock:
        before = old.attachment
        assert before is not None
        old.attachment = None
        progress = cloud.progress(0.0)
        new.attachment = Attachment(instance.id, before.device, cloud.now(), before.delete_on_termination, progress)
        new.progress.until = cloud.now()
        spec = metadata.spec(cloud, instance)
    try:
        cloud.node.configure(spec)
        cloud.node.start_instance(instance.id)
    except Exception:
        with cloud.lock:
            new.attachment, old.attachment = None, before
            spec = metadata.spec(cloud, instance)
        cloud.node.configure(spec)
        cloud.node.start_instance(instance.id)
        guests.attach_data_volumes(cloud, instance)
        raise
    guests.attach_data_volumes(cloud, instance)


def _rendered(cloud: Ec2Cloud, task: ReplaceRootTask) -> dict[str, Any]:
    now = cloud.now()
    condition = task.progress.condition(now)
    ended = condition != "pending"
    return {
        "ReplaceRootVolumeTaskId": task.id,
        "InstanceId": task.instance_id,
        "TaskState": {"pending": "in-progress", "ready": "succeeded", "failed": "failed"}[condition],
        "StartTime": timestamp(task.created),
        "CompleteTime": timestamp(max(task.created, task.progress.until)) if ended else None,
        "ImageId": task.image_id,
        "SnapshotId": task.snapshot_id,
        "DeleteReplacedRootVolume": task.delete_replaced,
        "Tags": tags.rendered(task),
    }


FILTERS: dict[str, Source] = {"instance-id": "InstanceId"}


def describe_tasks(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    found = cloud.visible_resources(cloud.store.replace_root_tasks, ctx)
    wanted = params.get("ReplaceRootVolumeTaskIds")
    if wanted:
        missing = set(wanted) - {t.id for t in found}
        if missing:
            raise Ec2Error(
                "InvalidReplaceRootVolumeTaskId.NotFound",
                f"The replace root volume task ID '{sorted(missing)[0]}' does not exist",
            )
        found = [t for t in found if t.id in wanted]
    answers = [_rendered(cloud, t) for t in found]
    return described("ReplaceRootVolumeTasks", answers, params, FILTERS, ["StartTime", "ReplaceRootVolumeTaskId"])


ACTIONS: dict[str, Action] = {
    "CreateReplaceRootVolumeTask": create_task,
    "DescribeReplaceRootVolumeTasks": describe_tasks,
}
