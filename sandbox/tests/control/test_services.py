"""The registry of services, and what botocore's models say of requests."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, cast
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.model import OperationModel
from goldenami_sandbox import constraints, models
from goldenami_sandbox.cloud import Cloud
from goldenami_sandbox.credentials import Identity
from goldenami_sandbox.direct import Direct
from goldenami_sandbox.ec2.paper import PaperNode
from goldenami_sandbox.http import Request, Response
from goldenami_sandbox.protocol import Call
from goldenami_sandbox.services import Service, registered, service
from goldenami_sandbox.testing import PaperCloud


class Schemas(Service):
    """A service as somebody would add it: signed as "schemas", which moto has too."""

    def serve(self, call: Call, identity: Identity) -> Response | None:
        if call.action != "ListRegistries":
            return None
        self.asked = getattr(self, "asked", 0) + 1
        return Response(
            200, json.dumps({"Registries": [{"RegistryName": f"{identity.account} {self.asked}"}]}).encode()
        )

    def settle(self) -> None:
        self.settled = self.world.clock()

    def dump(self) -> Any:
        return {"asked": getattr(self, "asked", 0)}

    def load(self, state: Any) -> None:
        self.asked = state["asked"]


@pytest.fixture
def cloud() -> Iterator[Callable[[], Cloud]]:
    made: list[Cloud] = []

    def make() -> Cloud:
        node = PaperNode()
        node.start()
        made.append(Cloud(node, clock=time.time, sleep=time.sleep, kinds={**registered(), "schemas": Schemas}))
        return made[-1]

    yield make
    for one in made:
        one.close()


def client(cloud: Cloud, name: str) -> Any:
    key = PaperCloud("", cloud.accounts, cloud, PaperNode()).client()
    made = cast(Any, boto3.client)(name, **{**key, "endpoint_url": "http://127.0.0.1:1"})
    Direct(cloud.serve).attach(made)
    return made


def test_a_service_is_one_class(cloud: Callable[[], Cloud]) -> None:
    """It answers, moto answers the rest, others go on, and its state is kept."""
    before = cloud()
    schemas = client(before, "schemas")
    assert schemas.list_registries()["Registries"] == [{"RegistryName": "111111111111 1"}]
    with pytest.raises(schemas.exceptions.ClientError, match="does not have schemas:ListDiscoverers"):
        schemas.list_discoverers()
    assert client(before, "sts").get_caller_identity()["Account"] == "111111111111"
    assert before.services.of(Schemas).settled > 0
    own, services = before.dump()
    after = cloud()
    after.load(json.loads(json.dumps(own)), services)
    assert client(after, "schemas").list_registries()["Registries"] == [{"RegistryName": "111111111111 2"}]


def test_a_service_that_a_state_does_not_know_begins_empty(cloud: Callable[[], Cloud]) -> None:
    own, services = cloud().dump()
    del own["services"]["dlm"]
    after = cloud()
    after.load(own, services)
    assert client(after, "dlm").get_lifecycle_policies()["Policies"] == []


def test_names_are_taken_once() -> None:
    assert {"dlm", "ebs", "ec2", "iam", "kms", "rbin", "ssm", "sts"} <= set(registered())
    with pytest.raises(ValueError, match="rbin is registered twice"):
        service("rbin")(Schemas)


# What the modules need of others is loaded once. Each module is then the first of its package in a process.
IMPORT_EACH_FIRST = """
import os, sys
import boto3, moto.core.models, pydantic, cryptography.x509
for name in sys.argv[1:]:
    assert not any(loaded.startswith("goldenami_sandbox") for loaded in sys.modules)
    if (child := os.fork()) == 0:
        __import__(name)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, name
