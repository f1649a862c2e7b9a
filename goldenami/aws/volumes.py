"""EBS volumes: read, create, attach, detach and delete them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from goldenami.aws import tags as tagging
from goldenami.aws import waiters
from goldenami.aws.ledger import Call, Ledger
from goldenami.aws.session import Cloud
from goldenami.aws.waiters import Item
from goldenami.model import Place


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume as DescribeVolumes returns it. ``instance_id``, ``device`` and ``attached`` (since when): None if it is
    not attached. ``attachment``: "attaching", "attached", "detaching" or "busy". ``throughput`` in MiB/s.
    ``multi_attach``: several instances can have it; ``instances`` are those that have it.
    """

    id: str
    state: str
    zone: str
    size_gib: int
    type: str
    iops: int | None
    throughput: int | None
    encrypted: bool
    kms_key: str | None
    snapshot_id: str | None
    instance_id: str | None
    device: str | None
    attachment: str | None
    attached: datetime | None
    delete_on_termination: bool
    tags: Mapping[str, str]
    multi_attach: bool = False
    instances: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.tags.get(tagging.NAME, "")

    @property
    def is_kept(self) -> bool:
        """Whether another volume replaced it, and it is kept. No schedule has it until it is attached again."""
        return tagging.KEPT_FROM in self.tags and self.instance_id is None


# --- reading ----------------------------------------------------------------------------------------------------------


def find(cloud: Cloud, place: Place, filters: Mapping[str, Collection[str]]) -> list[Volume]:
    """Return the volumes that match the filters of DescribeVolumes, sorted by device and id."""
    request = {"Filters": [{"Name": k, "Values": sorted(v)} for k, v in filters.items()]}
    found = [read(v) for v in cloud.pages(place, "ec2", "DescribeVolumes", "Volumes", request)]
    return sorted(found, key=lambda v: (v.device or "", v.id))


def describe_many(cloud: Cloud, place: Place, ids: Collection[str]) -> dict[str, Volume]:
    """Return the volumes of ``ids`` that are visible. One call for up to 200 ids."""
    found = waiters.describe(cloud, place, waiters.AVAILABLE, ids) if ids else {}
    return {id: read(item) for id, item in found.items()}


def of_instance(cloud: Cloud, place: Place, instance_id: str) -> list[Volume]:
    """Return the volumes that are attached to an instance, sorted by device."""
    request = {"Filters": [{"Name": "attachment.instance-id", "Values": [instance_id]}]}
    items = cloud.pages(place, "ec2", "DescribeVolumes", "Volumes", request)
    return sorted((read(item, instance_id) for item in items), key=lambda v: (v.device or "", v.id))


def read(item: Item, instance_id: str = "") -> Volume:
    """Return a volume as it is attached to an instance, or to the first one that has it."""
    attachments = [a for a in item.get("Attachments") or () if a.get("State") != "detached"]
    attachments.sort(key=lambda a: a.get("InstanceId") != instance_id)
    attachment: Mapping[str, Any] = attachments[0] if attachments else {}
    return Volume(
        id=item["VolumeId"],
        state=waiters.state_of(item),
        zone=item.get("AvailabilityZone", ""),
        size_gib=int(item.get("Size", 0)),
        type=item.get("VolumeType", ""),
        iops=item.get("Iops"),
        throughput=item.get("Throughput"),
        encrypted=bool(item.get("Encrypted")),
        kms_key=item.get("KmsKeyId"),
        snapshot_id=item.get("SnapshotId") or None,
        instance_id=attachment.get("InstanceId"),
        device=attachment.get("Device"),
        attachment=attachment.get("State"),
        attached=attachment.get("AttachTime"),
        delete_on_termination=bool(attachment.get("DeleteOnTermination")),
        tags=tagging.from_list(item.get("Tags")),
        multi_attach=bool(item.get("MultiAttachEnabled")),
        instances=tuple(sorted(str(a.get("InstanceId")) for a in attachments)),
    )


# --- changing ---------------------------------------------------------------------------------------------------------


