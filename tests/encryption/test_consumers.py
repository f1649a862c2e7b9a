"""Who launches: organizations, and the service-linked roles that need grants on the keys.

Whole builds on a cloud of paper; witnesses are plain boto3 clients.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from goldenami import pipeline, planning, recipe
from goldenami.aws.session import Cloud
from goldenami.errors import InvalidInput, TargetsFailed
from goldenami.model import Place
from goldenami.pipeline import Request
from goldenami.release.retention import Rules
from tests.worlds import retiring
from tests.worlds.builds import APPS, HOME, RECIPE, REGIONS, World, logged_in
from tests.worlds.volumes import Estate

THIRD = "333333333333"
HERE, THERE = (Place(HOME, region) for region in REGIONS)
KEY = "alias/golden-ami"
OPERATIONS = {
    "Encrypt",
    "Decrypt",
    "ReEncryptFrom",
    "ReEncryptTo",
    "GenerateDataKey",
    "GenerateDataKeyWithoutPlaintext",
    "DescribeKey",
    "CreateGrant",
}
ORGANIZATION = f"arn:aws:organizations::{HOME}:organization/o-abcdefghij"
UNIT = f"arn:aws:organizations::{HOME}:ou/o-abcdefghij/ou-ab12-11111111"
CONSUMERS = f"""
    consumers:
      - {{account: home, services: [autoscaling]}}
      - {{account: apps, services: [eks], principals: ["arn:aws:iam::{APPS}:role/runner"]}}
      - {{account: "{THIRD}", services: [autoscaling]}}
"""


def scaling(account: str) -> str:
    return f"arn:aws:iam::{account}:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"


def nodes(account: str) -> str:
    return (
        f"arn:aws:iam::{account}:role/aws-service-role/eks-nodegroup.amazonaws.com/AWSServiceRoleForAmazonEKSNodegroup"
    )


ROOT = f"arn:aws:iam::{APPS}:root"
OF_APPS = {scaling(APPS), nodes(APPS), f"arn:aws:iam::{APPS}:role/runner"}


def with_consumers(world: World) -> None:
    world.rewrite("    tags: {owner", CONSUMERS.lstrip("\n") + "    tags: {owner")
    # KMS refuses a grant to a role that does not exist.
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    iam = world.client("iam", Place(APPS, "us-east-1"))
    with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
        world.remember("runner", lambda: iam.create_role(RoleName="runner", AssumeRolePolicyDocument=document))


def share(world: World, what: str) -> None:
    world.rewrite("channel: stable}", f"channel: stable, share: {what}}}", "recipes/web.yaml")


def grants(world: World, place: Place) -> dict[str, list[dict[str, Any]]]:
    """The consumers' grants on the key of a place, by principal."""
    found: dict[str, list[dict[str, Any]]] = {}
    for grant in world.client("kms", place).list_grants(KeyId=arn(world, place))["Grants"]:
        if "-consumer-" in grant.get("Name", ""):
            found.setdefault(grant["GranteePrincipal"], []).append(grant)
    return found


def arn(world: World, place: Place) -> str:
    return str(world.client("kms", place).describe_key(KeyId=KEY)["KeyMetadata"]["Arn"])


