"""Instances: launches and their refusals, states over time, attributes, what the guest does itself."""

from __future__ import annotations

import base64
import json
import threading
from datetime import datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError
from goldenami_sandbox.ec2.context import Ec2Error
from goldenami_sandbox.ec2.hooks import LaunchTemplate

HOME, APPS, REGION = "111111111111", "222222222222", "eu-central-1"


def run(rig: Any, **params: Any) -> Any:
    return lambda **more: rig.client().run_instances(
        **{"ImageId": rig.image, "InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1, **params, **more}
    )


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown image": ({"ImageId": "ami-00000000000000000"}, "InvalidAMIID.NotFound"),
    "malformed image": ({"ImageId": "ami-xyz"}, "InvalidAMIID.Malformed"),
    "image of a parameter": ({"ImageId": "resolve:ssm:/nothing"}, "InvalidParameterValue"),
    "unknown type": ({"InstanceType": "t9.huge"}, "InvalidParameterValue"),
    "architecture": ({"InstanceType": "t4g.small"}, "InvalidParameterValue"),
    "key pair": ({"KeyName": "nobody"}, "InvalidKeyPair.NotFound"),
    "security group": ({"SecurityGroupIds": ["sg-0000000f"]}, "InvalidGroup.NotFound"),
    "group of another VPC": ({"SecurityGroupIds": ["sg-00000009"]}, "InvalidParameter"),
    "subnet": ({"SubnetId": "subnet-0000000f"}, "InvalidSubnetID.NotFound"),
    "network given twice": (
        {"SubnetId": "subnet-00000001", "NetworkInterfaces": [{"DeviceIndex": 0}]},
        "InvalidParameterCombination",
    ),
    "profile": ({"IamInstanceProfile": {"Name": "nobody"}}, "InvalidParameterValue"),
    "small root": (
        {"BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 4}}]},
        "InvalidBlockDeviceMapping",
    ),
    "no device name": (
        {"BlockDeviceMappings": [{"DeviceName": "/dev/nvme1n1", "Ebs": {"VolumeSize": 1}}]},
        "InvalidBlockDeviceMapping",
    ),
    "no root": ({"BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "NoDevice": ""}]}, "InvalidBlockDeviceMapping"),
    "volume without size": ({"BlockDeviceMappings": [{"DeviceName": "/dev/sdf", "Ebs": {}}]}, "MissingParameter"),
    "volume type": (
        {"BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeType": "gp9"}}]},
        "InvalidParameterValue",
    ),
    "key without encryption": (
        {"BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"KmsKeyId": "alias/golden-ami"}}]},
        "InvalidParameterDependency",
    ),
    "counts": ({"MinCount": 2, "MaxCount": 1}, "InvalidParameterValue"),
    "user data too long": ({"UserData": "x" * 16385}, "InvalidParameterValue"),
    "metadata": ({"MetadataOptions": {"HttpTokens": "never"}}, "InvalidParameterValue"),
    "tagged type": (
        {"TagSpecifications": [{"ResourceType": "image", "Tags": [{"Key": "a", "Value": "b"}]}]},
        "InvalidParameterValue",
    ),
    "reserved tag": (
        {"TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "aws:a", "Value": "b"}]}]},
        "InvalidParameterValue",
    ),
    "unknown template": (
        {"LaunchTemplate": {"LaunchTemplateName": "no"}},
        "InvalidLaunchTemplateName.NotFoundException",
    ),
    "dry run": ({"DryRun": True}, "DryRunOperation"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_launches(rig: Any, fails: Any, case: str) -> None:
    params, code = REFUSED[case]
    assert fails(run(rig, **params)) == code
    assert rig.client().describe_instances()["Reservations"] == []


def test_an_image_without_contents_is_refused_with_its_reason(rig: Any) -> None:
    hollow = rig.ec2.add_public_image(
        REGION, "099720109477", "ubuntu-noble", architecture="arm64", release=None, default_user="ubuntu",
        creation_date="2026-11-01T00:00:00+00:00",
    )  # fmt: skip
    with pytest.raises(ClientError, match=r"Unsupported.*no contents for ami-.*ubuntu-noble"):
        run(rig, ImageId=hollow, InstanceType="t4g.small")()


def test_everything_that_was_asked_for_is_described(rig: Any) -> None:
    tags = [
        {"ResourceType": kind, "Tags": [{"Key": "token", "Value": kind}]}
        for kind in ("instance", "volume", "network-interface")
    ]
    instance = rig.run(
        KeyName="me",
        SecurityGroupIds=["sg-00000002"],
        SubnetId="subnet-00000002",
        UserData="#!/bin/sh\n",
        MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
        IamInstanceProfile={"Name": "builder"},
        InstanceInitiatedShutdownBehavior="terminate",
        BlockDeviceMappings=[
            {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 12, "DeleteOnTermination": False}},
            {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 8, "VolumeType": "gp3", "Iops": 4000}},
        ],
        TagSpecifications=tags,
    )
    found = rig.instance(instance["InstanceId"])
    assert found["State"]["Name"] == "running"
    assert (found["KeyName"], found["SubnetId"]) == ("me", "subnet-00000002")
    assert found["SecurityGroups"] == [{"GroupId": "sg-00000002", "GroupName": "builder"}]
    assert "PublicIpAddress" not in found  # that subnet gives none
    assert found["MetadataOptions"]["HttpTokens"] == "required"
    assert found["IamInstanceProfile"]["Arn"].endswith("instance-profile/builder")
    assert found["Tags"] == [{"Key": "token", "Value": "instance"}]
    interface = rig.client().describe_network_interfaces()["NetworkInterfaces"][0]
    assert interface["TagSet"] == [{"Key": "token", "Value": "network-interface"}]
    volumes = {v["Attachments"][0]["Device"]: v for v in rig.client().describe_volumes()["Volumes"]}
    assert (volumes["/dev/xvda"]["Size"], volumes["/dev/xvda"]["VolumeType"]) == (12, "gp3")
    assert volumes["/dev/xvda"]["Attachments"][0]["DeleteOnTermination"] is False
    assert (volumes["/dev/sdf"]["Size"], volumes["/dev/sdf"]["Iops"]) == (8, 4000)
    assert all(v["Tags"] == [{"Key": "token", "Value": "volume"}] for v in volumes.values())
    spec = rig.node.guests[instance["InstanceId"]].spec
    assert (spec.user_data, spec.imds, spec.default_user) == (b"#!/bin/sh\n", "required", "admin")
    assert spec.metadata["placement/region"] == REGION


def test_network_interface_form(rig: Any) -> None:
    instance = rig.run(
        NetworkInterfaces=[
            {
                "DeviceIndex": 0,
                "SubnetId": "subnet-00000002",
                "Groups": ["sg-00000002"],
                "AssociatePublicIpAddress": True,
            }
        ]
    )
    found = rig.instance(instance["InstanceId"])
    assert found["PublicIpAddress"] == found["PrivateIpAddress"]
    assert rig.ec2.users_of("sg-00000002") == rig.ec2.users_of("subnet-00000002") == [instance["InstanceId"]]


def test_a_group_is_free_when_its_last_instance_has_left_it_or_ended(rig: Any, fails: Any) -> None:
    rig.set(pending={"stop": 5})
    client = rig.client()
    one, other = (rig.run(SecurityGroupIds=["sg-00000002"])["InstanceId"] for _ in range(2))
    client.modify_instance_attribute(InstanceId=one, Groups=["sg-00000001"])
    assert rig.ec2.users_of("sg-00000002") == [other]
    client.terminate_instances(InstanceIds=[one, other])
    assert rig.ec2.settle(10)
    assert rig.ec2.users_of("sg-00000002") == [other], "it is shutting down"
    change = {"InstanceId": other, "Groups": ["sg-00000001"]}
    assert fails(client.modify_instance_attribute, **change) == "IncorrectInstanceState"
    rig.clock.advance(5)
    assert rig.ec2.users_of("sg-00000002") == rig.ec2.users_of("sg-00000001") == []


def test_a_client_token_makes_one_instance(rig: Any, fails: Any) -> None:
    first = run(rig, ClientToken="t1")()["Instances"][0]["InstanceId"]
    assert run(rig, ClientToken="t1")()["Instances"][0]["InstanceId"] == first
    assert fails(run(rig, ClientToken="t1", InstanceType="t3.large")) == "IdempotentParameterMismatch"
    assert run(rig, ClientToken="t2")()["Instances"][0]["InstanceId"] != first


def test_several_instances_share_a_reservation(rig: Any) -> None:
    answer = run(rig, MinCount=1, MaxCount=3)()
    assert [i["AmiLaunchIndex"] for i in answer["Instances"]] == [0, 1, 2]
    reservations = rig.client().describe_instances()["Reservations"]
    assert [len(r["Instances"]) for r in reservations] == [3]


def test_launch_template_lies_beneath_the_request(rig: Any) -> None:
    rig.hooks.templates["lt-1:3"] = LaunchTemplate(
        "lt-1", "web", 3, {"ImageId": rig.image, "InstanceType": "t3.large", "KeyName": "me"}
    )
    answer = rig.client().run_instances(
        MinCount=1, MaxCount=1, InstanceType="t3.micro", LaunchTemplate={"LaunchTemplateId": "lt-1", "Version": "3"}
    )
    found = answer["Instances"][0]
    assert (found["InstanceType"], found["KeyName"]) == ("t3.micro", "me")
    assert {"Key": "aws:ec2launchtemplate:version", "Value": "3"} in found["Tags"]


def test_image_from_a_parameter(rig: Any) -> None:
    rig.hooks.parameters["/golden/web:2"] = rig.image
    assert rig.run(ImageId="resolve:ssm:/golden/web:2")["ImageId"] == rig.image


def test_states_take_their_time_and_waiters_agree(rig: Any) -> None:
    rig.set(pending={"instance": 10, "status": 30, "stop": 5})
    client, instance_id = rig.client(), rig.run()["InstanceId"]

    def state() -> str:
        return str(rig.instance(instance_id)["State"]["Name"])

    running = [{"Name": "instance-state-name", "Values": ["running"]}]
    assert state() == "pending"
    assert client.describe_instances(Filters=running)["Reservations"] == []
    rig.clock.advance(10)
    assert state() == "running"
    assert len(client.describe_instances(Filters=running)["Reservations"]) == 1
    client.get_waiter("instance_running").wait(InstanceIds=[instance_id])

    def status() -> str:
        return str(client.describe_instance_status()["InstanceStatuses"][0]["InstanceStatus"]["Status"])

    assert status() == "initializing"
    rig.clock.advance(30)
    assert status() == "ok"
    client.get_waiter("instance_status_ok").wait(InstanceIds=[instance_id])
    change = client.stop_instances(InstanceIds=[instance_id])["StoppingInstances"][0]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("running", "stopping")
    rig.settle()
    assert client.describe_instance_status()["InstanceStatuses"] == []
    assert len(client.describe_instance_status(IncludeAllInstances=True)["InstanceStatuses"]) == 1
    rig.clock.advance(5)
    client.get_waiter("instance_stopped").wait(InstanceIds=[instance_id])
    client.terminate_instances(InstanceIds=[instance_id])
    rig.settle()
    rig.clock.advance(5)
    client.get_waiter("instance_terminated").wait(InstanceIds=[instance_id])
    assert client.describe_volumes()["Volumes"] == []
    assert client.describe_network_interfaces()["NetworkInterfaces"] == []
    rig.clock.advance(4000)
    assert client.describe_instances()["Reservations"] == []


@pytest.mark.parametrize("restarted", [False, True])
def test_an_instance_that_is_shutting_down_has_its_volumes(rig: Any, fails: Any, restarted: bool) -> None:
    rig.set(pending={"stop": 5})
    kept = {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "DeleteOnTermination": False}}
    client, instance_id = rig.client(), rig.run(BlockDeviceMappings=[kept])["InstanceId"]
    by_size = {v["Size"]: v["VolumeId"] for v in client.describe_volumes()["Volumes"]}
    data = by_size.pop(1)
    (root,) = by_size.values()
    client.terminate_instances(InstanceIds=[instance_id])
    rig.settle()
    if restarted:
        rig.ec2.load(rig.ec2.dump())
    assert rig.instance(instance_id)["State"]["Name"] == "shutting-down"
    assert {v["VolumeId"]: v["State"] for v in client.describe_volumes()["Volumes"]} == {root: "in-use", data: "in-use"}
    assert {fails(client.delete_volume, VolumeId=volume) for volume in (root, data)} == {"VolumeInUse"}
    assert len(client.describe_network_interfaces()["NetworkInterfaces"]) == 1
    rig.clock.advance(5)
    assert rig.instance(instance_id)["State"]["Name"] == "terminated"
    assert [(v["VolumeId"], v["State"]) for v in client.describe_volumes()["Volumes"]] == [(data, "available")]
    assert client.describe_network_interfaces()["NetworkInterfaces"] == []
    rig.settle()
    assert list(rig.node.volumes) == [data]


def test_no_state_is_ahead_of_the_work(rig: Any) -> None:
    rig.node.gates["launch"] = threading.Event()
    instance_id = run(rig)()["Instances"][0]["InstanceId"]
    rig.clock.advance(1000)
    assert rig.instance(instance_id)["State"]["Name"] == "pending"
    rig.node.gates["launch"].set()
    rig.settle()
    assert rig.instance(instance_id)["State"]["Name"] == "running"


def test_a_failed_boot_ends_terminated_with_a_reason(rig: Any) -> None:
    rig.node.failures["launch"] = "no such init"
    found = rig.instance(rig.run()["InstanceId"])
    assert found["State"]["Name"] == "terminated"
    assert found["StateReason"]["Code"] == "Server.InternalError"
    assert "no such init" in found["StateReason"]["Message"]
    rig.settle()
    assert rig.node.volumes == {}


def test_wrong_transitions_are_refused(rig: Any, fails: Any) -> None:
    rig.set(pending={"instance": 10})
    client, ids = rig.client(), [rig.run()["InstanceId"]]
    assert fails(client.stop_instances, InstanceIds=ids) == "IncorrectInstanceState"
    rig.clock.advance(10)
    rig.set(pending={"stop": 10})
    client.stop_instances(InstanceIds=ids)
    rig.settle()
    assert fails(client.start_instances, InstanceIds=ids) == "IncorrectInstanceState"
    assert fails(client.reboot_instances, InstanceIds=ids) == "IncorrectInstanceState"
    rig.clock.advance(10)
    client.start_instances(InstanceIds=ids)
    rig.settle()
    rig.clock.advance(10)
    client.reboot_instances(InstanceIds=ids)
    rig.settle()
    assert rig.node.guests[ids[0]].boots == 3
    client.terminate_instances(InstanceIds=ids)
    assert fails(client.start_instances, InstanceIds=ids) == "IncorrectInstanceState"
    assert fails(client.stop_instances, InstanceIds=["i-00000000000000000"]) == "InvalidInstanceID.NotFound"
    assert fails(client.stop_instances, InstanceIds=["x"]) == "InvalidInstanceID.Malformed"


def test_terminated_while_it_boots(rig: Any) -> None:
    rig.node.gates["launch"] = threading.Event()
    instance_id = run(rig)()["Instances"][0]["InstanceId"]
    rig.client().terminate_instances(InstanceIds=[instance_id])
    rig.node.gates["launch"].set()
    rig.settle()
    assert rig.instance(instance_id)["State"]["Name"] == "terminated"
    assert (rig.node.guests, rig.node.volumes) == ({}, {})


def test_power_off_in_the_guest_reaches_the_api(rig: Any) -> None:
    stops = rig.run()["InstanceId"]
    ends = rig.run(InstanceInitiatedShutdownBehavior="terminate")["InstanceId"]
    for instance_id in (stops, ends):
        rig.node.power_off(instance_id)
    rig.settle()
    assert rig.instance(stops)["State"]["Name"] == "stopped"
    assert rig.instance(stops)["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    assert rig.instance(ends)["State"]["Name"] == "terminated"
    assert [v["Attachments"][0]["InstanceId"] for v in rig.client().describe_volumes()["Volumes"]] == [stops]


def test_power_off_in_a_one_time_spot_instance_terminates_it(rig: Any) -> None:
    spot = rig.run(InstanceMarketOptions={"MarketType": "spot"})["InstanceId"]
    rig.node.power_off(spot)
    rig.settle()
    assert rig.instance(spot)["State"]["Name"] == "terminated"
    assert rig.client().describe_volumes()["Volumes"] == []


def test_attributes(rig: Any, fails: Any) -> None:
    client, instance_id = rig.client(), rig.run()["InstanceId"]
    client.modify_instance_attribute(InstanceId=instance_id, DisableApiTermination={"Value": True})
    assert fails(client.terminate_instances, InstanceIds=[instance_id]) == "OperationNotPermitted"

    def get(name: str) -> Any:
        return client.describe_instance_attribute(InstanceId=instance_id, Attribute=name)

    assert get("disableApiTermination")["DisableApiTermination"]["Value"] is True
    client.modify_instance_attribute(InstanceId=instance_id, Attribute="disableApiTermination", Value="false")
    assert get("disableApiTermination")["DisableApiTermination"]["Value"] is False
    changed = {"InstanceInitiatedShutdownBehavior": {"Value": "terminate"}}
    client.modify_instance_attribute(InstanceId=instance_id, **changed)
    assert get("instanceInitiatedShutdownBehavior")["InstanceInitiatedShutdownBehavior"]["Value"] == "terminate"
    client.modify_instance_attribute(InstanceId=instance_id, Groups=["sg-00000002"])
    assert get("groupSet")["Groups"][0]["GroupId"] == "sg-00000002"
    client.modify_instance_attribute(InstanceId=instance_id, SourceDestCheck={"Value": False})
    assert get("sourceDestCheck")["SourceDestCheck"]["Value"] is False
    client.modify_instance_attribute(
        InstanceId=instance_id,
        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"DeleteOnTermination": False}}],
    )
    assert get("blockDeviceMapping")["BlockDeviceMappings"][0]["Ebs"]["DeleteOnTermination"] is False
    call = client.modify_instance_attribute
    assert fails(call, InstanceId=instance_id, UserData={"Value": b"x"}) == "IncorrectInstanceState"
    client.stop_instances(InstanceIds=[instance_id])
    rig.settle()
    call(InstanceId=instance_id, UserData={"Value": b"#!/bin/sh"})
    assert base64.b64decode(get("userData")["UserData"]["Value"]) == b"#!/bin/sh"
    options = client.modify_instance_metadata_options(InstanceId=instance_id, HttpTokens="required")
    assert options["InstanceMetadataOptions"]["State"] == "pending"
    rig.settle()
    assert rig.node.guests[instance_id].spec.imds == "required"
    assert fails(call, InstanceId=instance_id) == "InvalidParameterCombination"


