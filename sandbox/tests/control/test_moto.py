"""The version of moto that the corrections are made for, and what it does where the sandbox does something else.

Each gap is shown on moto alone, past the corrections. When a new moto closes one, its test here fails: the correction
can go.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any
from urllib.parse import urlencode

import boto3
import pytest
from goldenami_sandbox.http import Request, Response
from goldenami_sandbox.protocol import Call
from goldenami_sandbox.surface import Surface
from goldenami_sandbox.testing import PaperCloud

HOME = "111111111111"
REGION = "eu-central-1"


@pytest.fixture
def moto() -> Iterator[Surface]:
    surface = Surface()
    yield surface
    surface.close()


def ask(moto: Surface, service: str, action: str, **params: Any) -> Response:
    """moto's answer to a call: JSON services take the parameters as JSON, the others as a form."""
    targets = {"kms": "TrentService", "ssm": "AmazonSSM"}
    if service in targets:
        headers = {"x-amz-target": f"{targets[service]}.{action}", "content-type": "application/x-amz-json-1.1"}
        body = json.dumps(params).encode()
    else:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        versions = {"ec2": "2016-11-15", "sts": "2011-06-15"}
        body = urlencode({"Action": action, "Version": versions[service], **params}).encode()
    request = Request("POST", "/", "", headers, list(headers.items()), body)
    return moto.serve(Call(request, "id", "AKIAAAAAAAAAAAAAAAAA", REGION, service, None, account=HOME))


def test_the_version() -> None:
    assert version("moto") == "5.2.5"


def test_roles_need_not_exist(moto: Surface) -> None:
    arn = "arn:aws:iam::222222222222:role/nobody-made-this"
    assert ask(moto, "sts", "AssumeRole", RoleArn=arn, RoleSessionName="test").status == 200


def test_keys_cannot_be_disabled_by_arn(moto: Surface) -> None:
    arn = json.loads(ask(moto, "kms", "CreateKey").body)["KeyMetadata"]["Arn"]
    with pytest.raises(KeyError):
        ask(moto, "kms", "DisableKey", KeyId=arn)


def test_disabled_keys_still_encrypt(moto: Surface) -> None:
    key = json.loads(ask(moto, "kms", "CreateKey").body)["KeyMetadata"]["KeyId"]
    assert ask(moto, "kms", "DisableKey", KeyId=key).status == 200
    assert ask(moto, "kms", "Encrypt", KeyId=key, Plaintext="eA==").status == 200


def test_an_image_parameter_takes_anything(moto: Surface) -> None:
    reply = ask(moto, "ssm", "PutParameter", Name="/a", Value="ami-1", Type="String", DataType="aws:ec2:image")
    assert reply.status == 200


def test_the_source_version_is_not_merged(moto: Surface) -> None:
    data = {"LaunchTemplateData.ImageId": "ami-1", "LaunchTemplateData.InstanceType": "t3.small"}
    assert ask(moto, "ec2", "CreateLaunchTemplate", LaunchTemplateName="web", **data).status == 200
    more = {"LaunchTemplateData.ImageId": "ami-2", "SourceVersion": "1"}
    reply = ask(moto, "ec2", "CreateLaunchTemplateVersion", LaunchTemplateName="web", **more)
    assert b"ami-2" in reply.body
    assert b"t3.small" not in reply.body


def test_every_key_gets_a_private_key(moto: Surface) -> None:
    """Which costs a tenth of a second for each symmetric one; ``kms`` spares it."""
    with moto.active():
        from moto.kms.utils import RSAPrivateKey, generate_private_key

        assert isinstance(generate_private_key("SYMMETRIC_DEFAULT"), RSAPrivateKey)


def test_public_parameters_of_its_own_are_not_shown(paper_cloud: Any) -> None:
    """moto ships Amazon's parameters of years ago, which name no image of the sandbox."""
    cloud: PaperCloud = paper_cloud()
    ssm = boto3.client("ssm", **cloud.client())
    found = ssm.get_parameters_by_path(Path="/aws/service/ami-amazon-linux-latest", MaxResults=10)["Parameters"]
    assert sorted(item["Name"].rpartition("/")[2] for item in found) == [
        f"al2023-ami-kernel-{kernel}-{machine}" for kernel in ("6.1", "default") for machine in ("arm64", "x86_64")
    ]


def test_later_sessions_are_new(moto: Surface) -> None:
    """The session that has read the model of EC2 is for the load of moto only."""
    with moto.active():
        from moto.core import base_backend
        from moto.ec2.models import availability_zones_and_regions as zones

        assert vars(base_backend)["Session"] is vars(zones)["Session"] is boto3.Session


# --- what works in moto, and must go on working through our layers ----------------------------------------------------


def test_s3(paper_cloud: Any, tmp_path: Any) -> None:
    cloud: PaperCloud = paper_cloud()
    s3: Any = boto3.client("s3", **cloud.client())
    s3.create_bucket(Bucket="catalog", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket="catalog", Key="a b/ü", Body=b"1", Metadata={"my_key": "v"}, IfNoneMatch="*")
    with pytest.raises(s3.exceptions.ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket="catalog", Key="a b/ü", Body=b"2", IfNoneMatch="*")
    assert s3.head_object(Bucket="catalog", Key="a b/ü")["Metadata"] == {"my_key": "v"}
    big = tmp_path / "big"
    big.write_bytes(bytes(range(256)) * 40_000)  # in parts
    s3.upload_file(str(big), "catalog", "big")
    assert s3.get_object(Bucket="catalog", Key="big")["Body"].read() == big.read_bytes()
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "catalog", "Key": "a b/ü"})
    import urllib.request

    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url) as reply:
        assert reply.read() == b"1"
    # Buckets belong to the account that made them, and their names to all.
    other = boto3.client("s3", **cloud.client(account="apps"))
    assert other.list_buckets()["Buckets"] == []


def test_calls_are_cheap(paper_cloud: Any) -> None:
    """The layers cost well under a millisecond a call. Processor time: of the client, and of the cloud beside it."""
    cloud: PaperCloud = paper_cloud()
    sts = boto3.client("sts", **cloud.client())
    sts.get_caller_identity()
    before = time.process_time()
    for _ in range(100):
        sts.get_caller_identity()
    assert (time.process_time() - before) / 100 < 0.05
    assert min(call["ms"] for call in cloud.calls) < 5, "one of a hundred was not disturbed by others"
