"""The archive tier, locks, the block on public access, and root volumes that are exchanged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

HOME, APPS, REGION = "111111111111", "222222222222", "eu-central-1"
DAY = 86400.0


def root_of(rig: Any, instance_id: str) -> str:
    found = rig.client().describe_volumes(
        Filters=[{"Name": "attachment.instance-id", "Values": [instance_id]}], MaxResults=10
    )["Volumes"]
    return str(next(v["VolumeId"] for v in found if v["Attachments"][0]["Device"] == "/dev/xvda"))


def snapshot_of(rig: Any, volume_id: str) -> str:
    snapshot_id = str(rig.client().create_snapshot(VolumeId=volume_id)["SnapshotId"])
    rig.settle()
    return snapshot_id


@pytest.fixture
def snapshot(rig: Any) -> str:
    return snapshot_of(rig, root_of(rig, rig.run()["InstanceId"]))


def test_archived_it_is_of_no_use_until_it_is_restored(rig: Any, snapshot: str, fails: Callable[..., str]) -> None:
    ec2 = rig.client()
    ec2.modify_snapshot_attribute(SnapshotId=snapshot, CreateVolumePermission={"Add": [{"UserId": APPS}]})
    rig.set(pending={"tier": 100})
    ec2.modify_snapshot_tier(SnapshotId=snapshot, StorageTier="archive")
    (status,) = ec2.describe_snapshot_tier_status(Filters=[{"Name": "snapshot-id", "Values": [snapshot]}])[
        "SnapshotTierStatuses"
    ]
    assert (status["StorageTier"], status["LastTieringOperationStatus"]) == ("standard", "archival-in-progress")
    rig.clock.advance(100)
    assert rig.snapshot(snapshot)["StorageTier"] == "archive"
    shared = ec2.describe_snapshot_attribute(SnapshotId=snapshot, Attribute="createVolumePermission")
    assert shared["CreateVolumePermissions"] == []
    assert fails(ec2.create_volume, SnapshotId=snapshot, AvailabilityZone=f"{REGION}a") == "IncorrectState"
    assert fails(ec2.copy_snapshot, SourceSnapshotId=snapshot, SourceRegion=REGION) == "IncorrectState"
    ec2.restore_snapshot_tier(SnapshotId=snapshot, TemporaryRestoreDays=2)
    rig.clock.advance(100)
    assert rig.snapshot(snapshot)["StorageTier"] == "standard"
    assert ec2.create_volume(SnapshotId=snapshot, AvailabilityZone=f"{REGION}a")["VolumeId"]
    rig.clock.advance(2 * DAY)
    assert rig.snapshot(snapshot)["StorageTier"] == "archive"
    ec2.restore_snapshot_tier(SnapshotId=snapshot, PermanentRestore=True)
    rig.clock.advance(100)
    assert rig.snapshot(snapshot)["StorageTier"] == "standard"
    assert fails(ec2.restore_snapshot_tier, SnapshotId=snapshot, PermanentRestore=True) == "IncorrectState"


def test_a_snapshot_of_an_image_is_archived_only_once_the_image_is_disabled(
    rig: Any, fails: Callable[..., str]
) -> None:
    image = rig.captured()
    snapshot = rig.snapshot_id_of(image)
    assert fails(rig.client().modify_snapshot_tier, SnapshotId=snapshot) == "InvalidSnapshot.InUse"
    rig.client().disable_image(ImageId=image)
    rig.client().modify_snapshot_tier(SnapshotId=snapshot)
    assert rig.snapshot(snapshot)["StorageTier"] == "archive"


def test_governance_can_be_lifted_and_compliance_only_while_it_cools_off(
    rig: Any, snapshot: str, fails: Callable[..., str]
) -> None:
    ec2 = rig.client()
    ec2.lock_snapshot(SnapshotId=snapshot, LockMode="governance", LockDuration=3)
    assert fails(ec2.delete_snapshot, SnapshotId=snapshot) == "OperationNotPermitted"
    ec2.unlock_snapshot(SnapshotId=snapshot)
    answer = ec2.lock_snapshot(SnapshotId=snapshot, LockMode="compliance", LockDuration=3, CoolOffPeriod=24)
    assert answer["LockState"] == "compliance-cooloff"
    ec2.unlock_snapshot(SnapshotId=snapshot)
    ec2.lock_snapshot(SnapshotId=snapshot, LockMode="compliance", LockDuration=3, CoolOffPeriod=24)
    rig.clock.advance(DAY)
    assert fails(ec2.unlock_snapshot, SnapshotId=snapshot) == "OperationNotPermitted"
    shorter = {"SnapshotId": snapshot, "LockMode": "compliance", "LockDuration": 1}
    assert fails(ec2.lock_snapshot, **shorter) == "OperationNotPermitted"
    ec2.lock_snapshot(SnapshotId=snapshot, LockMode="compliance", LockDuration=5)
    rig.clock.advance(5 * DAY)
    (locked,) = ec2.describe_locked_snapshots()["Snapshots"]
    assert (locked["SnapshotId"], locked["LockState"]) == (snapshot, "expired")
    ec2.delete_snapshot(SnapshotId=snapshot)


def test_tiers_and_locks_come_in_pages(rig: Any) -> None:
    ec2 = rig.client()
    volume = root_of(rig, rig.run()["InstanceId"])
    every = sorted(snapshot_of(rig, volume) for _ in range(6))
    for snapshot in every:
        ec2.lock_snapshot(SnapshotId=snapshot, LockMode="governance", LockDuration=3)
    for describe, field in (
        (ec2.describe_locked_snapshots, "Snapshots"),
        (ec2.describe_snapshot_tier_status, "SnapshotTierStatuses"),
    ):
        first = describe(MaxResults=5)
        second = describe(MaxResults=5, NextToken=first["NextToken"])
        assert [one["SnapshotId"] for one in (*first[field], *second[field])] == every
        assert "NextToken" not in second


def test_block_public_access(rig: Any, snapshot: str, fails: Callable[..., str]) -> None:
    ec2, everybody = rig.client(), {"Add": [{"Group": "all"}]}
    ec2.modify_snapshot_attribute(SnapshotId=snapshot, CreateVolumePermission=everybody)

    def seen() -> set[str]:
        return {s["SnapshotId"] for s in rig.client(APPS).describe_snapshots(OwnerIds=[HOME])["Snapshots"]}

    assert snapshot in seen()
    assert ec2.get_snapshot_block_public_access_state()["State"] == "unblocked"
    ec2.enable_snapshot_block_public_access(State="block-new-sharing")
    assert snapshot in seen()
    request = {"SnapshotId": snapshot, "CreateVolumePermission": everybody}
    assert fails(ec2.modify_snapshot_attribute, **request) == "OperationNotPermitted"
    ec2.enable_snapshot_block_public_access(State="block-all-sharing")
    assert snapshot not in seen()
    ec2.disable_snapshot_block_public_access()
    assert snapshot in seen()


def test_the_root_volume_of_a_stopped_instance_is_exchanged(rig: Any, fails: Callable[..., str]) -> None:
    ec2 = rig.client()
    instance = rig.run()["InstanceId"]
    old = root_of(rig, instance)
    new = ec2.create_volume(SnapshotId=snapshot_of(rig, old), AvailabilityZone=f"{REGION}a")["VolumeId"]
    assert fails(ec2.detach_volume, VolumeId=old) == "OperationNotPermitted"
    ec2.stop_instances(InstanceIds=[instance])
    rig.settle()
    ec2.detach_volume(VolumeId=old)
    rig.settle()
    assert fails(ec2.start_instances, InstanceIds=[instance]) == "InvalidParameterValue"
    ec2.attach_volume(VolumeId=new, InstanceId=instance, Device="/dev/xvda")
    ec2.start_instances(InstanceIds=[instance])
    rig.settle()
    assert rig.instance(instance)["State"]["Name"] == "running"
    assert rig.node.guests[instance].spec.root_volume == new
    assert ec2.describe_volumes(VolumeIds=[old])["Volumes"][0]["State"] == "available"


def test_snapshots_of_all_volumes_are_taken_together(rig: Any) -> None:
    ec2 = rig.client()
    instance = rig.run()["InstanceId"]
    data = ec2.create_volume(Size=1, AvailabilityZone=f"{REGION}a")["VolumeId"]
    rig.settle()
    ec2.attach_volume(VolumeId=data, InstanceId=instance, Device="/dev/sdf")
    rig.settle()
    made = ec2.create_snapshots(InstanceSpecification={"InstanceId": instance})["Snapshots"]
    assert {s["VolumeId"] for s in made} == {data, root_of(rig, instance)}
    rig.settle()
    assert {rig.snapshot(s["SnapshotId"])["State"] for s in made} == {"completed"}


def test_replace_root_volume(rig: Any, fails: Callable[..., str]) -> None:
    ec2 = rig.client()
    instance = rig.run()["InstanceId"]
    old = root_of(rig, instance)
    mine, other = snapshot_of(rig, old), snapshot_of(rig, root_of(rig, rig.run()["InstanceId"]))
    task = ec2.create_replace_root_volume_task(InstanceId=instance, SnapshotId=mine, ClientToken="t")
    again = ec2.create_replace_root_volume_task(InstanceId=instance, SnapshotId=mine, ClientToken="t")
    task_id = task["ReplaceRootVolumeTask"]["ReplaceRootVolumeTaskId"]
    assert again["ReplaceRootVolumeTask"]["ReplaceRootVolumeTaskId"] == task_id
    rig.settle()
    (found,) = ec2.describe_replace_root_volume_tasks(ReplaceRootVolumeTaskIds=[task_id])["ReplaceRootVolumeTasks"]
    assert found["TaskState"] == "succeeded"
    new = root_of(rig, instance)
    assert new != old
    assert rig.node.guests[instance].spec.root_volume == new
    assert ec2.describe_volumes(VolumeIds=[old])["Volumes"][0]["State"] == "available"
    request = {"InstanceId": instance, "SnapshotId": other}
    assert fails(ec2.create_replace_root_volume_task, **request) == "InvalidParameterValue"
    ec2.create_replace_root_volume_task(InstanceId=instance, DeleteReplacedRootVolume=True)
    rig.settle()
    assert fails(ec2.describe_volumes, VolumeIds=[new]) == "InvalidVolume.NotFound"


def test_a_replacement_that_does_not_boot_leaves_the_old_root(rig: Any) -> None:
    ec2 = rig.client()
    instance = rig.run()["InstanceId"]
    old = root_of(rig, instance)
    configured = rig.node.configure

    def configure(spec: Any) -> None:
        if spec.root_volume == old:
            rig.node.failures.pop("start_instance", None)
        configured(spec)

    rig.node.configure = configure
    rig.node.failures["start_instance"] = "no init found"
    ec2.create_replace_root_volume_task(InstanceId=instance)
    rig.settle()
    (task,) = ec2.describe_replace_root_volume_tasks()["ReplaceRootVolumeTasks"]
    assert task["TaskState"] == "failed"
    assert root_of(rig, instance) == old
    assert rig.node.guests[instance].state == "running"
