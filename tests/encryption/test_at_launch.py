"""Encryption at launch: the builder's own image is the release in the home region, and nothing is copied there.

The cloud is on paper, the builds are whole ones. Witnesses are plain boto3 clients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call

from goldenami import planning
from goldenami.errors import UsageError
from goldenami.model import Place
from tests.crash.test_crashes import killed
from tests.encryption.test_by_default import HERE, KEY, TARGETS, THERE, arn, plan, rewrite
from tests.worlds.builds import APPS, HOME, PROJECT, REGIONS, Label, World

AT_LAUNCH = ("    tags: {owner", "    encryption: launch\n    tags: {owner")
_COPIES = {Place(HOME, REGIONS[1]), Place(APPS, REGIONS[0])}  # the home account's there, and the one of apps here


def at_launch(world: World) -> None:
    rewrite(world, AT_LAUNCH)


def called(world: World, action: str) -> list[dict[str, Any]]:
    return [call for call in world.paper.calls if call["action"] == action and call["result"] == "ok"]


def test_the_builders_image_is_released_and_tested_and_not_copied(world: World) -> None:
    at_launch(world)
    outcome = world.build()
    assert outcome.status == "released"
    home = next(image for image in outcome.images if (image.account, image.region) == (HOME, HERE.region))
    assert len(called(world, "CreateImage")) == 1
    places = [Place(call["account"], call["region"]) for call in called(world, "CopyImage")]
    assert (set(places), len(places)) == (_COPIES, 2)
    assert all(home.image_id in call["ids"] for call in called(world, "CopyImage")), "they are copies of it"
    proof = called(world, "RunInstances")[-1]
    assert home.image_id in proof["ids"], "gate 2 boots the released image"

    ec2 = world.client("ec2", HERE)
    (image,) = ec2.describe_images(Owners=["self"])["Images"]
    assert image["ImageId"] == home.image_id, "no candidate is left"
    assert image["Name"] == f"web-{outcome.manifest.version}-x86_64"
    tags = {tag["Key"]: tag["Value"] for tag in image["Tags"]}
    assert "goldenami:expires-at" not in tags
    (device,) = [one["Ebs"] for one in image["BlockDeviceMappings"] if "Ebs" in one]
    snapshot = ec2.describe_snapshots(SnapshotIds=[device["SnapshotId"]])["Snapshots"][0]
    assert (snapshot["Encrypted"], snapshot["KmsKeyId"]) == (True, arn(world, KEY))


def test_an_account_that_only_copies_loses_the_image_when_it_has_its_copy(world: World) -> None:
    at_launch(world)
    outcome = world.build()
    home = next(image for image in outcome.images if (image.account, image.region) == (HOME, HERE.region))
    ec2 = world.client("ec2", HERE)
    launchers = ec2.describe_image_attribute(ImageId=home.image_id, Attribute="launchPermission")
    assert launchers["LaunchPermissions"] == []
    attribute = {"SnapshotId": home.snapshots[0].snapshot_id, "Attribute": "createVolumePermission"}
    assert ec2.describe_snapshot_attribute(**attribute)["CreateVolumePermissions"] == []
    assert world.client("kms", HERE).list_grants(KeyId=arn(world, KEY))["Grants"] == []
    lent = [call for call in called(world, "ModifyImageAttribute") if home.image_id in call["ids"]]
    assert len(lent) >= 2, "it was lent before, and taken back"


def test_an_account_that_copies_and_may_use_the_image_keeps_it(world: World) -> None:
    at_launch(world)
    rewrite(
        world,
        ("distribution: {channel: stable}", f'distribution: {{channel: stable, share: {{accounts: ["{APPS}"]}}}}'),
        name="recipes/web.yaml",
    )
    outcome = world.build()
    home = next(image for image in outcome.images if (image.account, image.region) == (HOME, HERE.region))
    ec2 = world.client("ec2", HERE)
    launchers = ec2.describe_image_attribute(ImageId=home.image_id, Attribute="launchPermission")
    assert launchers["LaunchPermissions"] == [{"UserId": APPS}]


def test_a_loan_that_ended_may_be_seen_for_a_while(world: World) -> None:
    """The first reads after the end of the loan still show it. A permission that stays is a mismatch."""
    at_launch(world)
    ended: list[str] = []
    seen: list[str] = []

    def disturb(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        answer = serve()
        params = call.params or {}
        if label.action == "ModifyImageAttribute" and "Remove" in params.get("LaunchPermission", {}):
            ended.append(params["ImageId"])
            lend(world, params["ImageId"], "Add")  # what a read shows that does not know of the end yet
        if label.action == "DescribeImageAttribute" and params["ImageId"] in ended:
            seen.append(params["ImageId"])
            if len(seen) == 2:
                lend(world, params["ImageId"], "Remove")
        return answer

    world.gate.start(disturb)
    outcome = world.build()
    world.gate.stop()
    assert outcome.status == "released"
    assert len(seen) > 2, "it was read again"


def lend(world: World, image_id: str, change: str) -> None:
    disturb, world.gate.disturb = world.gate.disturb, None
    permission = {change: [{"UserId": APPS}]}
    world.client("ec2", HERE).modify_image_attribute(ImageId=image_id, LaunchPermission=permission)
    world.gate.disturb = disturb


# What the choice adds or changes: the capture under the release's name, the loan, and its end.
_NEW = [
    *(Label("ec2", "CreateImage", HOME, HERE.region, 1), Label("ec2", "CopyImage", APPS, HERE.region, 1)),
    *(Label("ec2", action, HOME, HERE.region, n) for action in ("ModifyImageAttribute", "ModifySnapshotAttribute")
      for n in (1, 2)),
]  # fmt: skip


@pytest.mark.sample(3)
@pytest.mark.parametrize("then", ["resume", "clean"])
@pytest.mark.parametrize(("label", "when"), [(one, ("before", "after")[n % 2]) for n, one in enumerate(_NEW)], ids=str)
def test_a_killed_build_is_resumed_or_cleaned(
    world: World, label: Label, when: str, then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = PROJECT["goldenami.yaml"].replace(*AT_LAUNCH)
    monkeypatch.setitem(PROJECT, "goldenami.yaml", text)  # of the fresh world of the case
    killed(world, label, when, then, 1.0)


def test_the_plan_says_which_image_is_not_copied(world: World) -> None:
    before = plan(world)
    at_launch(world)
    made = plan(world)
    assert made.digest != before.digest
    text = "\n".join(planning.describe(made))
    assert f"home/eu-central-1  image of the builder, encrypted under {arn(world, KEY)}" in text
    assert f"home/eu-west-1     copy encrypted under {arn(world, KEY, THERE)}" in text
    assert planning.to_json(made)["encryption"] == "launch"


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("recipes/web.yaml", ("patches:", "builder: {encrypted: false}\npatches:"), "builder.encrypted is false"),
        ("goldenami.yaml", (TARGETS, TARGETS.replace("[eu-central-1, eu-west-1]", "[eu-west-1]")), "home region"),
    ],
)
def test_what_cannot_be_encrypted_at_launch_is_refused(
    world: World, file: str, change: tuple[str, str], message: str
) -> None:
    at_launch(world)
    rewrite(world, change, name=file)
    with pytest.raises(UsageError, match=message):
        plan(world)
    assert called(world, "RunInstances") == []
