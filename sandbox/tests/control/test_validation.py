"""Every call is checked against the model of its service, in each protocol and with the errors of each service.

The client's own checks are off, because they would refuse some of these requests first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, cast

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from goldenami_sandbox import constraints, models
from goldenami_sandbox.http import Request
from goldenami_sandbox.protocol import Call
from goldenami_sandbox.testing import PaperCloud

UNCHECKED = Config(retries={"total_max_attempts": 1}, parameter_validation=False)
RULE = {"RetentionPeriod": {"RetentionPeriodValue": 7, "RetentionPeriodUnit": "DAYS"}, "ResourceType": "EBS_SNAPSHOT"}
IMAGE = {"Name": "image", "RootDeviceName": "/dev/xvda"}
SHARE = {"ImageId": "ami-00000000000000001"}
KEY = "alias/golden-ami"
GRANT = {"KeyId": "0" * 36, "GranteePrincipal": "arn:aws:iam::111111111111:root", "Operations": ["Decrypt"]}


@pytest.fixture
def call(cloud: PaperCloud) -> Callable[..., ClientError]:
    """Call an action that is refused, and return the error."""

    def make(service: str, action: str, **params: Any) -> ClientError:
        client = cast(Any, boto3.client)(service, **cloud.client(), config=UNCHECKED)
        with pytest.raises(ClientError) as caught:
            client._make_api_call(action, params)
        return caught.value

    return make


@pytest.mark.parametrize(
    ("action", "params", "code", "message"),
    [
        ("RegisterImage", {**IMAGE, "BootMode": "bios"}, "InvalidParameterValue", "bootMode"),
        ("RegisterImage", {**IMAGE, "ImdsSupport": "v1.0"}, "InvalidParameterValue", "imdsSupport"),
        ("RegisterImage", {**IMAGE, "TpmSupport": "yes"}, "InvalidParameterValue", "tpmSupport"),
        ("RegisterImage", {**IMAGE, "Description": "x" * 256}, "InvalidParameterValue", "maximum length is 255"),
        ("RegisterImage", {**IMAGE, "Description": "größer"}, "InvalidParameterValue", "beyond ASCII"),
        ("RegisterImage", {"Name": "ab"}, "InvalidAMIName.Malformed", "between 3 and 128"),
        ("CreateSnapshot", {"VolumeId": "vol-1", "Description": "→"}, "InvalidParameterValue", "beyond ASCII"),
        ("CopySnapshot", {"SourceRegion": "eu-west-1"}, "MissingParameter", "SourceSnapshotId"),
        ("DescribeInstances", {"MaxResults": "x"}, "InvalidParameterValue", "MaxResults"),
        ("DescribeNetworkInterfaces", {"MaxResults": 4}, "InvalidParameterValue", "greater than or equal to 5"),
        # These are served by moto.
        ("CreateKeyPair", {"KeyName": "ключ"}, "InvalidParameterValue", "beyond ASCII"),
        ("CreateKeyPair", {"KeyName": "a", "KeyType": "dsa"}, "InvalidParameterValue", "keyType"),
        ("CreateSecurityGroup", {"GroupName": "a"}, "MissingParameter", "Description"),
        ("CreateLaunchTemplate", {"LaunchTemplateName": "ab"}, "MissingParameter", "LaunchTemplateData"),
    ],
)
def test_ec2_refuses_what_its_model_does_not_allow(
    call: Callable[..., ClientError], action: str, params: dict[str, Any], code: str, message: str
) -> None:
    error = call("ec2", action, **params)
    assert error.response["Error"]["Code"] == code
    assert message in error.response["Error"]["Message"]


@pytest.mark.parametrize(
    ("service", "action", "params", "code", "message"),
    [
        ("ssm", "PutParameter", {"Value": "x"}, "ValidationException", "Value null at 'name' failed"),
        ("ssm", "PutParameter", {"Name": "a", "Value": "x", "Type": "Text"}, "ValidationException", "enum value set"),
        ("ssm", "PutParameter", {"Name": "a", "Value": 5}, "SerializationException", "converted to string"),
        ("ssm", "PutParameter", {"Name": "a", "Value": "x", "Description": "x" * 1025}, "ValidationException", "1024"),
        (
            "ssm",
            "AddTagsToResource",
            {"ResourceType": "Parameter", "ResourceId": "a", "Tags": [{"Key": "a", "Value": "b,c"}]},
            "ValidationException",
            "'tags.1.member.value' failed to satisfy constraint: Member must satisfy regular expression pattern",
        ),
        ("kms", "CreateGrant", {**GRANT, "GranteePrincipal": "me & you"}, "ValidationException", "granteePrincipal"),
        ("kms", "CreateGrant", {**GRANT, "Operations": ["Read"]}, "ValidationException", "operations.1.member"),
        ("kms", "CreateGrant", {**GRANT, "Name": "a b"}, "ValidationException", "'name'"),
        ("organizations", "CreateOrganization", {"FeatureSet": "SOME"}, "ValidationException", "featureSet"),
        ("iam", "CreateRole", {"RoleName": "a b"}, "ValidationError", "2 validation errors detected"),
        ("sts", "AssumeRole", {"RoleArn": "arn", "RoleSessionName": "a"}, "ValidationError", "roleArn"),
        ("sts", "AssumeRole", {"RoleArn": "x" * 20}, "ValidationError", "Value null at 'roleSessionName'"),
        ("rbin", "CreateRule", {**RULE, "ResourceType": "EBS"}, "ValidationException", "resourceType"),
        ("dlm", "CreateLifecyclePolicy", {"State": "ENABLED"}, "InvalidRequestException", "executionRoleArn"),
        ("ebs", "ListSnapshotBlocks", {"SnapshotId": "snap-1", "MaxResults": 5}, "ValidationException", "maxResults"),
    ],
)
def test_json_and_query_services_list_all_problems(
    call: Callable[..., ClientError], service: str, action: str, params: dict[str, Any], code: str, message: str
) -> None:
    error = call(service, action, **params)
    assert error.response["Error"]["Code"] == code
    assert message in error.response["Error"]["Message"]


@pytest.mark.parametrize(
    ("action", "params", "code"),
    [
        ("PutObject", {"Bucket": "strict", "Key": "a", "ACL": "everybody"}, "InvalidArgument"),
        ("PutObject", {"Bucket": "strict", "Key": "a", "StorageClass": "COLD"}, "InvalidStorageClass"),
        (
            "PutBucketVersioning",
            {"Bucket": "strict", "VersioningConfiguration": {"Status": "Perhaps"}},
            "MalformedXML",
        ),
        ("DeleteObjects", {"Bucket": "strict", "Delete": {"Objects": [{"VersionId": "1"}]}}, "MalformedXML"),
        (
            "CreateBucket",
            {"Bucket": "strict", "CreateBucketConfiguration": {"LocationConstraint": "mars"}},
            "MalformedXML",
        ),
    ],
)
def test_s3_has_its_own_errors(
    call: Callable[..., ClientError], action: str, params: dict[str, Any], code: str
) -> None:
    assert call("s3", action, **params).response["Error"]["Code"] == code


def _send(
    cloud: PaperCloud, service: str, method: str, path: str, body: bytes, query: str = "", **headers: str
) -> tuple[int, bytes]:
    """Make a call that no client of AWS makes. It has no signature, as it stays in this process."""
    request = Request(method, path, query, headers, list(headers.items()), body)
    response = cloud.cloud.serve(
        Call(request, "r", cloud.key().access_key_id, "eu-central-1", service, None, wire=False)
    )
    return response.status, response.body


def test_an_unknown_parameter_is_refused_by_ec2_also_in_actions_of_moto(cloud: PaperCloud) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    status, body = _send(cloud, "ec2", "POST", "/", b"Action=DescribeKeyPairs&Colour=blue", **form)
    assert status == 400
    assert b"<Code>UnknownParameter</Code>" in body


def test_an_unknown_member_is_ignored_in_json(cloud: PaperCloud) -> None:
    target = {"x-amz-target": "AmazonSSM.DescribeParameters", "content-type": "application/x-amz-json-1.1"}
    assert _send(cloud, "ssm", "POST", "/", b'{"Colour": "blue"}', **target)[0] == 200


@pytest.mark.parametrize("body", [b"{", b"[]", b'"text"'])
def test_a_body_that_is_no_json_object_is_refused(cloud: PaperCloud, body: bytes) -> None:
    target = {"x-amz-target": "AmazonSSM.DescribeParameters", "content-type": "application/x-amz-json-1.1"}
    status, answer = _send(cloud, "ssm", "POST", "/", body, **target)
    assert status == 400
    assert b"SerializationException" in answer


def test_xml_with_an_unknown_element_is_refused(cloud: PaperCloud) -> None:
    body = b"<VersioningConfiguration><Colour>blue</Colour></VersioningConfiguration>"
    client = cast(Any, boto3.client)("s3", **cloud.client())
    client.create_bucket(Bucket="xml", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    assert b"MalformedXML" in _send(cloud, "s3", "PUT", "/xml", body, "versioning")[1]


# --- the models -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "service", ["ec2", "ssm", "kms", "iam", "sts", "s3", "dlm", "rbin", "ebs", "organizations", "service-quotas"]
)
def test_all_patterns_of_a_service_are_checked(service: str) -> None:
    model = models.model(service) or botocore.session.get_session().get_service_model(service)
    patterns = {str(model.shape_for(name).metadata.get("pattern") or "") for name in model.shape_names} - {""}
    assert patterns
    assert [pattern for pattern in patterns if constraints._pattern(pattern) is None] == []


@pytest.mark.parametrize(
    ("pattern", "fits", "does_not"),
    [
        (r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$", ["a b_ü:1", "", "Zürich 東京"], ["a,b", "a\tb", "(x)"]),
        (r"[\w+=,.@-]+", ["a-b@c.d"], ["ü", "a b", ""]),
        (r"[\w-/]+", ["a-b/c"], ["a.b"]),
        (r"[\p{all}]*", ["\n→"], []),
        (r"[^\d]\s", ["a "], ["1 "]),
        (r"[\p{L}\p{P}]+", ["a,b!"], ["a b"]),
    ],
)
def test_java_patterns(pattern: str, fits: list[str], does_not: list[str]) -> None:
    compiled = constraints._pattern(pattern)
    assert compiled is not None
    assert [text for text in fits if not compiled.fullmatch(text)] == []
    assert [text for text in does_not if compiled.fullmatch(text)] == []


def test_a_shape_that_contains_itself_is_checked() -> None:
    expression: dict[str, Any] = {"Not": {"And": [{"Dimensions": {"Key": "NO_SUCH_DIMENSION"}}]}}
    shape = models.input_shape("ce", "GetCostAndUsage")
    params = {"TimePeriod": {"Start": "2026-01-01", "End": "2026-01-02"}, "Granularity": "DAILY", "Metrics": ["a"]}
    assert constraints.check("ce", shape, params, typed=False) == []
    [problem] = constraints.check("ce", shape, {**params, "Filter": expression}, typed=False)
    assert problem.path == ("Filter", "Not", "And", 1, "Dimensions", "Key")


def test_a_service_is_found_by_the_name_it_signs_with() -> None:
    found = models.operation("monitoring", "PutMetricData")
    assert found is not None
    assert found.service_model.service_name == "cloudwatch"
    assert models.operation("no-such-service", "Act") is None


def test_a_secret_value_is_not_in_the_message(call: Callable[..., ClientError]) -> None:
    error = call("kms", "Encrypt", KeyId=KEY, Plaintext=b"s3cret" * 1000)
    assert error.response["Error"]["Code"] == "ValidationException"
    assert not re.search("czNj|s3cret", str(error))
