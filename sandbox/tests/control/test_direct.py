"""A client without a wire sees what one over HTTP sees."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError
from goldenami_sandbox.direct import Direct
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call
from goldenami_sandbox.testing import PaperCloud, paper_cloud

TAGS = [{"Key": "Name", "Value": "a & b <c> \u2013 d"}]


@pytest.fixture
def cloud() -> Iterator[PaperCloud]:
    with paper_cloud() as cloud:
        yield cloud


class Ends:
    """The two ways into one cloud."""

    def __init__(self, cloud: PaperCloud) -> None:
        self.cloud = cloud
        self.session = botocore.session.Session()

    def client(
        self, service: str, *, direct: Callable[[Call], Response] | None = None, patience: float = 60, **options: Any
    ) -> Any:
        config = Config(retries={"total_max_attempts": 1}, read_timeout=patience)
        client = self.session.create_client(service, config=config, **self.cloud.client(), **options)
        if direct is not None:
            Direct(direct).attach(client)
        return client

    def both(self, service: str) -> tuple[Any, Any]:
        return self.client(service), self.client(service, direct=self.cloud.cloud.serve)


@pytest.fixture
def ends(cloud: PaperCloud) -> Ends:
    return Ends(cloud)


def plain(answer: dict[str, Any]) -> dict[str, Any]:
    """Without what differs between two calls in any case; StatusCode and the presence of the rest is compared."""
    metadata = answer.pop("ResponseMetadata")
    assert metadata["RequestId"]
    assert metadata["HTTPHeaders"]["date"].endswith("GMT")
    return {**answer, "status": metadata["HTTPStatusCode"], "retries": metadata["RetryAttempts"]}


def test_answers_are_the_same(ends: Ends) -> None:
    """Of EC2's own service, of moto's parts of EC2, and of the JSON and query services."""
    wire, direct = ends.both("ec2")
    base = direct.describe_images(Filters=[{"Name": "name", "Values": ["debian-12-amd64-*"]}])["Images"][0]["ImageId"]
    specification = [{"ResourceType": kind, "Tags": TAGS} for kind in ("instance", "volume")]
    made = direct.run_instances(
        ImageId=base, MinCount=1, MaxCount=1, InstanceType="t3.small", UserData="#!x", TagSpecifications=specification
    )
    instance = made["Instances"][0]["InstanceId"]
    assert made["Instances"][0]["Tags"] == TAGS
    direct.create_security_group(GroupName="door", Description="a door")
    direct.import_key_pair(
        KeyName="k", PublicKeyMaterial=KEY, TagSpecifications=[{**specification[0], "ResourceType": "key-pair"}]
    )
    ends.cloud.cloud.ec2.settle()
    direct.create_image(
        InstanceId=instance, Name="one", BlockDeviceMappings=[{"DeviceName": "/dev/sdb", "VirtualName": "ephemeral0"}]
    )
    ends.cloud.cloud.ec2.settle()
    image = direct.describe_images(Owners=["self"])["Images"][0]["ImageId"]
    direct.enable_image_deprecation(ImageId=image, DeprecateAt=datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC))
    for name, request in {
        "describe_instances": {},
        "describe_volumes": {},
        "describe_images": {"Owners": ["self"]},
        "describe_snapshots": {"OwnerIds": ["self"]},
        "describe_image_attribute": {"ImageId": image, "Attribute": "launchPermission"},
        "describe_instance_attribute": {"InstanceId": instance, "Attribute": "userData"},
        "describe_instance_types": {"InstanceTypes": ["t3.small"]},
        "describe_key_pairs": {},
        "describe_security_groups": {},
        "describe_regions": {},
        "describe_tags": {},
        "describe_subnets": {},
    }.items():
        answers = [plain(getattr(client, name)(**request)) for client in (wire, direct)]
        assert answers[0] == answers[1], name
        assert len(answers[0]) > 2, f"{name}: nothing to compare"
    for service, name, request in (
        ("kms", "describe_key", {"KeyId": "alias/golden-ami"}),
        ("ssm", "describe_parameters", {}),
        ("ssm", "get_parameters_by_path", {"Path": "/aws/service", "Recursive": True}),
        ("sts", "get_caller_identity", {}),
        ("dlm", "get_lifecycle_policies", {}),
        ("rbin", "list_rules", {"ResourceType": "EBS_SNAPSHOT"}),
    ):
        answers = [plain(getattr(client, name)(**request)) for client in ends.both(service)]
        assert answers[0] == answers[1], name


def refusal(call: Callable[[], Any]) -> tuple[Any, Any]:
    """Return the kind of an error, and its members with the HTTP status."""
    with pytest.raises(ClientError) as caught:
        call()
    response: Any = dict(caught.value.response)
    status = response.pop("ResponseMetadata")["HTTPStatusCode"]
    return type(caught.value).__name__, (response, status)


def test_refusals_are_the_same(ends: Ends) -> None:
    for service, name, request in (
        ("ec2", "describe_images", {"ImageIds": ["ami-00000000000000000"]}),
        ("ec2", "describe_key_pairs", {"KeyNames": ["none"]}),
        ("ec2", "describe_images", {"DryRun": True}),
        ("ssm", "get_parameter", {"Name": "/none"}),
        ("kms", "describe_key", {"KeyId": "alias/none"}),
        ("sts", "assume_role", {"RoleArn": "arn:aws:iam::222222222222:role/none", "RoleSessionName": "test"}),
        ("ebs", "list_snapshot_blocks", {"SnapshotId": "snap-00000000000000000"}),
    ):
        wire, direct = (refusal(lambda: getattr(client, name)(**request)) for client in ends.both(service))  # noqa: B023
        assert wire == direct, name


def test_a_session_that_ended_is_refused_in_both(ends: Ends) -> None:
    role = "arn:aws:iam::222222222222:role/goldenami-publisher"
    keys = ends.client("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    keys = {"aws_access_key_id": keys["AccessKeyId"], "aws_secret_access_key": keys["SecretAccessKey"]}
    for direct in (None, ends.cloud.cloud.serve):  # without its token it is nobody's
        client: Any = ends.session.create_client(
            "sts", endpoint_url=ends.cloud.endpoint, region_name="eu-central-1", aws_session_token="wrong", **keys
        )
        if direct is not None:
            Direct(direct).attach(client)
        assert refusal(client.get_caller_identity)[0] == "ClientError"


@pytest.mark.parametrize(
    ("disturb", "error"),
    [
        (lambda response: replace(response, drop=True), ConnectionClosedError),
        (lambda response: replace(response, late=4.0), ReadTimeoutError),
    ],
)
def test_answers_that_do_not_come(ends: Ends, disturb: Callable[[Response], Response], error: type[Exception]) -> None:
    """The effect is there; the client has the same error in both."""
    from goldenami_sandbox.http import Server

    cloud = ends.cloud.cloud
    server = Server(lambda request: disturb(cloud(request)))
    server.serve_in_thread()
    try:
        arguments = {**ends.cloud.client(), "endpoint_url": f"http://127.0.0.1:{server.port}"}
        config = Config(retries={"total_max_attempts": 1}, read_timeout=1)
        wire = ends.session.create_client("ssm", config=config, **arguments)
        direct = ends.client("ssm", direct=lambda call: disturb(cloud.serve(call)), patience=1)
        for number, client in enumerate((wire, direct)):
            with pytest.raises(error):
                client.put_parameter(Name=f"/p/{number}", Value="x", Type="String")
    finally:
        server.close()
    found = ends.client("ssm").get_parameters_by_path(Path="/p")["Parameters"]
    assert sorted(p["Name"] for p in found) == ["/p/0", "/p/1"]


def test_objects_are_the_same(ends: Ends) -> None:
    """Bodies of requests and responses are streams; names are encoded; a condition can fail."""
    clients = wire, direct = ends.both("s3")
    key = "a b/\u2013+%41&c=d"
    for name, client in (("one", wire), ("two", direct)):
        client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        client.put_object(Bucket=name, Key=key, Body=io.BytesIO(b"text"), Metadata={"my_key": "v"}, IfNoneMatch="*")
        refused = refusal(
            lambda: client.put_object(Bucket=name, Key=key, Body=b"other", IfNoneMatch="*")  # noqa: B023
        )
        assert refused[1][1] == 412
    for bucket in ("one", "two"):
        answers = [client.get_object(Bucket=bucket, Key=key) for client in clients]
        assert [answer.pop("Body").read() for answer in answers] == [b"text", b"text"]
        assert plain(answers[0]) == plain(answers[1])
        for name, request in {
            "head_object": {"Key": key},
            "list_objects_v2": {"Prefix": "a b/", "Delimiter": "%"},
            "get_bucket_location": {},
        }.items():
            answers = [plain(getattr(client, name)(Bucket=bucket, **request)) for client in clients]
            assert answers[0] == answers[1], name
    for name in ("get_object", "head_object"):
        refusals = [refusal(lambda: getattr(client, name)(Bucket="one", Key="none")) for client in clients]  # noqa: B023
        assert refusals[0] == refusals[1], name


KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHkS3hoR6tPzWXHRrQ6L8JYdKEe3OYo5sMoC5nbvhsEZ someone"
