"""What reads and what changes, and that the second kind needs an intent."""

from __future__ import annotations

import ast
import contextlib
import re
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import botocore.session
import pytest
from botocore.exceptions import BotoCoreError
from botocore.model import ServiceModel
from goldenami_sandbox.testing import PaperCloud, paper_cloud

import goldenami
from goldenami.aws.calls import TABLE
from goldenami.aws.guard import permitted, reads_only, refuse_unjournaled
from goldenami.aws.limits import PAGE_SIZES, page_size
from goldenami.aws.session import Cloud, next_page
from goldenami.errors import UnjournaledMutation, UnscopedRead
from goldenami.model import Account, Place
from tests.worlds import source

SERVICES = ("ec2", "ssm", "kms", "sts", "s3", "iam", "ebs")
# Verbs that change nothing in the services above; everything else must be refused.
HARMLESS = ("Describe", "Get", "List", "Head", "Search", "Simulate", "Lookup", "Validate", "BatchGet")


@pytest.fixture(scope="module")
def session() -> botocore.session.Session:
    return botocore.session.Session()


@pytest.mark.parametrize("service", SERVICES)
def test_everything_but_reading_verbs_is_refused(session: botocore.session.Session, service: str) -> None:
    model = session.get_service_model(service)
    let_through = {name for name in model.operation_names if reads_only(service, name)}
    exceptions = {name for name in let_through if not name.startswith(HARMLESS)}
    assert exceptions <= {
        "AssumeRole",
        "DecodeAuthorizationMessage",
        "Decrypt",
        "Encrypt",
        "GenerateDataKey",
        "GenerateDataKeyWithoutPlaintext",
        "Sign",
        "StartSession",  # a tunnel to an instance; it ends with its process
        "TerminateSession",
    }
    for name in set(model.operation_names) - let_through:
        with pytest.raises(UnjournaledMutation, match=f"{service}:{name}"):
            refuse_unjournaled(model.operation_model(name))


def test_a_permit_is_for_one_operation_in_one_thread(session: botocore.session.Session) -> None:
    model = session.get_service_model("ec2")
    with permitted("ec2", "CopyImage", "token"):
        refuse_unjournaled(model.operation_model("CopyImage"))
        with pytest.raises(UnjournaledMutation):
            refuse_unjournaled(model.operation_model("CreateImage"))
        elsewhere: list[BaseException] = []

        def other() -> None:
            try:
                refuse_unjournaled(model.operation_model("CopyImage"))
            except UnjournaledMutation as error:
                elsewhere.append(error)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert elsewhere
    with pytest.raises(UnjournaledMutation):
        refuse_unjournaled(model.operation_model("CopyImage"))


# --- every client of the product --------------------------------------------------------------------------------------

# What the product talks to, and what it might one day.
CLIENTS = ("ec2", "ssm", "kms", "sts", "s3", "ebs", "iam", "dlm", "autoscaling", "organizations", "sqs")


@pytest.fixture(scope="module")
def cloud() -> Iterator[tuple[Cloud, PaperCloud]]:
    home = Account("home", "111111111111")
    apps = Account("apps", "222222222222", "arn:aws:iam::222222222222:role/goldenami-publisher")
    with paper_cloud() as paper, pytest.MonkeyPatch.context() as patch:
        key = paper.key()
        patch.setenv("AWS_ENDPOINT_URL", paper.endpoint)
        patch.setenv("AWS_ACCESS_KEY_ID", key.access_key_id)
        patch.setenv("AWS_SECRET_ACCESS_KEY", key.secret_access_key)
        yield Cloud({"home": home, "apps": apps}, Place(home.id, "eu-central-1")), paper