def create(
    ledger: Ledger,
    key: str,
    place: Place,
    *,
    snapshot_id: str,
    zone: str,
    name: str,
    type: str | None = None,
    size_gib: int | None = None,
    iops: int | None = None,
    throughput: int | None = None,
    kms_key: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> str:
    """Ensure that a volume with a snapshot's contents exists. Return its id at once, while it is being created.

    ``kms_key``: the ARN of the key to encrypt with; None: the encryption of the snapshot, or the account's default.
    """
    request: dict[str, Any] = {"SnapshotId": snapshot_id, "AvailabilityZone": zone, "VolumeType": type or "gp3"}
    if size_gib is not None:
        request["Size"] = size_gib
    if iops is not None and request["VolumeType"] in ("gp3", "io1", "io2"):
        request["Iops"] = iops
    if throughput is not None and request["VolumeType"] == "gp3":
        request["Throughput"] = throughput
    if kms_key is not None:
        request |= {"Encrypted": True, "KmsKeyId": kms_key}
    return ledger.create(key, "volume", place, Call("ec2", "CreateVolume", request), name=name, tags=tags)


def attach(ledger: Ledger, key: str, place: Place, volume_id: str, instance_id: str, device: str) -> None:
    """Ensure that a volume is attached to an instance, and wait for it. Raises CloudError if it is attached elsewhere.

    ``device``: EC2's device name. The operating system may use another name ("Device names", EC2 user guide).
    """
    request = {"VolumeId": volume_id, "InstanceId": instance_id, "Device": device}
    call = Call("ec2", "AttachVolume", request)
    # If it is repeated after a lost reply, EC2 refuses it with VolumeInUse. Below it is checked which instance uses it.
    ledger.change(key, place, call, resource=volume_id, kind="attachment", already={"VolumeInUse"})
    seen = waiters.Watch(ledger.cloud, place, waiters.ATTACHED, [volume_id], timeout=300.0).until_ready()[volume_id]
    where = [(a.get("InstanceId"), a.get("Device")) for a in seen.item.get("Attachments") or ()]
    if not seen.ok or where != [(instance_id, device)]:
        raise waiters.failure(seen, "the attachment of volume", place)


def detach(ledger: Ledger, key: str, place: Place, volume_id: str, *, timeout: float | None = 300.0) -> None:
    """Ensure that a volume is detached, and wait for it. For a root volume, the instance must be stopped."""
    call = Call("ec2", "DetachVolume", {"VolumeId": volume_id})
    ledger.change(key, place, call, resource=volume_id, kind="attachment", already={"IncorrectState"})
    _wait(ledger, place, waiters.DETACHED, [volume_id], timeout)


def wait_available(
    ledger: Ledger, place: Place, ids: Collection[str], *, timeout: float | None = 900.0
) -> dict[str, Volume]:
    """Wait until volumes are available and detached. Raises CloudError for the first one that fails or is late."""
    return _wait(ledger, place, waiters.AVAILABLE, ids, timeout)


def _wait(
    ledger: Ledger, place: Place, what: waiters.Watched, ids: Collection[str], timeout: float | None
) -> dict[str, Volume]:
    seen = waiters.Watch(ledger.cloud, place, what, ids, timeout=timeout).until_ready()
    for one in seen.values():
        if not one.ok:
            if one.readiness == "failed":
                ledger.spoil("volume", place, one.id, one.reason)
            raise waiters.failure(one, "volume", place)
    return {id: read(one.item) for id, one in seen.items()}


def delete_with_instance(
    ledger: Ledger, key: str, place: Place, instance_id: str, devices: Collection[str], *, deleted: bool
) -> None:
    """Ensure whether the volumes at these devices are deleted with their instance (DeleteOnTermination). By default EC2
    keeps a volume that was attached after the launch."""
    if not devices:
        return
    mappings = [{"DeviceName": d, "Ebs": {"DeleteOnTermination": deleted}} for d in sorted(devices)]
    request = {"InstanceId": instance_id, "BlockDeviceMappings": mappings}
    ledger.change(key, place, Call("ec2", "ModifyInstanceAttribute", request), resource=instance_id, kind="attribute")


def delete(ledger: Ledger, place: Place, volume_id: str) -> None:
    """Ensure that a volume is deleted. Raises CloudError (VolumeInUse) if it stays attached."""
    ledger.delete("volume", place, volume_id)
