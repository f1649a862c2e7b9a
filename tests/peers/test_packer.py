"""Packer builds against the sandbox as it does against AWS: an unmodified binary, and only its endpoint is set."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import boto3
import pytest
from botocore.config import Config

from goldenami import ssh

if TYPE_CHECKING:
    from goldenami_sandbox.control import SandboxInfo

pytestmark = [pytest.mark.root, pytest.mark.xdist_group("packer")]

HOME, ELSEWHERE = "eu-central-1", "eu-west-1"
DEBIAN, APPS = "136693071363", "222222222222"
NAME = "peers-packer"
TEMPLATE: dict[str, Any] = {
    "variables": {"endpoint": "{{env `AWS_ENDPOINT_URL`}}"},
    "builders": [
        {
            "type": "amazon-ebs",
            "custom_endpoint_ec2": "{{user `endpoint`}}",
            "region": HOME,
            "ami_name": NAME,
            "ami_regions": [HOME, ELSEWHERE],
            "ami_users": [APPS],
            "snapshot_users": [APPS],
            "encrypt_boot": True,
            "kms_key_id": "alias/golden-ami",
            "region_kms_key_ids": {HOME: "alias/golden-ami", ELSEWHERE: "alias/golden-ami"},
            "instance_type": "t3.small",
            "source_ami_filter": {
                "filters": {
                    "name": "debian-12-amd64-*",
                    "virtualization-type": "hvm",
                    "root-device-type": "ebs",
                },
                "owners": [DEBIAN],
                "most_recent": True,
            },
            "ssh_username": "admin",
            "tags": {"made-with": "packer", "base": "{{ .SourceAMIName }}"},
            "snapshot_tags": {"part": "snapshot"},
            "run_tags": {"part": "packer-builder"},
        }
    ],
    "provisioners": [
        {
            "type": "shell",
            "inline": ["echo 'made with packer' | sudo tee /etc/golden-image", "sudo chmod 600 /etc/golden-image"],
        }
    ],
    "post-processors": [{"type": "manifest", "output": "manifest.json"}],
}


def client(sandbox: SandboxInfo, service: str, region: str, account: str = "home") -> Any:
    return cast(Any, boto3.client)(
        service, **sandbox.client(region, account), config=Config(retries={"max_attempts": 1})
    )


def over_ssh(address: str, identity: Path, command: str) -> str:
    """What a command prints on an instance that may still be booting, by the ssh of the machine."""
    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes", "ConnectTimeout=5"]
    argv = ["ssh", "-F", "none", "-q", "-i", str(identity), *(f"-o{option}" for option in options)]
    deadline = time.monotonic() + 300
    while True:
        run = subprocess.run([*argv, f"admin@{address}", command], capture_output=True, text=True, timeout=120)
        if run.returncode != 255 or time.monotonic() > deadline:  # 255: ssh itself, no connection
            assert run.returncode == 0, run
            return run.stdout
        time.sleep(0.2)


@pytest.fixture(scope="module")
def packer() -> str:
    found = shutil.which("packer")
    if found is None:
        pytest.skip("PACKER IS NOT INSTALLED, so nothing shows that it works: apt-get install packer")
    return found


@pytest.fixture(scope="module")
def build(real_sandbox: SandboxInfo, packer: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The images that one run of Packer made, by region; they go with the sandbox."""
    directory = tmp_path_factory.mktemp("packer")
    (directory / "template.json").write_text(json.dumps(TEMPLATE))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PACKER_"))}
    run = subprocess.run(
        [packer, "build", "-color=false", "template.json"],
        cwd=directory,
        env={
            **environment,
            **real_sandbox.variables(),
            "AWS_POLL_DELAY_SECONDS": "1",  # 15 by default
            "CHECKPOINT_DISABLE": "1",  # it would ask its maker for news
            "PACKER_CONFIG_DIR": str(directory),
        },
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    artifact = json.loads(Path(directory, "manifest.json").read_text())["builds"][0]["artifact_id"]
    return dict(entry.split(":") for entry in artifact.split(","))


@pytest.mark.parametrize("region", [HOME, ELSEWHERE])
def test_the_images_are_encrypted_tagged_and_shared(
    real_sandbox: SandboxInfo, build: dict[str, str], region: str
) -> None:
    ec2 = client(real_sandbox, "ec2", region)
    key = client(real_sandbox, "kms", region).describe_key(KeyId="alias/golden-ami")["KeyMetadata"]["Arn"]

    [image] = ec2.describe_images(Owners=["self"], Filters=[{"Name": "name", "Values": [NAME]}])["Images"]
    assert image["ImageId"] == build[region]
    assert image["State"] == "available"
    tags = {tag["Key"]: tag["Value"] for tag in image["Tags"]}
    assert tags["made-with"] == "packer"
    assert tags["base"].startswith("debian-12-amd64-")
    [device] = image["BlockDeviceMappings"]
    assert device["Ebs"]["Encrypted"] is True

    [snapshot] = ec2.describe_snapshots(SnapshotIds=[device["Ebs"]["SnapshotId"]])["Snapshots"]
    assert (snapshot["State"], snapshot["Encrypted"], snapshot["KmsKeyId"]) == ("completed", True, key)
    assert {"Key": "part", "Value": "snapshot"} in snapshot["Tags"]

    permissions = ec2.describe_image_attribute(ImageId=image["ImageId"], Attribute="launchPermission")
    assert permissions["LaunchPermissions"] == [{"UserId": APPS}]
    volumes = ec2.describe_snapshot_attribute(SnapshotId=snapshot["SnapshotId"], Attribute="createVolumePermission")
    assert volumes["CreateVolumePermissions"] == [{"UserId": APPS}]
    theirs = client(real_sandbox, "ec2", region, "apps")
    assert theirs.describe_images(ImageIds=[image["ImageId"]])["Images"][0]["OwnerId"] != APPS


def test_an_instance_of_the_copy_has_what_was_provisioned(
    real_sandbox: SandboxInfo, build: dict[str, str], tmp_path: Path
) -> None:
    ec2 = client(real_sandbox, "ec2", ELSEWHERE)
    pair = ssh.generate_keypair()
    identity = tmp_path / "key"
    identity.touch(mode=0o600)
    identity.write_text(pair.private_key)
    ec2.import_key_pair(KeyName=NAME, PublicKeyMaterial=pair.public_key.encode())
    try:
        [instance] = ec2.run_instances(
            ImageId=build[ELSEWHERE], InstanceType="t3.small", MinCount=1, MaxCount=1, KeyName=NAME
        )["Instances"]
        try:
            ec2.get_waiter("instance_running").wait(
                InstanceIds=[instance["InstanceId"]], WaiterConfig={"Delay": 1, "MaxAttempts": 60}
            )
            [reservation] = ec2.describe_instances(InstanceIds=[instance["InstanceId"]])["Reservations"]
            address = reservation["Instances"][0]["PublicIpAddress"]
            assert over_ssh(address, identity, "sudo cat /etc/golden-image") == "made with packer\n"
        finally:
            ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    finally:
        ec2.delete_key_pair(KeyName=NAME)


def test_nothing_temporary_is_left(real_sandbox: SandboxInfo, build: dict[str, str]) -> None:
    for region in (HOME, ELSEWHERE):
        ec2 = client(real_sandbox, "ec2", region)
        reservations = ec2.describe_instances(Filters=[{"Name": "tag:part", "Values": ["packer-builder"]}])
        builders = [instance for entry in reservations["Reservations"] for instance in entry["Instances"]]
        assert len(builders) == (1 if region == HOME else 0)
        assert {instance["State"]["Name"] for instance in builders} <= {"terminated"}
        # The unencrypted image that was copied from, and its snapshot.
        for instance in builders:
            snapshots = ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
            assert not [entry for entry in snapshots if instance["InstanceId"] in entry["Description"]]
        assert not [pair for pair in ec2.describe_key_pairs()["KeyPairs"] if pair["KeyName"].startswith("packer_")]
        groups = ec2.describe_security_groups()["SecurityGroups"]
        assert not [group for group in groups if group["GroupName"].startswith("packer_")]