def test_console_output(rig: Any) -> None:
    instance_id = rig.run()["InstanceId"]
    assert rig.client().get_console_output(InstanceId=instance_id)["Output"] == "Booted on paper.\n"


def test_spot(rig: Any, fails: Any) -> None:
    client = rig.client()
    tags = [{"ResourceType": "spot-instances-request", "Tags": [{"Key": "a", "Value": "b"}]}]
    instance = rig.run(
        InstanceMarketOptions={"MarketType": "spot", "SpotOptions": {"MaxPrice": "0.1"}}, TagSpecifications=tags
    )
    found = rig.instance(instance["InstanceId"])
    assert found["InstanceLifecycle"] == "spot"
    request = client.describe_spot_instance_requests(
        SpotInstanceRequestIds=[found["SpotInstanceRequestId"]], Filters=[{"Name": "tag:a", "Values": ["b"]}]
    )["SpotInstanceRequests"][0]
    assert (request["State"], request["InstanceId"]) == ("active", instance["InstanceId"])
    assert fails(client.stop_instances, InstanceIds=[instance["InstanceId"]]) == "UnsupportedOperation"
    older = client.request_spot_instances(LaunchSpecification={"ImageId": rig.image, "InstanceType": "t3.small"})
    older_id = older["SpotInstanceRequests"][0]["SpotInstanceRequestId"]
    client.get_waiter("spot_instance_request_fulfilled").wait(SpotInstanceRequestIds=[older_id])
    cancelled = client.cancel_spot_instance_requests(SpotInstanceRequestIds=[older_id])
    assert cancelled["CancelledSpotInstanceRequests"][0]["State"] == "cancelled"


