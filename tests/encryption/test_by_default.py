"""Accounts with EBS encryption by default: a build releases its images, or its plan is refused.

The cloud is on paper, the builds are whole ones. Witnesses are plain boto3 clients.
"""

from __future__ import annotations

from typing import Any

import pytest
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call

from goldenami import pipeline, planning, recipe
from goldenami.aws.guard import reads_only
from goldenami.errors import UsageError
from goldenami.model import Place
from goldenami.pipeline import Outcome, Request
from tests.worlds.builds import APPS, HOME, PLACES, REGIONS, Label, World

HERE, THERE = Place(HOME, REGIONS[0]), Place(HOME, REGIONS[1])
KEY = "alias/golden-ami"
MANAGED = "alias/aws/ebs"
TARGETS = (
    "      - {account: home, regions: [eu-central-1, eu-west-1], kms_key: alias/golden-ami}\n"
    "      - {account: apps, regions: [eu-central-1], kms_key: alias/golden-ami}\n"
    "      - {account: apps, regions: [eu-west-1], mode: share}\n"
)
CHILD = """
name: child
version: "1.0"
base: {recipe: web}
software:
  - file: {dest: /etc/child, content: hello}
tests: [base]
distribution: {channel: stable}
"""


def encrypt_by_default(world: World, key: str | None = None) -> None:
    """Switch encryption by default on in every place of the world."""
    for place in PLACES:
        ec2 = world.client("ec2", place)
        ec2.enable_ebs_encryption_by_default()
        if key is not None:
            ec2.modify_ebs_default_kms_key_id(KmsKeyId=key)


def arn(world: World, key: str, place: Place = HERE) -> str:
    return str(world.client("kms", place).describe_key(KeyId=key)["KeyMetadata"]["Arn"])


def rewrite(world: World, *changes: tuple[str, str], name: str = "goldenami.yaml") -> None:
    file = world.path / name
    text = file.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    reload(world)


def reload(world: World) -> None:
    world.project = recipe.load_project(world.path)
    world.environment = recipe.environment(world.project, "test")


