"""What an Auto Scaling group does to its members."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from goldenami_sandbox.testing import PaperCloud

_NUMBERS = itertools.count()


class Fleet:
    """A group with one member."""

    def __init__(self, cloud: PaperCloud, client: Callable[..., Any]) -> None:
        self.cloud, self.ec2, self.groups = cloud, client("ec2"), client("autoscaling")
        self.name = f"fleet-{next(_NUMBERS)}"
        image = self.ec2.describe_images(Filters=[{"Name": "name", "Values": ["debian-12-amd64-*"]}])["Images"][0]
        launched = self.ec2.run_instances(ImageId=image["ImageId"], InstanceType="t3.small", MinCount=1, MaxCount=1)
        self.id = launched["Instances"][0]["InstanceId"]
        self.settle()
        template = self.ec2.create_launch_template(
            LaunchTemplateName=self.name, LaunchTemplateData={"ImageId": image["ImageId"], "InstanceType": "t3.small"}
        )["LaunchTemplate"]
        self.groups.create_auto_scaling_group(
            AutoScalingGroupName=self.name,
            MinSize=0,
            MaxSize=3,
            AvailabilityZones=["eu-central-1a"],
            LaunchTemplate={"LaunchTemplateId": template["LaunchTemplateId"], "Version": "$Latest"},
        )
        self.given = {"InstanceIds": [self.id], "AutoScalingGroupName": self.name}
        self.groups.attach_instances(**self.given)

    def settle(self) -> None:
        assert self.cloud.cloud.settle()

    def instance(self) -> dict[str, Any]:
        self.settle()
        return dict(self.ec2.describe_instances(InstanceIds=[self.id])["Reservations"][0]["Instances"][0])

    def state(self) -> str:
        self.settle()
        return str(self.instance()["State"]["Name"])

    def volumes(self) -> list[str]:
        found = self.ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [self.id]}])
        return [v["VolumeId"] for v in found["Volumes"]]

    def lifecycle(self) -> str | None:
        found = self.groups.describe_auto_scaling_instances(InstanceIds=[self.id])["AutoScalingInstances"]
        return found[0]["LifecycleState"] if found else None


@pytest.fixture
def fleet(cloud: PaperCloud, client: Callable[..., Any]) -> Fleet:
    return Fleet(cloud, client)


def test_a_member_carries_the_tag_of_its_group(fleet: Fleet) -> None:
    tags = {t["Key"]: t["Value"] for t in fleet.instance()["Tags"]}
    assert tags == {"aws:autoscaling:groupName": fleet.name}
    assert fleet.lifecycle() == "InService"
    with pytest.raises(ClientError, match="reserved"):
        fleet.ec2.create_tags(Resources=[fleet.id], Tags=[{"Key": "aws:autoscaling:groupName", "Value": "other"}])
    fleet.groups.detach_instances(**fleet.given, ShouldDecrementDesiredCapacity=True)
    assert fleet.instance()["Tags"] == []
    assert fleet.lifecycle() is None


def test_a_member_that_stops_is_terminated_with_its_volume(fleet: Fleet) -> None:
    [volume] = fleet.volumes()
    fleet.ec2.stop_instances(InstanceIds=[fleet.id])
    assert fleet.state() == "terminated"
    assert fleet.ec2.describe_volumes(Filters=[{"Name": "volume-id", "Values": [volume]}])["Volumes"] == []
    assert fleet.lifecycle() is None


def test_a_member_in_standby_can_stop(fleet: Fleet) -> None:
    fleet.groups.enter_standby(**fleet.given, ShouldDecrementDesiredCapacity=True)
    assert fleet.lifecycle() == "Standby"
    fleet.ec2.stop_instances(InstanceIds=[fleet.id])
    assert fleet.state() == "stopped"
    with pytest.raises(ClientError, match="running"):
        fleet.groups.exit_standby(**fleet.given)
    fleet.ec2.start_instances(InstanceIds=[fleet.id])
    assert fleet.state() == "running"
    fleet.groups.exit_standby(**fleet.given)
    assert fleet.lifecycle() == "InService"


def test_a_group_whose_replacing_is_suspended_keeps_a_stopped_member(fleet: Fleet) -> None:
    fleet.groups.suspend_processes(AutoScalingGroupName=fleet.name, ScalingProcesses=["ReplaceUnhealthy"])
    fleet.ec2.stop_instances(InstanceIds=[fleet.id])
    assert fleet.state() == "stopped"
    fleet.groups.resume_processes(AutoScalingGroupName=fleet.name)
    assert fleet.state() == "terminated"


def test_a_group_whose_launches_are_suspended_launches_nothing(fleet: Fleet) -> None:
    def launched() -> int:
        query = [{"Name": "tag:aws:autoscaling:groupName", "Values": [fleet.name]}]
        return len(fleet.ec2.describe_instances(Filters=query)["Reservations"])

    fleet.groups.suspend_processes(AutoScalingGroupName=fleet.name, ScalingProcesses=["Launch"])
    fleet.groups.set_desired_capacity(AutoScalingGroupName=fleet.name, DesiredCapacity=2)
    assert launched() == 1
    fleet.groups.resume_processes(AutoScalingGroupName=fleet.name, ScalingProcesses=["Launch"])
    fleet.groups.set_desired_capacity(AutoScalingGroupName=fleet.name, DesiredCapacity=2)
    assert launched() == 2


def test_only_processes_of_existing_groups_are_suspended(fleet: Fleet) -> None:
    with pytest.raises(ClientError, match="ValidationError"):
        fleet.groups.suspend_processes(AutoScalingGroupName=fleet.name, ScalingProcesses=["Start"])
    with pytest.raises(ClientError, match="not found"):
        fleet.groups.suspend_processes(AutoScalingGroupName="none", ScalingProcesses=["Launch"])
    found = fleet.groups.describe_auto_scaling_groups(AutoScalingGroupNames=[fleet.name])["AutoScalingGroups"][0]
    assert found["SuspendedProcesses"] == []


def test_only_running_instances_become_members_of_existing_groups(fleet: Fleet) -> None:
    with pytest.raises(ClientError, match="already attached"):
        fleet.groups.attach_instances(**fleet.given)
    with pytest.raises(ClientError, match="not running"):
        fleet.groups.attach_instances(InstanceIds=["i-0123456789abcdef0"], AutoScalingGroupName=fleet.name)
    with pytest.raises(ClientError, match="not found"):
        fleet.groups.detach_instances(
            InstanceIds=[fleet.id], AutoScalingGroupName="none", ShouldDecrementDesiredCapacity=True
        )
