"""The query protocol, against botocore's own reader and writer of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import parse_qsl

import botocore.session
import pytest
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from goldenami_sandbox.ec2 import protocol
from goldenami_sandbox.ec2.context import Ec2Error
from goldenami_sandbox.ec2.service import ACTIONS

MODEL = botocore.session.get_session().get_service_model("ec2")
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    (
        "DescribeImages",
        {"ImageIds": ["ami-1", "ami-2"], "Filters": [{"Name": "n", "Values": ["a", "b"]}], "MaxResults": 7},
    ),
    (
        "RunInstances",
        {
            "MinCount": 1,
            "MaxCount": 2,
            "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 8, "Encrypted": True}}],
            "NetworkInterfaces": [{"DeviceIndex": 0, "Groups": ["sg-1"], "AssociatePublicIpAddress": False}],
            "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "b = &"}]}],
        },
    ),
    ("ModifyInstanceAttribute", {"InstanceId": "i-1", "UserData": {"Value": b"\0\xff"}, "Groups": ["sg-1"]}),
    ("EnableImageDeprecation", {"ImageId": "ami-1", "DeprecateAt": datetime(2027, 1, 2, 3, 4, tzinfo=UTC)}),
    ("ModifyImageAttribute", {"ImageId": "ami-1", "LaunchPermission": {"Add": [{"UserId": "1"}, {"Group": "all"}]}}),
]


@pytest.mark.parametrize(("action", "params"), REQUESTS)
def test_requests_as_botocore_writes_them(action: str, params: dict[str, Any]) -> None:
    request = create_serializer("ec2").serialize_to_request(params, MODEL.operation_model(action))
    form = {k: str(v) for k, v in request["body"].items()}
    assert protocol.parse(action, form) == params


def test_replies_as_botocore_reads_them() -> None:
    moment = datetime(2026, 11, 18, 11, 6, 40, 250000, tzinfo=UTC)
    snapshot = {
        "SnapshotId": "snap-1",
        "StartTime": moment.timestamp(),
        "Encrypted": False,
        "VolumeSize": 8,
        "Tags": [],
    }
    result = {"Snapshots": [{**snapshot, "Description": "<&>\x01 é", "KmsKeyId": None}], "NextToken": None}
    body = protocol.serialise("DescribeSnapshots", result, "r-1")
    shape = MODEL.operation_model("DescribeSnapshots").output_shape
    assert shape is not None
    read = create_parser("ec2").parse({"status_code": 200, "headers": {}, "body": body}, shape)
    assert read["Snapshots"] == [{**snapshot, "StartTime": moment, "Description": "<&> é"}]
    assert read["ResponseMetadata"]["RequestId"] == "r-1"


def test_errors_as_botocore_reads_them() -> None:
    body = protocol.serialise_error(Ec2Error("A.B", "x < y"), "r-1")
    read = create_parser("ec2").parse({"status_code": 400, "headers": {}, "body": body}, cast(Any, None))
    assert read["Error"] == {"Code": "A.B", "Message": "x < y"}
    assert read["ResponseMetadata"]["RequestId"] == "r-1"


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"Colour": "blue"}, "UnknownParameter"),
        ({"MaxResults": "many"}, "InvalidParameterValue"),
        ({"IncludeDisabled": "perhaps"}, "InvalidParameterValue"),
        ({"Filter.1.Nam": "x"}, "UnknownParameter"),
        ({"Filter.x.Name": "x"}, "UnknownParameter"),
        ({"MaxResults.1": "1"}, "UnknownParameter"),
    ],
)
def test_unknown_parameters_are_refused(form: dict[str, str], code: str) -> None:
    with pytest.raises(Ec2Error) as caught:
        protocol.parse("DescribeImages", form)
    assert caught.value.code == code


def test_missing_parameters_and_unknown_actions() -> None:
    with pytest.raises(Ec2Error, match="ImageId") as caught:
        protocol.parse("DeregisterImage", {"Action": "DeregisterImage", "Version": "2016-11-15"})
    assert caught.value.code == "MissingParameter"
    with pytest.raises(Ec2Error) as caught:
        protocol.parse("MakeCoffee", {})
    assert caught.value.code == "InvalidAction"


def test_a_signed_query_is_read_without_its_signature() -> None:
    query = "Action=DescribeImages&Version=2016-11-15&X-Amz-Signature=1&ImageId.1=ami-1"
    assert protocol.parse("DescribeImages", dict(parse_qsl(query))) == {"ImageIds": ["ami-1"]}


def test_every_action_exists_in_the_model() -> None:
    assert set(ACTIONS) <= set(MODEL.operation_names)
