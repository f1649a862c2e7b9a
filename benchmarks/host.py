"""A host to measure on: an instance of the sandbox."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import boto3
from goldenami_sandbox import control

from goldenami import ssh
from goldenami.model import SshEndpoint


@contextmanager
def launched(info: control.SandboxInfo, release: str = "debian-12") -> Iterator[SshEndpoint]:
    """An instance of a Debian release; when the block is entered it answers over SSH."""
    ec2 = boto3.client("ec2", **info.client())
    found = ec2.describe_images(Filters=[{"Name": "name", "Values": [f"{release}-amd64-*"]}])["Images"]
    image = max(found, key=lambda i: i["CreationDate"])["ImageId"]
    login, host_key = ssh.generate_keypair(), ssh.generate_keypair()
    ec2.import_key_pair(KeyName="bench", PublicKeyMaterial=login.public_key)
    keys = {"ed25519_private": host_key.private_key, "ed25519_public": host_key.public_key}
    instance = ""
    try:
        answer = ec2.run_instances(
            ImageId=image,
            InstanceType="t3.small",
            MinCount=1,
            MaxCount=1,
            KeyName="bench",
            UserData="#cloud-config\n" + json.dumps({"ssh_keys": keys}),
        )["Instances"][0]
        instance = answer["InstanceId"]
        endpoint = SshEndpoint(answer["PrivateIpAddress"], "admin", login.private_key, host_key.public_key)
        with ssh.connect(endpoint, timeout=60) as connection:
            assert connection.run("true").status == 0
        yield endpoint
    finally:
        if instance:
            ec2.terminate_instances(InstanceIds=[instance])
        ec2.delete_key_pair(KeyName="bench")
