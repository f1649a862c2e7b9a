"""Faults, throttling, latency and the log of calls."""

from __future__ import annotations

import calendar
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError
from goldenami_sandbox.calllog import CallLog
from goldenami_sandbox.errors import InvalidSettings
from goldenami_sandbox.http import Response
from goldenami_sandbox.settings import EC2_THROTTLE, PENDING_KINDS, Fault, Settings, Throttle
from goldenami_sandbox.testing import PaperCloud

PUBLIC_KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHkS3hoR6tPzWXHRrQ6L8JYdKEe3OYo5sMoC5nbvhsEZ new"
Factory = Callable[..., PaperCloud]


def client(
    cloud: PaperCloud, service: str, region: str = "eu-central-1", account: str = "home", attempts: int = 1
) -> Any:
    return cast(Any, boto3.client)(
        service, **cloud.client(region, account), config=Config(retries={"total_max_attempts": attempts})
    )


def test_the_nth_call_fails_before_its_effect(paper_cloud: Factory) -> None:
    cloud = paper_cloud()
    cloud.set(faults=[{"action": "ec2:CreateSecurityGroup", "nth": 2, "code": "Unavailable", "status": 503}])
    ec2 = client(cloud, "ec2")
    ec2.create_security_group(GroupName="a", Description="x")
    with pytest.raises(ClientError, match="Unavailable"):
        ec2.create_security_group(GroupName="b", Description="x")
    ec2.create_security_group(GroupName="c", Description="x")
    names = {group["GroupName"] for group in ec2.describe_security_groups()["SecurityGroups"]}
    assert names == {"default", "a", "c"}


@pytest.mark.parametrize(("when", "exists"), [("before", False), ("after", True)])
def test_a_dropped_connection_before_or_after_the_effect(paper_cloud: Factory, when: str, exists: bool) -> None:
    cloud = paper_cloud()
    cloud.set(faults=[{"action": "CreateSecurityGroup", "how": "drop", "when": when}])
    ec2 = client(cloud, "ec2")
    with pytest.raises(ConnectionClosedError):
        ec2.create_security_group(GroupName="a", Description="x")
    names = {group["GroupName"] for group in ec2.describe_security_groups()["SecurityGroups"]}
    assert ("a" in names) is exists
    assert [call["result"] for call in cloud.calls if call["action"] == "CreateSecurityGroup"] == ["dropped"]


def test_a_fault_of_one_place_does_not_affect_others(paper_cloud: Factory) -> None:
    cloud = paper_cloud()
    cloud.set(faults=[{"action": "*", "nth": 0, "account": "222222222222", "region": "eu-west-1"}])
    client(cloud, "ssm", account="apps").describe_parameters()
    client(cloud, "ssm", "eu-west-1").describe_parameters()
    for _ in range(2):
        with pytest.raises(ClientError, match="InternalError"):
            client(cloud, "ssm", "eu-west-1", "apps").describe_parameters()


@pytest.mark.parametrize(
    ("service", "call", "code"),
    [
        ("ec2", "describe_vpcs", "RequestLimitExceeded"),
        ("ssm", "describe_parameters", "ThrottlingException"),
        ("sts", "get_caller_identity", "Throttling"),
        ("s3", "list_buckets", "SlowDown"),
    ],
)
def test_throttling_in_the_words_of_each_service(paper_cloud: Factory, service: str, call: str, code: str) -> None:
    cloud = paper_cloud()
    cloud.set(throttle={"*": {"rate": 0.001, "burst": 1}})
    getattr(client(cloud, service), call)()
    with pytest.raises(ClientError, match=code):
        getattr(client(cloud, service), call)()


def test_a_bucket_refills(paper_cloud: Factory) -> None:
    now = [time.time()]
    cloud = paper_cloud(clock=lambda: now[0])
    cloud.set(throttle={"ec2:DescribeVpcs": {"rate": 4, "burst": 1}})
    ec2 = client(cloud, "ec2")
    for _ in range(3):
        ec2.describe_vpcs()
        now[0] += 0.125
        with pytest.raises(ClientError, match="RequestLimitExceeded"):
            ec2.describe_vpcs()
        now[0] += 0.125


def test_clients_get_through_a_throttle(paper_cloud: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [time.time()]

    def sleep(seconds: float) -> None:
        now[0] += seconds + 0.25

    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=sleep))
    cloud = paper_cloud(clock=lambda: now[0])
    cloud.set(throttle={"ec2:DescribeVpcs": {"rate": 4, "burst": 1}})
    ec2 = client(cloud, "ec2", attempts=5)
    for _ in range(3):
        ec2.describe_vpcs()
    results = [entry["result"] for entry in cloud.calls]
    assert (results.count("ok"), results.count("RequestLimitExceeded")) == (3, 2)


