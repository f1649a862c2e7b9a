"""Signatures: a request is served only if its access key's secret signed it, in the header or in a presigned URL."""

from __future__ import annotations

import http.client
import io
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from goldenami_sandbox.controlpoint import ControlPoint
from goldenami_sandbox.http import Server
from goldenami_sandbox.testing import PaperCloud, paper_cloud

Clients = Callable[..., Any]
KEY = "a b/ü+x=&?.txt"
get = urllib.request.build_opener(urllib.request.ProxyHandler({})).open  # the machine's proxy does not reach loopback


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
    assert get(url).read() == b"hello"
    for wrong in (url[:-1] + ("0" if url[-1] != "0" else "1"), url.replace("presigned/", "presigned/another-")):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            get(wrong)
    identity = client("sts").generate_presigned_url("get_caller_identity", HttpMethod="GET")
    assert b"user/admin" in get(identity).read()


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


# --- their time -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "call", "minutes", "code"),
    [
        ("ec2", "describe_vpcs", 6, "RequestExpired"),
        ("ec2", "describe_vpcs", -6, "RequestExpired"),
        ("sts", "get_caller_identity", 6, "SignatureDoesNotMatch"),
        ("kms", "list_keys", 6, "InvalidSignatureException"),
        ("s3", "list_buckets", 16, "RequestTimeTooSkewed"),
        ("sts", "get_caller_identity", 4, None),
        ("s3", "list_buckets", 14, None),
    ],
)
def test_a_signature_is_of_now(
    client: Clients, monkeypatch: pytest.MonkeyPatch, service: str, call: str, minutes: int, code: str | None
) -> None:
    asked = client(service)
    moment = datetime.now(UTC).replace(tzinfo=None) - timedelta(minutes=minutes)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_, **__: moment)
    if code is None:
        getattr(asked, call)()
        return
    with pytest.raises(ClientError, match=rf"\({code}\)"):
        getattr(asked, call)()


def test_a_presigned_url_ends(client: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    s3, now = client("s3"), time.time
    s3.create_bucket(Bucket="short", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_object(Bucket="short", Key="a", Body=b"hello")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "short", "Key": "a"}, ExpiresIn=60)
    assert get(url).read() == b"hello"
    monkeypatch.setattr("goldenami_sandbox.credentials.time.time", lambda: now() + 61)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        get(url)
    longest = s3.generate_presigned_url("get_object", Params={"Bucket": "short", "Key": "a"}, ExpiresIn=8 * 86400)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        get(longest)


# --- who may call at all ----------------------------------------------------------------------------------------------


def test_an_administrators_key_is_good_for_one_sandbox_only(cloud: PaperCloud, client: Clients) -> None:
    """It cannot be computed from what is known of every sandbox."""
    with paper_cloud() as another:
        theirs = another.key()
    ours = cloud.key()
    assert theirs.access_key_id == ours.access_key_id
    assert theirs.secret_access_key != ours.secret_access_key
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        client("sts", aws_secret_access_key=theirs.secret_access_key).get_caller_identity()


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"Host": "evil.example"}, "the header Host is 'evil.example'"),
        ({"Host": "127.0.0.1.evil.example:80"}, "the header Host"),
        ({"Host": ""}, "the header Host"),
        ({"Origin": "https://evil.example"}, "a page of https://evil.example"),
        ({"Origin": "null"}, "a page of null"),
        ({"Sec-Fetch-Site": "cross-site"}, "a page of another origin"),
        ({"Sec-Fetch-Site": "same-site"}, "a page of another origin"),
        ({}, None),
        ({"Host": "localhost:1234"}, None),
        ({"Host": "bucket.localhost:1234"}, None),
        ({"Host": "[::1]:1234"}, None),
        ({"Origin": "http://127.0.0.1:8080", "Sec-Fetch-Site": "same-origin"}, None),
    ],
)
def test_pages_of_other_origins_are_refused(cloud: PaperCloud, headers: dict[str, str], reason: str | None) -> None:
    server = Server(ControlPoint(cloud.cloud, cloud.node, "default", "token", time.time))
    server.serve_in_thread()
    try:
        before = len(cloud.calls)
        for path in ("/?Action=DescribeInstances&Version=2016-11-15", "/_sandbox/status"):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            connection.putrequest("GET", path, skip_host=True)
            for name, value in {"Host": f"127.0.0.1:{server.port}", **headers, "X-Sandbox-Token": "token"}.items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            text = answer.read().decode()
            if reason is not None:
                assert answer.status == 403
                assert reason in text
            connection.close()
        assert (len(cloud.calls) == before) == (reason is not None), "what is refused is not even looked at"
    finally:
        server.close()
