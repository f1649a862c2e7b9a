"""An instance with a data volume on a cloud of paper; commands; and what plain boto3 says of the world."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from goldenami.cli.main import main
from goldenami.model import Place
from tests.worlds.builds import APPS, HOME, World

HOME_PLACE = Place(HOME, "eu-central-1")
WEST = Place(HOME, "eu-west-1")
APPS_PLACE = Place(APPS, "eu-central-1")


@dataclass
class Estate:
    """``instance`` runs, with a root volume at /dev/xvda and a data volume at /dev/sdf. ``public``: EC2 assigns it a
    public address. ``type``: its instance type. ``hibernation``: it can hibernate."""

    world: World
    capsys: pytest.CaptureFixture[str] | None = None
    public: bool = False
    type: str = "t3.small"
    hibernation: bool = False
    instance: str = field(init=False)
    root: str = field(init=False)
    data: str = field(init=False)
    _keys: dict[Place, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ec2 = self.ec2()
        images = ec2.describe_images(Filters=[{"Name": "name", "Values": ["debian-12-amd64-*"]}])["Images"]
        launched = ec2.run_instances(
            ImageId=images[0]["ImageId"],
            InstanceType=self.type,
            HibernationOptions={"Configured": self.hibernation},
            MinCount=1,
            MaxCount=1,
            NetworkInterfaces=[{"DeviceIndex": 0, "AssociatePublicIpAddress": self.public}],
            TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "web-1"}]}],
        )
        self.instance = launched["Instances"][0]["InstanceId"]
        self.settle()
        self.root = self.attached()["/dev/xvda"]
        self.data = ec2.create_volume(
            AvailabilityZone="eu-central-1a",
            Size=2,
            VolumeType="gp3",
            TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": "web-data"}]}],
        )["VolumeId"]
        self.settle()
        ec2.attach_volume(VolumeId=self.data, InstanceId=self.instance, Device="/dev/sdf")
        self.settle()

    def settle(self) -> None:
        """Let the cloud finish its work. What is made afterwards has a later time than what was made before."""
        assert self.world.paper.cloud.ec2.settle()
        self.world.clock.sleep(0.002)

    def ec2(self, place: Place = HOME_PLACE) -> Any:
        return self.world.client("ec2", place)

    # --- plain boto3's account ----------------------------------------------------------------------------------------

    def attached(self) -> dict[str, str]:
        """Volume ids by device."""
        instance = self.describe()
        return {m["DeviceName"]: m["Ebs"]["VolumeId"] for m in instance["BlockDeviceMappings"]}

    def describe(self) -> dict[str, Any]:
        found = self.ec2().describe_instances(InstanceIds=[self.instance])
        return dict(found["Reservations"][0]["Instances"][0])

    def state(self) -> str:
        return str(self.describe()["State"]["Name"])

    def snapshots(self, place: Place = HOME_PLACE) -> dict[str, dict[str, Any]]:
        return {s["SnapshotId"]: s for s in self.ec2(place).describe_snapshots(OwnerIds=["self"])["Snapshots"]}

    def volumes(self) -> dict[str, dict[str, Any]]:
        return {v["VolumeId"]: v for v in self.ec2().describe_volumes()["Volumes"]}

    def shared_with(self, snapshot: str) -> set[str]:
        answer = self.ec2().describe_snapshot_attribute(SnapshotId=snapshot, Attribute="createVolumePermission")
        return {p.get("UserId") or p.get("Group") for p in answer["CreateVolumePermissions"]}

    def key(self, place: Place = HOME_PLACE) -> str:
        """The ARN of the place's key. It is asked for once."""
        if place not in self._keys:
            kms = self.world.client("kms", place)
            self._keys[place] = str(kms.describe_key(KeyId="alias/golden-ami")["KeyMetadata"]["Arn"])
        return self._keys[place]

    def snapshot(self, volume: str | None = None, name: str = "", **more: Any) -> str:
        """Made by somebody else."""
        tags = [{"ResourceType": "snapshot", "Tags": [{"Key": "Name", "Value": name}]}] if name else []
        made = self.ec2().create_snapshot(VolumeId=volume or self.root, TagSpecifications=tags, **more)
        self.settle()
        return str(made["SnapshotId"])

    # --- commands -----------------------------------------------------------------------------------------------------

    def run(self, *arguments: str) -> Any:
        """The JSON that a command prints, once it succeeded."""
        code, out, err = self.try_(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    def try_(self, *arguments: str) -> tuple[int, str, str]:
        assert self.capsys is not None
        self.capsys.readouterr()
        code = main(list(arguments))
        said = self.capsys.readouterr()
        return code, said.out, said.err


def tags_of(item: dict[str, Any]) -> dict[str, str]:
    return {t["Key"]: t["Value"] for t in item.get("Tags", [])}


def joined(estate: Estate) -> Any:
    """Make the instance a member of the group "web". Returns the client."""
    groups = estate.world.client("autoscaling", HOME_PLACE)
    groups.create_launch_configuration(
        LaunchConfigurationName="web", ImageId=estate.describe()["ImageId"], InstanceType="t3.small"
    )
    groups.create_auto_scaling_group(
        AutoScalingGroupName="web",
        LaunchConfigurationName="web",
        MinSize=0,
        MaxSize=1,
        AvailabilityZones=["eu-central-1a"],
    )
    groups.attach_instances(InstanceIds=[estate.instance], AutoScalingGroupName="web")
    return groups