def test_each_action_has_a_bucket_of_its_own_and_the_longest_pattern_gives_its_size(paper_cloud: Factory) -> None:
    cloud = paper_cloud()
    small, larger = {"rate": 0.001, "burst": 1}, {"rate": 0.001, "burst": 2}
    cloud.set(throttle={"ec2:*": small, "ec2:Describe*": larger})
    ec2 = client(cloud, "ec2")
    for call in (ec2.describe_vpcs, ec2.describe_subnets):
        call()
        call()
        with pytest.raises(ClientError, match="RequestLimitExceeded"):
            call()
    ec2.create_key_pair(KeyName="a")
    with pytest.raises(ClientError, match="RequestLimitExceeded"):
        ec2.create_key_pair(KeyName="b")
    client(cloud, "sts").get_caller_identity()


def test_the_limits_of_aws_are_settings() -> None:
    assert Settings().merged({"throttle": EC2_THROTTLE}).throttle["ec2:RunInstances"] == Throttle(2.0, 5.0)


def test_latency_of_an_action(paper_cloud: Factory) -> None:
    slept: list[float] = []
    cloud = paper_cloud(sleep=slept.append)
    cloud.set(latency={"*": 0.02, "ec2:DescribeVpcs": 0.5})
    client(cloud, "ec2").describe_vpcs()
    client(cloud, "ec2").describe_subnets()
    assert slept == [0.5, 0.02]


def test_every_call_is_a_line(paper_cloud: Factory) -> None:
    cloud = paper_cloud()
    ec2 = client(cloud, "ec2")
    group = ec2.create_security_group(GroupName="a", Description="x")["GroupId"]
    with pytest.raises(ClientError):
        ec2.delete_security_group(GroupId="sg-00000000000000000")
    made, failed = cloud.calls[-2:]
    assert made["action"] == "CreateSecurityGroup"
    assert (made["service"], made["account"], made["region"]) == ("ec2", "111111111111", "eu-central-1")
    assert made["ids"] == [group]
    assert (made["status"], made["result"]) == (200, "ok")
    assert made["principal"] == "arn:aws:iam::111111111111:user/admin"
    assert abs(time.time() - calendar.timegm(time.strptime(made["time"][:19], "%Y-%m-%dT%H:%M:%S"))) < 60
    assert failed["result"] == "InvalidGroup.NotFound"
    assert failed["ids"] == ["sg-00000000000000000"]


def test_the_log_goes_to_a_file(tmp_path: Path, paper_cloud: Factory) -> None:
    cloud = paper_cloud()
    log = CallLog(tmp_path / "calls.jsonl")
    client(cloud, "sts").get_caller_identity()
    entry = cloud.calls[-1]
    from goldenami_sandbox.http import Request
    from goldenami_sandbox.protocol import Call

    log.write(
        Call(Request("POST", "/", "", {}, [], b""), "id", "AKIA", "eu-west-1", "kms", None), Response(200), 0.0, 0.5
    )
    log.close()
    [line] = (tmp_path / "calls.jsonl").read_text().splitlines()
    assert json.loads(line)["ms"] == 500.0
    assert set(json.loads(line)) == set(entry)