def test_a_spot_instance_is_warned_and_then_taken_back(rig: Any) -> None:
    client = rig.client()
    spot = rig.run(InstanceMarketOptions={"MarketType": "spot"})["InstanceId"]
    paid = rig.run()["InstanceId"]
    with pytest.raises(Ec2Error, match="not a running Spot Instance"):
        rig.ec2.reclaim(paid, 0)
    with pytest.raises(Ec2Error, match="does not exist"):
        rig.ec2.reclaim("i-00000000000000000", 0)

    def status() -> tuple[str, str]:
        [request] = client.describe_spot_instance_requests()["SpotInstanceRequests"]
        return request["State"], request["Status"]["Code"]

    rig.ec2.reclaim(spot, 120)
    rig.ec2.settle()
    assert status() == ("active", "marked-for-termination")
    assert rig.instance(spot)["State"]["Name"] == "running"
    warning = json.loads(rig.node.guests[spot].spec.metadata["spot/instance-action"])
    assert warning["action"] == "terminate"
    due = datetime.fromisoformat(warning["time"]).timestamp()
    assert due == pytest.approx(rig.clock.now + 120, abs=1)
    rig.ec2.reclaim(spot, 0)
    rig.ec2.settle()
    assert status() == ("closed", "instance-terminated-no-capacity")
    found = rig.instance(spot)
    assert found["State"]["Name"] == "terminated"
    assert found["StateReason"]["Code"] == "Server.SpotInstanceTermination"
    assert rig.instance(paid)["State"]["Name"] == "running"