class Volumes:
    """Notes how the volumes of the builders are encrypted, when they are captured."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.keys: list[str | None] = []

    def __call__(self, label: Label, call: Call, serve: Any) -> Response:
        if label.action == "CreateImage":
            volumes = self._world.client("ec2", HERE).describe_volumes()["Volumes"]
            self.keys += [v.get("KmsKeyId") for v in volumes if v["Attachments"]]
        answer: Response = serve()
        return answer


def build(world: World, name: str = "web") -> Outcome:
    request = Request(world.project, world.environment, name)
    return pipeline.build(request, emit_to=world.events.append, host_work=world.host_work, cloud=world.cloud)


def refused(world: World, name: str = "web") -> str:
    """The error of a build that is refused before it changes anything."""
    mark = len(world.paper.calls)
    with pytest.raises(UsageError) as caught:
        build(world, name)
    changed = [c["action"] for c in world.paper.calls[mark:] if not reads_only(c["service"], c["action"])]
    assert [action for action in changed if action != "AssumeRole"] == []
    assert "customer managed key" in str(caught.value.hint)
    return caught.value.message


def plan(world: World, name: str = "web") -> planning.BuildPlan:
    return pipeline.make_plan(Request(world.project, world.environment, name))


def test_under_the_aws_managed_key_the_builder_gets_the_home_key(world: World) -> None:
    encrypt_by_default(world)
    volumes = Volumes(world)
    world.gate.start(volumes)
    outcome = world.build()
    world.gate.stop()
    assert outcome.status == "released"
    assert {(i.account, i.region) for i in outcome.images} == {(p.account, p.region) for p in PLACES}
    assert volumes.keys == [arn(world, KEY)]
    text = "\n".join(planning.describe(plan(world)))
    assert f"volumes encrypted under {arn(world, KEY)}" in text
    assert "AWS managed key" in text
    grants = world.client("kms", HERE).list_grants(KeyId=arn(world, KEY))["Grants"]
    assert grants == [], "the grant for the copy of the candidate ended with the build"


def test_under_a_customer_managed_key_nothing_is_overridden(world: World) -> None:
    for place in PLACES:
        kms = world.client("kms", place)
        kms.create_alias(AliasName="alias/default", TargetKeyId=kms.create_key()["KeyMetadata"]["KeyId"])
    encrypt_by_default(world, "alias/default")
    volumes = Volumes(world)
    world.gate.start(volumes)
    assert world.build().status == "released"
    assert volumes.keys == [arn(world, "alias/default")]


def test_without_encryption_by_default_nothing_is_overridden(world: World) -> None:
    volumes = Volumes(world)
    world.gate.start(volumes)
    assert world.build().status == "released"
    assert volumes.keys == [None]


@pytest.mark.parametrize("by_default", [False, True], ids=["not-by-default", "by-default"])
def test_a_child_of_an_encrypted_base_is_released(world: World, by_default: bool) -> None:
    if by_default:
        encrypt_by_default(world)
    (world.path / "recipes/child.yaml").write_text(CHILD)
    reload(world)
    outcome = build(world, "child")
    assert outcome.status == "released"
    assert len(outcome.images) == 4


def own_base(world: World, key: str) -> str:
    """An own image in the home region with snapshots under a key: a root volume and a data volume."""
    ec2 = world.client("ec2", HERE)
    mappings = []
    for device in ("/dev/xvda", "/dev/sdf"):
        volume = ec2.create_volume(AvailabilityZone=f"{HERE.region}a", Size=8, Encrypted=True, KmsKeyId=key)["VolumeId"]
        world.behind.ec2.settle()
        snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
        world.behind.ec2.settle()
        mappings.append({"DeviceName": device, "Ebs": {"SnapshotId": snapshot}})
    return str(
        ec2.register_image(
            Name="own-base", Architecture="x86_64", RootDeviceName="/dev/xvda", VirtualizationType="hvm",
            EnaSupport=True, BlockDeviceMappings=mappings,
        )["ImageId"]
    )  # fmt: skip


def test_every_volume_of_a_base_under_the_aws_managed_key_gets_the_home_key(world: World) -> None:
    base = own_base(world, MANAGED)
    rewrite(world, ('{filter: debian-12-amd64-*, owners: ["136693071363"]}', f"{{id: {base}}}\nos: debian"),
            name="recipes/web.yaml")  # fmt: skip
    volumes = Volumes(world)
    world.gate.start(volumes)
    outcome = world.build()
    assert outcome.status == "released"
    assert volumes.keys[:2] == [arn(world, KEY)] * 2
    assert all(len(image.snapshots) == 2 for image in outcome.images)


def test_the_recipe_can_ask_for_it(world: World) -> None:
    file = "recipes/web.yaml"
    rewrite(world, ("patches:", "builder: {encrypted: true}\npatches:"), name=file)
    volumes = Volumes(world)
    digest = plan(world).digest
    world.gate.start(volumes)
    assert world.build().status == "released"
    assert volumes.keys == [arn(world, KEY)]
    rewrite(world, ("encrypted: true", "encrypted: false"), name=file)
    assert plan(world).digest == digest, "the released images are the same"
    encrypt_by_default(world)
    message = refused(world)
    assert "apps/eu-central-1: the x86_64 candidate cannot be copied" in message
    assert "builder.encrypted is false" in message


def test_settings_that_cannot_be_read_are_no_reason_to_fail(world: World) -> None:
    encrypt_by_default(world)

    def refuse(label: Label, call: Call, serve: Any) -> Response:
        if label.action in ("GetEbsEncryptionByDefault", "GetEbsDefaultKmsKeyId"):
            return call.error("UnauthorizedOperation", "You are not authorized to perform this operation.", 403)
        answer: Response = serve()
        return answer

    world.gate.start(refuse)
    assert world.build().status == "released"


@pytest.mark.parametrize("form", ["alias", "arn", "id"])
def test_a_share_under_the_aws_managed_key_is_refused_by_the_plan(world: World, form: str) -> None:
    written = {
        "alias": MANAGED,
        "arn": arn(world, MANAGED, THERE),
        "id": arn(world, MANAGED, THERE).rpartition("/")[2],
    }[form]
    west = f"      - {{account: home, regions: [eu-west-1], kms_key: {written}}}\n"
    rewrite(world, (TARGETS, TARGETS.replace("[eu-central-1, eu-west-1]", "[eu-central-1]") + west))
    message = refused(world)
    assert message == (
        f"home/eu-west-1: kms_key is {written}, the AWS managed key of EBS, expected a customer managed key: "
        "apps/eu-west-1 uses this image"
    )


def test_shared_accounts_under_the_aws_managed_key_are_refused_by_the_plan(world: World) -> None:
    rewrite(world, (
        TARGETS,
        "      - {account: home, regions: [eu-central-1, eu-west-1], kms_key: alias/aws/ebs}\n",
    ))  # fmt: skip
    assert world.build().status == "released", "nothing is shared"
    rewrite(world, ("channel: stable}", f'channel: stable, share: {{accounts: ["{APPS}"]}}}}'), name="recipes/web.yaml")
    assert refused(world).splitlines() == [
        f"home/{region}: kms_key is alias/aws/ebs, the AWS managed key of EBS, expected a customer managed key: "
        f"account {APPS} (distribution.share) uses this image"
        for region in REGIONS
    ]


def test_another_account_under_two_aws_managed_keys_is_refused_by_the_plan(world: World) -> None:
    """Nothing could be copied: the builder's volumes and the home target have the same key."""
    targets = [f"      - {{account: {a}, regions: [eu-central-1], kms_key: alias/aws/ebs}}\n" for a in ("home", "apps")]
    rewrite(world, (TARGETS, "".join(targets)))
    assert plan(world).facts.volume_keys == {}, "the candidate is not encrypted, so it can be lent"
    encrypt_by_default(world)
    message = refused(world)
    assert message.startswith("apps/eu-central-1: the x86_64 candidate cannot be copied into another account: ")
    assert "111111111111/eu-central-1 encrypts /dev/xvda under the AWS managed key of EBS" in message
    assert "kms_key of home/eu-central-1 (alias/aws/ebs) is the AWS managed key of EBS" in message


def test_the_facts_cost_few_calls(world: World) -> None:
    plan(world)
    mark = len(world.paper.calls)
    plan(world)
    calls = [c["action"] for c in world.paper.calls[mark:]]
    assert calls.count("GetEbsEncryptionByDefault") == calls.count("GetEbsDefaultKmsKeyId") == 1
    assert calls.count("DescribeRegions") == 1, "every account has the regions of the targets"
    assert calls.count("DescribeKey") == 3
    assert "DescribeSnapshots" not in calls