def test_new_resources_are_visible_after_the_delay(paper_cloud: Factory) -> None:
    """Every kind that a build makes, in every describe or list that finds it: not before the delay, then for good."""
    now = [1_800_000_000.0]
    cloud = paper_cloud(clock=lambda: now[0])
    ec2, kms, ssm = (client(cloud, service) for service in ("ec2", "kms", "ssm"))
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    base = ec2.describe_images(Filters=[{"Name": "name", "Values": ["debian-12-amd64-*"]}])["Images"][0]["ImageId"]
    old = ec2.create_volume(AvailabilityZone="eu-central-1a", Size=1)["VolumeId"]
    snapshot = ec2.create_snapshot(VolumeId=old)["SnapshotId"]
    cloud.cloud.ec2.settle()
    ssm.put_parameter(Name="/changed", Value="old", Type="String")
    cloud.set(visibility_delay=5)
    pairs = [{"Key": "mark", "Value": "new"}]

    def tagged(*kinds: str) -> list[dict[str, Any]]:
        return [{"ResourceType": kind, "Tags": pairs} for kind in kinds]

    ec2.import_key_pair(KeyName="new", PublicKeyMaterial=PUBLIC_KEY, TagSpecifications=tagged("key-pair"))
    ec2.create_security_group(GroupName="new", Description="x", TagSpecifications=tagged("security-group"))
    ec2.run_instances(ImageId=base, MinCount=1, MaxCount=1, TagSpecifications=tagged("instance", "volume"))
    ec2.create_snapshot(VolumeId=old, TagSpecifications=tagged("snapshot"))
    ec2.copy_snapshot(SourceSnapshotId=snapshot, SourceRegion="eu-central-1", TagSpecifications=tagged("snapshot"))
    ec2.register_image(
        Name="new",
        RootDeviceName="/dev/xvda",
        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}],
        TagSpecifications=tagged("image"),
    )
    kms.create_grant(KeyId=key, GranteePrincipal="arn:aws:iam::222222222222:root", Operations=["Decrypt"])
    ssm.put_parameter(Name="/new", Value="x", Type="String", Tags=pairs)
    ssm.put_parameter(Name="/changed", Value="new", Type="String", Overwrite=True)

    def seen() -> dict[str, int]:
        by_tag = [{"Name": "tag:mark", "Values": ["new"]}]
        return {
            "key pairs": len(ec2.describe_key_pairs(Filters=by_tag)["KeyPairs"]),
            "groups": len(ec2.describe_security_groups(Filters=by_tag)["SecurityGroups"]),
            "instances": len(ec2.describe_instances(Filters=by_tag)["Reservations"]),
            "volumes": len(ec2.describe_volumes(Filters=by_tag)["Volumes"]),
            "snapshots": len(ec2.describe_snapshots(Filters=by_tag)["Snapshots"]),
            "images": len(ec2.describe_images(Filters=by_tag)["Images"]),
            "tags": len(ec2.describe_tags(Filters=[{"Name": "key", "Values": ["mark"]}])["Tags"]),
            "grants": len(kms.list_grants(KeyId=key)["Grants"]),
            "parameters": len(ssm.get_parameters(Names=["/new"])["Parameters"]),
            "parameters by path": len(ssm.get_parameters_by_path(Path="/")["Parameters"]) - 1,
            "parameters described": len(ssm.describe_parameters()["Parameters"]) - 1,
            "values": int(ssm.get_parameter(Name="/changed")["Parameter"]["Value"] == "new"),
        }

    assert {k: n for k, n in seen().items() if n} == {}
    with pytest.raises(ClientError, match="ParameterNotFound"):
        ssm.get_parameter(Name="/new")
    with pytest.raises(ClientError, match="ParameterAlreadyExists"):
        ssm.put_parameter(Name="/new", Value="y", Type="String")
    now[0] += 4
    assert {k: n for k, n in seen().items() if n} == {}
    now[0] += 2
    assert 0 not in seen().values(), seen()
    assert ssm.get_parameter_history(Name="/changed")["Parameters"][-1]["Version"] == 2
    assert ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId="/new")["TagList"] == pairs


# --- settings ---------------------------------------------------------------------------------------------------------


def test_settings_merge_and_round_trip() -> None:
    settings = Settings().merged({"pending": {"image": 5}, "throttle": {"CopyImage": {"rate": 1, "burst": 2}}})
    settings = settings.merged({"pending": {"copy": 1}, "faults": [{"action": "CreateImage", "when": "after"}]})
    assert settings.pending.image == 5.0
    assert settings.pending.copy == 1.0
    assert settings.throttle == {"CopyImage": Throttle(1.0, 2.0)}
    assert settings.faults == (Fault("CreateImage", when="after"),)
    assert Settings().merged(json.loads(json.dumps(settings.to_json()))) == settings


def test_all_problems_of_settings_are_reported_at_once() -> None:
    wrong = {
        "pendin": {},
        "pending": {"images": 1, "image": -1},
        "latency": [],
        "throttle": {"a": {"rate": 1}},
        "faults": [{}, {"action": "x", "when": "now", "nth": "2", "often": 1}],
    }
    with pytest.raises(InvalidSettings) as caught:
        Settings().merged(wrong)
    assert len(caught.value.problems) == 9
    text = "\n".join(caught.value.problems)
    assert "unknown key 'pendin' (did you mean 'pending'? valid keys: pending, visibility_delay" in text
    assert "pending: unknown key 'images' (did you mean 'image'? valid keys: instance, stop" in text
    assert "pending.image: a number of at least 0 is expected, not -1" in text
    assert "latency: an object is expected, not []" in text
    assert "throttle.a: the key 'burst' is missing" in text
    assert "faults[0]: the key 'action' is missing" in text
    assert 'faults[1].when: "before" or "after" is expected, not "now"' in text
    assert 'faults[1].nth: a whole number is expected, not "2"' in text
    assert "faults[1]: unknown key 'often' (valid keys: action, nth" in text


@pytest.mark.parametrize("change", [[], None, "x", {"latency": {"*": float("nan")}}, {"faults": [1]}, {"pending": []}])
def test_settings_of_another_form_are_refused(change: Any) -> None:
    with pytest.raises(InvalidSettings):
        Settings().merged(change)


def test_the_json_form() -> None:
    assert Settings().to_json() == {
        "pending": dict.fromkeys(PENDING_KINDS, 0.0),
        "visibility_delay": 0.0,
        "grant_delay": 0.0,
        "concurrent_snapshot_copies": 20,
        "concurrent_image_copies": 100,
        "enforce_policies": False,
        "vcpu_quotas": {"L-1216C47A": 64, "L-34B43A08": 64},
        "no_capacity": (),
        "latency": {},
        "throttle": {},
        "faults": (),
        "organizations": (),
        "storage_gib": None,
        "inspector": {},
    }