@pytest.mark.parametrize("account", ["111111111111", "222222222222"], ids=["caller", "role"])
@pytest.mark.parametrize("service", CLIENTS)
def test_every_client_refuses_every_change(cloud: tuple[Cloud, PaperCloud], service: str, account: str) -> None:
    """The caller's clients and those of a role, in any region, asked by the event that botocore sends before a call."""
    client = cloud[0].client(service, Place(account, "eu-west-1"))
    model = client.meta.service_model
    # botocore signs a second request for CopySnapshot before it asks, which takes a whole one.
    changing = [n for n in model.operation_names if not reads_only(service, n) and n != "CopySnapshot"]
    assert changing
    body: object = {} if model.metadata["protocol"] in ("ec2", "query") else b""
    for name in changing:
        with pytest.raises(UnjournaledMutation):
            client.meta.events.emit(
                f"before-call.{model.service_id.hyphenize()}.{name}",
                model=model.operation_model(name),
                params={"body": body, "headers": {}, "url": "http://192.0.2.1/", "url_path": "/", "query_string": {}},
                request_signer=client._request_signer,
                context={},
            )


@pytest.mark.parametrize(
    ("service", "call", "arguments"),
    [
        ("ec2", "create_key_pair", {"KeyName": "forgotten"}),
        ("ec2", "delete_snapshot", {"SnapshotId": "snap-00000000000000000"}),
        ("ssm", "put_parameter", {"Name": "/forgotten", "Value": "x", "Type": "String"}),
        ("kms", "create_key", {}),
        ("s3", "create_bucket", {"Bucket": "forgotten"}),
        ("s3", "put_object", {"Bucket": "forgotten", "Key": "k", "Body": b"x"}),
        ("iam", "create_user", {"UserName": "forgotten"}),
    ],
)
@pytest.mark.parametrize("account", ["111111111111", "222222222222"], ids=["caller", "role"])
def test_nothing_of_a_forgotten_call_reaches_the_cloud(
    cloud: tuple[Cloud, PaperCloud], account: str, service: str, call: str, arguments: dict[str, object]
) -> None:
    ours, paper = cloud
    client = ours.client(service, Place(account, "eu-central-1"))
    before = len(paper.calls)
    with pytest.raises(UnjournaledMutation):
        getattr(client, call)(**arguments)
    sent = [entry["action"] for entry in paper.calls[before:]]
    assert not [action for action in sent if not reads_only(service, action)]


def test_no_client_is_made_anywhere_else() -> None:
    """One place makes clients, and it is the one that guards them."""
    makers = {"create_client", "client", "resource"}
    found = set()
    for name, tree in source.trees("create_client", "boto3", "botocore"):
        if "sandbox" in Path(name).parts:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in makers:
                owner = ast.unparse(node.func.value)
                if node.func.attr == "create_client" or owner in ("boto3", "botocore", "boto3.session"):
                    found.add((name, node.func.attr))
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "boto3":
                found.add((name, "boto3"))
    assert found == {("aws/session.py", "create_client")}


# --- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("describe_images", {}),
        ("describe_images", {"Filters": [{"Name": "name", "Values": ["debian-12-*"]}]}),
        ("describe_images", {"Owners": []}),
        ("describe_snapshots", {"MaxResults": 1000}),
        ("describe_snapshots", {"Filters": [{"Name": "tag:Name", "Values": ["web"]}]}),
    ],
)
def test_public_images_and_snapshots_are_never_searched(
    cloud: tuple[Cloud, PaperCloud], call: str, arguments: dict[str, object]
) -> None:
    ours, paper = cloud
    before = len(paper.calls)
    with pytest.raises(UnscopedRead):
        getattr(ours.client("ec2", Place("111111111111", "eu-central-1")), call)(**arguments)
    assert "Describe" not in str([entry["action"] for entry in paper.calls[before:]])


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("describe_images", {"Owners": ["self"]}),
        ("describe_images", {"Filters": [{"Name": "image-id", "Values": ["ami-0123456789abcdef0"]}]}),
        ("describe_snapshots", {"OwnerIds": ["self"]}),
        ("describe_snapshots", {"Filters": [{"Name": "volume-id", "Values": ["vol-0123456789abcdef0"]}]}),
    ],
)
def test_own_and_named_images_and_snapshots_are_read(
    cloud: tuple[Cloud, PaperCloud], call: str, arguments: dict[str, object]
) -> None:
    getattr(cloud[0].client("ec2", Place("111111111111", "eu-central-1")), call)(**arguments)


