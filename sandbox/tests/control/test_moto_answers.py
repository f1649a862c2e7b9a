"""Requests to moto are read, and its answers are written, as moto does it, in less time."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from types import ModuleType
from typing import Any, NamedTuple

import boto3
import pytest
import xmltodict
from botocore.exceptions import ClientError
from botocore.utils import parse_timestamp
from goldenami_sandbox import moto_answers, moto_calls, surface
from goldenami_sandbox.direct import Direct
from goldenami_sandbox.testing import PaperCloud
from goldenami_sandbox.testing import paper_cloud as make_paper_cloud
from goldenami_sandbox.times import http_time, iso_time
from moto.core import responses, serialize

SIGNS = 'a & b <c> "d" + 100 % é'
TAGS = [{"Key": "N\u00e4me_1", "Value": "a/b = c@d +"}, {"Key": "empty", "Value": ""}]
ONE = {"Sid": "one", "Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
CONDITION = {"StringEquals": {"aws:PrincipalTag/a": SIGNS}}
POLICY = json.dumps({"Version": "2012-10-17", "Statement": [{**ONE, "Condition": CONDITION}]})
BY = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ec2.amazonaws.com"}}
TRUST = json.dumps({"Version": "2012-10-17", "Statement": [{**BY, "Condition": CONDITION}]})
KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJZ4m8V6D0FhZs5sYk0yQm0s7cGm2yqfY2mZt1Yp0f8e"


class Ask(NamedTuple):
    """A call, and the error that must answer it."""

    service: str
    method: str
    request: dict[str, Any]
    refused: str = ""


CALLS = [
    Ask("ec2", "import_key_pair", {"KeyName": "answers", "PublicKeyMaterial": KEY}),
    Ask("ec2", "describe_key_pairs", {"IncludePublicKey": True}),
    Ask("ec2", "describe_key_pairs", {"KeyNames": ["none"]}, "InvalidKeyPair.NotFound"),
    Ask("ec2", "create_security_group", {"GroupName": "answers", "Description": "a & b"}),
    Ask("ec2", "describe_security_groups", {}),
    Ask("ec2", "describe_subnets", {}),
    Ask("ec2", "describe_vpcs", {}),
    Ask("ec2", "describe_route_tables", {}),
    Ask("ec2", "describe_availability_zones", {}),
    Ask("ec2", "describe_launch_templates", {}),
    Ask("ec2", "delete_key_pair", {"KeyName": "answers"}),
    Ask(
        "iam",
        "create_role",
        {"RoleName": "answers", "Description": SIGNS, "AssumeRolePolicyDocument": TRUST, "Tags": TAGS},
    ),
    Ask("iam", "get_role", {"RoleName": "answers"}),
    Ask("iam", "get_role", {"RoleName": "none"}, "NoSuchEntity"),
    Ask("iam", "list_roles", {}),
    Ask("iam", "put_role_policy", {"RoleName": "answers", "PolicyName": "one", "PolicyDocument": POLICY}),
    Ask("iam", "get_role_policy", {"RoleName": "answers", "PolicyName": "one"}),
    Ask("iam", "list_role_policies", {"RoleName": "answers"}),
    Ask("iam", "list_attached_role_policies", {"RoleName": "answers"}),
    Ask("ssm", "put_parameter", {"Name": "/answers/one", "Value": SIGNS, "Type": "String", "Tags": TAGS}),
    Ask("ssm", "get_parameter", {"Name": "/answers/one"}),
    Ask("ssm", "get_parameter", {"Name": "/answers/none"}, "ParameterNotFound"),
    Ask("ssm", "get_parameters", {"Names": ["/answers/one", "/answers/none"]}),
    Ask("ssm", "get_parameter_history", {"Name": "/answers/one"}),
    Ask("ssm", "describe_parameters", {}),
    Ask("ssm", "list_tags_for_resource", {"ResourceType": "Parameter", "ResourceId": "/answers/one"}),
    Ask("kms", "list_keys", {}),
    Ask("kms", "list_aliases", {}),
    Ask("kms", "describe_key", {"KeyId": "alias/golden-ami"}),
    Ask("kms", "describe_key", {"KeyId": "alias/none"}, "NotFoundException"),
    Ask("kms", "get_key_policy", {"KeyId": "alias/golden-ami", "PolicyName": "default"}, "NotFoundException"),
    Ask(
        "s3",
        "create_bucket",
        {"Bucket": "answers", "CreateBucketConfiguration": {"LocationConstraint": "eu-central-1"}},
    ),
    Ask("s3", "put_object", {"Bucket": "answers", "Key": "a b/&", "Body": b"x", "Metadata": {"my_key": "1"}}),
    Ask("s3", "list_objects_v2", {"Bucket": "answers"}),
    Ask("s3", "get_bucket_location", {"Bucket": "answers"}),
    Ask("s3", "head_object", {"Bucket": "answers", "Key": "a b/&"}),
    Ask("s3", "get_object", {"Bucket": "answers", "Key": "none"}, "NoSuchKey"),
    Ask("autoscaling", "describe_auto_scaling_groups", {}),
    Ask("sqs", "list_queues", {}),
    Ask("sns", "create_topic", {"Name": "answers"}),
    Ask("sns", "list_topics", {}),
    Ask("eks", "list_clusters", {}),
    Ask("events", "list_rules", {}),
    Ask("cloudformation", "describe_stacks", {}),
]


@pytest.fixture
def direct(client: Callable[..., Any], cloud: PaperCloud) -> Callable[[str], Any]:
    def make(service: str) -> Any:
        made = client(service)
        Direct(cloud.cloud.serve).attach(made)
        return made

    return make


def answered(client: Any, ask: Ask) -> Any:
    try:
        answer = getattr(client, ask.method)(**ask.request)
    except ClientError as error:
        answer = dict(error.response)
    assert answer.get("Error", {}).get("Code", "") == ask.refused, (ask, answer)
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


def test_moto_is_changed_once() -> None:
    """Also by a second load of the module, which knows nothing of the first one."""
    from moto import backends

    moto_calls.remember()
    of_classes: Any = responses
    of_moto: Any = backends

    def functions() -> list[Any]:
        made: Any = serialize
        return [of_moto.list_of_moto_modules, of_classes.method_names_from_class, made.ResponseSerializer.get_value]

    before = functions()
    moto_calls.remember()
    found = importlib.util.find_spec(moto_calls.__name__)
    assert found is not None
    assert found.loader is not None
    again = importlib.util.module_from_spec(found)
    found.loader.exec_module(again)
    again.remember()
    assert all(one is other for one, other in zip(functions(), before, strict=True))


def test_answers_are_written_as_moto_writes_them(
    direct: Callable[[str], Any], as_shipped: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    moto_calls.remember()
    of_moto: Any = serialize
    replaced = (of_moto.ResponseSerializer.get_value, of_moto.xmltodict.unparse, of_moto.parse_to_aware_datetime)
    assert {function.__module__ for function in replaced} == {moto_answers.__name__}
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
    clients = {service: direct(service) for service in {ask.service for ask in CALLS}}
    for ask in CALLS:
        answered(clients[ask.service], ask)
    assert not different
    assert len(compared) > 30
    assert {"DescribeSubnets", "GetRole", "GetParameters", "ListTopics", "ListObjectsV2"} <= {n for n, _ in compared}
    assert {status for _, status in compared} >= {200, 400, 404}


def test_requests_are_read_as_by_the_web_framework(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two clouds get the same calls over HTTP: one reads them as usual, the other with werkzeug."""
    made: list[bool] = []
    own = moto_calls.request

    def counted(*arguments: Any) -> Any:
        found = own(*arguments)
        made.append(found is not None)
        return found

    make: Any = boto3.client
    asked = [ask for ask in CALLS if ask.service in moto_calls.SERVICES]  # of others, werkzeug reads all
    answers = []
    for read in (counted, lambda *_: None):
        monkeypatch.setattr(moto_calls, "request", read)
        with make_paper_cloud() as cloud:
            clients = {service: make(service, **cloud.client()) for service in {ask.service for ask in asked}}
            answers.append([without_ids(answered(clients[ask.service], ask)) for ask in asked])
    for ask, one, other in zip(asked, *answers, strict=True):
        assert one == other, ask
    assert made.count(True) > 15