def test_accounts_and_regions_are_apart(rig: Any, fails: Any) -> None:
    instance_id = rig.run()["InstanceId"]
    for place in ((APPS, REGION), (HOME, "eu-west-1")):
        other = rig.client(*place)
        assert other.describe_instances()["Reservations"] == []
        assert fails(other.describe_instances, InstanceIds=[instance_id]) == "InvalidInstanceID.NotFound"
        assert fails(other.terminate_instances, InstanceIds=[instance_id]) == "InvalidInstanceID.NotFound"
    debian = rig.client(HOME, "eu-west-1").describe_images(Owners=["136693071363"])["Images"][0]["ImageId"]
    assert fails(run(rig), ImageId=debian) == "InvalidAMIID.NotFound"


def test_types_and_offerings(rig: Any, fails: Any) -> None:
    client = rig.client()
    kind = client.describe_instance_types(InstanceTypes=["t4g.small"])["InstanceTypes"][0]
    assert kind["ProcessorInfo"]["SupportedArchitectures"] == ["arm64"]
    assert fails(client.describe_instance_types, InstanceTypes=["t9.huge"]) == "InvalidInstanceType"
    pages = client.get_paginator("describe_instance_types").paginate()
    names = [t["InstanceType"] for p in pages for t in p["InstanceTypes"]]
    assert len(names) == len(set(names)) > 100
    offered = client.describe_instance_type_offerings(
        LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": ["t3.sm*"]}]
    )
    assert {o["Location"] for o in offered["InstanceTypeOfferings"]} == {f"{REGION}{z}" for z in "abc"}


