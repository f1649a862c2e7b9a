"""Signatures: a request is served only if its access key's secret signed it, in the header or in a presigned URL."""

from __future__ import annotations

import io
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from goldenami_sandbox.testing import PaperCloud

Clients = Callable[..., Any]
KEY = "a b/ü+x=&?.txt"


@pytest.mark.parametrize(
    ("service", "call", "arguments", "code"),
    [
        ("ec2", "describe_vpcs", {}, "AuthFailure"),
        ("sts", "get_caller_identity", {}, "SignatureDoesNotMatch"),
        ("iam", "list_users", {}, "SignatureDoesNotMatch"),
        ("kms", "list_keys", {}, "InvalidSignatureException"),
        ("ssm", "describe_parameters", {}, "InvalidSignatureException"),
        ("rbin", "list_rules", {"ResourceType": "EBS_SNAPSHOT"}, "InvalidSignatureException"),
        ("s3", "list_buckets", {}, "SignatureDoesNotMatch"),
    ],
)
def test_a_wrong_secret_key_is_refused(
    client: Clients, service: str, call: str, arguments: dict[str, Any], code: str
) -> None:
    getattr(client(service), call)(**arguments)
    with pytest.raises(ClientError, match=rf"\({code}\)"):
        getattr(client(service, aws_secret_access_key="wrong"), call)(**arguments)


def test_a_request_that_was_changed_after_signing_is_refused(client: Clients) -> None:
    changed = client("sts")

    def swap(request: Any, **_: Any) -> None:
        request.body = b"Action=GetSessionToken&Version=2011-06-15"
        request.headers["Content-Length"] = str(len(request.body))

    changed.meta.events.register_last("before-send.sts", swap)
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        changed.get_caller_identity()


def test_paths_and_streams_of_s3_are_verified_as_they_were_sent(client: Clients) -> None:
    s3 = client("s3")
    s3.create_bucket(Bucket="signed", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_object(Bucket="signed", Key=KEY, Body=b"hello")
    s3.put_object(Bucket="signed", Key="stream", Body=io.BytesIO(b"x" * 100_000))
    assert s3.get_object(Bucket="signed", Key=KEY)["Body"].read() == b"hello"
    assert s3.list_objects_v2(Bucket="signed", Prefix="a b/")["KeyCount"] == 1


def test_presigned_urls_are_verified(client: Clients) -> None:
    s3 = client("s3")
    s3.create_bucket(Bucket="presigned", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_object(Bucket="presigned", Key=KEY, Body=b"hello")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "presigned", "Key": KEY})
    assert urllib.request.urlopen(url).read() == b"hello"
    for wrong in (url[:-1] + ("0" if url[-1] != "0" else "1"), url.replace("presigned/", "presigned/another-")):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(wrong)
    identity = client("sts").generate_presigned_url("get_caller_identity", HttpMethod="GET")
    assert b"user/admin" in urllib.request.urlopen(identity).read()


def test_keys_of_users_and_sessions_sign_as_well(cloud: PaperCloud, client: Clients) -> None:
    key = client("iam").create_user(UserName="signer") and client("iam").create_access_key(UserName="signer")
    user = {"aws_access_key_id": key["AccessKey"]["AccessKeyId"]}
    assert (
        client("sts", **user, aws_secret_access_key=key["AccessKey"]["SecretAccessKey"])
        .get_caller_identity()["Arn"]
        .endswith("user/signer")
    )
    made = client("sts").get_session_token()["Credentials"]
    session = {"aws_access_key_id": made["AccessKeyId"], "aws_session_token": made["SessionToken"]}
    client("sts", **session, aws_secret_access_key=made["SecretAccessKey"]).get_caller_identity()
    for keys in (user, session):
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            client("sts", **keys, aws_secret_access_key="wrong").get_caller_identity()
