"""Real hosts: instances of the sandbox, reached over SSH."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from goldenami import ssh
from goldenami.model import SshEndpoint

if TYPE_CHECKING:
    from goldenami_sandbox.control import SandboxInfo

Launch = Callable[[str], SshEndpoint]


@pytest.fixture(scope="session")
def launch(real_sandbox: SandboxInfo) -> Iterator[Launch]:
    """Launches an instance of "debian-12" or "debian-13"; they are terminated at the end."""
    import boto3

    ec2 = boto3.client("ec2", **real_sandbox.client())
    key_name = f"provision-{uuid.uuid4().hex}"
    login = ssh.generate_keypair()
    ec2.import_key_pair(KeyName=key_name, PublicKeyMaterial=login.public_key.encode())
    launched: list[str] = []

    def make(release: str) -> SshEndpoint:
        host = ssh.generate_keypair()
        keys = {"ed25519_private": host.private_key, "ed25519_public": host.public_key}
        found = ec2.describe_images(
            Owners=["136693071363"], Filters=[{"Name": "name", "Values": [f"{release}-amd64-*"]}]
        )["Images"]
        image = max(found, key=lambda i: i["CreationDate"])
        reply = ec2.run_instances(
            ImageId=image["ImageId"],
            MinCount=1,
            MaxCount=1,
            InstanceType="t3.small",
            KeyName=key_name,
            UserData="#cloud-config\n" + json.dumps({"ssh_keys": keys}),
        )
        instance = reply["Instances"][0]["InstanceId"]
        launched.append(instance)
        ec2.get_waiter("instance_running").wait(InstanceIds=[instance], WaiterConfig={"Delay": 1, "MaxAttempts": 300})
        seen = ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
        address = seen.get("PublicIpAddress") or seen["PrivateIpAddress"]
        return SshEndpoint(address, "admin", login.private_key, host.public_key, instance_id=instance)

    yield make
    if launched:
        ec2.terminate_instances(InstanceIds=launched)
    ec2.delete_key_pair(KeyName=key_name)


@pytest.fixture(scope="session")
def endpoint(launch: Launch) -> SshEndpoint:
    """A Debian 12 host that several tests share."""
    return launch("debian-12")


@pytest.fixture
def connection(endpoint: SshEndpoint) -> Iterator[ssh.Connection]:
    with ssh.connect(endpoint, timeout=60) as made:
        yield made