def listed_operations() -> set[tuple[str, str]]:
    """The operations whose pages the product reads, by its source: pages(place, "service", "Operation", …)."""
    found = set()
    for file in Path(goldenami.__file__).parent.rglob("*.py"):
        text = file.read_text()
        found |= set(re.findall(r'(?<!_)pages\(\s*\w+(?:\.\w+)*,\s*"(\w+)",\s*"(\w+)"', text))
        # Kinds and waits have the operation as data; both are of EC2.
        found |= {("ec2", name) for name in re.findall(r'"(Describe\w+|List\w+InRecycleBin)"', text) if "ec2" in text}
    return {
        (service, name) for service, name in found if {"NextToken", "nextToken", "Marker"} & parameters(service, name)
    }


@cache
def described(service: str) -> ServiceModel:
    return botocore.session.get_session().get_service_model(service)


@cache
def parameters(service: str, name: str) -> set[str]:
    """The parameters of an operation; none if there is no such operation."""
    if name not in described(service).operation_names:
        return set()
    shape = described(service).operation_model(name).input_shape
    return set() if shape is None else set(shape.members)


def test_every_list_has_a_page_size() -> None:
    """One test for all: to find the operations, botocore reads its models, and every worker would do that."""
    listed = sorted(listed_operations())
    assert len(listed) > 30
    for operation in listed:
        sizes = {"MaxResults", "maxResults", "MaxRecords", "Limit", "MaxItems"} & parameters(*operation)
        known = operation in PAGE_SIZES
        assert known == bool(sizes), operation
        assert not known or PAGE_SIZES[operation][0] in sizes, operation


@cache
def with_pages() -> dict[str, dict[str, str]]:
    """The calls of the product that have pages, with the names that botocore has for the tokens."""
    session, found = botocore.session.get_session(), {}
    for row in TABLE:
        with contextlib.suppress(BotoCoreError, ValueError):  # no paginators, or none of this operation
            found[row.name] = session.get_paginator_model(row.service).get_paginator(row.operation)
    return found


# Read without pages: by names or ids, fewer than a page has; and S3's keys, which s3.py reads by pages of its own.
ONE_PAGE = {"autoscaling:DescribeAutoScalingInstances", "s3:ListObjectsV2"}


def test_the_next_page_of_every_list_is_asked_for_as_botocore_does() -> None:
    assert next_page({}) == {}
    read = sorted(set(with_pages()) - ONE_PAGE)
    assert len(read) > 30
    for name in read:
        names = with_pages()[name]
        assert next_page({names["output_token"]: "more"}) == {names["input_token"]: "more"}, name
        assert next_page({names["output_token"]: ""}) == {}, name


def test_every_call_that_has_pages_is_read_by_pages() -> None:
    once = set()
    for file in Path(goldenami.__file__).parent.rglob("*.py"):
        found = re.findall(r'\.call\(\s*\w+(?:\.\w+)*,\s*"([\w-]+)",\s*"(\w+)"', file.read_text())
        once |= {f"{service}:{operation}" for service, operation in found}
    # Besides those: one template's default and latest version, one instance type, and the newest activities of a group.
    named = {
        "autoscaling:DescribeScalingActivities",
        "ec2:DescribeInstanceTypes",
        "ec2:DescribeLaunchTemplateVersions",
    }
    assert once & set(with_pages()) == ONE_PAGE | named


def test_a_request_with_ids_has_no_page_size() -> None:
    assert page_size("ec2", "DescribeInstances", {"InstanceIds": ["i-0123456789abcdef0"]}) == {}
    assert page_size("ec2", "DescribeSnapshots", {"OwnerIds": ["self"]}) == {"MaxResults": 1000}
