"""The sandbox's Recycle Bin, by plain clients: rules, what they retain, and what comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from goldenami_sandbox.testing import PaperCloud

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import BlockDeviceMappingTypeDef

DAY = 86400.0
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Rig:
    def __init__(self, paper_cloud: Callable[..., PaperCloud]) -> None:
        self.now = NOON.timestamp()
        self.cloud = paper_cloud(clock=lambda: self.now)
        once = Config(retries={"total_max_attempts": 1})
        self.ec2 = boto3.client("ec2", **self.cloud.client(), config=once)
        self.rbin = boto3.client("rbin", **self.cloud.client(), config=once)

    def rule(self, kind: str, days: int, **more: Any) -> str:
        period = {"RetentionPeriodValue": days, "RetentionPeriodUnit": "DAYS"}
        return str(self.rbin.create_rule(ResourceType=kind, RetentionPeriod=period, **more)["Identifier"])

    def snapshot(self, **tags: str) -> str:
        volume = self.ec2.create_volume(AvailabilityZone="eu-central-1a", Size=1)["VolumeId"]
        self.cloud.cloud.ec2.settle()
        specification: Any = {"ResourceType": "snapshot", "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}
        id = self.ec2.create_snapshot(VolumeId=volume, TagSpecifications=[specification] if tags else [])["SnapshotId"]
        self.cloud.cloud.ec2.settle()
        return str(id)

    def image(self, snapshot: str, name: str = "mine") -> str:
        devices: list[BlockDeviceMappingTypeDef] = [{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}]
        made = self.ec2.register_image(Name=name, RootDeviceName="/dev/xvda", BlockDeviceMappings=devices)
        return str(made["ImageId"])

    def there(self) -> set[str]:
        found = {s["SnapshotId"] for s in self.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]}
        return found | {i["ImageId"] for i in self.ec2.describe_images(Owners=["self"])["Images"]}

    def binned(self) -> dict[str, datetime]:
        found = {i["ImageId"]: i["RecycleBinExitTime"] for i in self.ec2.list_images_in_recycle_bin()["Images"]}
        snapshots = self.ec2.list_snapshots_in_recycle_bin()["Snapshots"]
        return found | {s["SnapshotId"]: s["RecycleBinExitTime"] for s in snapshots}


@pytest.fixture
def rig(paper_cloud: Callable[..., PaperCloud]) -> Rig:
    return Rig(paper_cloud)


def code_of(refused: Callable[[], Any]) -> str:
    with pytest.raises(ClientError) as caught:
        refused()
    return str(caught.value.response["Error"]["Code"])


def test_without_a_rule_it_is_deleted(rig: Rig) -> None:
    id = rig.snapshot()
    rig.ec2.delete_snapshot(SnapshotId=id)
    assert rig.binned() == {}
    assert code_of(lambda: rig.ec2.restore_snapshot_from_recycle_bin(SnapshotId=id)) == "InvalidSnapshot.NotFound"


def test_into_the_bin_and_back(rig: Rig) -> None:
    rig.rule("EBS_SNAPSHOT", 7)
    rig.rule("EC2_IMAGE", 14)
    snapshot = rig.snapshot(purpose="test")
    image = rig.image(snapshot)
    rig.ec2.deregister_image(ImageId=image)
    rig.ec2.delete_snapshot(SnapshotId=snapshot)
    assert rig.there() == set()
    assert rig.binned() == {snapshot: NOON + timedelta(days=7), image: NOON + timedelta(days=14)}
    assert code_of(lambda: rig.ec2.describe_images(ImageIds=[image])) == "InvalidAMIID.NotFound"
    # An image comes back after what it stands on; with its tags and contents.
    assert code_of(lambda: rig.ec2.restore_image_from_recycle_bin(ImageId=image)) == "InvalidSnapshot.NotFound"
    assert rig.ec2.restore_snapshot_from_recycle_bin(SnapshotId=snapshot)["State"] == "completed"
    assert rig.ec2.restore_image_from_recycle_bin(ImageId=image)["Return"] is True
    assert rig.there() == {snapshot, image}
    assert rig.binned() == {}
    assert rig.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["Tags"] == [
        {"Key": "purpose", "Value": "test"}
    ]
    assert rig.ec2.describe_images(ImageIds=[image])["Images"][0]["State"] == "available"


def test_its_time_ends(rig: Rig) -> None:
    rig.rule("EBS_SNAPSHOT", 7)
    id = rig.snapshot()
    rig.ec2.delete_snapshot(SnapshotId=id)
    rig.now += 7 * DAY - 1
    assert set(rig.binned()) == {id}
    rig.now += 1
    assert rig.binned() == {}
    assert code_of(lambda: rig.ec2.restore_snapshot_from_recycle_bin(SnapshotId=id)) == "InvalidSnapshot.NotFound"


def test_the_contents_stay_as_long_as_the_snapshot_does(rig: Rig) -> None:
    rig.rule("EBS_SNAPSHOT", 1)
    id = rig.snapshot()
    dropped: list[str] = []
    plain = rig.cloud.node.delete_snapshot

    def delete_snapshot(snapshot: str) -> None:
        dropped.append(snapshot)
        plain(snapshot)

    rig.cloud.node.delete_snapshot = delete_snapshot  # type: ignore[method-assign]  # to see what is called
    rig.ec2.delete_snapshot(SnapshotId=id)
    rig.cloud.cloud.ec2.settle()
    assert dropped == []
    rig.now += 2 * DAY
    rig.ec2.describe_regions()
    rig.cloud.cloud.ec2.settle()
    assert dropped == [id]


def test_which_rule_counts(rig: Rig) -> None:
    """The longest of those that match; by tags, by a key with any value, and for all but the excluded."""
    key = {"ResourceTagKey": "keep"}
    rig.rule("EBS_SNAPSHOT", 3, ResourceTags=[{**key, "ResourceTagValue": "short"}])
    rig.rule("EBS_SNAPSHOT", 9, ResourceTags=[{"ResourceTagKey": "audit"}])
    rig.rule("EC2_IMAGE", 30)
    by_tags = {id: rig.snapshot(**own) for id, own in {"a": {"keep": "short"}, "b": {"keep": "long"}}.items()}
    both = rig.snapshot(keep="short", audit="2026")
    for id in (*by_tags.values(), both):
        rig.ec2.delete_snapshot(SnapshotId=id)
    assert rig.binned() == {by_tags["a"]: NOON + timedelta(days=3), both: NOON + timedelta(days=9)}
    rig.rule("EBS_SNAPSHOT", 1, ExcludeResourceTags=[{**key, "ResourceTagValue": "never"}])
    plain, never = rig.snapshot(), rig.snapshot(keep="never")
    for id in (plain, never):
        rig.ec2.delete_snapshot(SnapshotId=id)
    assert plain in rig.binned()
    assert never not in rig.binned()


def test_rules_come_change_and_go(rig: Rig) -> None:
    id = rig.rule("EBS_SNAPSHOT", 7, Description="all of them", Tags=[{"Key": "team", "Value": "db"}])
    (listed,) = rig.rbin.list_rules(ResourceType="EBS_SNAPSHOT")["Rules"]
    assert (listed["Identifier"], listed["Description"]) == (id, "all of them")
    assert rig.rbin.list_rules(ResourceType="EC2_IMAGE")["Rules"] == []
    other = boto3.client("rbin", **rig.cloud.client("eu-west-1"))
    assert other.list_rules(ResourceType="EBS_SNAPSHOT")["Rules"] == []
    arn = listed["RuleArn"]
    assert rig.rbin.list_tags_for_resource(ResourceArn=arn)["Tags"] == [{"Key": "team", "Value": "db"}]
    rig.rbin.tag_resource(ResourceArn=arn, Tags=[{"Key": "a", "Value": "b"}])
    rig.rbin.untag_resource(ResourceArn=arn, TagKeys=["team"])
    assert rig.rbin.list_tags_for_resource(ResourceArn=arn)["Tags"] == [{"Key": "a", "Value": "b"}]
    binned = rig.snapshot()
    rig.ec2.delete_snapshot(SnapshotId=binned)
    period = {"RetentionPeriodValue": 2, "RetentionPeriodUnit": "DAYS"}
    rig.rbin.update_rule(Identifier=id, RetentionPeriod=period)
    assert rig.rbin.get_rule(Identifier=id)["RetentionPeriod"] == period
    rig.rbin.delete_rule(Identifier=id)
    assert rig.binned() == {binned: NOON + timedelta(days=7)}  # as it was to be
    assert code_of(lambda: rig.rbin.get_rule(Identifier=id)) == "ResourceNotFoundException"


def test_what_is_refused(rig: Rig) -> None:
    assert code_of(lambda: rig.rule("EBS_SNAPSHOT", 366)) == "ValidationException"
    tag = [{"ResourceTagKey": "a"}]
    both = {"ResourceTags": tag, "ExcludeResourceTags": tag}
    assert code_of(lambda: rig.rule("EC2_IMAGE", 1, **both)) == "ValidationException"
    assert code_of(lambda: rig.rule("EBS_VOLUME", 1)) == "UnknownOperationException"


def test_the_bin_survives_a_restart(rig: Rig, paper_cloud: Callable[..., PaperCloud]) -> None:
    rig.rule("EBS_SNAPSHOT", 7, ResourceTags=[{"ResourceTagKey": "a"}])
    rig.rule("EC2_IMAGE", 7)
    id = rig.snapshot(a="b")
    image = rig.image(id)
    rig.ec2.deregister_image(ImageId=image)
    rig.ec2.delete_snapshot(SnapshotId=id)
    own, services = rig.cloud.cloud.dump()
    again = Rig(paper_cloud)
    again.cloud.cloud.load(json.loads(json.dumps(own)), services)
    assert again.binned() == rig.binned()
    assert len(again.rbin.list_rules(ResourceType="EBS_SNAPSHOT")["Rules"]) == 1
    again.ec2.restore_snapshot_from_recycle_bin(SnapshotId=id)
    assert again.there() == {id}