@pytest.fixture
def estate(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Estate:
    monkeypatch.setattr(Cloud, "of", logged_in)
    monkeypatch.chdir(world.path)
    return Estate(world, capsys)


# --- organizations ----------------------------------------------------------------------------------------------------


def test_organizations_and_units_may_launch_but_not_copy(world: World) -> None:
    members = {APPS: "ou-ab12-11111111", THIRD: ""}
    world.paper.set(organizations=[{"id": "o-abcdefghij", "management": HOME, "accounts": members}])
    world.rewrite("      - {account: apps, regions: [eu-west-1], mode: share}\n", "")
    before = pipeline.make_plan(Request(world.project, world.environment, RECIPE))
    share(world, f'{{organizational_units: ["{UNIT}"]}}')
    plan = pipeline.make_plan(Request(world.project, world.environment, RECIPE))
    assert planning.changes(plan, before.inputs) == ["share:organizations"]
    assert any(f"{UNIT}, but not copied" in line for line in planning.describe(plan))
    manifest = world.build().manifest
    for row in manifest.images:
        expected = (UNIT,) if row.account == HOME else ()
        assert row.shared_with == expected
    (image,) = (i for i in manifest.images if i.place == THERE)
    apps = world.client("ec2", Place(APPS, THERE.region))
    assert [i["ImageId"] for i in apps.describe_images(ExecutableUsers=["self"])["Images"]] == [image.image_id]
    attribute = {"SnapshotId": image.snapshots[0].snapshot_id, "Attribute": "createVolumePermission"}
    permissions = world.client("ec2", THERE).describe_snapshot_attribute(**attribute)["CreateVolumePermissions"]
    assert permissions == [], "snapshots cannot be shared with organizations"
    assert world.build().status == "unchanged"


def test_an_organization_that_lost_its_permission_is_a_mismatch(world: World) -> None:
    share(world, f'{{organizations: ["{ORGANIZATION}"]}}')

    def take_away(label: Any, call: Any, serve: Any) -> Any:
        answer = serve()
        if label.action == "ModifyImageAttribute" and "LaunchPermission.Add.1.OrganizationArn" in call.form:
            ec2 = world.client("ec2", Place(label.account, label.region))
            ec2.modify_image_attribute(
                ImageId=call.form["ImageId"], LaunchPermission={"Remove": [{"OrganizationArn": ORGANIZATION}]}
            )
        return answer

    world.gate.start(take_away)
    with pytest.raises(TargetsFailed) as caught:
        world.build()
    assert ORGANIZATION in caught.value.failures["home/eu-central-1"]


def test_only_arns_of_organizations_are_accepted(world: World) -> None:
    share(world, '{organizations: ["o-abcdefghij"]}')
    with pytest.raises(InvalidInput) as caught:
        recipe.load(world.project, RECIPE, world.environment)
    assert "organizations: 'o-abcdefghij' is not of the form" in str(caught.value.problems[0])


# --- consumers --------------------------------------------------------------------------------------------------------


def test_each_consumer_has_one_grant_on_each_key(world: World) -> None:
    with_consumers(world)
    world.built()
    assert set(grants(world, HERE)) == {scaling(HOME)}
    assert set(grants(world, Place(APPS, HERE.region))) == OF_APPS
    shared = grants(world, THERE)
    assert set(shared) == {scaling(HOME), ROOT, *OF_APPS}, "apps uses the home account's image there"
    assert all(set(g["Operations"]) == OPERATIONS for every in shared.values() for g in every)
    made = [c for c in world.paper.calls if c["action"] == "CreateGrant"]
    assert {c["account"] for c in made if c["region"] == THERE.region} == {HOME, APPS}, "each from its own account"
    before = {place: grants(world, place) for place in (HERE, THERE)}
    world.change_recipe("another")
    world.cloud.start_process()
    assert world.build().status == "released"
    assert {place: grants(world, place) for place in (HERE, THERE)} == before, "they do not pile up"


def launched_by_a_group(world: World, place: Place, image_id: str) -> tuple[str, str | None]:
    """The state of an instance that an Auto Scaling group launches, and the reason."""
    ec2, groups = world.client("ec2", place), world.client("autoscaling", place)
    name = f"fleet-{image_id}-{len(ec2.describe_launch_templates()['LaunchTemplates'])}"
    data = {"ImageId": image_id, "InstanceType": "t3.small"}
    template = ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)["LaunchTemplate"]
    groups.create_auto_scaling_group(
        AutoScalingGroupName=name,
        MinSize=0,
        MaxSize=1,
        AvailabilityZones=[f"{place.region}a"],
        LaunchTemplate={"LaunchTemplateId": template["LaunchTemplateId"], "Version": "$Latest"},
    )
    groups.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=1)
    world.behind.settle()
    found = ec2.describe_instances(Filters=[{"Name": "tag:aws:autoscaling:groupName", "Values": [name]}])
    (instance,) = (i for r in found["Reservations"] for i in r["Instances"])
    return instance["State"]["Name"], instance.get("StateReason", {}).get("Code")


def test_a_group_launches_the_image_only_with_a_grant(world: World) -> None:
    """In the account that owns the image, and in one that it is shared with."""
    manifest = world.built().manifest
    images = {image.place: image.image_id for image in manifest.images}
    places = (HERE, Place(APPS, HERE.region), Place(APPS, THERE.region))
    for place in places:
        assert launched_by_a_group(world, place, images[place]) == ("terminated", "Client.InternalError"), place
    with_consumers(world)
    world.change_recipe("another")
    world.environment = recipe.environment(world.project, "test")
    world.cloud.start_process()
    manifest = world.build().manifest
    images = {image.place: image.image_id for image in manifest.images}
    for place in places:
        assert launched_by_a_group(world, place, images[place])[0] == "running", place


def test_a_failed_build_keeps_the_grant_of_another_release(world: World) -> None:
    with_consumers(world)
    world.built()
    before = grants(world, THERE)
    world.change_recipe("another")
    world.cloud.start_process()
    world.paper.set(faults=[{"action": "ssm:PutParameter", "nth": 1, "times": 50, "code": "AccessDeniedException",
                             "status": 400}])  # fmt: skip
    with pytest.raises(TargetsFailed):
        world.build()
    world.paper.set(faults=[])
    (unfinished,) = world.journals.unfinished()
    assert world.clean(unfinished.build_id).complete
    assert grants(world, THERE) == before