COPIED = {"Bucket": "answers", "Key": "copy"}
POSTED = {"Objects": [{"Key": "copy"}, {"Key": "none"}]}
OF_S3 = [
    *(ask for ask in CALLS if ask.service == "s3"),
    Ask("s3", "list_buckets", {}),
    Ask("s3", "head_bucket", {"Bucket": "answers"}),
    Ask("s3", "head_bucket", {"Bucket": "none"}, "404"),
    Ask("s3", "create_bucket", {"Bucket": "answers"}, "IllegalLocationConstraintException"),
    Ask(
        "s3",
        "put_object",
        {"Bucket": "answers", "Key": "a b/&", "Body": b"y", "IfNoneMatch": "*"},
        "PreconditionFailed",
    ),
    Ask("s3", "put_object", {"Bucket": "answers", "Key": "\u00e4/+%?#=", "Body": b"", "ContentType": "text/plain"}),
    Ask("s3", "put_object", {"Bucket": "answers", "Key": "folder/", "Body": b"0123456789"}),
    Ask("s3", "put_object", {"Bucket": "none", "Key": "a", "Body": b""}, "NoSuchBucket"),
    Ask("s3", "get_object", {"Bucket": "answers", "Key": "folder/", "Range": "bytes=2-4"}),
    Ask("s3", "get_object", {"Bucket": "answers", "Key": "folder/", "Range": "bytes=20-24"}, "InvalidRange"),
    Ask("s3", "get_object", {"Bucket": "answers", "Key": "\u00e4/+%?#="}),
    Ask("s3", "head_object", {"Bucket": "answers", "Key": "none"}, "404"),
    Ask("s3", "get_object_attributes", {"Bucket": "answers", "Key": "folder/", "ObjectAttributes": ["ObjectSize"]}),
    Ask("s3", "copy_object", {**COPIED, "CopySource": "answers/folder/"}),
    Ask("s3", "put_object_tagging", {**COPIED, "Tagging": {"TagSet": [{"Key": "a", "Value": "b"}]}}),
    Ask("s3", "get_object_tagging", COPIED),
    Ask("s3", "create_multipart_upload", COPIED),
    Ask("s3", "list_multipart_uploads", {"Bucket": "answers"}),
    Ask("s3", "list_objects_v2", {"Bucket": "answers", "Prefix": "a ", "Delimiter": "/", "MaxKeys": 1}),
    Ask("s3", "put_bucket_versioning", {"Bucket": "answers", "VersioningConfiguration": {"Status": "Enabled"}}),
    Ask("s3", "delete_objects", {"Bucket": "answers", "Delete": POSTED}),
    Ask("s3", "list_object_versions", {"Bucket": "answers"}),
    Ask("s3", "delete_object", {"Bucket": "answers", "Key": "a b/&"}),
    Ask("s3", "get_bucket_policy", {"Bucket": "answers"}, "NoSuchBucketPolicy"),
    Ask("s3", "delete_bucket", {"Bucket": "answers"}, "BucketNotEmpty"),
]


