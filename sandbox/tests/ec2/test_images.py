"""Images: captured, copied, registered, shared, deprecated, disabled, deregistered."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import WaiterError
from goldenami_sandbox.ec2.service import Ec2Error
from goldenami_sandbox.policy import Caller

HOME, APPS, REGION, OTHER = "111111111111", "222222222222", "eu-central-1", "eu-west-1"
TAGS = [
    {"ResourceType": "image", "Tags": [{"Key": "kind", "Value": "image"}]},
    {"ResourceType": "snapshot", "Tags": [{"Key": "kind", "Value": "snapshot"}]},
]


def copy(rig: Any, source: str, account: str = HOME, region: str = OTHER, **params: Any) -> str:
    request = {"SourceImageId": source, "SourceRegion": REGION, "Name": "copy", **params}
    image_id = str(rig.client(account, region).copy_image(**request)["ImageId"])
    rig.settle()
    return image_id


def allow(rig: Any, image_id: str, account: str = APPS, *, snapshots: bool = True) -> None:
    rig.client().modify_image_attribute(ImageId=image_id, LaunchPermission={"Add": [{"UserId": account}]})
    if snapshots:
        rig.client().modify_snapshot_attribute(
            SnapshotId=rig.snapshot_id_of(image_id), CreateVolumePermission={"Add": [{"UserId": account}]}
        )


# --- CreateImage ------------------------------------------------------------------------------------------------------


def test_capture_stops_the_guest_for_the_moment(rig: Any) -> None:
    image_id = rig.captured()
    methods = [m for m, _ in rig.node.calls]
    order = [methods.index(m) for m in ("stop", "freeze_snapshot", "start_instance", "store_snapshot")]
    assert order[0] < order[1] < order[2]
    assert order[1] < order[3]
    image = rig.image_of(image_id)
    assert (image["State"], image["BootMode"], image["EnaSupport"]) == ("available", "uefi-preferred", True)
    assert image["SourceInstanceId"] in rig.node.guests


def test_no_reboot(rig: Any) -> None:
    rig.captured(NoReboot=True)
    assert "stop" not in [m for m, _ in rig.node.calls]


def test_capture_with_block_devices_and_tags(rig: Any) -> None:
    devices = [
        {"DeviceName": "/dev/xvda", "Ebs": {"DeleteOnTermination": False, "VolumeSize": 8, "Encrypted": False}},
        {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "Encrypted": True}},
    ]
    image_id = rig.captured(BlockDeviceMappings=devices, TagSpecifications=TAGS, Description="a web server")
    image = rig.image_of(image_id)
    found = {m["DeviceName"]: m["Ebs"] for m in image["BlockDeviceMappings"]}
    assert (found["/dev/xvda"]["VolumeSize"], found["/dev/xvda"]["DeleteOnTermination"]) == (8, False)
    assert "SnapshotId" not in found["/dev/sdf"]
    assert (image["Description"], image["Tags"]) == ("a web server", TAGS[0]["Tags"])
    snapshot = rig.snapshot(found["/dev/xvda"]["SnapshotId"])
    assert (snapshot["Tags"], snapshot["VolumeSize"]) == (TAGS[1]["Tags"], 8)
    assert snapshot["Description"].startswith("Created by CreateImage(i-")


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"Name": "ab"}, "InvalidAMIName.Malformed"),
        ({"Name": "a" * 129}, "InvalidAMIName.Malformed"),
        ({"Name": "semi;colon"}, "InvalidAMIName.Malformed"),
        ({"Name": "taken"}, "InvalidAMIName.Duplicate"),
        ({"InstanceId": "i-00000000000000000"}, "InvalidInstanceID.NotFound"),
        ({"BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "NoDevice": ""}]}, "InvalidBlockDeviceMapping"),
        ({"BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 4}}]}, "InvalidBlockDeviceMapping"),
        *(
            ({"BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": ebs}]}, "InvalidBlockDeviceMapping")
            for ebs in ({"Encrypted": True}, {"VolumeSize": 20}, {"VolumeType": "gp2"}, {"SnapshotId": "snap-1"})
        ),
        ({"BootModeOverride": "uefi-preferred"}, "InvalidParameterValue"),
        ({"BootModeOverride": "legacy-bios"}, "InvalidParameterValue"),
        ({"Description": "für alle"}, "InvalidParameterValue"),
        ({"TagSpecifications": [{"ResourceType": "volume", "Tags": [{"Key": "a"}]}]}, "InvalidParameterValue"),
    ],
)
def test_refused_captures(rig: Any, fails: Any, params: Any, code: str) -> None:
    rig.captured("taken")
    instance_id = rig.run()["InstanceId"]
    assert fails(rig.client().create_image, **{"InstanceId": instance_id, "Name": "fine", **params}) == code
    assert len(rig.client().describe_images(Owners=["self"])["Images"]) == 1


def test_the_boot_mode_can_be_overridden_only_for_an_instance_that_booted_by_uefi(rig: Any, fails: Any) -> None:
    image_id = rig.captured(BootModeOverride="uefi")
    assert rig.image_of(image_id)["BootMode"] == "uefi"
    bios = rig.client().run_instances(ImageId=rig.image, InstanceType="t2.small", MinCount=1, MaxCount=1)
    rig.settle()
    instance_id = bios["Instances"][0]["InstanceId"]
    assert rig.instance(instance_id)["CurrentInstanceBootMode"] == "legacy-bios"
    call = rig.client().create_image
    assert fails(call, InstanceId=instance_id, Name="bios", BootModeOverride="uefi") == "OperationNotPermitted"


def test_a_pending_image_shows_no_snapshots(rig: Any) -> None:
    rig.set(pending={"image": 5, "copy": 5})
    client = rig.client()
    image_id = client.create_image(InstanceId=rig.run()["InstanceId"], Name="candidate")["ImageId"]
    rig.settle()

    def shown(image_id: str) -> bool:
        return "SnapshotId" in rig.image_of(image_id)["BlockDeviceMappings"][0]["Ebs"]

    assert not shown(image_id)
    mapping = client.describe_image_attribute(ImageId=image_id, Attribute="blockDeviceMapping")["BlockDeviceMappings"]
    assert "SnapshotId" not in mapping[0]["Ebs"]
    rig.clock.advance(6)
    assert shown(image_id)
    copied = client.copy_image(SourceImageId=image_id, SourceRegion=REGION, Name="copy")["ImageId"]
    rig.settle()
    assert not shown(copied)
    rig.clock.advance(6)
    assert shown(copied)


@pytest.mark.parametrize(("options", "seconds"), [({}, 15), ({"NoReboot": True}, 5)])
def test_the_image_of_a_running_instance_takes_the_time_of_its_shutdown_too(
    rig: Any, options: dict[str, bool], seconds: int
) -> None:
    rig.set(pending={"image": 5, "stop": 10})
    client, instance_id = rig.client(), rig.run()["InstanceId"]
    running = client.create_image(InstanceId=instance_id, Name="running", **options)["ImageId"]
    rig.settle()
    rig.clock.advance(seconds - 1)
    assert rig.image_of(running)["State"] == "pending"
    rig.clock.advance(1)
    assert rig.image_of(running)["State"] == "available"
    client.stop_instances(InstanceIds=[instance_id])
    rig.settle()
    rig.clock.advance(10)
    stopped = client.create_image(InstanceId=instance_id, Name="stopped", **options)["ImageId"]
    rig.settle()
    rig.clock.advance(5)
    assert rig.image_of(stopped)["State"] == "available"


def test_a_dry_run_checks_everything_and_changes_nothing(rig: Any, fails: Any) -> None:
    client, image_id = rig.client(), rig.captured()
    instance_id = client.describe_instances()["Reservations"][0]["Instances"][0]["InstanceId"]
    before = rig.ec2.dump()
    capture = {"InstanceId": instance_id, "DryRun": True}
    assert fails(client.create_image, **capture, Name="second") == "DryRunOperation"
    assert fails(client.create_image, **capture, Name="candidate") == "InvalidAMIName.Duplicate"
    assert fails(client.create_image, **capture, Name="x") == "InvalidAMIName.Malformed"
    assert fails(client.terminate_instances, InstanceIds=[instance_id], DryRun=True) == "DryRunOperation"
    assert fails(client.terminate_instances, InstanceIds=["i-00000000"], DryRun=True) == "InvalidInstanceID.NotFound"
    launch = {"ImageId": image_id, "InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1, "DryRun": True}
    assert fails(client.run_instances, **launch) == "DryRunOperation"
    assert fails(client.run_instances, **{**launch, "KeyName": "nobody"}) == "InvalidKeyPair.NotFound"
    rig.settle()
    assert rig.ec2.dump() == before
    assert rig.instance(instance_id)["State"]["Name"] == "running"


def test_an_image_is_pending_until_its_snapshots_are_stored(rig: Any) -> None:
    rig.set(pending={"snapshot": 10, "image": 5})
    rig.node.gates["store_snapshot"] = threading.Event()
    instance_id = rig.run()["InstanceId"]
    client = rig.client()
    image_id = client.create_image(InstanceId=instance_id, Name="candidate")["ImageId"]
    available = [{"Name": "state", "Values": ["available"]}]
    rig.clock.advance(5)
    assert rig.image_of(image_id)["State"] == "pending"
    assert rig.snapshot(rig.snapshot_id_of(image_id))["Progress"] == "50%"
    rig.clock.advance(5)
    assert rig.image_of(image_id)["State"] == "pending"
    assert client.describe_images(Owners=["self"], Filters=available)["Images"] == []
    rig.node.gates["store_snapshot"].set()
    rig.settle()
    client.get_waiter("image_available").wait(ImageIds=[image_id])
    client.get_waiter("snapshot_completed").wait(SnapshotIds=[rig.snapshot_id_of(image_id)])
    assert len(client.describe_images(Owners=["self"], Filters=available)["Images"]) == 1


def test_a_failed_capture_shows_and_the_guest_runs_again(rig: Any) -> None:
    rig.node.failures["freeze_snapshot"] = "disk full"
    image = rig.image_of(rig.captured())
    assert image["State"] == "failed"
    assert "disk full" in image["StateReason"]["Message"]
    with pytest.raises(WaiterError):
        rig.client().get_waiter("image_available").wait(ImageIds=[image["ImageId"]], WaiterConfig={"Delay": 0})
    assert rig.node.guests[image["SourceInstanceId"]].state == "running"


def test_an_image_launches_with_its_contents_and_lineage(rig: Any) -> None:
    image_id = rig.captured()
    rig.run(ImageId=image_id)
    snapshot_id = rig.snapshot_id_of(image_id)
    assert rig.node.snapshots[snapshot_id].parent == "base-debian-12"


# --- CopyImage --------------------------------------------------------------------------------------------------------


def test_an_encrypted_copy(rig: Any) -> None:
    source = rig.captured()
    client = rig.client(HOME, OTHER)
    image_id = copy(rig, source, Encrypted=True, KmsKeyId="alias/golden-ami", TagSpecifications=TAGS, Description="d")
    client.get_waiter("image_available").wait(ImageIds=[image_id])
    image = rig.image_of(image_id, HOME, OTHER)
    assert (image["SourceImageId"], image["SourceImageRegion"]) == (source, REGION)
    assert (image["Tags"], image["Description"], image["RootDeviceName"]) == (TAGS[0]["Tags"], "d", "/dev/xvda")
    snapshot = rig.snapshot(rig.snapshot_id_of(image_id, HOME, OTHER), HOME, OTHER)
    assert snapshot["KmsKeyId"] == rig.hooks.aliases[HOME, OTHER, "alias/golden-ami"]
    assert (snapshot["Encrypted"], snapshot["Tags"]) == (True, TAGS[1]["Tags"])
    assert rig.node.snapshots[snapshot["SnapshotId"]].key is not None
    instance = rig.run(HOME, OTHER, ImageId=image_id)
    assert rig.instance(instance["InstanceId"], HOME, OTHER)["State"]["Name"] == "running"
    volume = client.describe_volumes()["Volumes"][0]
    assert (volume["Encrypted"], volume["KmsKeyId"]) == (True, snapshot["KmsKeyId"])


def test_without_a_key_the_default_key_is_used(rig: Any, fails: Any) -> None:
    image_id = copy(rig, rig.captured(), Encrypted=True)
    snapshot_id = rig.snapshot_id_of(image_id, HOME, OTHER)
    client = rig.client(HOME, OTHER)
    assert rig.snapshot(snapshot_id, HOME, OTHER)["KmsKeyId"] == rig.hooks.default_key(HOME, OTHER).arn
    share = {"Add": [{"UserId": APPS}]}
    assert fails(client.modify_image_attribute, ImageId=image_id, LaunchPermission=share) == "InvalidParameter"
    call = client.modify_snapshot_attribute
    assert fails(call, SnapshotId=snapshot_id, CreateVolumePermission=share) == "OperationNotPermitted"


def wrong_keys(rig: Any) -> dict[str, str]:
    disabled = rig.hooks.add_key(HOME, OTHER, "alias/disabled")
    rig.hooks.change_key(disabled, enabled=False)
    return {
        "missing": "alias/nothing",
        "disabled": "alias/disabled",
        "elsewhere": rig.hooks.aliases[HOME, REGION, "alias/golden-ami"],
        "asymmetric": rig.hooks.add_key(HOME, OTHER, "alias/rsa", spec="RSA_2048"),
        "foreign": rig.hooks.aliases[APPS, OTHER, "alias/golden-ami"],
    }


@pytest.mark.parametrize("case", ["missing", "disabled", "elsewhere", "asymmetric", "foreign"])
def test_a_wrong_key_is_accepted_and_fails_later(rig: Any, case: str) -> None:
    source, key = rig.captured(), wrong_keys(rig)[case]
    rig.set(pending={"copy": 10})
    image_id = copy(rig, source, Encrypted=True, KmsKeyId=key)
    assert rig.image_of(image_id, HOME, OTHER)["State"] == "pending"
    rig.clock.advance(10)
    image = rig.image_of(image_id, HOME, OTHER)
    assert (image["State"], "Given key ID is not accessible" in image["StateReason"]["Message"]) == ("failed", True)
    snapshot = rig.snapshot(rig.snapshot_id_of(image_id, HOME, OTHER), HOME, OTHER)
    assert snapshot["State"] == "error"
    assert snapshot["StateMessage"].startswith("Given key ID is not accessible")


def test_refused_copies(rig: Any, fails: Any) -> None:
    source = rig.captured()
    call = rig.client(HOME, OTHER).copy_image
    request = {"SourceImageId": source, "SourceRegion": REGION, "Name": "copy"}
    assert fails(call, **{**request, "SourceRegion": OTHER}) == "InvalidAMIID.NotFound"
    assert fails(call, **request, KmsKeyId="alias/golden-ami") == "InvalidParameterDependency"
    encrypted = copy(rig, source, Encrypted=True, KmsKeyId="alias/golden-ami")
    again = {"SourceImageId": encrypted, "SourceRegion": OTHER, "Name": "plain", "Encrypted": False}
    assert fails(rig.client().copy_image, **again) == "InvalidParameterCombination"
    assert fails(call, **request, Encrypted=True) == "InvalidAMIName.Duplicate"


def test_a_name_is_unique_in_an_account_and_region_for_every_way_to_create_an_image(rig: Any, fails: Any) -> None:
    source = rig.captured("taken")
    client = rig.client()
    client.disable_image(ImageId=source)  # a disabled image keeps its name
    other = rig.captured("other")
    devices = [{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": rig.snapshot_id_of(other)}}]
    register = {"Name": "taken", "RootDeviceName": "/dev/xvda", "BlockDeviceMappings": devices}
    instance_id = rig.run()["InstanceId"]
    assert fails(client.create_image, InstanceId=instance_id, Name="taken") == "InvalidAMIName.Duplicate"
    assert fails(client.register_image, **register) == "InvalidAMIName.Duplicate"
    copying = {"SourceImageId": other, "SourceRegion": REGION, "Name": "taken"}
    assert fails(client.copy_image, **copying) == "InvalidAMIName.Duplicate"
    # In another region, and in another account, the name is free.
    assert rig.client(HOME, OTHER).copy_image(**copying)["ImageId"]
    allow(rig, other)
    assert rig.client(APPS, REGION).copy_image(**copying)["ImageId"]
    client.deregister_image(ImageId=source)
    assert client.register_image(**register)["ImageId"]


def test_client_token_and_tags_of_the_source(rig: Any, fails: Any) -> None:
    source = rig.captured(TagSpecifications=TAGS)
    first = copy(rig, source, ClientToken="t", CopyImageTags=True)
    assert copy(rig, source, ClientToken="t", CopyImageTags=True) == first
    request = {"SourceImageId": source, "SourceRegion": REGION, "Name": "other", "ClientToken": "t"}
    assert fails(rig.client(HOME, OTHER).copy_image, **request) == "IdempotentParameterMismatch"
    assert rig.image_of(first, HOME, OTHER)["Tags"] == TAGS[0]["Tags"]
    assert rig.image_of(copy(rig, source, Name="bare"), HOME, OTHER)["Tags"] == []


def test_another_account_copies_only_with_its_snapshots(rig: Any, fails: Any) -> None:
    source = rig.captured()
    request = {"SourceImageId": source, "SourceRegion": REGION, "Name": "copy"}
    call = rig.client(APPS, REGION).copy_image
    assert fails(call, **request) == "AuthFailure"
    allow(rig, source, snapshots=False)
    assert fails(call, **request) == "InvalidRequest"
    allow(rig, source)
    image_id = copy(rig, source, APPS, REGION, Encrypted=True, KmsKeyId="alias/golden-ami", CopyImageTags=True)
    image = rig.image_of(image_id, APPS, REGION)
    assert (image["State"], image["OwnerId"], image["Public"]) == ("available", APPS, False)


def test_the_source_may_go_while_it_is_copied(rig: Any) -> None:
    source = rig.captured()
    snapshot_id = rig.snapshot_id_of(source)
    rig.node.gates["copy_snapshot"] = threading.Event()
    image_id = rig.client(HOME, OTHER).copy_image(SourceImageId=source, SourceRegion=REGION, Name="copy")["ImageId"]
    rig.client().deregister_image(ImageId=source, DeleteAssociatedSnapshots=True)
    rig.node.gates["copy_snapshot"].set()
    rig.settle()
    assert rig.image_of(image_id, HOME, OTHER)["State"] == "available"
    assert snapshot_id not in rig.node.snapshots


# --- sharing ----------------------------------------------------------------------------------------------------------


def test_a_shared_image_is_seen_by_that_account_only(rig: Any, fails: Any) -> None:
    image_id = rig.captured(TagSpecifications=TAGS)
    allow(rig, image_id)
    apps, third = rig.client(APPS), rig.client("333333333333")
    assert [i["ImageId"] for i in apps.describe_images(ExecutableUsers=["self"])["Images"]] == [image_id]
    assert [i["ImageId"] for i in apps.describe_images(Owners=[HOME])["Images"]] == [image_id]
    assert rig.image_of(image_id, APPS)["Tags"] == []
    assert fails(third.describe_images, ImageIds=[image_id]) == "InvalidAMIID.NotFound"
    assert third.describe_images(Owners=[HOME])["Images"] == []
    assert fails(apps.deregister_image, ImageId=image_id) == "AuthFailure"
    instance_id = rig.run(APPS, ImageId=image_id)["InstanceId"]
    assert rig.instance(instance_id, APPS)["State"]["Name"] == "running"
    rig.client().modify_image_attribute(ImageId=image_id, LaunchPermission={"Remove": [{"UserId": APPS}]})
    assert fails(apps.describe_images, ImageIds=[image_id]) == "InvalidAMIID.NotFound"


def test_a_shared_encrypted_image_needs_the_key(rig: Any) -> None:
    image_id = copy(rig, rig.captured(), region=REGION, Encrypted=True, KmsKeyId="alias/golden-ami")
    allow(rig, image_id)
    refused = rig.run(APPS, ImageId=image_id)
    assert refused["State"]["Name"] in ("pending", "terminated")
    found = rig.instance(refused["InstanceId"], APPS)
    assert (found["State"]["Name"], found["StateReason"]["Code"]) == ("terminated", "Client.InternalError")
    rig.hooks.keys[rig.hooks.aliases[HOME, REGION, "alias/golden-ami"]].allowed.add(APPS)
    accepted = rig.run(APPS, ImageId=image_id)
    assert rig.instance(accepted["InstanceId"], APPS)["State"]["Name"] == "running"


def test_launch_permissions(rig: Any, fails: Any) -> None:
    client, image_id = rig.client(), rig.captured()
    client.disable_image_block_public_access()
    organization = "arn:aws:organizations::111111111111:organization/o-abcdefghij"
    unit = "arn:aws:organizations::111111111111:ou/o-abcdefghij/ou-abcd-12345678"
    change = client.modify_image_attribute
    change(ImageId=image_id, LaunchPermission={"Add": [{"OrganizationArn": organization}, {"UserId": APPS}]})
    change(ImageId=image_id, Attribute="launchPermission", OperationType="add", OrganizationalUnitArns=[unit])
    change(ImageId=image_id, Attribute="launchPermission", OperationType="add", UserGroups=["all"])

    def get() -> Any:
        return client.describe_image_attribute(ImageId=image_id, Attribute="launchPermission")["LaunchPermissions"]

    assert get() == [
        {"Group": "all"},
        {"UserId": APPS},
        {"OrganizationArn": organization},
        {"OrganizationalUnitArn": unit},
    ]
    assert rig.client("333333333333").describe_images(ImageIds=[image_id])["Images"][0]["Public"] is True
    client.reset_image_attribute(ImageId=image_id, Attribute="launchPermission")
    assert get() == []
    assert (
        fails(change, ImageId=image_id, LaunchPermission={"Add": [{"UserId": "12"}]}) == "InvalidAMIAttributeItemValue"
    )
    encrypted = copy(rig, image_id, region=REGION, Encrypted=True, KmsKeyId="alias/golden-ami")
    assert fails(change, ImageId=encrypted, LaunchPermission={"Add": [{"Group": "all"}]}) == "InvalidParameter"
    assert fails(change, ImageId=encrypted) == "InvalidParameterCombination"


def test_organizations_and_their_units(rig: Any, fails: Any) -> None:
    third, outsider = "333333333333", "444444444444"
    outer, inner = "ou-ab12-11111111", "ou-ab12-22222222"
    members = {APPS: f"{outer}/{inner}", third: ""}
    rig.set(organizations=[{"id": "o-abcdefghij", "management": HOME, "accounts": members}])
    image_id = rig.captured()

    def seen(account: str) -> bool:
        found = rig.client(account).describe_images(ExecutableUsers=["self"])["Images"]
        return [i["ImageId"] for i in found] == [image_id]

    def share(change: str, arn: str) -> None:
        kind = "OrganizationArn" if ":organization/" in arn else "OrganizationalUnitArn"
        rig.client().modify_image_attribute(ImageId=image_id, LaunchPermission={change: [{kind: arn}]})

    whole = f"arn:aws:organizations::{HOME}:organization/o-abcdefghij"
    assert not seen(APPS)
    share("Add", whole)
    assert (seen(APPS), seen(third), seen(outsider)) == (True, True, False)
    assert rig.instance(rig.run(APPS, ImageId=image_id)["InstanceId"], APPS)["State"]["Name"] == "running"
    asked = rig.client(third).describe_images(ExecutableUsers=[APPS])["Images"]
    assert asked == [], "an organization's permission shows to its own members only"
    snapshot = rig.snapshot_id_of(image_id)
    assert fails(rig.client(APPS).describe_snapshots, SnapshotIds=[snapshot]) == "InvalidSnapshot.NotFound"
    assert (
        fails(rig.client(APPS).copy_image, Name="copy", SourceImageId=image_id, SourceRegion=REGION) == "InvalidRequest"
    )
    share("Remove", whole)
    assert fails(rig.client(APPS).describe_images, ImageIds=[image_id]) == "InvalidAMIID.NotFound"
    rig.set(visibility_delay=5)
    share("Add", f"arn:aws:organizations::{HOME}:ou/o-abcdefghij/{outer}")
    assert not seen(APPS), "it has no effect yet"
    rig.clock.advance(5)
    rig.set(visibility_delay=0)
    assert (seen(APPS), seen(third)) == (True, False), "a unit includes the units below it"
    share("Add", f"arn:aws:organizations::{outsider}:organization/o-abcdefghij")
    assert not seen(third), "the management account is part of the ARN"


def test_other_attributes(rig: Any, fails: Any) -> None:
    client, image_id = rig.client(), rig.captured()

    def get(name: str) -> Any:
        return client.describe_image_attribute(ImageId=image_id, Attribute=name)

    client.modify_image_attribute(ImageId=image_id, Description={"Value": "better"})
    client.modify_image_attribute(ImageId=image_id, ImdsSupport={"Value": "v2.0"})
    assert get("description")["Description"]["Value"] == "better"
    assert get("imdsSupport")["ImdsSupport"]["Value"] == "v2.0"
    assert get("bootMode")["BootMode"]["Value"] == "uefi-preferred"
    assert len(get("blockDeviceMapping")["BlockDeviceMappings"]) == 1
    instance = rig.run(ImageId=image_id)
    assert rig.instance(instance["InstanceId"])["MetadataOptions"]["HttpTokens"] == "required"
    assert get("lastLaunchedTime")["LastLaunchedTime"]["Value"].startswith("2026-")
    client.create_image(InstanceId=instance["InstanceId"], Name="child")
    rig.settle()
    assert client.describe_images(Filters=[{"Name": "name", "Values": ["child"]}])["Images"][0]["ImdsSupport"] == "v2.0"
    both = {"Description": {"Value": "x"}, "ImdsSupport": {"Value": "v2.0"}}
    assert fails(client.modify_image_attribute, ImageId=image_id, **both) == "InvalidParameterCombination"
    for params in (
        {"Description": {"Value": "x"}, "LaunchPermission": {"Add": [{"UserId": APPS}]}},
        {"Attribute": "description", "UserIds": [APPS]},
        {"Attribute": "launchPermission", "OperationType": "add", "Value": "x"},
        {"Attribute": "description", "OperationType": "add", "Value": "x"},
        {"LaunchPermission": {"Add": [{"UserId": APPS}]}, "UserIds": ["333333333333"]},
        {"LaunchPermission": {"Remove": [{"UserId": APPS}]}, "UserIds": [APPS]},
        {"LaunchPermission": {"Add": [{"UserId": APPS}]}, "UserIds": [APPS], "OperationType": "remove"},
        {"Value": "x"},
    ):
        assert fails(client.modify_image_attribute, ImageId=image_id, **params) == "InvalidParameterCombination"
    twice = {"LaunchPermission": {"Add": [{"UserId": APPS}]}, "UserIds": [APPS]}  # as Packer sends it
    client.modify_image_attribute(ImageId=image_id, **twice)
    assert get("launchPermission")["LaunchPermissions"] == [{"UserId": APPS}]
    for text in ("größer", "x" * 256):
        change = {"ImageId": image_id, "Description": {"Value": text}}
        assert fails(client.modify_image_attribute, **change) == "InvalidParameterValue"
    unknown = {"ImageId": image_id, "Attribute": "bootMode", "Value": "uefi"}
    assert fails(client.modify_image_attribute, **unknown) == "InvalidParameterValue"
    bad = {"ImageId": image_id, "ImdsSupport": {"Value": "v1.0"}}
    assert fails(client.modify_image_attribute, **bad) == "InvalidParameterValue"


# --- the end of images ------------------------------------------------------------------------------------------------


def test_deprecation(rig: Any, fails: Any) -> None:
    client, image_id = rig.client(), rig.captured()
    allow(rig, image_id)
    now = datetime.fromtimestamp(rig.clock(), UTC)
    client.enable_image_deprecation(ImageId=image_id, DeprecateAt=now + timedelta(hours=1, seconds=10))
    assert rig.image_of(image_id)["DeprecationTime"] == "2026-11-18T12:07:00.000Z"  # to the minute
    call = client.enable_image_deprecation
    assert fails(call, ImageId=image_id, DeprecateAt=now + timedelta(days=3660)) == "InvalidParameterValue"
    assert fails(call, ImageId=image_id, DeprecateAt=now - timedelta(days=1)) == "InvalidParameterValue"
    rig.clock.advance(4000)
    apps = rig.client(APPS)
    assert len(client.describe_images(Owners=["self"])["Images"]) == 1
    assert apps.describe_images(Owners=[HOME])["Images"] == []
    assert len(apps.describe_images(Owners=[HOME], IncludeDeprecated=True)["Images"]) == 1
    client.disable_image_deprecation(ImageId=image_id)
    assert len(apps.describe_images(Owners=[HOME])["Images"]) == 1


def test_disabling_strips_permissions_for_good(rig: Any, fails: Any) -> None:
    client, image_id = rig.client(), rig.captured()
    allow(rig, image_id)
    client.disable_image(ImageId=image_id)
    assert client.describe_images(Owners=["self"])["Images"] == []
    shown = client.describe_images(Owners=["self"], IncludeDisabled=True)["Images"]
    assert [i["State"] for i in shown] == ["disabled"]
    launch = {"ImageId": image_id, "InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1}
    assert fails(client.run_instances, **launch) == "InvalidAMIID.Unavailable"
    client.enable_image(ImageId=image_id)
    assert rig.image_of(image_id)["State"] == "available"
    assert fails(rig.client(APPS).describe_images, ImageIds=[image_id]) == "InvalidAMIID.NotFound"


def test_deregistration(rig: Any, fails: Any) -> None:
    client, image_id = rig.client(), rig.captured()
    snapshot_id = rig.snapshot_id_of(image_id)
    assert fails(client.delete_snapshot, SnapshotId=snapshot_id) == "InvalidSnapshot.InUse"
    twin = client.register_image(
        Name="twin", RootDeviceName="/dev/xvda",
        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot_id}}],
    )["ImageId"]  # fmt: skip
    answer = client.deregister_image(ImageId=image_id, DeleteAssociatedSnapshots=True)
    assert answer["DeleteSnapshotResults"] == [{"SnapshotId": snapshot_id, "ReturnCode": "skipped"}]
    assert fails(client.describe_images, ImageIds=[image_id]) == "InvalidAMIID.NotFound"
    answer = client.deregister_image(ImageId=twin, DeleteAssociatedSnapshots=True)
    assert answer["DeleteSnapshotResults"] == [{"SnapshotId": snapshot_id, "ReturnCode": "success"}]
    assert fails(client.describe_snapshots, SnapshotIds=[snapshot_id]) == "InvalidSnapshot.NotFound"
    rig.settle()
    assert snapshot_id not in rig.node.snapshots


def test_deregistration_protection(rig: Any, fails: Any) -> None:
    client, image_id = rig.client(), rig.captured()
    client.enable_image_deregistration_protection(ImageId=image_id, WithCooldown=True)
    assert fails(client.deregister_image, ImageId=image_id) == "OperationNotPermitted"
    assert rig.image_of(image_id)["DeregistrationProtection"] == "enabled-with-cooldown"
    client.disable_image_deregistration_protection(ImageId=image_id)
    assert fails(client.deregister_image, ImageId=image_id) == "OperationNotPermitted"
    rig.clock.advance(86400)
    client.deregister_image(ImageId=image_id)


# --- RegisterImage, DescribeImages ------------------------------------------------------------------------------------


def test_register_keeps_its_parameters(rig: Any, fails: Any) -> None:
    client, snapshot_id = rig.client(), rig.snapshot_id_of(rig.captured())
    fields = {
        "Architecture": "x86_64",
        "VirtualizationType": "hvm",
        "EnaSupport": True,
        "BootMode": "uefi",
        "TpmSupport": "v2.0",
        "ImdsSupport": "v2.0",
        "RootDeviceName": "/dev/sda1",
        "Description": "mine",
    }
    devices = [
        {"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot_id, "VolumeSize": 30, "VolumeType": "gp3"}},
        {"DeviceName": "/dev/sdb", "VirtualName": "ephemeral0"},
    ]
    image_id = client.register_image(
        Name="registered", BlockDeviceMappings=devices, TagSpecifications=TAGS[:1], **fields
    )["ImageId"]
    image = rig.image_of(image_id)
    assert {name: image[name] for name in fields} == fields
    assert image["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 30
    assert image["Tags"] == TAGS[0]["Tags"]
    call = client.register_image
    small = [{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot_id, "VolumeSize": 2}}]
    request = {"Name": "bad", "RootDeviceName": "/dev/sda1"}
    assert fails(call, **request, BlockDeviceMappings=small) == "InvalidBlockDeviceMapping"
    assert fails(call, **request) == "InvalidBlockDeviceMapping"
    encrypted = [{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot_id, "Encrypted": True}}]
    assert fails(call, **request, BlockDeviceMappings=encrypted) == "InvalidBlockDeviceMapping"
    missing = [{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": "snap-00000000000000000"}}]
    assert fails(call, **request, BlockDeviceMappings=missing) == "InvalidSnapshot.NotFound"
    apps = rig.client(APPS).register_image
    assert fails(apps, **request, BlockDeviceMappings=devices) == "InvalidSnapshot.NotFound"
    # Who a snapshot is shared with copies it, owns the copy, and registers that (EC2 user guide, "Copy an AMI").
    share = {"SnapshotId": snapshot_id, "Attribute": "createVolumePermission", "OperationType": "add"}
    client.modify_snapshot_attribute(**share, UserIds=[APPS])
    assert fails(apps, **request, BlockDeviceMappings=devices) == "AuthFailure"


FILTERED = {
    "name": "cand*",
    "block-device-mapping.snapshot-id": None,
    "root-device-type": "ebs",
    "root-device-name": "/dev/xvd?",
    "ena-support": "true",
    "creation-date": "2026-11-18T*",
    "description": "a \\*",
    "source-image-id": "ami-*",
    "imds-support": "v2.0",
    "tag:kind": "image",
    "tag-key": "ki*",
    "is-public": "false",
    "state": "available",
    "architecture": "x86_64",
}


def test_filters(rig: Any, fails: Any) -> None:
    client = rig.client()
    image_id = rig.captured(TagSpecifications=TAGS, Description="a *")
    client.modify_image_attribute(ImageId=image_id, ImdsSupport={"Value": "v2.0"})
    for name, value in FILTERED.items():
        given = [{"Name": name, "Values": ["nothing", value or rig.snapshot_id_of(image_id)]}]
        found = client.describe_images(Owners=["self"], Filters=given)["Images"]
        assert [i["ImageId"] for i in found] == [image_id], name
        assert client.describe_images(Owners=["self"], Filters=[{"Name": name, "Values": ["no"]}])["Images"] == []
    both = [{"Name": "name", "Values": ["candidate"]}, {"Name": "state", "Values": ["failed"]}]
    assert client.describe_images(Filters=both)["Images"] == []
    unknown = [{"Name": "colour", "Values": ["blue"]}]
    assert fails(client.describe_images, Filters=unknown) == "InvalidParameterValue"
    newest = client.describe_images(
        Owners=["136693071363"], Filters=[{"Name": "name", "Values": ["debian-12-amd64-*"]}]
    )
    assert [i["ImageId"] for i in newest["Images"]] == [rig.image]


def test_pages(rig: Any, fails: Any) -> None:
    client, snapshot_id = rig.client(), rig.snapshot_id_of(rig.captured())
    for n in range(6):
        rig.clock.advance(1)
        client.register_image(
            Name=f"image-{n}", RootDeviceName="/dev/xvda",
            BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot_id}}],
        )  # fmt: skip
    pages = client.get_paginator("describe_images").paginate(Owners=["self"], PaginationConfig={"PageSize": 3})
    assert [len(page["Images"]) for page in pages] == [3, 3, 1]
    first = client.describe_images(Owners=["self"], MaxResults=3)
    client.deregister_image(ImageId=first["Images"][0]["ImageId"])  # what goes away meanwhile shifts nothing
    second = client.describe_images(Owners=["self"], MaxResults=3, NextToken=first["NextToken"])
    assert [i["Name"] for i in second["Images"]] == ["image-2", "image-3", "image-4"]
    assert fails(client.describe_images, NextToken="nonsense") == "InvalidNextToken"


def test_ids_that_are_wrong(rig: Any, fails: Any) -> None:
    assert fails(rig.client().describe_images, ImageIds=["nonsense"]) == "InvalidAMIID.Malformed"
    assert fails(rig.client().describe_images, ImageIds=["ami-00000000000000000"]) == "InvalidAMIID.NotFound"


def test_a_restart_completes_work_in_progress(rig: Any) -> None:
    source = rig.captured()
    rig.node.gates["copy_snapshot"] = threading.Event()
    image_id = rig.client(HOME, OTHER).copy_image(
        SourceImageId=source, SourceRegion=REGION, Name="copy", Encrypted=True, KmsKeyId="alias/golden-ami"
    )["ImageId"]
    state = rig.ec2.dump()
    rig.node.gates["copy_snapshot"].set()
    rig.settle()
    rig.node.snapshots.pop(rig.snapshot_id_of(image_id, HOME, OTHER))
    rig.ec2.load(state)
    rig.settle()
    assert rig.image_of(image_id, HOME, OTHER)["State"] == "available"
    assert rig.snapshot_id_of(image_id, HOME, OTHER) in rig.node.snapshots


def test_a_guest_that_does_not_come_back_is_stopped(rig: Any) -> None:
    rig.node.failures["start_instance"] = "no memory"
    image = rig.image_of(rig.captured())
    assert image["State"] == "available"
    assert rig.instance(image["SourceInstanceId"])["State"]["Name"] == "stopped"


def test_contents_of_snapshots_can_be_read(rig: Any, fails: Any) -> None:
    image_id = copy(rig, rig.captured(), region=REGION, Encrypted=True, KmsKeyId="alias/golden-ami")
    snapshot_id, key = rig.ec2.contents_of(Caller(HOME), REGION, image_id)
    assert (snapshot_id, key) == (rig.snapshot_id_of(image_id), rig.node.snapshots[snapshot_id].key)
    assert rig.ec2.contents_of(Caller(HOME), REGION, rig.image) == ("base-debian-12", None)
    with pytest.raises(Ec2Error, match="Not authorized for images"):
        rig.ec2.contents_of(Caller(APPS), REGION, image_id)
    assert rig.ec2.image_exists(HOME, REGION, image_id)
    assert not rig.ec2.image_exists(APPS, REGION, image_id)
