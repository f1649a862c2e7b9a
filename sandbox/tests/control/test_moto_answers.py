"""Requests to moto are read, and its answers are written, as moto does it, in less time."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.utils import parse_timestamp
from goldenami_sandbox import moto_calls
from goldenami_sandbox.direct import Direct
from goldenami_sandbox.testing import PaperCloud
from goldenami_sandbox.times import http_time, iso_time
from moto.core import responses, serialize

TAGS = [{"Key": "Name", "Value": 'a & b <c> "d" \u2013 e'}, {"Key": "empty", "Value": ""}]
KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJZ4m8V6D0FhZs5sYk0yQm0s7cGm2yqfY2mZt1Yp0f8e"

# The client, its method, its parameters. Those in capitals are what the calls before them returned.
CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("ec2", "import_key_pair", {"KeyName": "answers", "PublicKeyMaterial": KEY}),
    ("ec2", "describe_key_pairs", {"IncludePublicKey": True}),
    ("ec2", "describe_key_pairs", {"KeyNames": ["none"]}),
    ("ec2", "create_security_group", {"GroupName": "answers", "Description": "a & b"}),
    ("ec2", "describe_security_groups", {}),
    ("ec2", "describe_subnets", {}),
    ("ec2", "describe_vpcs", {}),
    ("ec2", "describe_route_tables", {}),
    ("ec2", "describe_availability_zones", {}),
    ("ec2", "describe_launch_templates", {}),
    ("ec2", "delete_key_pair", {"KeyName": "answers"}),
    ("iam", "create_role", {"RoleName": "answers", "AssumeRolePolicyDocument": "{}", "Tags": TAGS}),
    ("iam", "get_role", {"RoleName": "answers"}),
    ("iam", "get_role", {"RoleName": "none"}),
    ("iam", "list_roles", {}),
    ("iam", "put_role_policy", {"RoleName": "answers", "PolicyName": "one", "PolicyDocument": '{"Statement": []}'}),
    ("iam", "get_role_policy", {"RoleName": "answers", "PolicyName": "one"}),
    ("iam", "list_role_policies", {"RoleName": "answers"}),
    ("iam", "list_attached_role_policies", {"RoleName": "answers"}),
    ("ssm", "put_parameter", {"Name": "/answers/one", "Value": "a & b", "Type": "String", "Tags": TAGS}),
    ("ssm", "get_parameter", {"Name": "/answers/one"}),
    ("ssm", "get_parameter", {"Name": "/answers/none"}),
    ("ssm", "get_parameters", {"Names": ["/answers/one", "/answers/none"]}),
    ("ssm", "get_parameter_history", {"Name": "/answers/one"}),
    ("ssm", "describe_parameters", {}),
    ("ssm", "list_tags_for_resource", {"ResourceType": "Parameter", "ResourceId": "/answers/one"}),
    ("kms", "list_keys", {}),
    ("kms", "list_aliases", {}),
    ("kms", "describe_key", {"KeyId": "alias/golden-ami"}),
    ("kms", "describe_key", {"KeyId": "alias/none"}),
    ("kms", "get_key_policy", {"KeyId": "alias/golden-ami", "PolicyName": "default"}),
    ("s3", "create_bucket", {"Bucket": "answers", "CreateBucketConfiguration": {"LocationConstraint": "eu-central-1"}}),
    ("s3", "put_object", {"Bucket": "answers", "Key": "a b/&", "Body": b"x", "Metadata": {"my_key": "1"}}),
    ("s3", "list_objects_v2", {"Bucket": "answers"}),
    ("s3", "get_bucket_location", {"Bucket": "answers"}),
    ("s3", "head_object", {"Bucket": "answers", "Key": "a b/&"}),
    ("s3", "get_object", {"Bucket": "answers", "Key": "none"}),
    ("autoscaling", "describe_auto_scaling_groups", {}),
    ("sqs", "list_queues", {}),
    ("sns", "create_topic", {"Name": "answers"}),
    ("sns", "list_topics", {}),
    ("eks", "list_clusters", {}),
    ("events", "list_rules", {}),
    ("cloudformation", "describe_stacks", {}),
]


@pytest.fixture
def direct(client: Callable[..., Any], cloud: PaperCloud) -> Callable[[str], Any]:
    def make(service: str) -> Any:
        made = client(service)
        Direct(cloud.cloud.serve).attach(made)
        return made

    return make


def answered(client: Any, method: str, request: dict[str, Any]) -> Any:
    try:
        answer = getattr(client, method)(**request)
    except ClientError as error:
        answer = dict(error.response)
    del answer["ResponseMetadata"]["RequestId"], answer["ResponseMetadata"]["HTTPHeaders"]
    return answer


@pytest.fixture
def as_shipped() -> ModuleType:
    """moto's module once more, as it is in its package."""
    found = importlib.util.find_spec("moto.core.serialize")
    assert found is not None
    assert found.loader is not None
    found.name = found.loader.name = "serialize_as_shipped"  # type: ignore[attr-defined]
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module  # its dataclasses look there
    found.loader.exec_module(module)
    del sys.modules[found.name]
    return module


