"""Credentials that end while a build runs: what can be renewed is, the rest is told as what it is."""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import boto3
import botocore.session
import pytest

from goldenami.aws import descriptions
from goldenami.errors import CredentialsRefused
from tests.worlds.ledgers import APPS_PLACE, HOME, HOME_PLACE, LOADER, make_cloud

if TYPE_CHECKING:
    from goldenami_sandbox.testing import PaperCloud

LIFE = 12.0  # seconds: by botocore's own clock, on a machine that is busy


@pytest.fixture
def paper(paper_cloud: Callable[..., PaperCloud], monkeypatch: pytest.MonkeyPatch) -> PaperCloud:
    paper = paper_cloud()
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", paper.endpoint)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    return paper


def session(paper: PaperCloud, seconds: float = 3600) -> Any:
    """Real temporary credentials, which the service refuses after that time."""
    arn = f"arn:aws:sts::{HOME.id}:assumed-role/pipeline/nightly"
    return paper.cloud.credentials.open_session(HOME.id, arn, "AROAPIPELINE:nightly", seconds)


def expire(paper: PaperCloud, keys: Any) -> None:
    """Their time is up."""
    every = paper.cloud.credentials.dump()
    paper.cloud.credentials.load(
        [{**s, "expires": 0} if s["access_key_id"] == keys.access_key_id else s for s in every]
    )


def caller() -> botocore.session.Session:
    made = botocore.session.Session()
    made.register_component("data_loader", LOADER)
    return made


def in_environment(monkeypatch: pytest.MonkeyPatch, keys: Any, expires: float | None = None) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys.secret_access_key)
    monkeypatch.setenv("AWS_SESSION_TOKEN", keys.session_token)
    if expires is not None:
        moment = datetime.now(UTC) + timedelta(seconds=expires)
        monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", moment.isoformat())


def test_static_ones_that_expired_are_told_as_such(paper: PaperCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = session(paper)
    in_environment(monkeypatch, keys)
    cloud = make_cloud(caller=caller())
    cloud.call(HOME_PLACE, "ec2", "DescribeVolumes")
    expire(paper, keys)
    for service, operation in (("ec2", "DescribeVolumes"), ("ssm", "DescribeParameters"), ("s3", "ListBuckets")):
        with pytest.raises(CredentialsRefused) as caught:
            cloud.call(HOME_PLACE, service, operation)
        assert caught.value.exit_code == 4
        assert "Renew them" in (caught.value.hint or "")


def test_static_ones_that_say_when_they_expire(paper: PaperCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore then asks the environment again, which nobody has changed."""
    cloud = make_cloud(caller=caller())
    in_environment(monkeypatch, session(paper), expires=LIFE)
    cloud.call(HOME_PLACE, "ec2", "DescribeVolumes")
    time.sleep(LIFE + 0.2)
    with pytest.raises(CredentialsRefused) as caught:
        cloud.call(HOME_PLACE, "ec2", "DescribeVolumes")
    assert "Log in again" in (caught.value.hint or "")


def test_a_role_cannot_be_renewed_with_a_caller_that_expired(
    paper: PaperCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the caller's credentials that are at fault, not the role's trust."""
    keys = session(paper)
    in_environment(monkeypatch, keys)
    cloud = make_cloud(caller=caller())
    cloud.caller()
    expire(paper, keys)
    with pytest.raises(CredentialsRefused) as caught:
        cloud.call(APPS_PLACE, "ec2", "DescribeVolumes")
    assert "trust" not in (caught.value.hint or "")


def test_those_of_a_process_are_renewed(paper: PaperCloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """credential_process: SSO helpers and vaults. Each time it is asked, it logs in anew."""
    calls = tmp_path / "calls"
    keys = [session(paper), session(paper)]
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps([[k.access_key_id, k.secret_access_key, k.session_token] for k in keys]))
    program = tmp_path / "login.py"
    program.write_text(
        "import json, sys, pathlib, datetime\n"
        f"calls = pathlib.Path({str(calls)!r})\n"
        "n = len(calls.read_text()) if calls.exists() else 0\n"
        "calls.write_text('x' * (n + 1))\n"
        f"answers = json.loads(pathlib.Path({str(answers)!r}).read_text())\n"
        "key, secret, token = answers[min(n, 1)]\n"
        "life = 5 if n == 0 else 3600\n"
        "expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=life)\n"
        "print(json.dumps({'Version': 1, 'AccessKeyId': key, 'SecretAccessKey': secret, 'SessionToken': token,\n"
        "                  'Expiration': expires.isoformat()}))\n"
    )
    config = tmp_path / "config"
    config.write_text(f"[default]\nregion = eu-central-1\ncredential_process = {sys.executable} {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    cloud = make_cloud(caller=caller())
    cloud.call(HOME_PLACE, "ec2", "DescribeVolumes")
    expire(paper, keys[0])
    cloud.call(HOME_PLACE, "ec2", "DescribeVolumes")
    assert len(calls.read_text()) == 2


def test_those_of_a_web_identity(paper: PaperCloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """GitLab's jobs and pods of EKS, in a process of the command line: what it keeps of STS has this call, too."""
    iam = cast(Any, boto3.client)("iam", **paper.client("eu-central-1", "home"))
    role, token, host = "pipeline", tmp_path / "token", "gitlab.example.com"
    given = iam.create_open_id_connect_provider(Url=f"https://{host}", ClientIDList=["sts.amazonaws.com"])
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": given["OpenIDConnectProviderArn"]},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {f"{host}:aud": "sts.amazonaws.com", f"{host}:sub": "main"}},
    }
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    arn = iam.create_role(RoleName=role, AssumeRolePolicyDocument=document)["Role"]["Arn"]
    now = int(time.time())
    claims = {"iss": f"https://{host}", "aud": "sts.amazonaws.com", "sub": "main", "iat": now, "exp": now + 3600}
    parts = [base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in ({}, claims, {})]
    token.write_text(".".join(parts))
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_ROLE_ARN", arn)
    monkeypatch.setenv("AWS_ROLE_SESSION_NAME", "gitlab-ann")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(descriptions._Process, "quickly", True)
    for _ in range(2):  # the second one finds the descriptions in the cache
        assert make_cloud(caller=None).caller().arn == f"arn:aws:sts::{HOME.id}:assumed-role/{role}/gitlab-ann"
        assert [*(tmp_path / "cache/goldenami/descriptions").iterdir()]


def test_the_cloud_tells_the_time(paper: PaperCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine's clock does between two answers."""
    in_environment(monkeypatch, session(paper, 60))
    cloud = make_cloud(caller=caller())
    with pytest.raises(Exception, match="Date"):
        cloud.now()
    cloud.caller()
    outside = time.monotonic()
    first = cloud.now()
    inside = time.monotonic()
    assert abs(first - datetime.now(UTC)) < timedelta(minutes=1)
    time.sleep(0.3)
    least = time.monotonic() - inside
    passed = (cloud.now() - first).total_seconds()
    assert least - 0.01 <= passed <= time.monotonic() - outside + 0.01, "the time that passed here"
    moments: list[datetime] = []
    end = time.monotonic() + 1.1  # over one full second of the Date header
    while time.monotonic() < end:
        cloud.call(HOME_PLACE, "ec2", "DescribeVolumes")
        moments += [cloud.now(), cloud.now()]
    assert moments == sorted(moments), "the whole seconds of a Date header do not turn time back"