def test_objects_are_served_as_by_the_web_framework(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two clouds get the same calls, one past moto's routes: status, headers and bodies are the same."""
    own, run = moto_calls.object_store, surface._run
    answers: list[list[Any]] = []
    direct_ones: list[bool] = []

    def counted(environ: Any) -> Any:
        made = own(environ)
        direct_ones.append(made is not None)
        return made

    def kept(*arguments: Any) -> Any:
        made = run(*arguments)
        headers = {name.lower(): without_moment(value) for name, value in made.headers}
        headers.pop("access-control-allow-origin", None)  # the framework's, if moto is loaded before the sandbox
        if made.body:  # which contains ids of any length
            assert headers.pop("content-length") == str(len(made.body))
        answers[-1].append((made.status, headers, without_moment(made.body.decode())))
        return made

    monkeypatch.setattr(surface, "_run", kept)
    make: Any = boto3.client
    for route in (counted, lambda _: None):
        monkeypatch.setattr(moto_calls, "object_store", route)
        answers.append([])
        with make_paper_cloud() as cloud:
            s3 = make("s3", **cloud.client())
            Direct(cloud.cloud.serve).attach(s3)
            for ask in OF_S3:
                answered(s3, ask)
    for ask, one, other in zip(OF_S3, *answers, strict=True):
        assert one == other, ask
    assert direct_ones.count(False) == 1, "the list of all buckets has no bucket in its path"


def without_moment(text: str) -> str:
    """Without what is random, or depends on the time."""
    times = r"\d{4}-\d\d-\d\dT[\d:.]+Z|\w{3}, \d\d \w{3} \d{4} [\d:]+ GMT"
    return re.sub(rf"{times}|[0-9a-f]{{8}}-[0-9a-f-]{{27}}|\b[\w-]{{50,}}", "one", text)


def without_ids(answer: Any) -> Any:
    """What two clouds have in common, the ids of which are random and decide the order."""
    if isinstance(answer, dict):
        return {name: without_ids(value) for name, value in answer.items()}
    if isinstance(answer, list):
        return sorted((without_ids(one) for one in answer), key=repr)
    if isinstance(answer, str):
        return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{17}|\bA[A-Z0-9]{15,}", "id", answer)
    return answer if isinstance(answer, int | bool | None) else type(answer).__name__


@pytest.mark.parametrize(
    "tree",
    [
        {"a": {"b": ()}},
        {"a": {"b": [], "c": None, "d": ["", "x"], "e": (True, 1.5)}},
        {"a": {"@b": "<&>", "#text": "<&>"}},
        {"a": {"": "x"}},
        {"a": {1: "x"}},
        {"a": {None: "x"}},
        {"": {"b": "x"}},
        {1: {"b": "x"}},
        {"a": {"#comment": "x"}},
    ],
    ids=repr,
)
@pytest.mark.parametrize("short", [False, True])
def test_any_tree_is_written_as_by_xmltodict(tree: Any, short: bool) -> None:
    moto_calls.remember()
    of_moto: Any = serialize

    def written(unparse: Callable[..., str]) -> str:
        try:
            return unparse(tree, short_empty_elements=short)
        except Exception as error:
            return repr(error)

    assert written(of_moto.xmltodict.unparse) == written(xmltodict.unparse)


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
