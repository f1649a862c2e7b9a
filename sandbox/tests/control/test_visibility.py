"""Calls that name what was made a moment ago: changes do not find it, and permissions have no effect yet."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from goldenami_sandbox.testing import PaperCloud

PUBLIC_KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHkS3hoR6tPzWXHRrQ6L8JYdKEe3OYo5sMoC5nbvhsEZ new"
DELAY = 5.0
REGION = "eu-central-1"
APPS = "222222222222"
RULE = [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "192.0.2.1/32"}]}]
TAGS = [{"Key": "a", "Value": "b"}]


class Lab:
    """A cloud whose clock only the test moves, with a volume, a snapshot, an image and an instance that are old."""

    def __init__(self, factory: Callable[..., PaperCloud]) -> None:
        self.now = 1_800_000_000.0
        self.cloud = factory(clock=lambda: self.now)
        self.ec2, self.kms, self.ssm = (self.client(service) for service in ("ec2", "kms", "ssm"))
        self.base = self.ec2.describe_images(Filters=[{"Name": "name", "Values": ["debian-12-amd64-*"]}])["Images"][0][
            "ImageId"
        ]
        self.volume = self.ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=1)["VolumeId"]
        self.settle()  # a volume that is being created cannot be snapshotted
        self.snapshot = self.ec2.create_snapshot(VolumeId=self.volume)["SnapshotId"]
        self.settle()
        self.instance = self.run()
        self.image = self.register("old")
        self.key = self.kms.create_key()["KeyMetadata"]["KeyId"]
        self.settle()
        self.cloud.set(visibility_delay=DELAY)

    def client(self, service: str, account: str = "home") -> Any:
        config = Config(retries={"total_max_attempts": 1})
        return cast(Any, boto3.client)(service, **self.cloud.client(REGION, account), config=config)

    def settle(self) -> None:
        self.cloud.cloud.ec2.settle()

    def run(self, **more: Any) -> str:
        request = {"ImageId": self.base, "InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1, **more}
        return str(self.ec2.run_instances(**request)["Instances"][0]["InstanceId"])

    def register(self, name: str, snapshot: str | None = None) -> str:
        mapping = [{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot or self.snapshot}}]
        request = {"Name": name, "RootDeviceName": "/dev/xvda", "Architecture": "x86_64", "EnaSupport": True}
        return str(self.ec2.register_image(BlockDeviceMappings=mapping, **request)["ImageId"])

    def new(self, kind: str) -> str:
        """Make one of a kind, now."""
        ec2 = self.ec2
        match kind:
            case "instance":
                return self.run()
            case "volume":
                return str(ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=1)["VolumeId"])
            case "snapshot":
                return str(ec2.create_snapshot(VolumeId=self.volume)["SnapshotId"])
            case "image":
                return self.register("new")
            case "key-pair":
                return str(ec2.import_key_pair(KeyName="new", PublicKeyMaterial=PUBLIC_KEY)["KeyPairId"])
            case "group":
                return str(ec2.create_security_group(GroupName="new", Description="x")["GroupId"])
            case "grant":
                who = f"arn:aws:iam::{APPS}:root"
                answer = self.kms.create_grant(KeyId=self.key, GranteePrincipal=who, Operations=["DescribeKey"])
                return str(answer["GrantId"])
            case "parameter":
                self.ssm.put_parameter(Name="/new", Value="x", Type="String")
                return "/new"
        raise ValueError(kind)


def code_of(call: Callable[[], object]) -> str | None:
    try:
        call()
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return None


@pytest.fixture
def lab(paper_cloud: Callable[..., PaperCloud]) -> Lab:
    return Lab(paper_cloud)


INSTANCE, VOLUME, SNAPSHOT, IMAGE = (
    "InvalidInstanceID.NotFound",
    "InvalidVolume.NotFound",
    "InvalidSnapshot.NotFound",
    "InvalidAMIID.NotFound",
)
KEY_PAIR, GROUP, PARAMETER = "InvalidKeyPair.NotFound", "InvalidGroup.NotFound", "ParameterNotFound"
V2 = {"Value": "v2.0"}
SHARE = {"Add": [{"UserId": APPS}]}

# What is made, the code of a call that names it too early, and the call.
CASES: dict[str, tuple[str, str, Callable[[Lab, str], object]]] = {
    "TerminateInstances": ("instance", INSTANCE, lambda lab, id: lab.ec2.terminate_instances(InstanceIds=[id])),
    "StopInstances": ("instance", INSTANCE, lambda lab, id: lab.ec2.stop_instances(InstanceIds=[id])),
    "CreateImage": ("instance", INSTANCE, lambda lab, id: lab.ec2.create_image(InstanceId=id, Name="of-new")),
    "CreateSnapshots": (
        "instance",
        INSTANCE,
        lambda lab, id: lab.ec2.create_snapshots(InstanceSpecification={"InstanceId": id}),
    ),
    "ModifyInstanceAttribute": (
        "instance",
        INSTANCE,
        lambda lab, id: lab.ec2.modify_instance_attribute(InstanceId=id, DisableApiTermination={"Value": True}),
    ),
    "CreateTags on an instance": (
        "instance",
        INSTANCE,
        lambda lab, id: lab.ec2.create_tags(Resources=[id], Tags=TAGS),
    ),
    "AttachVolume": (
        "volume",
        VOLUME,
        lambda lab, id: lab.ec2.attach_volume(VolumeId=id, InstanceId=lab.instance, Device="/dev/sdf"),
    ),
    "CreateSnapshot": ("volume", VOLUME, lambda lab, id: lab.ec2.create_snapshot(VolumeId=id)),
    "DeleteVolume": ("volume", VOLUME, lambda lab, id: lab.ec2.delete_volume(VolumeId=id)),
    "CreateVolume": (
        "snapshot",
        SNAPSHOT,
        lambda lab, id: lab.ec2.create_volume(AvailabilityZone=f"{REGION}a", SnapshotId=id),
    ),
    "CopySnapshot": (
        "snapshot",
        SNAPSHOT,
        lambda lab, id: lab.ec2.copy_snapshot(SourceSnapshotId=id, SourceRegion=REGION),
    ),
    "RegisterImage": ("snapshot", SNAPSHOT, lambda lab, id: lab.register("of-a-new-one", id)),
    "ModifySnapshotAttribute": (
        "snapshot",
        SNAPSHOT,
        lambda lab, id: lab.ec2.modify_snapshot_attribute(
            SnapshotId=id, Attribute="createVolumePermission", CreateVolumePermission=SHARE
        ),
    ),
    "LockSnapshot": (
        "snapshot",
        SNAPSHOT,
        lambda lab, id: lab.ec2.lock_snapshot(SnapshotId=id, LockMode="governance", LockDuration=1),
    ),
    "DeleteSnapshot": ("snapshot", SNAPSHOT, lambda lab, id: lab.ec2.delete_snapshot(SnapshotId=id)),
    "CopyImage": (
        "image",
        IMAGE,
        lambda lab, id: lab.ec2.copy_image(SourceImageId=id, SourceRegion=REGION, Name="copy"),
    ),
    "RunInstances of an image": ("image", IMAGE, lambda lab, id: lab.run(ImageId=id)),
    "ModifyImageAttribute": (
        "image",
        IMAGE,
        lambda lab, id: lab.ec2.modify_image_attribute(ImageId=id, ImdsSupport=V2),
    ),
    "DisableImage": ("image", IMAGE, lambda lab, id: lab.ec2.disable_image(ImageId=id)),
    "DeleteTags on an image": ("image", IMAGE, lambda lab, id: lab.ec2.delete_tags(Resources=[id], Tags=TAGS)),
    "DeregisterImage": ("image", IMAGE, lambda lab, id: lab.ec2.deregister_image(ImageId=id)),
    "RunInstances with a key pair": ("key-pair", KEY_PAIR, lambda lab, _: lab.run(KeyName="new")),
    "CreateTags on a key pair": ("key-pair", KEY_PAIR, lambda lab, id: lab.ec2.create_tags(Resources=[id], Tags=TAGS)),
    "RunInstances with a group": ("group", GROUP, lambda lab, id: lab.run(SecurityGroupIds=[id])),
    "AuthorizeSecurityGroupIngress": (
        "group",
        GROUP,
        lambda lab, id: lab.ec2.authorize_security_group_ingress(GroupId=id, IpPermissions=RULE),
    ),
    "CreateTags on a group": ("group", GROUP, lambda lab, id: lab.ec2.create_tags(Resources=[id], Tags=TAGS)),
    "DeleteSecurityGroup": ("group", GROUP, lambda lab, id: lab.ec2.delete_security_group(GroupId=id)),
    "RevokeGrant": ("grant", "NotFoundException", lambda lab, id: lab.kms.revoke_grant(KeyId=lab.key, GrantId=id)),
    "DeleteParameter": ("parameter", PARAMETER, lambda lab, id: lab.ssm.delete_parameter(Name=id)),
    "RemoveTagsFromResource": (
        "parameter",
        "InvalidResourceId",
        lambda lab, id: lab.ssm.remove_tags_from_resource(ResourceType="Parameter", ResourceId=id, TagKeys=["a"]),
    ),
}


def test_a_change_does_not_find_what_is_new(lab: Lab) -> None:
    """Every kind, in every call that a build, a clean-up or a task makes with it."""
    wrong: dict[str, object] = {}
    for name, (kind, code, call) in CASES.items():
        id = lab.new(kind)
        lab.settle()
        early = code_of(partial(call, lab, id))
        lab.now += DELAY
        lab.settle()
        late = code_of(partial(call, lab, id))
        lab.settle()
        if (early, late) != (code, None):
            wrong[name] = early, late
        lab.now += DELAY
        lab.ec2.delete_key_pair(KeyName="new")
        lab.cloud.set(visibility_delay=0)
        forget(lab, kind, id)
        lab.cloud.set(visibility_delay=DELAY)
    assert wrong == {}


def forget(lab: Lab, kind: str, id: str) -> None:
    """Free the names, which are taken at once."""
    if kind == "image":
        code_of(lambda: lab.ec2.deregister_image(ImageId=id))
    elif kind == "group":
        for found in lab.ec2.describe_instances()["Reservations"]:
            one = found["Instances"][0]
            if any(group["GroupId"] == id for group in one["SecurityGroups"]):
                lab.ec2.terminate_instances(InstanceIds=[one["InstanceId"]])
        lab.settle()
        code_of(lambda: lab.ec2.delete_security_group(GroupId=id))
    elif kind == "parameter":
        code_of(lambda: lab.ssm.delete_parameter(Name=id))


def test_a_deleted_key_pair_is_named_in_the_answer(lab: Lab) -> None:
    """DeleteKeyPair succeeds for a key pair that does not exist, or that is not visible yet: then it names none."""
    id = lab.new("key-pair")
    assert "KeyPairId" not in lab.ec2.delete_key_pair(KeyName="new")
    lab.now += DELAY
    assert [pair["KeyPairId"] for pair in lab.ec2.describe_key_pairs()["KeyPairs"]] == [id]
    assert lab.ec2.delete_key_pair(KeyName="new")["KeyPairId"] == id


def test_names_are_taken_at_once(lab: Lab) -> None:
    for kind in ("key-pair", "group", "image"):
        lab.new(kind)
    again = {kind: code_of(partial(lab.new, kind)) for kind in ("key-pair", "group", "image")}
    assert again == {
        "key-pair": "InvalidKeyPair.Duplicate",
        "group": "InvalidGroup.Duplicate",
        "image": "InvalidAMIName.Duplicate",
    }


def test_a_repeated_call_with_its_client_token_finds_the_first_result(lab: Lab) -> None:
    assert lab.run(ClientToken="a") == lab.run(ClientToken="a")
    volumes = {
        lab.ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=1, ClientToken="b")["VolumeId"] for _ in range(2)
    }
    request = {"SourceImageId": lab.image, "SourceRegion": REGION, "Name": "copy", "ClientToken": "c"}
    images = {lab.ec2.copy_image(**request)["ImageId"] for _ in range(2)}
    assert (len(volumes), len(images)) == (1, 1)


def test_a_permission_takes_effect_later(lab: Lab) -> None:
    apps = lab.client("ec2", "apps")
    request = {"SourceImageId": lab.image, "SourceRegion": REGION, "Name": "copy"}

    def codes() -> tuple[str | None, str | None]:
        copied = code_of(lambda: apps.copy_snapshot(SourceSnapshotId=lab.snapshot, SourceRegion=REGION))
        return code_of(lambda: apps.copy_image(**request)), copied

    assert codes() == ("AuthFailure", SNAPSHOT)
    permission = {"Attribute": "createVolumePermission", "CreateVolumePermission": SHARE}
    lab.ec2.modify_snapshot_attribute(SnapshotId=lab.snapshot, **permission)
    lab.now += DELAY - 1
    lab.ec2.modify_image_attribute(ImageId=lab.image, LaunchPermission=SHARE)
    assert codes() == ("AuthFailure", SNAPSHOT)
    lab.now += 1
    assert codes() == ("AuthFailure", None)
    lab.ec2.modify_image_attribute(ImageId=lab.image, LaunchPermission=SHARE)  # it is shared already
    lab.now += DELAY - 1
    assert codes() == (None, None)


def test_a_grant_has_no_effect_until_its_own_delay_is_over(lab: Lab) -> None:
    """It is listed by then. A repeated CreateGrant returns the same grant, and does not make it new."""
    lab.cloud.set(grant_delay=300)
    arn = lab.kms.describe_key(KeyId=lab.key)["KeyMetadata"]["Arn"]
    apps = lab.client("kms", "apps")
    request = {
        "KeyId": lab.key,
        "GranteePrincipal": f"arn:aws:iam::{APPS}:root",
        "Operations": ["DescribeKey"],
        "Name": "n",
    }
    made = lab.kms.create_grant(**request)["GrantId"]
    lab.now += 299
    assert [grant["GrantId"] for grant in lab.kms.list_grants(KeyId=lab.key)["Grants"]] == [made]
    assert lab.kms.create_grant(**request)["GrantId"] == made
    assert code_of(lambda: apps.describe_key(KeyId=arn)) == "AccessDeniedException"
    lab.now += 1
    assert code_of(lambda: apps.describe_key(KeyId=arn)) is None


def test_a_copy_under_a_grant_that_has_no_effect_yet_fails_later(lab: Lab) -> None:
    """As with every key that EC2 cannot use: the call is accepted, and the copy fails."""
    lab.cloud.set(visibility_delay=0, grant_delay=60)
    arn = lab.kms.describe_key(KeyId=lab.key)["KeyMetadata"]["Arn"]
    request = {"SourceRegion": REGION, "Encrypted": True, "KmsKeyId": arn}
    source = lab.ec2.copy_snapshot(SourceSnapshotId=lab.snapshot, **request)["SnapshotId"]
    lab.settle()
    lab.ec2.modify_snapshot_attribute(
        SnapshotId=source, Attribute="createVolumePermission", CreateVolumePermission=SHARE
    )
    lab.kms.create_grant(
        KeyId=lab.key, GranteePrincipal=f"arn:aws:iam::{APPS}:root", Operations=["DescribeKey", "Decrypt"]
    )
    apps = lab.client("ec2", "apps")

    def copied() -> str:
        request = {"SourceSnapshotId": source, "SourceRegion": REGION, "Encrypted": True}
        id = apps.copy_snapshot(**request, KmsKeyId="alias/golden-ami")["SnapshotId"]
        lab.settle()
        return str(apps.describe_snapshots(SnapshotIds=[id])["Snapshots"][0]["State"])

    assert copied() == "error"
    lab.now += 60
    assert copied() == "completed"
