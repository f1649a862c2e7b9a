"""awscli against the sandbox, with nothing but the variables that `goldenami sandbox env` prints.

AWS_ENDPOINT_URL is understood by awscli 1.29 and 2.13, and later ones; those before are told --endpoint-url.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

if TYPE_CHECKING:
    from goldenami_sandbox.control import SandboxInfo

pytestmark = pytest.mark.root

HOME, ELSEWHERE = "eu-central-1", "eu-west-1"
DEBIAN = "136693071363"
PARAMETER = "/aws/service/debian/release/12/latest/amd64"


@dataclass(frozen=True)
class Cli:
    program: str
    flags: tuple[str, ...]
    environment: dict[str, str]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program, *self.flags, *words], env=self.environment, capture_output=True, text=True, timeout=120
        )

    def __call__(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, f"aws {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--output", "json") or "null")

    def text(self, *words: str) -> str:
        return self(*words, "--output", "text")


@pytest.fixture(scope="module")
def aws(real_sandbox: SandboxInfo) -> Cli:
    program = shutil.which("aws")
    if program is None:
        pytest.skip("AWSCLI IS NOT INSTALLED, so nothing shows that it works: apt-get install awscli")
    return configured(program, real_sandbox)


def configured(program: str, sandbox: SandboxInfo, account: str = "home") -> Cli:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {
        **sandbox.variables(account),
        "AWS_PAGER": "",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    banner = subprocess.run([program, "--version"], env=environment, capture_output=True, text=True, check=True)
    version = re.search(r"aws-cli/(\d+)\.(\d+)", banner.stdout + banner.stderr)
    assert version is not None, banner
    major, minor = int(version[1]), int(version[2])
    knows = (major, minor) >= ((2, 13) if major == 2 else (1, 29))
    return Cli(program, () if knows else ("--endpoint-url", environment["AWS_ENDPOINT_URL"]), environment)


@contextmanager
def launched(aws: Cli, image: str) -> Iterator[str]:
    instance = aws.text(
        "ec2", "run-instances", "--image-id", image, "--instance-type", "t3.small", "--query", "Instances[0].InstanceId"
    )
    try:
        yield instance
    finally:
        aws("ec2", "terminate-instances", "--instance-ids", instance)


def soon(sandbox: SandboxInfo, region: str, waiter: str, **request: Any) -> None:
    """awscli looks every 15 s: let the state be there when it first looks, so that the test does not wait for that."""
    client: Any = boto3.client("ec2", **sandbox.client(region))
    client.get_waiter(waiter).wait(**request, WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def test_who_one_is(aws: Cli) -> None:
    assert aws.text("sts", "get-caller-identity", "--query", "Account") == "111111111111"
    role = "arn:aws:iam::222222222222:role/goldenami-publisher"
    session = aws.json("sts", "assume-role", "--role-arn", role, "--role-session-name", "cli")["Credentials"]
    there = Cli(
        aws.program,
        aws.flags,
        {
            **aws.environment,
            "AWS_ACCESS_KEY_ID": session["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": session["SecretAccessKey"],
            "AWS_SESSION_TOKEN": session["SessionToken"],
        },
    )
    assert there.text("sts", "get-caller-identity", "--query", "Arn").endswith(
        "222222222222:assumed-role/goldenami-publisher/cli"
    )


def test_what_there_is(aws: Cli) -> None:
    regions = aws.json("ec2", "describe-regions", "--query", "Regions[].RegionName")
    assert {HOME, ELSEWHERE} <= set(regions)

    parameter = aws.text("ssm", "get-parameter", "--name", PARAMETER, "--query", "Parameter.Value")
    filters = ["--filters", "Name=name,Values=debian-12-*", "Name=architecture,Values=x86_64"]
    newest = "sort_by(Images,&CreationDate)[-1].ImageId"
    assert aws.text("ec2", "describe-images", "--owners", DEBIAN, *filters, "--query", newest) == parameter

    key = aws.json("kms", "describe-key", "--key-id", "alias/golden-ami")["KeyMetadata"]
    assert (key["Enabled"], key["KeySpec"]) == (True, "SYMMETRIC_DEFAULT")
    assert "alias/golden-ami" in aws.json("kms", "list-aliases", "--query", "Aliases[].AliasName")

    # A page of the service is smaller than what is asked for: the client goes on by the token.
    every = "Images[].[ImageId,Name]"
    there = ["--owners", DEBIAN, "--region", "us-east-1"]
    paged = aws.json("ec2", "describe-images", *there, "--page-size", "1", "--query", every)
    ids, names = [id for id, _ in paged], {name.rpartition("-2026")[0] for _, name in paged}
    first = aws.json("ec2", "describe-images", "--owners", DEBIAN, "--max-items", "1")
    assert len(ids) == len(set(ids)) >= 4, "no image is on two pages"
    assert names >= {"debian-12-amd64", "debian-13-amd64"}
    assert len(first["Images"]) == 1
    assert first["NextToken"]


def test_errors_are_told(aws: Cli) -> None:
    refused = aws.run("ec2", "run-instances", "--image-id", "ami-00000000000000000", "--instance-type", "t3.small")
    assert refused.returncode not in (0, 1)
    assert "(InvalidAMIID.NotFound)" in refused.stderr


def test_buckets(aws: Cli, tmp_path: Path) -> None:
    bucket = f"s3://peers-{os.path.basename(tmp_path).replace('_', '-').lower()}"  # noqa: PTH119
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(os.urandom(9 * 2**20))  # over 8 MiB awscli uploads in parts
    aws("s3", "mb", bucket)
    aws("s3", "cp", "--quiet", str(source), f"{bucket}/reports/source")
    assert aws("s3", "ls", f"{bucket}/reports/").split()[-2:] == [str(9 * 2**20), "source"]
    aws("s3", "cp", "--quiet", f"{bucket}/reports/source", str(back))
    assert back.read_bytes() == source.read_bytes()
    aws("s3", "rb", "--force", bucket)


@pytest.mark.nightly
def test_an_image_is_made_and_copied_encrypted(aws: Cli, real_sandbox: SandboxInfo) -> None:
    name = "peers-cli"
    base = aws.text("ssm", "get-parameter", "--name", PARAMETER, "--query", "Parameter.Value")
    with launched(aws, base) as instance:
        soon(real_sandbox, HOME, "instance_running", InstanceIds=[instance])
        aws("ec2", "wait", "instance-running", "--instance-ids", instance)
        aws("ec2", "create-tags", "--resources", instance, "--tags", f"Key=Name,Value={name}")
        found = aws.text(
            "ec2", "describe-instances",
            "--filters", f"Name=tag:Name,Values={name}", "Name=instance-state-name,Values=running",
            "--query", "Reservations[].Instances[].InstanceId",
        )  # fmt: skip
        assert found == instance
        image = aws.text(
            "ec2", "create-image", "--instance-id", instance, "--name", name, "--no-reboot",
            "--tag-specifications", f"ResourceType=image,Tags=[{{Key=Name,Value={name}}}]",
            "--query", "ImageId",
        )  # fmt: skip
    soon(real_sandbox, HOME, "image_available", ImageIds=[image])
    aws("ec2", "wait", "image-available", "--image-ids", image)

    copy = aws.text(
        "ec2", "copy-image", "--region", ELSEWHERE, "--source-region", HOME, "--source-image-id", image,
        "--name", name, "--encrypted", "--kms-key-id", "alias/golden-ami", "--query", "ImageId",
    )  # fmt: skip
    soon(real_sandbox, ELSEWHERE, "image_available", ImageIds=[copy])
    aws("ec2", "wait", "image-available", "--region", ELSEWHERE, "--image-ids", copy)
    there = aws.json("ec2", "describe-images", "--region", ELSEWHERE, "--image-ids", copy, "--query", "Images[0]")
    disk = there["BlockDeviceMappings"][0]["Ebs"]
    assert disk["Encrypted"] is True
    [snapshot] = aws.json(
        "ec2", "describe-snapshots", "--region", ELSEWHERE, "--snapshot-ids", disk["SnapshotId"],
        "--query", "Snapshots",
    )  # fmt: skip
    key = aws.text(
        "kms", "describe-key", "--region", ELSEWHERE, "--key-id", "alias/golden-ami", "--query", "KeyMetadata.Arn"
    )
    assert (snapshot["Encrypted"], snapshot["KmsKeyId"]) == (True, key)
    aws("ec2", "modify-image-attribute", "--region", ELSEWHERE, "--image-id", copy,
        "--launch-permission", "Add=[{UserId=222222222222}]")  # fmt: skip
    assert aws.text(
        "ec2", "describe-image-attribute", "--region", ELSEWHERE, "--image-id", copy,
        "--attribute", "launchPermission", "--query", "LaunchPermissions[].UserId",
    ) == "222222222222"  # fmt: skip
    for region, unwanted in ((HOME, image), (ELSEWHERE, copy)):
        aws("ec2", "deregister-image", "--region", region, "--image-id", unwanted)