def test_a_grant_ends_with_the_last_release_that_needs_it(world: World) -> None:
    with_consumers(world)
    world.built()
    world.rewrite("      - {account: apps, regions: [eu-west-1], mode: share}\n", "")
    world.rewrite("regions: [eu-central-1, eu-west-1]", "regions: [eu-central-1]")
    for _ in range(2):
        world.cloud.start_process()
        world.change_recipe(f"another {_}")
        world.rewrite("content: another", "content: hello", "recipes/web.yaml")
        world.build()
    assert set(grants(world, THERE)) == {scaling(HOME), ROOT, *OF_APPS}
    world.cloud.start_process()
    for place in (THERE, Place(APPS, THERE.region)):  # channels of a place that is no target any more
        for which in ("image-id", "version", "manifest"):
            world.client("ssm", place).delete_parameter(Name=f"/golden-ami/web/x86_64/stable/{which}")
    done = retiring.go(world, {RECIPE: Rules(keep=1)})
    assert [v.fate for v in done.decisions].count("delete") == 1, done.decisions
    assert done.left == {}
    assert grants(world, THERE) == {}, "no release has an image there any more"
    assert set(grants(world, HERE)) == {scaling(HOME)}
    assert len([line for line in done.deleted if line.startswith("grant ")]) >= 4


def test_what_other_accounts_must_do_is_printed(estate: Estate) -> None:
    world = estate.world
    with_consumers(world)
    share(world, f'{{accounts: ["{THIRD}"], organizations: ["{ORGANIZATION}"]}}')
    world.build()
    code, out, err = estate.try_("consumers", "show", "--environment", "test")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    commands = [line for line in lines if line.startswith("aws kms create-grant")]
    assert len(commands) == 2, "one key in each of the home account's regions"
    assert all(f"--grantee-principal {scaling(THIRD)} " in line for line in commands)
    assert f"--key-id {arn(world, HERE)} " in commands[0]
    assert all(operation in commands[0] for operation in OPERATIONS)
    assert '"aws:PrincipalOrgID": "o-abcdefghij"' in out
    found = estate.run("consumers", "show", "--environment", "test")
    assert {row["grant"] for row in found["consumers"]} == {"granted", "outside"}
    statement = json.loads("\n".join(lines[lines.index("{") :]))
    kms = world.client("kms", HERE)
    policy = json.loads(kms.get_key_policy(KeyId=arn(world, HERE), PolicyName="default")["Policy"])
    policy["Statement"].append(statement)
    member = world.client("kms", Place(APPS, HERE.region))
    world.paper.set(organizations=[{"id": "o-abcdefghij", "management": HOME, "accounts": {APPS: ""}}])
    with pytest.raises(ClientError, match="AccessDenied"):
        member.describe_key(KeyId=arn(world, HERE))
    kms.put_key_policy(KeyId=arn(world, HERE), PolicyName="default", Policy=json.dumps(policy))
    assert member.describe_key(KeyId=arn(world, HERE)), "the printed statement is a policy that works"
    world.paper.set(organizations=[])
    with pytest.raises(ClientError, match="AccessDenied"):
        member.describe_key(KeyId=arn(world, HERE))


def test_consumers_can_be_added_and_removed_later(estate: Estate) -> None:
    world = estate.world
    world.built()
    with_consumers(world)
    code, _, err = estate.try_("consumers", "show", "--environment", "test")
    assert (code, "run `goldenami consumers apply`" in err) == (0, True)
    world.rewrite("services: [eks], ", "")
    done = estate.run("consumers", "apply", "--environment", "test")
    assert len(done["granted"]) == 5, "home twice, the runner on two keys, and its account on the home account's key"
    assert list(done["left"]) == []
    assert estate.run("consumers", "apply", "--environment", "test")["granted"] == []
    world.rewrite("      - {account: home, services: [autoscaling]}\n", "")
    done = estate.run("consumers", "apply", "--environment", "test")
    assert len(done["revoked"]) == 2
    assert scaling(HOME) not in grants(world, HERE)


def test_a_wrong_consumer_is_named_with_its_place(world: World) -> None:
    with_consumers(world)
    text = (world.path / "goldenami.yaml").read_text()
    for old, new, message in (
        (f"iam::{APPS}:role/runner", f"iam::{HOME}:role/runner", f"is in account {HOME}, expected account {APPS}"),
        ("account: apps, services", "account: app, services", "there is no account 'app'"),
        ("[autoscaling]", "[auto-scaling]", "services"),
    ):
        (world.path / "goldenami.yaml").write_text(text.replace(old, new))
        with pytest.raises(InvalidInput) as caught:
            recipe.environment(recipe.load_project(world.path), "test")
        assert message in str(caught.value.problems[0])