"""


def test_every_module_can_be_imported_first() -> None:
    """No cycle among the modules hangs on the order in which they are imported."""
    names = [
        "goldenami_sandbox.services." + name
        for name in ("dlm", "ebs", "ec2", "iam", "kms", "lookups", "rbin", "ssm", "sts")
    ]
    names += ["goldenami_sandbox.seed", "goldenami_sandbox.models", "goldenami_sandbox.contents"]
    subprocess.run([sys.executable, "-c", IMPORT_EACH_FIRST, *names], check=True)


# --- the models -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dlm", "ebs", "lambda", "rbin", "route53", "s3"])
def test_every_action_is_known_by_its_request(name: str) -> None:
    """botocore makes the request of each action, with all that is required; its action is told from it."""
    client = cast(Any, boto3.client)(
        name,
        region_name="eu-central-1",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="secret",
        endpoint_url="http://127.0.0.1:1",
    )
    ambiguous = {
        "ListDirectoryBuckets",  # as ListBuckets, at another endpoint
        "WriteGetObjectResponse",  # at another endpoint
    }

    def catch(params: dict[str, Any], **_: Any) -> None:
        headers = {key.lower(): str(value) for key, value in params["headers"].items()}
        url = urlsplit(params["url"])  # S3's paths begin with the bucket only here
        raise Made(Request(params["method"], url.path, url.query, headers, [], b""))

    client.meta.events.register_first("before-call", catch)
    found = client.meta.service_model
    for action in found.operation_names:
        model = found.operation_model(action)
        if not model.deprecated and action not in ambiguous:
            with pytest.raises(Made) as made:
                client._make_api_call(action, _least(model))
            assert models.action(name, made.value.request) == action, made.value.request


class Made(Exception):
    """Ends a call of a client once its request is made."""

    def __init__(self, request: Request) -> None:
        super().__init__()
        self.request = request


def _least(model: OperationModel) -> dict[str, Any]:
    """What an action requires, with any value of its type."""

    def value(shape: Any) -> Any:
        match shape.type_name:
            case "structure":
                names = list(shape.members)[:1] if shape.is_tagged_union else shape.required_members
                return {name: value(shape.members[name]) for name in names}
            case "list":
                return [value(shape.member)] * max(1, shape.metadata.get("min", 1))
            case "map":
                return {}
            case "integer" | "long" | "float" | "double":
                return max(1, shape.metadata.get("min", 1))
            case "boolean":
                return True
            case "timestamp":
                return 0
            case "blob":
                return b"x"
        least = shape.metadata.get("min", 1)
        return shape.enum[0] if shape.enum else "x" * max(3, least)

    return dict(value(model.input_shape)) if model.input_shape is not None else {}


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "action"),
    [
        ("GET", "/", "", {}, "ListBuckets"),
        ("GET", "/bucket", "list-type=2&prefix=a", {}, "ListObjectsV2"),
        ("GET", "/bucket/", "prefix=a", {}, "ListObjects"),
        ("GET", "/bucket/a/b", "", {}, "GetObject"),
        ("GET", "/bucket/a/", "", {}, "GetObject"),
        ("GET", "/bucket/a%2Fb", "acl", {}, "GetObjectAcl"),
        ("PUT", "/bucket", "", {}, "CreateBucket"),
        ("PUT", "/bucket/a", "", {}, "PutObject"),
        ("PUT", "/bucket/a", "", {"x-amz-copy-source": "b/c"}, "CopyObject"),
        ("PUT", "/bucket/a", "partNumber=1&uploadId=u", {}, "UploadPart"),
        ("PUT", "/bucket/a", "partNumber=1&uploadId=u", {"x-amz-copy-source": "b/c"}, "UploadPartCopy"),
        ("POST", "/bucket/a", "uploads", {}, "CreateMultipartUpload"),
        ("POST", "/bucket/a", "uploadId=u", {}, "CompleteMultipartUpload"),
        ("POST", "/bucket", "delete", {}, "DeleteObjects"),
        ("GET", "/bucket", "versioning", {}, "GetBucketVersioning"),
        ("PATCH", "/bucket", "", {}, None),
    ],
)
def test_actions_of_s3(method: str, path: str, query: str, headers: dict[str, str], action: str | None) -> None:
    assert models.action("s3", Request(method, path, query, headers, [], b"")) == action


def test_parameters_come_from_path_query_and_body() -> None:
    arn = "arn:aws:dlm:eu-central-1:111111111111:policy/policy-1"
    path = "/tags/" + arn.replace(":", "%3A").replace("/", "%2F")
    untag = Request("DELETE", path, "tagKeys=b&tagKeys=a", {}, [], b"")
    assert models.action("dlm", untag) == "UntagResource"
    assert models.parameters("dlm", "UntagResource", untag) == {"ResourceArn": arn, "TagKeys": ["b", "a"]}
    page = Request("GET", "/snapshots/snap-1/blocks", "maxResults=100&startingBlockIndex=x", {}, [], b"")
    found = models.parameters("ebs", "ListSnapshotBlocks", page)
    assert found == {"SnapshotId": "snap-1", "MaxResults": 100, "StartingBlockIndex": "x"}
    shape = models.input_shape("ebs", "ListSnapshotBlocks")
    assert [str(problem) for problem in constraints.check("ebs", shape, found, typed=False)] == [
        "Value 'x' at 'startingBlockIndex' failed to satisfy constraint: Member must be of the type integer"
    ]
    rule = Request("PATCH", "/rules/abc", "", {}, [], b'{"Description": "x", "unknown": 1}')
    assert models.parameters("rbin", "UpdateRule", rule) == {"Identifier": "abc", "Description": "x"}


def test_unknown_services_and_paths_have_no_action() -> None:
    assert models.action("no-such-service", Request("GET", "/x", "", {}, [], b"")) is None
    assert models.action("dlm", Request("GET", "/nothing/here", "", {}, [], b"")) is None
    assert models.action("ec2", Request("POST", "/", "", {}, [], b"")) is None
