"""EC2 over a node on paper and an in-memory rest of the cloud, called with boto3 without any socket."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qsl

import boto3
import pytest
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError
from goldenami_sandbox.ec2.hooks import (
    DataKeyPair,
    InstanceProfile,
    KeyInfo,
    KeyPair,
    KeyRefused,
    LaunchTemplate,
    SecurityGroup,
    Subnet,
)
from goldenami_sandbox.ec2.paper import PaperNode
from goldenami_sandbox.ec2.service import Ctx, Ec2
from goldenami_sandbox.policy import Caller
from goldenami_sandbox.settings import Settings

HOME, APPS = "111111111111", "222222222222"
REGION = "eu-central-1"
DEBIAN = "136693071363"
NOW = 1795000000.0  # 2026-11-18


class ManualClock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Key:
    info: KeyInfo
    allowed: set[str]


@dataclass
class MemoryHooks:
    """The rest of the cloud: two default networks, keys with the accounts that may use them."""

    key_pairs: dict[tuple[str, str, str], KeyPair] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    aliases: dict[tuple[str, str, str], str] = field(default_factory=dict)
    templates: dict[str, LaunchTemplate] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    _wrapped: dict[bytes, tuple[str, bytes]] = field(default_factory=dict)

    def key_pair(self, account: str, region: str, name: str) -> KeyPair | None:
        return self.key_pairs.get((account, region, name))

    def security_group(self, account: str, region: str, group: str, vpc_id: str | None = None) -> SecurityGroup | None:
        if group in ("default", "sg-00000001"):
            return SecurityGroup("sg-00000001", "default", "vpc-00000001")
        if group in ("builder", "sg-00000002"):
            return SecurityGroup("sg-00000002", "builder", "vpc-00000001")
        if group == "sg-00000009":
            return SecurityGroup("sg-00000009", "elsewhere", "vpc-00000009")
        return None

    def subnet(
        self, account: str, region: str, subnet_id: str | None, availability_zone: str | None = None
    ) -> Subnet | None:
        if subnet_id not in (None, "subnet-00000001", "subnet-00000002"):
            return None
        private = subnet_id == "subnet-00000002"
        zone = availability_zone or f"{region}a"
        return Subnet(subnet_id or "subnet-00000001", "vpc-00000001", zone, "172.31.0.0/20", account, not private)

    def add_key(self, account: str, region: str, alias: str, *allowed: str, **fields: Any) -> str:
        arn = f"arn:aws:kms:{region}:{account}:key/{secrets.token_hex(8)}"
        self.keys[arn] = Key(KeyInfo(arn, account, region, **{"enabled": True, **fields}), {account, *allowed})
        self.aliases[account, region, alias] = arn
        return arn

    def change_key(self, arn: str, **fields: Any) -> None:
        old = self.keys[arn].info
        values = {name: getattr(old, name) for name in old.__slots__}
        self.keys[arn].info = KeyInfo(**{**values, **fields})

    def kms_resolve(self, account: str, region: str, key: str) -> KeyInfo | None:
        arn = self.aliases.get((account, region, key), key)
        return self.keys[arn].info if arn in self.keys else None

    def _check(self, key_arn: str, account: str) -> None:
        key = self.keys[key_arn]
        if not key.info.enabled:
            raise KeyRefused("DisabledException", f"{key_arn} is disabled.")
        if account not in key.allowed:
            raise KeyRefused("AccessDeniedException", f"account {account} may not use {key_arn}")

    def kms_generate(self, key_arn: str, caller: Caller, source: str | None = None) -> DataKeyPair:
        self._check(key_arn, caller.account)
        plain, wrapped = secrets.token_bytes(32), secrets.token_bytes(48)
        self._wrapped[wrapped] = (key_arn, plain)
        return DataKeyPair(plain, wrapped)

    def kms_decrypt(self, wrapped: bytes, key_arn: str, caller: Caller) -> bytes:
        self._check(key_arn, caller.account)
        arn, plain = self._wrapped[wrapped]
        assert arn == key_arn
        return plain

    def spot_role(self, caller: Caller) -> bool:
        return True

    def kms_serves_spot(self, key_arn: str, account: str) -> bool:
        return True

    def default_key(self, account: str, region: str) -> KeyInfo:
        if (account, region, "alias/aws/ebs") not in self.aliases:
            self.add_key(account, region, "alias/aws/ebs", aws_managed=True)
        return self.keys[self.aliases[account, region, "alias/aws/ebs"]].info

    def launch_template(self, account: str, region: str, template: str, version: str | None) -> LaunchTemplate | None:
        return self.templates.get(f"{template}:{version or '$Default'}")

    def launch_templates(self, account: str, region: str) -> list[list[LaunchTemplate]]:
        raise NotImplementedError("reports of an image's usage are tested in a whole cloud")

    def image_parameters(self, account: str, region: str) -> dict[str, str]:
        raise NotImplementedError("reports of an image's usage are tested in a whole cloud")

    def ssm_image(self, account: str, region: str, parameter: str) -> str | None:
        return self.parameters.get(parameter)

    def instance_profile(self, account: str, name_or_arn: str) -> InstanceProfile | None:
        if name_or_arn.rpartition("/")[2] != "builder":
            return None
        return InstanceProfile(f"arn:aws:iam::{account}:instance-profile/builder", "AIPA1", "builder")


class _Raw:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self._body


@dataclass
class Rig:
    """One cloud, and clients of it for any account and region."""

    ec2: Ec2
    node: PaperNode
    hooks: MemoryHooks
    clock: ManualClock
    image: str = ""
    _clients: dict[tuple[str, str], Any] = field(default_factory=dict)

    def client(self, account: str = HOME, region: str = REGION) -> Any:
        if (account, region) not in self._clients:
            client = boto3.client(
                "ec2",
                region_name=region,
                aws_access_key_id="AKIDEXAMPLE",
                aws_secret_access_key="secret",
                config=Config(retries={"max_attempts": 1}, parameter_validation=False),
            )

            def send(request: AWSRequest, **_: Any) -> AWSResponse:
                body = request.body
                text = body.decode() if isinstance(body, bytes) else str(body)
                form = dict(parse_qsl(text, keep_blank_values=True))
                ctx = Ctx(account, region, f"arn:aws:iam::{account}:root", "req-1")
                status, answer = self.ec2.respond(ctx, form)
                assert request.url is not None
                assert isinstance(answer, bytes)
                headers: Any = {"Content-Type": "text/xml"}
                return AWSResponse(request.url, status, headers, _Raw(answer))

            client.meta.events.register("before-send.ec2", cast(Any, send))  # its stubs allow no answer
            self._clients[account, region] = client
        return self._clients[account, region]

    def set(self, **change: Any) -> None:
        """Change settings, in their JSON form."""
        self.ec2.settings = self.ec2.settings.merged(change)

    def settle(self) -> None:
        assert self.ec2.settle(20)

    def run(self, account: str = HOME, region: str = REGION, **params: Any) -> dict[str, Any]:
        """Launch one instance and wait until nothing is under way."""
        request = {"ImageId": self.image, "InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1, **params}
        instance = self.client(account, region).run_instances(**request)["Instances"][0]
        self.settle()
        return dict(instance)

    def instance(self, instance_id: str, account: str = HOME, region: str = REGION) -> dict[str, Any]:
        found = self.client(account, region).describe_instances(InstanceIds=[instance_id])
        return dict(found["Reservations"][0]["Instances"][0])

    def image_of(self, image_id: str, account: str = HOME, region: str = REGION) -> dict[str, Any]:
        return dict(self.client(account, region).describe_images(ImageIds=[image_id])["Images"][0])

    def snapshot(self, snapshot_id: str, account: str = HOME, region: str = REGION) -> dict[str, Any]:
        return dict(self.client(account, region).describe_snapshots(SnapshotIds=[snapshot_id])["Snapshots"][0])

    def captured(self, name: str = "candidate", **params: Any) -> str:
        """An available image made from a fresh instance."""
        instance = self.run()
        image_id = str(self.client().create_image(InstanceId=instance["InstanceId"], Name=name, **params)["ImageId"])
        self.settle()
        return image_id

    def snapshot_id_of(self, image_id: str, account: str = HOME, region: str = REGION) -> str:
        """The root snapshot of an image. A pending image shows none; EC2's description of the snapshot names it."""
        shown = self.image_of(image_id, account, region)["BlockDeviceMappings"][0]["Ebs"].get("SnapshotId")
        if shown is not None:
            return str(shown)
        filters = [{"Name": "description", "Values": [f"*{image_id}*"]}]
        found = self.client(account, region).describe_snapshots(OwnerIds=["self"], Filters=filters)["Snapshots"]
        return str(found[0]["SnapshotId"])


