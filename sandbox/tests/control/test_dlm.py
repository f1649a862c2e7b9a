"""Amazon DLM: its API, and what its policies do as time goes by."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from goldenami_sandbox.services.cron import BadCron, Cron
from goldenami_sandbox.testing import PaperCloud

ROLE = "arn:aws:iam::111111111111:role/service-role/AWSDataLifecycleManagerDefaultRole"
REGION, OTHER = "eu-central-1", "eu-west-1"
MONDAY = datetime(2026, 11, 23, tzinfo=UTC)


class Calendar:
    def __init__(self) -> None:
        self.now = MONDAY.timestamp()

    def __call__(self) -> float:
        return self.now


class Rig:
    def __init__(self, cloud: PaperCloud, calendar: Calendar) -> None:
        self.cloud, self.calendar = cloud, calendar
        once = Config(retries={"total_max_attempts": 1})
        self.dlm = boto3.client("dlm", **cloud.client(), config=once)
        self.ec2 = boto3.client("ec2", **cloud.client(), config=once)

    def volume(self, **tags: str) -> str:
        specification: Any = {"ResourceType": "volume", "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}
        zone = f"{REGION}a"
        return str(self.ec2.create_volume(AvailabilityZone=zone, Size=1, TagSpecifications=[specification])["VolumeId"])

    def policy(self, schedule: dict[str, Any], **details: Any) -> str:
        made = self.dlm.create_lifecycle_policy(
            ExecutionRoleArn=ROLE,
            Description="nightly",
            State="ENABLED",
            PolicyDetails={
                "PolicyType": "EBS_SNAPSHOT_MANAGEMENT",
                "ResourceTypes": ["VOLUME"],
                "TargetTags": [{"Key": "backup", "Value": "yes"}],
                "Schedules": [{"Name": "nightly", **schedule}],
                **details,
            },
        )
        return str(made["PolicyId"])

    def live(self, until: datetime, step: timedelta = timedelta(hours=1)) -> None:
        """Let time pass; somebody looks once an hour."""
        while self.calendar.now < until.timestamp():
            self.calendar.now += step.total_seconds()
            self.ec2.describe_regions()
            self.cloud.cloud.ec2.settle()

    def days(self, region: str = REGION) -> list[str]:
        ec2 = boto3.client("ec2", **self.cloud.client(region))
        found = ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
        return sorted(s["StartTime"].strftime("%a %d %H:%M") for s in found)


@pytest.fixture
def rig(paper_cloud: Callable[..., PaperCloud]) -> Rig:
    calendar = Calendar()
    cloud = paper_cloud(clock=calendar)
    cloud.set(pending={"snapshot": 60, "copy": 60, "volume": 0})
    return Rig(cloud, calendar)


def test_a_count_of_five(rig: Rig) -> None:
    rig.volume(backup="yes")
    rig.volume(backup="no")
    rig.policy({"CreateRule": {"CronExpression": "cron(0 3 ? * MON-FRI *)"}, "RetainRule": {"Count": 5}})
    rig.live(MONDAY + timedelta(days=5))
    assert rig.days() == sorted(["Mon 23 03:00", "Tue 24 03:00", "Wed 25 03:00", "Thu 26 03:00", "Fri 27 03:00"])
    rig.live(MONDAY + timedelta(days=8))
    assert "Mon 23 03:00" not in rig.days()
    assert len(rig.days()) == 5


def test_by_age_with_copies_that_live_longer(rig: Rig) -> None:
    rig.volume(backup="yes", owner="db")
    copy = {
        "TargetRegion": OTHER,
        "Encrypted": True,
        "CmkArn": boto3.client("kms", **rig.cloud.client(OTHER)).describe_key(KeyId="alias/golden-ami")["KeyMetadata"][
            "Arn"
        ],
        "CopyTags": True,
        "RetainRule": {"Interval": 3, "IntervalUnit": "DAYS"},
    }
    id = rig.policy(
        {
            "CreateRule": {"Interval": 24, "IntervalUnit": "HOURS", "Times": ["05:00"]},
            "RetainRule": {"Interval": 1, "IntervalUnit": "DAYS"},
            "CopyTags": True,
            "TagsToAdd": [{"Key": "made-by", "Value": "dlm"}],
            "CrossRegionCopyRules": [copy],
            "ShareRules": [{"TargetAccounts": ["222222222222"]}],
        }
    )
    rig.live(MONDAY + timedelta(days=6))
    assert rig.days() == ["Sat 28 05:00"]
    assert len(rig.days(OTHER)) == 3
    west = boto3.client("ec2", **rig.cloud.client(OTHER)).describe_snapshots(OwnerIds=["self"])["Snapshots"]
    assert all(s["Encrypted"] for s in west)
    tags = {t["Key"]: t["Value"] for t in west[0]["Tags"]}
    expected = {"aws:dlm:lifecycle-policy-id": id, "aws:dlm:lifecycle-schedule-name": "nightly", "owner": "db"}
    assert expected.items() <= tags.items()
    (kept,) = rig.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    attribute = rig.ec2.describe_snapshot_attribute(SnapshotId=kept["SnapshotId"], Attribute="createVolumePermission")
    assert attribute["CreateVolumePermissions"] == [{"UserId": "222222222222"}]


def test_images_of_instances(rig: Rig) -> None:
    image = max(rig.ec2.describe_images(Owners=["136693071363"])["Images"], key=lambda i: i["CreationDate"])["ImageId"]
    tags: Any = [{"ResourceType": "instance", "Tags": [{"Key": "backup", "Value": "yes"}]}]
    rig.ec2.run_instances(ImageId=image, InstanceType="t3.small", MinCount=1, MaxCount=1, TagSpecifications=tags)
    rig.cloud.cloud.ec2.settle()
    schedule = {"CreateRule": {"Interval": 12, "IntervalUnit": "HOURS"}, "RetainRule": {"Count": 2}}
    rig.policy(schedule, PolicyType="IMAGE_MANAGEMENT", ResourceTypes=["INSTANCE"])
    rig.live(MONDAY + timedelta(days=3))
    images = rig.ec2.describe_images(Owners=["self"])["Images"]
    assert len(images) == 2
    snapshots = {s["SnapshotId"] for s in rig.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]}
    assert snapshots == {m["Ebs"]["SnapshotId"] for i in images for m in i["BlockDeviceMappings"]}


def test_the_life_of_a_policy(rig: Rig) -> None:
    rig.volume(backup="yes")
    id = rig.policy({"CreateRule": {"Interval": 1, "IntervalUnit": "HOURS"}, "RetainRule": {"Count": 9}})
    (listed,) = rig.dlm.get_lifecycle_policies(TargetTags=["backup=yes"])["Policies"]
    assert (listed["PolicyId"], listed["PolicyType"]) == (id, "EBS_SNAPSHOT_MANAGEMENT")
    assert rig.dlm.get_lifecycle_policies(State="DISABLED")["Policies"] == []
    rig.dlm.update_lifecycle_policy(PolicyId=id, State="DISABLED")
    rig.live(MONDAY + timedelta(hours=5))
    assert rig.days() == []
    rig.dlm.update_lifecycle_policy(PolicyId=id, State="ENABLED")
    rig.live(MONDAY + timedelta(hours=7))
    assert rig.days() == ["Mon 23 06:00", "Mon 23 07:00"], "what was missed while it was disabled is not made up for"
    policy = rig.dlm.get_lifecycle_policy(PolicyId=id)["Policy"]
    arn = policy["PolicyArn"]
    rig.dlm.tag_resource(ResourceArn=arn, Tags={"a": "1", "b": "2"})
    rig.dlm.untag_resource(ResourceArn=arn, TagKeys=["a"])
    assert rig.dlm.list_tags_for_resource(ResourceArn=arn)["Tags"] == {"b": "2"}
    own, _ = rig.cloud.cloud.dump()
    assert [p["id"] for p in own["services"]["dlm"]] == [id]
    rig.cloud.cloud.services.load(own["services"])
    rig.dlm.tag_resource(ResourceArn=arn, Tags={"c": "3"})
    assert own["services"]["dlm"][0]["tags"] == {"b": "2"}, "another cloud may begin with it"
    rig.dlm.delete_lifecycle_policy(PolicyId=id)
    with pytest.raises(ClientError) as gone:
        rig.dlm.get_lifecycle_policy(PolicyId=id)
    assert gone.value.response["Error"]["Code"] == "ResourceNotFoundException"
    apps = boto3.client("dlm", **rig.cloud.client(account="apps"))
    assert apps.get_lifecycle_policies()["Policies"] == []


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        (
            {"CreateRule": {"Interval": 5, "IntervalUnit": "HOURS"}, "RetainRule": {"Count": 1}},
            "interval must be one of",
        ),
        ({"CreateRule": {"CronExpression": "cron(0 3 * * * *)"}, "RetainRule": {"Count": 1}}, "must be ?"),
        # A rule is of the form cron(…) only (CreateRule in the API reference): rates and other letters are none.
        ({"CreateRule": {"CronExpression": "rate(12 or so hours)"}, "RetainRule": {"Count": 1}}, "regular expression"),
        ({"CreateRule": {"CronExpression": "CRON(0 3 ? * MON *)"}, "RetainRule": {"Count": 1}}, "regular expression"),
        ({"CreateRule": {"CronExpression": " cron(0 3 ? * MON *)"}, "RetainRule": {"Count": 1}}, "regular expression"),
        ({"CreateRule": {"Interval": 1, "IntervalUnit": "HOURS"}}, "RetainRule takes a count or an interval"),
        ({"CreateRule": {}, "RetainRule": {"Count": 1}}, "CreateRule takes"),
        ({"CreateRule": {"Interval": 1, "IntervalUnit": "HOURS"}, "RetainRule": {"Count": 1001}}, "less than or equal"),
    ],
)
def test_refusals(rig: Rig, schedule: dict[str, Any], says: str) -> None:
    with pytest.raises(ClientError, match=says) as refused:
        rig.policy(schedule)
    assert refused.value.response["Error"]["Code"] == "InvalidRequestException"


def test_cron() -> None:
    def after(text: str, days: float) -> list[str]:
        found = Cron.parse(text).between(MONDAY.timestamp(), MONDAY.timestamp() + days * 86400)
        return [datetime.fromtimestamp(m, UTC).strftime("%d %H:%M") for m in found]

    assert after("cron(0/30 3 ? * 2 *)", 7.5) == ["23 03:00", "23 03:30", "30 03:00", "30 03:30"]
    assert after("cron(15 12 24,26 NOV ? 2026)", 5) == ["24 12:15", "26 12:15"]
    for wrong in (
        "0 3 * * *",
        "cron(61 3 ? * MON *)",
        "cron(0 3 ? * ? *)",
        "cron(0 3 * * MON *)",
        "cron(0 3 1-L * ? *)",
    ):
        with pytest.raises(BadCron):
            Cron.parse(wrong)


# The examples of "Cron expressions reference" (EventBridge user guide) that DLM accepts, and days on which they fire.
EXAMPLES = {
    "cron(0 10 * * ? *)": ["2026-11-23 10:00", "2026-11-24 10:00"],
    "cron(15 12 * * ? *)": ["2026-11-23 12:15", "2026-11-24 12:15"],
    "cron(0 18 ? * MON-FRI *)": ["2026-11-23 18:00", "2026-11-24 18:00"],
    "cron(0 8 1 * ? *)": ["2026-12-01 08:00", "2027-01-01 08:00"],
    "cron(0 20-2 ? * MON-FRI *)": ["2026-11-23 00:00", "2026-11-23 01:00"],
    "cron(15 10 ? * 6L 2026-2027)": ["2026-11-27 10:15", "2026-12-25 10:15"],
    "cron(0 9 ? * 2#1 *)": ["2026-12-07 09:00", "2027-01-04 09:00"],
    "cron(0 12 L * ? *)": ["2026-11-30 12:00", "2026-12-31 12:00"],
    "cron(0 12 LW * ? *)": ["2026-11-30 12:00", "2026-12-31 12:00"],
    "cron(0 12 5W * ? *)": ["2026-12-04 12:00", "2027-01-05 12:00"],
    "cron(0 12 L-2 * ? *)": ["2026-11-28 12:00", "2026-12-29 12:00"],
    "cron(0 3 ? * FRI-MON *)": ["2026-11-23 03:00", "2026-11-27 03:00"],
}


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_documented_expressions(rig: Rig, text: str) -> None:
    moments = Cron.parse(text).between(MONDAY.timestamp() - 1, MONDAY.timestamp() + 60 * 86400)
    found = [datetime.fromtimestamp(next(moments), UTC).strftime("%Y-%m-%d %H:%M") for _ in range(2)]
    assert found == EXAMPLES[text]
    rig.policy({"CreateRule": {"CronExpression": text}, "RetainRule": {"Count": 1}})


@pytest.mark.parametrize(
    ("schedules", "details", "reason"),
    [
        ([{"CronExpression": "cron(0/30 3 * * ? *)"}], {}, "between 1 hour and 1 year"),
        ([{"CronExpression": "cron(0 3 29 2 ? *)"}], {}, "between 1 hour and 1 year"),
        ([{"Interval": 24}], {"Parameters": {"ExcludeBootVolume": True}}, "only from snapshots of instances"),
        ([{"Interval": 24}], {"Parameters": {"NoReboot": True}}, "AMI policies only"),
    ],
)
def test_what_is_refused(rig: Rig, schedules: list[dict[str, Any]], details: dict[str, Any], reason: str) -> None:
    rules = [{"Name": "a", "CreateRule": {**rule}, "RetainRule": {"Count": 1}} for rule in schedules]
    with pytest.raises(ClientError, match=reason):
        rig.policy({}, Schedules=rules, **details)


def test_the_retention_type_is_one_and_stays(rig: Rig) -> None:
    create = {"Interval": 24, "IntervalUnit": "HOURS"}
    by_count = {"Name": "a", "CreateRule": create, "RetainRule": {"Count": 1}}
    by_age = {"Name": "b", "CreateRule": create, "RetainRule": {"Interval": 3, "IntervalUnit": "DAYS"}}
    with pytest.raises(ClientError, match="same retention type"):
        rig.policy({}, Schedules=[by_count, by_age])
    images = {"PolicyType": "IMAGE_MANAGEMENT", "ResourceTypes": ["INSTANCE"]}
    fast = {**by_count, "FastRestoreRule": {"Count": 1, "AvailabilityZones": ["eu-central-1a"]}}
    with pytest.raises(ClientError, match="snapshot policies only"):
        rig.policy({}, Schedules=[fast], **images)
    id = rig.policy({}, Schedules=[by_count])
    same = {"PolicyType": "EBS_SNAPSHOT_MANAGEMENT", "ResourceTypes": ["VOLUME"], "Schedules": [by_count]}
    target = {"TargetTags": [{"Key": "backup", "Value": "yes"}]}
    for change, reason in (
        ({"Schedules": [by_age]}, "count cannot be changed"),
        ({"ResourceTypes": ["INSTANCE"]}, "resource type"),
        (images, "policy type"),
    ):
        with pytest.raises(ClientError, match=reason):
            rig.dlm.update_lifecycle_policy(PolicyId=id, PolicyDetails={**same, **target, **change})
    aged = rig.policy({}, Schedules=[by_age])
    rig.dlm.update_lifecycle_policy(PolicyId=aged, PolicyDetails={**same, **target})