def test_visibility_delay(rig: Any, fails: Any) -> None:
    rig.set(visibility_delay=5)
    instance_id = rig.run()["InstanceId"]
    assert fails(rig.client().describe_instances, InstanceIds=[instance_id]) == "InvalidInstanceID.NotFound"
    assert rig.client().describe_instances()["Reservations"] == []
    rig.clock.advance(5)
    assert rig.instance(instance_id)["State"]["Name"] == "running"


def test_instances_run_again_after_a_restart(rig: Any) -> None:
    running, stopped = rig.run()["InstanceId"], rig.run()["InstanceId"]
    rig.client().stop_instances(InstanceIds=[stopped])
    rig.settle()
    state = rig.ec2.dump()
    rig.run()  # not in that state: nobody will ever ask for it again
    rig.node.start()  # every guest is down
    rig.ec2.load(state)
    rig.settle()
    assert rig.node.instances() == {running: "running", stopped: "stopped"}
    assert rig.instance(running)["State"]["Name"] == "running"
    assert rig.instance(stopped)["State"]["Name"] == "stopped"


def test_an_elastic_address_stays_when_an_instance_stops(rig: Any, fails: Any) -> None:
    client, instance_id = rig.client(), rig.run()["InstanceId"]

    def public() -> tuple[str | None, str | None]:
        rig.settle()
        found = rig.instance(instance_id)
        association = found["NetworkInterfaces"][0].get("Association") or {}
        assert association.get("PublicIp") == found.get("PublicIpAddress")
        return found.get("PublicIpAddress"), association.get("IpOwnerId")

    assert public()[1] == "amazon"
    client.stop_instances(InstanceIds=[instance_id])
    assert public() == (None, None)
    client.start_instances(InstanceIds=[instance_id])
    made = client.allocate_address(Domain="vpc")
    joined = client.associate_address(AllocationId=made["AllocationId"], InstanceId=instance_id)
    assert public() == (made["PublicIp"], "111111111111")
    client.stop_instances(InstanceIds=[instance_id])
    assert public() == (made["PublicIp"], "111111111111")
    assert fails(client.release_address, AllocationId=made["AllocationId"]) == "InvalidIPAddress.InUse"
    assert client.describe_addresses()["Addresses"][0]["InstanceId"] == instance_id
    client.disassociate_address(AssociationId=joined["AssociationId"])
    assert public() == (None, None)
    client.release_address(AllocationId=made["AllocationId"])
    assert client.describe_addresses()["Addresses"] == []


def test_only_an_instance_that_is_enabled_for_it_hibernates(rig: Any, fails: Any) -> None:
    client, plain = rig.client(), rig.run()["InstanceId"]
    refused = fails(client.stop_instances, InstanceIds=[plain], Hibernate=True)
    assert refused == "UnsupportedHibernationConfiguration"
    ready = rig.run(HibernationOptions={"Configured": True})["InstanceId"]
    assert rig.instance(ready)["HibernationOptions"] == {"Configured": True}
    client.stop_instances(InstanceIds=[ready], Hibernate=True)
    rig.settle()
    assert rig.instance(ready)["StateReason"]["Code"] == "Client.UserInitiatedHibernate"


def test_types_with_an_instance_store(rig: Any) -> None:
    filters = [{"Name": "instance-storage-supported", "Values": ["true"]}]
    found = rig.client().describe_instance_types(Filters=filters)["InstanceTypes"]
    assert {t["InstanceType"].split(".")[0] for t in found} == {"c5d", "m5d", "m6id", "r5d"}
    assert all(t["InstanceStorageInfo"]["TotalSizeInGB"] > 0 for t in found)
