"""Encrypts the root volume of a running instance with CreateReplaceRootVolumeTask: a reboot instead of a stop.

The API accepts a snapshot of the volume's lineage, or an image. An encrypted copy does not belong to the lineage, so a
temporary image is registered from it. Writes after the snapshot are not on the new volume. They are on the old volume,
which is kept.
"""

from __future__ import annotations

from typing import Final

from goldenami.aws import tags, volumes
from goldenami.aws.ledger import Call
from goldenami.aws.tagcalls import tag
from goldenami.aws.volumes import Volume
from goldenami.aws.waiters import Item
from goldenami.errors import CloudError, UsageError
from goldenami.events import emit
from goldenami.model import Place
from goldenami.polling import Interval, poll
from goldenami.snapshots import exchange, make, names
from goldenami.snapshots.encrypt import Encrypted, Verify, compared, copies_of, snapshots_of
from goldenami.snapshots.history import attached_tag
from goldenami.task import TEMPORARY, Task

_KEY: Final = "replace-root"
_TIMEOUT: Final = 1800.0  # seconds


def replace_root(
    job: Task, place: Place, instance: Item, root: Volume, *, kms_key: str, verify: Verify = "all"
) -> Encrypted:
    """Encrypt the root volume of a running instance under a key (an ARN)."""
    id = instance["InstanceId"]
    if instance["State"]["Name"] != "running":
        raise UsageError(
            f"{id} is {instance['State']['Name']}; --replace-root expects a running instance",
            hint="Omit --replace-root.",
        )
    exchange.check(job.cloud, place, instance, [root], replaces_root=True)
    exchange.check_tags(job, root)
    with exchange.alone(job, id):
        since = job.cloud.now()  # what is written later is not on the new volume
        plain = snapshots_of(job, place, [root])
        sealed = copies_of(job, place, plain, kms_key)
        count, read = compared(job, place, root, plain[root.id], sealed[root.id], verify)
        item = names.snapshot(job.cloud, place, sealed[root.id])
        image = make.register(
            job,
            place,
            item,
            name=f"goldenami {job.id} {root.id}",
            architecture=instance["Architecture"],
            root_device=str(root.device),
            boot_mode=instance.get("BootMode"),
            imds_v2=False,
            key=f"{TEMPORARY}image",
        )
        _replace(job, place, id, image["ImageId"])
        new = next(v for v in volumes.of_instance(job.cloud, place, id) if v.device == root.device)
        if new.id == root.id or new.kms_key != kms_key:
            raise CloudError(
                f"{root.device}: expected a new volume under {kms_key}, found {new.id} under {new.kms_key or 'no key'}"
            )
        found = {**exchange.new_tags(root, since, "copied"), **attached_tag(new), tags.NAME: root.name or new.id}
        tag(job.ledger, f"tag/{new.id}", place, new.id, found)
        exchange.keep(job, place, root.id, exchange.own_tags(root), new.id, id, str(root.device))
    return Encrypted(str(root.device), root.id, new.id, count, read)


def _replace(job: Task, place: Place, instance_id: str, image_id: str) -> None:
    # With the same token, a call that is repeated after a lost response returns the first task.
    specification = {
        "ResourceType": "replace-root-volume-task",
        "Tags": tags.to_list({**job.ledger.tags, **job.ledger.owner_tags()}),
    }
    request = {
        "InstanceId": instance_id,
        "ImageId": image_id,
        "ClientToken": f"{job.id}-root",
        "TagSpecifications": [specification],
    }
    call = Call("ec2", "CreateReplaceRootVolumeTask", request)
    job.ledger.change(_KEY, place, call, resource=instance_id, kind="replace-root")
    state = ""
    for _ in poll(
        job.cloud.clock,
        job.cloud.sleep,
        timeout=_TIMEOUT,
        interval=Interval(first=0.5),
        sign_of_life=lambda seconds: emit(
            job.emit, "note", message=f"EC2 replaces the root volume of {instance_id} since {seconds:.0f} s"
        ),
    ):
        state = _state(job, place, instance_id, image_id)
        if state == "succeeded":
            return
        if state.startswith("fail"):
            break
    raise CloudError(
        f"replacing the root volume of {instance_id} failed: the state is {state}. EC2 attaches the old volume again"
    )


def _state(job: Task, place: Place, instance_id: str, image_id: str) -> str:
    """Return the state of the task with that image. The API has no filter for the id of a task."""
    request = {"Filters": [{"Name": "instance-id", "Values": [instance_id]}]}
    found = job.cloud.pages(place, "ec2", "DescribeReplaceRootVolumeTasks", "ReplaceRootVolumeTasks", request)
    states = [str(t.get("TaskState")) for t in found if t.get("ImageId") == image_id]
    return states[-1] if states else "pending"