def new_rig() -> Rig:
    node, hooks, clock = PaperNode(), MemoryHooks(), ManualClock()
    ec2 = Ec2(node, clock=clock, hooks=hooks, settings=Settings())
    rig = Rig(ec2, node, hooks, clock)
    for region in (REGION, "eu-west-1", "us-east-1"):
        image = add_debian(ec2, region)
        rig.image = image if region == REGION else rig.image
        for account in (HOME, APPS):
            hooks.add_key(account, region, "alias/golden-ami")
            hooks.key_pairs[account, region, "me"] = KeyPair("me", "key-1", "ssh-ed25519 AAAA me")
    return rig


def add_debian(ec2: Ec2, region: str) -> str:
    return ec2.add_public_image(
        region,
        DEBIAN,
        "debian-12-amd64-20261110-2295",
        architecture="x86_64",
        release="debian-12",
        default_user="admin",
        creation_date="2026-11-10T06:00:00+00:00",
        description="Debian 12",
        boot_mode="uefi-preferred",
    )


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = new_rig()
    yield rig
    for gate in rig.node.gates.values():
        gate.set()
    rig.ec2.close()


@pytest.fixture
def fails() -> Callable[..., str]:
    """The error code of a call that must fail."""

    def check(call: Callable[..., Any], **params: Any) -> str:
        with pytest.raises(ClientError) as caught:
            call(**params)
        return str(caught.value.response["Error"]["Code"])

    return check
