"""Snapshots, volumes, encryption by default, and tags."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest
from botocore.exceptions import ClientError

HOME, APPS, REGION, OTHER = "111111111111", "222222222222", "eu-central-1", "eu-west-1"


def volume_of(rig: Any) -> str:
    instance = rig.instance(rig.run()["InstanceId"])
    return str(instance["BlockDeviceMappings"][0]["Ebs"]["VolumeId"])


def snapshot_of(rig: Any, volume_id: str, **params: Any) -> str:
    snapshot_id = str(rig.client().create_snapshot(VolumeId=volume_id, **params)["SnapshotId"])
    rig.settle()
    return snapshot_id


def copy(rig: Any, source: str, region: str = OTHER, **params: Any) -> str:
    request = {"SourceSnapshotId": source, "SourceRegion": REGION, **params}
    snapshot_id = str(rig.client(HOME, region).copy_snapshot(**request)["SnapshotId"])
    rig.settle()
    return snapshot_id


# --- snapshots --------------------------------------------------------------------------------------------------------


def test_the_point_in_time_is_taken_before_the_answer(rig: Any) -> None:
    volume_id = volume_of(rig)
    rig.node.gates["store_snapshot"] = threading.Event()
    snapshot = rig.client().create_snapshot(VolumeId=volume_id, Description="d")
    assert ("freeze_snapshot", snapshot["SnapshotId"]) in rig.node.calls
    assert (snapshot["State"], snapshot["VolumeSize"], snapshot["Description"]) == ("pending", 8, "d")


def test_snapshots_of_a_volume_form_a_lineage(rig: Any) -> None:
    volume_id = volume_of(rig)
    first, second = snapshot_of(rig, volume_id), snapshot_of(rig, volume_id)
    assert rig.node.snapshots[first].parent == "base-debian-12"
    assert rig.node.snapshots[second].parent == first
    found = rig.snapshot(second)
    assert (found["State"], found["Progress"], found["FullSnapshotSizeInBytes"]) == ("completed", "100%", 8 << 30)


def test_progress_moves_with_time(rig: Any) -> None:
    volume_id = volume_of(rig)
    rig.set(pending={"snapshot": 100})
    snapshot_id = snapshot_of(rig, volume_id)
    seen = []
    for _ in range(5):
        seen.append((rig.snapshot(snapshot_id)["Progress"], rig.snapshot(snapshot_id)["State"]))
        rig.clock.advance(25)
    assert seen == [
        ("0%", "pending"),
        ("25%", "pending"),
        ("50%", "pending"),
        ("75%", "pending"),
        ("100%", "completed"),
    ]


def test_snapshots_of_a_whole_instance(rig: Any) -> None:
    instance = rig.run(
        BlockDeviceMappings=[{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "VolumeType": "gp3"}}],
        TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "a", "Value": "1"}]}],
    )
    of = {"InstanceId": instance["InstanceId"]}
    both = rig.client().create_snapshots(InstanceSpecification=of, CopyTagsFromSource="volume")["Snapshots"]
    assert [s["VolumeSize"] for s in both] == [8, 1]
    assert both[0]["Tags"] == [{"Key": "a", "Value": "1"}]
    data = rig.client().create_snapshots(InstanceSpecification={**of, "ExcludeBootVolume": True})["Snapshots"]
    assert [s["VolumeSize"] for s in data] == [1]


def test_copies(rig: Any, fails: Any) -> None:
    source = snapshot_of(rig, volume_of(rig))
    tags = [{"ResourceType": "snapshot", "Tags": [{"Key": "a", "Value": "1"}]}]
    copied = copy(rig, source, Encrypted=True, KmsKeyId="alias/golden-ami", TagSpecifications=tags)
    found = rig.snapshot(copied, HOME, OTHER)
    assert (found["State"], found["Encrypted"], found["VolumeId"]) == ("completed", True, "vol-ffffffff")
    assert found["KmsKeyId"] == rig.hooks.aliases[HOME, OTHER, "alias/golden-ami"]
    assert found["Tags"] == tags[0]["Tags"]
    failed = rig.snapshot(copy(rig, source, Encrypted=True, KmsKeyId="alias/nothing"), HOME, OTHER)
    assert (failed["State"], failed["StateMessage"]) == ("error", "Given key ID is not accessible")
    back = {"SourceSnapshotId": copied, "SourceRegion": OTHER}
    assert fails(rig.client().copy_snapshot, **back, Encrypted=False) == "InvalidParameterCombination"
    again = rig.client().copy_snapshot(**back)["SnapshotId"]
    rig.settle()
    assert rig.snapshot(again)["KmsKeyId"] == rig.hooks.default_key(HOME, REGION).arn
    assert fails(rig.client(APPS).copy_snapshot, **back) == "InvalidSnapshot.NotFound"


def test_a_region_takes_so_many_copies_at_once(rig: Any, fails: Any) -> None:
    source = snapshot_of(rig, volume_of(rig))
    rig.set(pending={"copy": 10}, concurrent_snapshot_copies=2)
    request = {"SourceSnapshotId": source, "SourceRegion": REGION}
    copy(rig, source)
    copy(rig, source)
    assert fails(rig.client(HOME, OTHER).copy_snapshot, **request) == "ResourceLimitExceeded"
    copy(rig, source, region="us-east-1")
    rig.clock.advance(10)
    copy(rig, source)


def test_sharing_snapshots(rig: Any, fails: Any) -> None:
    client, apps = rig.client(), rig.client(APPS)
    snapshot_id = snapshot_of(rig, volume_of(rig))
    assert fails(apps.describe_snapshots, SnapshotIds=[snapshot_id]) == "InvalidSnapshot.NotFound"
    client.modify_snapshot_attribute(
        SnapshotId=snapshot_id, Attribute="createVolumePermission", OperationType="add", UserIds=[APPS]
    )
    assert [s["SnapshotId"] for s in apps.describe_snapshots(RestorableByUserIds=["self"])["Snapshots"]] == [
        snapshot_id
    ]
    assert apps.describe_snapshots(OwnerIds=["self"])["Snapshots"] == []
    assert len(apps.describe_snapshots(OwnerIds=[HOME])["Snapshots"]) == 1
    assert fails(apps.delete_snapshot, SnapshotId=snapshot_id) == "AuthFailure"
    client.modify_snapshot_attribute(SnapshotId=snapshot_id, CreateVolumePermission={"Add": [{"Group": "all"}]})

    def get() -> Any:
        return client.describe_snapshot_attribute(SnapshotId=snapshot_id, Attribute="createVolumePermission")

    assert get()["CreateVolumePermissions"] == [{"Group": "all"}, {"UserId": APPS}]
    client.reset_snapshot_attribute(SnapshotId=snapshot_id, Attribute="createVolumePermission")
    assert get()["CreateVolumePermissions"] == []
    encrypted = copy(rig, snapshot_id, region=REGION, Encrypted=True, KmsKeyId="alias/golden-ami")
    change = client.modify_snapshot_attribute
    public = {"Add": [{"Group": "all"}]}
    assert fails(change, SnapshotId=encrypted, CreateVolumePermission=public) == "OperationNotPermitted"
    change(SnapshotId=encrypted, CreateVolumePermission={"Add": [{"UserId": APPS}]})


def test_filters_and_pages_of_snapshots(rig: Any, fails: Any) -> None:
    client, volume_id = rig.client(), volume_of(rig)
    ids = [snapshot_of(rig, volume_id, Description=f"nightly {n}") for n in range(7)]
    pages = client.get_paginator("describe_snapshots").paginate(OwnerIds=["self"], PaginationConfig={"PageSize": 5})
    assert [len(p["Snapshots"]) for p in pages] == [5, 2]
    given = [{"Name": "description", "Values": ["nightly [0-9]", "*6"]}, {"Name": "status", "Values": ["completed"]}]
    assert [s["SnapshotId"] for s in client.describe_snapshots(Filters=given)["Snapshots"]] == [ids[6]]
    assert fails(client.describe_snapshots, MaxResults=3) == "InvalidParameterValue"
    assert fails(client.describe_snapshots, SnapshotIds=["x"]) == "InvalidSnapshotID.Malformed"


def test_encryption_by_default(rig: Any, fails: Any) -> None:
    client = rig.client()
    assert client.get_ebs_encryption_by_default()["EbsEncryptionByDefault"] is False
    client.enable_ebs_encryption_by_default()
    assert client.get_ebs_default_kms_key_id()["KmsKeyId"] == "alias/aws/ebs"
    assert fails(client.modify_ebs_default_kms_key_id, KmsKeyId="alias/nothing") == "InvalidKmsKey.NotFound"
    arn = client.modify_ebs_default_kms_key_id(KmsKeyId="alias/golden-ami")["KmsKeyId"]
    found = rig.snapshot(snapshot_of(rig, volume_of(rig)))
    assert (found["Encrypted"], found["KmsKeyId"]) == (True, arn)
    assert rig.node.snapshots[found["SnapshotId"]].parent is None  # nothing is shared with what is not encrypted
    assert rig.client(HOME, OTHER).get_ebs_encryption_by_default()["EbsEncryptionByDefault"] is False


# --- volumes ----------------------------------------------------------------------------------------------------------


def test_the_life_of_a_volume(rig: Any, fails: Any) -> None:
    client, instance_id = rig.client(), rig.run()["InstanceId"]
    rig.set(pending={"volume": 5})
    volume_id = client.create_volume(AvailabilityZone=f"{REGION}a", Size=3, VolumeType="gp3", Encrypted=True)[
        "VolumeId"
    ]
    rig.settle()

    def state() -> str:
        return str(client.describe_volumes(VolumeIds=[volume_id])["Volumes"][0]["State"])

    place = {"VolumeId": volume_id, "InstanceId": instance_id, "Device": "/dev/sdf"}
    assert state() == "creating"
    assert fails(client.attach_volume, **place) == "IncorrectState"
    rig.clock.advance(5)
    client.get_waiter("volume_available").wait(VolumeIds=[volume_id])
    assert fails(client.attach_volume, **{**place, "Device": "/dev/xvda"}) == "InvalidParameterValue"
    assert fails(client.attach_volume, **{**place, "Device": "/dev/data"}) == "InvalidParameterValue"
    client.attach_volume(**place)
    rig.settle()
    client.get_waiter("volume_in_use").wait(VolumeIds=[volume_id])
    assert fails(client.attach_volume, **place) == "VolumeInUse"
    assert fails(client.delete_volume, VolumeId=volume_id) == "VolumeInUse"
    client.detach_volume(VolumeId=volume_id)
    rig.settle()
    assert state() == "available"
    client.delete_volume(VolumeId=volume_id)
    assert fails(client.describe_volumes, VolumeIds=[volume_id]) == "InvalidVolume.NotFound"
    client.get_waiter("volume_deleted").wait(VolumeIds=[volume_id])
    root = client.describe_volumes()["Volumes"][0]["VolumeId"]
    assert fails(client.detach_volume, VolumeId=root) == "OperationNotPermitted"


def test_volumes_from_snapshots(rig: Any, fails: Any) -> None:
    client, snapshot_id = rig.client(), snapshot_of(rig, volume_of(rig))
    request = {"AvailabilityZone": f"{REGION}b", "SnapshotId": snapshot_id}
    volume = client.create_volume(**request, ClientToken="t")
    assert (volume["Size"], volume["SnapshotId"]) == (8, snapshot_id)
    assert client.create_volume(**request, ClientToken="t")["VolumeId"] == volume["VolumeId"]
    assert fails(client.create_volume, **request, Size=2) == "InvalidBlockDeviceMapping"
    assert fails(client.create_volume, AvailabilityZone="us-east-1a", Size=2) == "InvalidParameterValue"
    assert fails(client.create_volume, AvailabilityZone=f"{REGION}a") == "MissingParameter"
    rig.settle()
    far = {"VolumeId": volume["VolumeId"], "InstanceId": rig.run()["InstanceId"], "Device": "/dev/sdf"}
    assert fails(client.attach_volume, **far) == "InvalidVolume.ZoneMismatch"


def test_growing(rig: Any, fails: Any) -> None:
    client, volume_id = rig.client(), volume_of(rig)
    change = client.modify_volume(VolumeId=volume_id, Size=20, Iops=4000)["VolumeModification"]
    assert (change["OriginalSize"], change["TargetSize"], change["TargetIops"]) == (8, 20, 4000)
    assert client.describe_volumes_modifications(VolumeIds=[volume_id])["VolumesModifications"][0]["Progress"] == 100
    assert client.describe_volumes(VolumeIds=[volume_id])["Volumes"][0]["Size"] == 20
    assert fails(client.modify_volume, VolumeId=volume_id, Size=30) == "VolumeModificationRateExceeded"
    rig.clock.advance(7 * 3600)
    assert fails(client.modify_volume, VolumeId=volume_id, Size=10) == "InvalidParameterValue"
    status = client.describe_volume_status(VolumeIds=[volume_id])["VolumeStatuses"][0]
    assert status["VolumeStatus"]["Status"] == "ok"
    client.modify_volume_attribute(VolumeId=volume_id, AutoEnableIO={"Value": True})
    attribute = client.describe_volume_attribute(VolumeId=volume_id, Attribute="autoEnableIO")
    assert attribute["AutoEnableIO"]["Value"] is True


# --- tags -------------------------------------------------------------------------------------------------------------


def test_tags(rig: Any, fails: Any) -> None:
    client, image_id = rig.client(), rig.captured()
    snapshot_id = rig.snapshot_id_of(image_id)
    client.create_tags(Resources=[image_id, snapshot_id], Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": ""}])
    client.create_tags(Resources=[image_id], Tags=[{"Key": "a", "Value": "2"}])
    given = [{"Name": "resource-id", "Values": [image_id]}, {"Name": "tag:a", "Values": ["2"]}]
    found = client.describe_tags(Filters=given)["Tags"]
    assert found == [{"Key": "a", "Value": "2", "ResourceId": image_id, "ResourceType": "image"}]
    client.delete_tags(Resources=[image_id, snapshot_id], Tags=[{"Key": "a", "Value": "2"}])
    assert [t["ResourceId"] for t in client.describe_tags(Filters=[{"Name": "key", "Values": ["a"]}])["Tags"]] == [
        snapshot_id
    ]
    client.delete_tags(Resources=[snapshot_id], Tags=[{"Key": "a"}])
    client.delete_tags(Resources=[image_id])
    assert rig.image_of(image_id)["Tags"] == []
    tag = [{"Key": "a", "Value": "1"}]
    assert fails(client.create_tags, Resources=["ami-00000000000000000"], Tags=tag) == "InvalidAMIID.NotFound"
    assert fails(rig.client(APPS).create_tags, Resources=[image_id], Tags=tag) == "InvalidAMIID.NotFound"
    many = [{"Key": str(n), "Value": ""} for n in range(51)]
    assert fails(client.create_tags, Resources=[image_id], Tags=many) == "TagLimitExceeded"
    assert (
        fails(client.create_tags, Resources=[image_id], Tags=[{"Key": "aws:x", "Value": ""}]) == "InvalidParameterValue"
    )
    assert (
        fails(client.create_tags, Resources=[image_id], Tags=[{"Key": "k" * 128, "Value": ""}])
        == "InvalidParameterValue"
    )
    assert [rig.ec2.owns(i) for i in ("ami-1", "snap-1", "eni-1", "sg-1", "subnet-1", "key-1")] == [True] * 3 + [
        False
    ] * 3


def test_each_account_sees_its_own_tags_of_a_shared_image(rig: Any, fails: Any) -> None:
    owner, apps, image_id = rig.client(), rig.client(APPS), rig.captured()
    snapshot_id = rig.snapshot_id_of(image_id)
    owner.create_tags(Resources=[image_id, snapshot_id], Tags=[{"Key": "team", "Value": "platform"}])
    owner.modify_image_attribute(ImageId=image_id, LaunchPermission={"Add": [{"UserId": APPS}]})
    tag = [{"Key": "team", "Value": "shop"}]
    assert fails(apps.create_tags, Resources=[snapshot_id], Tags=tag) == "InvalidSnapshot.NotFound"
    owner.modify_snapshot_attribute(SnapshotId=snapshot_id, CreateVolumePermission={"Add": [{"UserId": APPS}]})

    def seen(client: Any) -> list[Any]:
        (image,) = client.describe_images(ImageIds=[image_id])["Images"]
        (snapshot,) = client.describe_snapshots(SnapshotIds=[snapshot_id])["Snapshots"]
        return [image["Tags"], snapshot["Tags"]]

    assert seen(apps) == [[], []]
    apps.create_tags(Resources=[image_id, snapshot_id], Tags=tag)
    assert seen(apps) == [tag, tag]
    assert seen(owner) == [[{"Key": "team", "Value": "platform"}]] * 2
    found = apps.describe_images(Filters=[{"Name": "tag:team", "Values": ["shop"]}], ExecutableUsers=["self"])
    assert [image["ImageId"] for image in found["Images"]] == [image_id]
    assert len(apps.describe_tags(Filters=[{"Name": "key", "Values": ["team"]}])["Tags"]) == 2
    apps.delete_tags(Resources=[image_id], Tags=[{"Key": "team"}])
    assert seen(apps) == [[], tag]
    owner.modify_image_attribute(ImageId=image_id, LaunchPermission={"Remove": [{"UserId": APPS}]})
    assert fails(apps.create_tags, Resources=[image_id], Tags=tag) == "InvalidAMIID.NotFound"


def test_fast_snapshot_restore_has_states_and_a_quota(rig: Any) -> None:
    client = rig.client()
    rig.set(pending={"tier": 60.0})
    volume = client.create_volume(AvailabilityZone=f"{REGION}a", Size=1)["VolumeId"]
    rig.settle()
    made = [client.create_snapshot(VolumeId=volume)["SnapshotId"] for _ in range(6)]
    rig.settle()

    def states(snapshot: str) -> dict[str, str]:
        given = [{"Name": "snapshot-id", "Values": [snapshot]}]
        found = client.describe_fast_snapshot_restores(Filters=given)["FastSnapshotRestores"]
        return {one["AvailabilityZone"]: one["State"] for one in found}

    def enable(snapshot: str, zone: str = f"{REGION}a") -> Any:
        return client.enable_fast_snapshot_restores(AvailabilityZones=[zone], SourceSnapshotIds=[snapshot])

    for snapshot in made[:5]:
        assert enable(snapshot)["Successful"][0]["State"] == "enabling"
    assert states(made[0]) == {f"{REGION}a": "optimizing"}
    assert enable(made[0], f"{REGION}b")["Unsuccessful"] == [], "the quota counts snapshots, not zones"
    rig.clock.advance(61)
    assert states(made[0]) == {f"{REGION}a": "enabled", f"{REGION}b": "enabled"}
    (error,) = enable(made[5], f"{REGION}b")["Unsuccessful"][0]["FastSnapshotRestoreStateErrors"]
    assert error["Error"]["Code"] == "FastSnapshotRestoreLimitExceeded"
    assert enable(made[0], "eu-central-1-ham-1a")["Successful"] == [], "a Local Zone"
    client.disable_fast_snapshot_restores(AvailabilityZones=[f"{REGION}a"], SourceSnapshotIds=[made[0]])
    assert states(made[0]) == {f"{REGION}a": "disabling", f"{REGION}b": "enabled"}
    rig.clock.advance(61)
    assert states(made[0])[f"{REGION}a"] == "disabled"
    client.delete_snapshot(SnapshotId=made[1])
    assert states(made[1]) == {}
    assert enable(made[5])["Unsuccessful"] == []


def test_fast_snapshot_restore_of_a_shared_snapshot_is_the_account_s_own(rig: Any, fails: Any) -> None:
    owner, apps = rig.client(), rig.client(APPS)
    volume = owner.create_volume(AvailabilityZone=f"{REGION}a", Size=1)["VolumeId"]
    rig.settle()
    id = owner.create_snapshot(VolumeId=volume)["SnapshotId"]
    rig.settle()
    request = {"AvailabilityZones": [f"{REGION}a"], "SourceSnapshotIds": [id]}

    def owners(client: Any) -> list[str]:
        return [one["OwnerId"] for one in client.describe_fast_snapshot_restores()["FastSnapshotRestores"]]

    assert fails(apps.enable_fast_snapshot_restores, **request) == "InvalidSnapshot.NotFound"
    permission = [{"UserId": APPS}]
    owner.modify_snapshot_attribute(SnapshotId=id, CreateVolumePermission={"Add": permission})
    assert apps.enable_fast_snapshot_restores(**request)["Unsuccessful"] == []
    assert (owners(apps), owners(owner)) == ([HOME], [])
    owner.enable_fast_snapshot_restores(**request)
    apps.disable_fast_snapshot_restores(**request)
    states = owner.describe_fast_snapshot_restores()["FastSnapshotRestores"]
    assert [one["State"] for one in states] == ["enabled"], "the other account disabled its own"
    apps.enable_fast_snapshot_restores(**request)
    owner.modify_snapshot_attribute(SnapshotId=id, CreateVolumePermission={"Remove": permission})
    owner.modify_snapshot_attribute(SnapshotId=id, CreateVolumePermission={"Add": permission})
    assert (owners(apps), owners(owner)) == ([], [HOME]), "it ended with the sharing"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"VolumeType": "gp3", "Size": 20, "Iops": 15000}, "Iops to volume size ratio of 750.000000 is too high"),
        ({"VolumeType": "gp3", "Size": 20, "Iops": 2999}, "Volume iops of 2999 is too low; minimum is 3000"),
        ({"VolumeType": "gp3", "Size": 500, "Iops": 80001}, "Volume iops of 80001 is too high; maximum is 80000"),
        ({"VolumeType": "gp3", "Size": 20, "Throughput": 1000}, "Throughput (MiBps) to iops ratio of 0.333333"),
        ({"VolumeType": "gp3", "Size": 20, "Throughput": 124}, "Volume throughput of 124 is too low; minimum is 125"),
        ({"VolumeType": "io1", "Size": 10, "Iops": 501}, "maximum is 50"),
        ({"VolumeType": "io2", "Size": 10, "Iops": 10001}, "maximum is 1000"),
        ({"VolumeType": "io2", "Size": 10}, "iops must be specified"),
        ({"VolumeType": "gp2", "Size": 10, "Throughput": 125}, "throughput can only be specified for volumeType gp3"),
        ({"VolumeType": "st1", "Size": 125, "Iops": 500}, "iops is not supported for st1"),
    ],
)
def test_performance_that_the_type_or_the_size_does_not_allow(rig: Any, params: dict[str, Any], message: str) -> None:
    with pytest.raises(ClientError, match=re.escape(message)):
        rig.client().create_volume(AvailabilityZone="eu-central-1a", **params)


@pytest.mark.parametrize(
    "params",
    [
        {"VolumeType": "gp3", "Size": 1},
        {"VolumeType": "gp3", "Size": 30, "Iops": 15000, "Throughput": 2000},
        {"VolumeType": "io1", "Size": 10, "Iops": 500},
        {"VolumeType": "io2", "Size": 10, "Iops": 10000},
    ],
)
def test_performance_at_the_limits(rig: Any, params: dict[str, Any]) -> None:
    assert rig.client().create_volume(AvailabilityZone="eu-central-1a", **params)["State"] in ("creating", "available")


def test_snapshot_permissions_change_in_one_direction_at_a_time(rig: Any, fails: Any) -> None:
    client = rig.client()
    snapshot_id = rig.snapshot_id_of(rig.captured())
    both = {"Add": [{"UserId": APPS}], "Remove": [{"UserId": "333333333333"}]}
    call = client.modify_snapshot_attribute
    assert fails(call, SnapshotId=snapshot_id, CreateVolumePermission=both) == "InvalidParameterCombination"
    two = {"CreateVolumePermission": {"Add": [{"UserId": APPS}]}, "UserIds": ["333333333333"]}
    assert fails(call, SnapshotId=snapshot_id, **two) == "InvalidParameterCombination"
    removed = {"CreateVolumePermission": {"Add": [{"UserId": APPS}]}, "UserIds": [APPS], "OperationType": "remove"}
    assert fails(call, SnapshotId=snapshot_id, **removed) == "InvalidParameterCombination"
    call(SnapshotId=snapshot_id, CreateVolumePermission={"Add": [{"UserId": APPS}]}, UserIds=[APPS])  # as Packer does
    got = client.describe_snapshot_attribute(SnapshotId=snapshot_id, Attribute="createVolumePermission")
    assert got["CreateVolumePermissions"] == [{"UserId": APPS}]
    many = {"Add": [{"UserId": f"{number:012}"} for number in range(501)]}
    assert fails(call, SnapshotId=snapshot_id, CreateVolumePermission=many) == "InvalidParameterValue"


def test_without_room_nothing_is_begun(rig: Any, fails: Any) -> None:
    client = rig.client()
    rig.run()
    rig.settle()
    root = client.describe_volumes()["Volumes"][0]["VolumeId"]
    snapshot = client.create_snapshot(VolumeId=root)["SnapshotId"]
    rig.settle()
    rig.node.room = 0
    place = {"AvailabilityZone": f"{REGION}a", "VolumeType": "gp3"}
    for call, given in (
        (client.create_volume, {**place, "Size": 1}),
        (client.create_snapshot, {"VolumeId": root}),
        (client.copy_snapshot, {"SourceSnapshotId": snapshot, "SourceRegion": REGION, "Encrypted": True}),
    ):
        assert fails(call, **given) == "InsufficientVolumeCapacity"
        assert fails(call, **given, DryRun=True) == "InsufficientVolumeCapacity"
    assert [s["SnapshotId"] for s in client.describe_snapshots(OwnerIds=["self"])["Snapshots"]] == [snapshot]
    rig.node.room = 1 << 40
    client.create_volume(**place, Size=1)
