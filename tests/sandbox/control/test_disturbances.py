"""Faults, throttling, latency and the log of calls."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from goldenami.errors import InvalidInput
from goldenami.sandbox.calllog import CallLog
from goldenami.sandbox.http import Response
from goldenami.sandbox.settings import Fault, Settings, Throttle
from goldenami.sandbox.testing import PaperCloud

Factory = Callable[..., PaperCloud]


def client(
    cloud: PaperCloud, service: str, region: str = "eu-central-1", account: str = "home", attempts: int = 1
) -> Any:
    return boto3.client(
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


def test_a_fault_of_one_place_leaves_the_others_alone(paper_cloud: Factory) -> None:
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


def test_a_bucket_refills_and_clients_get_through(paper_cloud: Factory) -> None:
    cloud = paper_cloud()
    cloud.set(throttle={"ec2:DescribeVpcs": {"rate": 20, "burst": 1}})
    ec2 = client(cloud, "ec2", attempts=5)
    for _ in range(3):
        ec2.describe_vpcs()
    assert "RequestLimitExceeded" in [entry["result"] for entry in cloud.calls]


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
    assert abs(time.time() - time.mktime(time.strptime(made["time"][:19], "%Y-%m-%dT%H:%M:%S")) + time.timezone) < 60
    assert failed["result"] == "InvalidGroup.NotFound"
    assert failed["ids"] == ["sg-00000000000000000"]


def test_the_log_goes_to_a_file(tmp_path: Path, paper_cloud: Factory) -> None:
    cloud = paper_cloud()
    log = CallLog(tmp_path / "calls.jsonl")
    client(cloud, "sts").get_caller_identity()
    entry = cloud.calls[-1]
    from goldenami.sandbox.http import Request
    from goldenami.sandbox.protocol import Call

    log.write(
        Call(Request("POST", "/", "", {}, [], b""), "id", "AKIA", "eu-west-1", "kms", None), Response(200), 0.0, 0.5
    )
    log.close()
    [line] = (tmp_path / "calls.jsonl").read_text().splitlines()
    assert json.loads(line)["ms"] == 500.0
    assert set(json.loads(line)) == set(entry)


# --- settings ---------------------------------------------------------------------------------------------------------


def test_settings_merge_and_round_trip() -> None:
    settings = Settings().merged({"pending": {"image": 5}, "throttle": {"CopyImage": {"rate": 1, "burst": 2}}})
    settings = settings.merged({"pending": {"copy": 1}, "faults": [{"action": "CreateImage", "when": "after"}]})
    assert settings.pending["image"] == 5.0
    assert settings.pending["copy"] == 1.0
    assert settings.throttle == {"CopyImage": Throttle(1.0, 2.0)}
    assert settings.faults == (Fault("CreateImage", when="after"),)
    assert Settings().merged(json.loads(json.dumps(settings.to_json()))) == settings


def test_all_mistakes_in_settings_are_told_at_once() -> None:
    wrong = {
        "pendin": {},
        "pending": {"images": 1, "image": -1},
        "latency": [],
        "throttle": {"a": {"rate": 1}},
        "faults": [{}, {"action": "x", "when": "now", "nth": "2", "often": 1}],
    }
    with pytest.raises(InvalidInput) as caught:
        Settings().merged(wrong)
    assert len(caught.value.problems) == 9