def test_answers_are_written_as_moto_writes_them(
    direct: Callable[[str], Any], as_shipped: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    moto_calls.remember()
    assert serialize.ResponseSerializer.get_value is not as_shipped.ResponseSerializer.get_value
    compared: list[tuple[str, int]] = []
    different: list[Any] = []

    def both(*arguments: Any) -> Any:
        ours, theirs = (module.get_serializer_class(*arguments) for module in (serialize, as_shipped))

        class Both:
            def __init__(self, *, value_picker: Any, **options: Any) -> None:
                transformers = value_picker.response_transformers
                own = as_shipped.XFormedAttributePicker(response_transformers=transformers)
                self.name = options["operation_model"].name
                self.ours: Any = ours(value_picker=value_picker, **options)
                self.theirs: Any = theirs(value_picker=own, **options)

            def serialize(self, result: Any) -> Any:
                answers = [serializer.serialize(result) for serializer in (self.ours, self.theirs)]
                compared.append((self.name, answers[0]["status_code"]))
                if answers[0] != answers[1]:  # an error here would be answered as an internal error
                    different.append(answers)
                return answers[0]

        return Both

    monkeypatch.setattr(responses, "get_serializer_class", both)
    clients = {service: direct(service) for service in {service for service, _, _ in CALLS}}
    for service, method, request in CALLS:
        answered(clients[service], method, request)
    assert not different
    assert len(compared) > 30
    assert {"DescribeSubnets", "GetRole", "GetParameters", "ListTopics", "ListObjectsV2"} <= {n for n, _ in compared}
    assert {status for _, status in compared} >= {200, 400, 404}


def test_requests_are_read_as_by_the_web_framework(
    direct: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only reads is called twice, with a request of each kind."""
    reading = [call for call in CALLS if call[1].startswith(("describe_", "get_", "list_"))]
    made: list[bool] = []
    own = moto_calls.request

    def counted(*arguments: Any) -> Any:
        made.append(own(*arguments) is not None)
        return own(*arguments)

    for service, method, request in reading:
        client = direct(service)
        monkeypatch.setattr(moto_calls, "request", counted)
        first = answered(client, method, request)
        monkeypatch.setattr(moto_calls, "request", lambda *_: None)
        assert answered(client, method, request) == first, method
    assert made.count(True) > 15


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-30T12:00:00Z",
        "2026-11-30T12:00:00.000Z",
        "2026-11-30T12:00:00.123456Z",
        "2024-02-29T23:59:59.5Z",
        "Mon, 30 Nov 2026 12:00:00 GMT",
        "Thu, 01 Jan 1970 00:00:00 GMT",
    ],
)
def test_usual_times_are_what_botocore_reads(text: str) -> None:
    moment = iso_time(text) or http_time(text)
    assert moment == parse_timestamp(text)
    assert moment is not None
    assert moment.tzinfo == parse_timestamp(text).tzinfo
    assert moment.utcoffset() == datetime.now(UTC).utcoffset()


@pytest.mark.parametrize(
    "other",
    ["2026-11-30", "2026-11-30T12:00:00+01:00", "1764504000", 1764504000.5, "Mon, 30 Nov 2026 12:00:00 EST", "", None],
)
def test_other_times_are_left_to_botocore(other: object) -> None:
    assert iso_time(other) is None
    assert http_time(other) is None


def test_the_ids_in_the_log_are_those_of_the_body(
    client: Callable[..., Any], direct: Callable[[str], Any], cloud: PaperCloud
) -> None:
    """An id behind a slash is none of a form, where the slash is encoded."""
    names = ["ami-00000000000000001", "a/ami-00000000000000002", "x ami-00000000000000003", "ami-00000000000000004/a"]
    filters = [{"Name": "name", "Values": names}]
    for each in (client("ec2"), direct("ec2")):
        each.describe_images(Filters=filters)
    wire, own = cloud.calls[-2:]
    assert wire["ids"] == own["ids"]
    assert "ami-00000000000000001" in own["ids"]
    assert "ami-00000000000000002" not in own["ids"]
