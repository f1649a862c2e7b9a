"""Retiring real releases on paper: what plain clients see afterwards, whatever uses them, killed at any call."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from goldenami import recipe
from goldenami.errors import NotFound
from goldenami.journal import Journals
from goldenami.model import ImageManifest, Place
from goldenami.release.retention import Rules
from goldenami.release.retire import failed
from goldenami.release.versions import Reference
from tests.worlds import inventory
from tests.worlds.builds import APPS, HOME, PLACES, RECIPE, Death, World
from tests.worlds.retiring import RULES, differences, go, releases

HOME_PLACE = Place(HOME, "eu-central-1")


@pytest.fixture
def world(build_world: World) -> World:
    build_world.fresh()
    return build_world


def image_of(manifest: ImageManifest, place: Place = HOME_PLACE) -> str:
    return next(i.image_id for i in manifest.images if (i.account, i.region) == (place.account, place.region))


def test_what_no_rule_keeps_goes_and_leaves_nothing(world: World) -> None:
    made = releases(world, 5)
    decoys = inventory.place_decoys(world)
    retired = go(world)
    assert failed(retired) is None
    assert [v.release.manifest.version for v in retired.with_fate("delete")] == [m.version for m in reversed(made[:3])]
    assert differences(world, made[3:], decoys) == []
    # Every one of them is listed with its rule.
    rules = {v.release.manifest.version: v.rule for v in retired.decisions}
    assert rules[made[4].version] == "current of the channel stable"
    assert rules[made[3].version] == "previous of the channel stable"
    assert rules[made[0].version] == "no rule keeps it"
    # In this order, of each release.
    kinds = [line.split()[0] for line in retired.deleted]
    first = kinds[: kinds.index("parameter") + 1]
    assert sorted(dict.fromkeys(first), key=first.index) == ["image", "snapshot", "grant", "parameter"]
    # The evidence stays; nobody is given it.
    assert world.catalog.get(RECIPE, made[0].version) == made[0]
    with pytest.raises(NotFound, match="is retired"):
        world.catalog.resolve(Reference(RECIPE, version=made[0].version), HOME_PLACE)


def test_the_second_run_does_nothing(world: World) -> None:
    made = releases(world, 4)
    go(world)
    builds = world.builds
    world.cloud.start_process()
    again = go(world)
    assert again.deleted == ()
    assert world.cloud.mutations == []
    assert world.builds == builds
    assert differences(world, made[2:]) == []


def test_a_dry_run_changes_nothing(world: World) -> None:
    releases(world, 4)
    before = inventory.take(world)
    world.cloud.start_process()
    retired = go(world, dry_run=True)
    assert len(retired.with_fate("delete")) == 2
    assert world.cloud.mutations == []
    assert inventory.take(world) == before


def test_step_by_step_with_age(world: World) -> None:
    made = releases(world, 3)
    rules = {
        RECIPE: Rules(
            keep=1,
            deprecate_after=timedelta(days=30),
            disable_after=timedelta(days=60),
            delete_after=timedelta(days=90),
        )
    }
    ec2 = world.client("ec2", HOME_PLACE)

    def image() -> dict[str, Any]:
        id = image_of(made[0])
        found = ec2.describe_images(ImageIds=[id], IncludeDisabled=True, IncludeDeprecated=True)["Images"]
        return found[0] if found else {}

    go(world, rules, later=timedelta(days=20))
    assert image()["State"] == "available"
    go(world, rules, later=timedelta(days=40))
    assert image()["DeprecationTime"] < image_deadline(days=41)
    go(world, rules, later=timedelta(days=70))
    assert image()["State"] == "disabled"
    go(world, rules, later=timedelta(days=100))
    assert inventory_of(world, made[0]) == set()


def image_deadline(days: int) -> str:
    from datetime import UTC, datetime

    return (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


def inventory_of(world: World, manifest: ImageManifest) -> set[str]:
    ids = {i.image_id for i in manifest.images} | {s.snapshot_id for i in manifest.images for s in i.snapshots}
    return {line for line in inventory.take(world) if any(id in line for id in ids)}


# --- what uses an image -----------------------------------------------------------------------------------------------


def an_instance(world: World, image: str, place: Place) -> None:
    world.client("ec2", place).run_instances(ImageId=image, MinCount=1, MaxCount=1, InstanceType="t3.small")


def a_stopped_instance(world: World, image: str, place: Place) -> None:
    ec2 = world.client("ec2", place)
    made = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, InstanceType="t3.small")["Instances"]
    world.clock.sleep(5)
    ec2.stop_instances(InstanceIds=[made[0]["InstanceId"]])


def an_old_template_version(world: World, image: str, place: Place) -> None:
    ec2 = world.client("ec2", place)
    data = {"ImageId": image}
    id = ec2.create_launch_template(LaunchTemplateName="old", LaunchTemplateData=data)["LaunchTemplate"]
    ec2.create_launch_template_version(
        LaunchTemplateId=id["LaunchTemplateId"], LaunchTemplateData={"ImageId": "ami-0123456789abcdef0"}
    )


def a_template_by_parameter(world: World, image: str, place: Place) -> None:
    """By the release's own parameter, which is no use in itself."""
    ssm = world.client("ssm", place)
    pages = ssm.get_paginator("get_parameters_by_path").paginate(Path="/golden-ami", Recursive=True)
    name = next(p["Name"] for page in pages for p in page["Parameters"] if p["Value"] == image)
    data = {"ImageId": f"resolve:ssm:{name}"}
    world.client("ec2", place).create_launch_template(LaunchTemplateName="by-parameter", LaunchTemplateData=data)


def a_launch_configuration(world: World, image: str, place: Place) -> None:
    world.client("autoscaling", place).create_launch_configuration(
        LaunchConfigurationName="c", ImageId=image, InstanceType="t3.small"
    )


def a_parameter(world: World, image: str, place: Place) -> None:
    world.client("ssm", place).put_parameter(Name="/teams/shop/image", Value=image, Type="String")


def a_copy(world: World, image: str, place: Place) -> None:
    world.client("ec2", place).copy_image(
        Name="my-copy", SourceImageId=image, SourceRegion=place.region, Encrypted=True, KmsKeyId="alias/golden-ami"
    )


def an_image_on_its_snapshot(world: World, image: str, place: Place) -> None:
    ec2 = world.client("ec2", place)
    found = ec2.describe_images(ImageIds=[image])["Images"][0]
    ec2.register_image(
        Name="mine",
        RootDeviceName="/dev/xvda",
        BlockDeviceMappings=[
            {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": found["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]}}
        ],
    )


def empty_template(world: World, place: Place, name: str, **data: Any) -> dict[str, str]:
    ec2 = world.client("ec2", place)
    data = {"InstanceType": "t3.small", **data}
    made = ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)["LaunchTemplate"]
    return {"LaunchTemplateId": made["LaunchTemplateId"], "Version": "$Latest"}


def a_template_with_its_snapshot(world: World, image: str, place: Place) -> None:
    found = world.client("ec2", place).describe_images(ImageIds=[image])["Images"][0]
    snapshot = found["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    empty_template(
        world, place, "data", BlockDeviceMappings=[{"DeviceName": "/dev/sdf", "Ebs": {"SnapshotId": snapshot}}]
    )


def an_override_of_a_group(world: World, image: str, place: Place) -> None:
    template = {
        "LaunchTemplateSpecification": empty_template(world, place, "mixed"),
        "Overrides": [{"InstanceType": "t3.small"}, {"InstanceType": "t3a.small", "ImageId": image}],
    }
    world.client("autoscaling", place).create_auto_scaling_group(
        AutoScalingGroupName="mixed",
        MinSize=0,
        MaxSize=0,
        AvailabilityZones=[f"{place.region}a"],
        MixedInstancesPolicy={"LaunchTemplate": template},
    )


def an_override_of_a_fleet(world: World, image: str, place: Place) -> None:
    template = {
        "LaunchTemplateSpecification": empty_template(world, place, "fleet"),
        "Overrides": [{"InstanceType": "t3.small", "ImageId": image}],
    }
    world.client("ec2", place).create_fleet(
        Type="maintain",
        LaunchTemplateConfigs=[template],
        TargetCapacitySpecification={"TotalTargetCapacity": 0, "DefaultTargetCapacityType": "spot"},
    )


def a_spot_fleet(world: World, image: str, place: Place) -> None:
    world.client("ec2", place).request_spot_fleet(
        SpotFleetRequestConfig={
            "IamFleetRole": f"arn:aws:iam::{place.account}:role/fleet",
            "AllocationStrategy": "lowestPrice",
            "TargetCapacity": 0,
            "LaunchSpecifications": [{"ImageId": image, "InstanceType": "t3.small"}],
        }
    )


def a_spot_request(world: World, image: str, place: Place) -> None:
    specification = {"ImageId": image, "InstanceType": "t3.small"}
    world.client("ec2", place).request_spot_instances(Type="persistent", LaunchSpecification=specification)


def role(world: World, place: Place, service: str) -> str:
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    made = world.client("iam", place).create_role(RoleName=service, AssumeRolePolicyDocument=policy)
    return str(made["Role"]["Arn"])


def a_batch_environment(world: World, image: str, place: Place) -> None:
    ec2 = world.client("ec2", place)
    profile = world.client("iam", place).create_instance_profile(InstanceProfileName="batch")["InstanceProfile"]
    resources = {
        "type": "EC2",
        "minvCpus": 0,
        "maxvCpus": 2,
        "desiredvCpus": 0,
        "instanceTypes": ["m5.large"],
        "subnets": [ec2.describe_subnets()["Subnets"][0]["SubnetId"]],
        "securityGroupIds": [ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]],
        "instanceRole": profile["Arn"],
        "ec2Configuration": [{"imageType": "ECS_AL2", "imageIdOverride": image}],
    }
    world.client("batch", place).create_compute_environment(
        computeEnvironmentName="jobs",
        type="MANAGED",
        state="DISABLED",
        serviceRole=role(world, place, "batch.amazonaws.com"),
        computeResources=resources,
    )


def a_node_group(world: World, image: str, place: Place) -> None:
    subnets = [world.client("ec2", place).describe_subnets()["Subnets"][0]["SubnetId"]]
    arn = role(world, place, "eks.amazonaws.com")
    eks = world.client("eks", place)
    eks.create_cluster(name="shop", roleArn=arn, resourcesVpcConfig={"subnetIds": subnets})
    eks.create_nodegroup(
        clusterName="shop", nodegroupName="workers", subnets=subnets, nodeRole=arn, releaseVersion=image
    )


def a_recipe_of_image_builder(world: World, image: str, place: Place) -> None:
    """A service that only AWS's own survey sees (DescribeImageReferences)."""
    arn = f"arn:aws:imagebuilder:{place.region}:{place.account}:image-recipe/shop/1.0.0"
    world.behind.ec2.note_reference(place.account, place.region, image, "imagebuilder:ImageRecipe", arn)


def a_share_with_a_stranger(world: World, image: str, place: Place) -> None:
    ec2 = world.client("ec2", place)
    ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"UserId": "999999999999"}]})


def a_protection(world: World, image: str, place: Place) -> None:
    world.client("ec2", place).enable_image_deregistration_protection(ImageId=image)


USES: dict[Callable[[World, str, Place], None], str] = {
    an_instance: "in use: instance i-",
    a_stopped_instance: "in use: instance i-",
    an_old_template_version: "in use: launch template old version 1 in",
    a_template_by_parameter: "in use: launch template by-parameter version 1 in",
    a_launch_configuration: "in use: launch configuration c in",
    a_parameter: "in use: parameter /teams/shop/image in",
    a_copy: "which is a copy of it,",
    an_image_on_its_snapshot: "which uses snap-",
    a_template_with_its_snapshot: "in use: launch template data version 1, with snap-",
    an_override_of_a_group: "in use: Auto Scaling group mixed (override for t3a.small) in",
    an_override_of_a_fleet: "in use: EC2 Fleet fleet-",
    a_spot_fleet: "in use: Spot Fleet sfr-",
    a_spot_request: "in use: Spot request sir-",
    a_batch_environment: "in use: Batch compute environment jobs in",
    a_node_group: "in use: EKS node group shop/workers in",
    a_recipe_of_image_builder: "in use: imagebuilder:ImageRecipe arn:aws:imagebuilder:",
    a_share_with_a_stranger: "is shared with 999999999999, which is outside the environment",
    a_protection: "protected from deregistration: ami-",
}


def fewer_targets(world: World) -> None:
    """One for each account: there are many releases."""
    file = world.path / "goldenami.yaml"
    lines = [line for line in file.read_text().splitlines() if "mode: share" not in line]
    file.write_text("\n".join(lines).replace("regions: [eu-central-1, eu-west-1]", "regions: [eu-central-1]") + "\n")
    world.project = recipe.load_project(world.path)
    world.environment = recipe.environment(world.project, "test")


def test_what_is_in_use_stays(world: World) -> None:
    """Each in another account than home, each of another release; the first and the last have no user."""
    fewer_targets(world)
    made = releases(world, len(USES) + 4)
    apps = Place(APPS, "eu-central-1")
    used = made[1 : len(USES) + 1]
    for use, manifest in zip(USES, used, strict=True):
        use(world, image_of(manifest, apps), apps)
    before = [inventory_of(world, manifest) for manifest in used]
    retired = go(world)
    decisions = {v.release.manifest.version: v for v in retired.decisions}
    for manifest, (use, rule) in zip(used, USES.items(), strict=True):
        assert decisions[manifest.version].fate == "keep", use
        assert rule in decisions[manifest.version].rule
    assert [inventory_of(world, manifest) for manifest in used] == before
    assert [v.release.manifest.version for v in retired.with_fate("delete")] == [made[-3].version, made[0].version]
    assert [inventory_of(world, manifest) for manifest in (made[0], made[-3])] == [set(), set()]


def test_an_account_that_does_not_answer_keeps_everything(world: World) -> None:
    made = releases(world, 3)
    refusal = {"code": "AccessDenied", "status": 403, "nth": 0}
    for place in PLACES:
        for action in ("ec2:DescribeInstances", "ssm:DescribeParameters", "autoscaling:DescribeLaunchConfigurations"):
            world.paper.set(faults=[{"action": action, "account": place.account, "region": place.region, **refusal}])
            retired = go(world)
            assert retired.with_fate("delete") == ()
            assert list(retired.unreachable) == [place]
            decision = next(v for v in retired.decisions if v.release.manifest == made[0])
            assert f"its use cannot be determined: {place} did not answer" in decision.rule
    world.paper.set(faults=[])
    assert differences(world, made) == []


def test_a_usage_report_speaks_for_who_cannot_be_asked(world: World) -> None:
    made = releases(world, 3)
    ec2 = world.client("ec2", HOME_PLACE)
    id = image_of(made[0])
    a_share_with_a_stranger(world, id, HOME_PLACE)
    day = timedelta(days=1)
    rules = {RECIPE: Rules(keep=1, minimum_age=day, unused_for=day)}
    assert go(world, rules, later=2 * day).with_fate("delete") == ()
    types = [{"ResourceType": "ec2:Instance"}, {"ResourceType": "ec2:LaunchTemplate"}]
    ec2.create_image_usage_report(ImageId=id, ResourceTypes=types)
    assert go(world, rules, later=8 * day).with_fate("delete") == ()  # too old a report
    assert [v.release.manifest for v in go(world, rules, later=2 * day).with_fate("delete")] == [made[0]]


def test_references_are_asked_for(world: World) -> None:
    """By plain clients: what the sandbox says of an instance, of an old version of a template, of a parameter."""
    made = releases(world, 1)
    id = image_of(made[0])
    an_instance(world, id, HOME_PLACE)
    an_old_template_version(world, id, HOME_PLACE)
    ec2 = world.client("ec2", HOME_PLACE)
    found = ec2.describe_image_references(ImageIds=[id], IncludeAllResourceTypes=True)["ImageReferences"]
    kinds = [one["ResourceType"] for one in found]
    assert sorted(kinds) == ["ec2:Instance", "ec2:LaunchTemplate", "ssm:Parameter", "ssm:Parameter"]
    newest = [{"OptionName": "version-depth", "OptionValues": ["1"]}]
    types = [{"ResourceType": "ec2:LaunchTemplate", "ResourceTypeOptions": newest}]
    assert ec2.describe_image_references(ImageIds=[id], ResourceTypes=types)["ImageReferences"] == []
    report = ec2.create_image_usage_report(ImageId=id, ResourceTypes=[{"ResourceType": "ec2:Instance"}])["ReportId"]
    (entry,) = ec2.describe_image_usage_report_entries(ReportIds=[report])["ImageUsageReportEntries"]
    assert (entry["AccountId"], entry["UsageCount"]) == (HOME, 1)
    ec2.delete_image_usage_report(ReportId=report)
    assert ec2.describe_image_usage_reports()["ImageUsageReports"] == []


def test_pinned(world: World) -> None:
    from datetime import UTC, datetime

    made = releases(world, 4)
    world.catalog.marks.pin(RECIPE, made[0].version, "the audit of 2026", datetime.now(UTC))
    retired = go(world)
    assert retired.decisions[-1].rule == "pinned: the audit of 2026"
    assert world.catalog.marks.unpin(RECIPE, made[0].version)
    assert not world.catalog.marks.unpin(RECIPE, made[0].version)
    assert [v.release.manifest for v in go(world).with_fate("delete")] == [made[0]]


def test_what_comes_into_use_at_the_last_moment_stays(world: World) -> None:
    """Launched after the decision, before it was disabled."""
    made = releases(world, 3)
    id = image_of(made[0])
    launched: list[Any] = []

    def disturb(label: Any, call: Any, serve: Any) -> Any:
        if label.action == "DisableImage" and not launched:
            launched.append(label)
            an_instance(world, id, HOME_PLACE)
        return serve()

    world.gate.start(disturb)
    retired = go(world)
    world.gate.stop()
    assert launched
    assert retired.with_fate("delete") == ()
    assert differences_but_instances(world, made) == []
    assert world.catalog.resolve(Reference(RECIPE, version=made[0].version), HOME_PLACE).image_id == id
    ec2 = world.client("ec2", HOME_PLACE)
    assert ec2.describe_images(ImageIds=[id], IncludeDeprecated=True)["Images"][0]["State"] == "available"


def differences_but_instances(world: World, kept: list[ImageManifest]) -> list[str]:
    return [d for d in differences(world, kept) if ": instance " not in d and ": volume " not in d]


def test_a_failure_is_told_and_the_next_run_tries_again(world: World) -> None:
    made = releases(world, 3)
    world.paper.set(faults=[{"action": "ec2:DeleteSnapshot", "code": "Blocked", "status": 400, "nth": 0}])
    retired = go(world)
    error = failed(retired)
    assert error is not None
    assert error.exit_code == 6
    assert all(what.startswith("snapshot snap-") for what in error.failures)
    world.paper.set(faults=[])
    assert failed(go(world)) is None
    assert differences(world, made[1:]) == []


# --- killed -----------------------------------------------------------------------------------------------------------


def test_killed_at_any_call_the_next_run_ends_in_the_same_state(world: World, whole: bool) -> None:
    made = releases(world, 3)
    world.cloud.start_process()
    go(world)
    labels = list(world.cloud.mutations)
    actions = {label.action for label in labels}
    assert actions == {  # deprecated they are already: the build said when
        "DisableImage",
        "DeregisterImage",
        "DeleteSnapshot",
        "RevokeGrant",
        "DeleteParameter",
    }
    cases = [(label, when) for label in labels for when in ("before", "after")]
    cases = cases if whole else cases[::19]
    decoys = inventory.place_decoys(world)
    kept = made[1:]
    world.paper.set(visibility_delay=1.0)
    for label, when in cases:
        kept += releases(world, 1)
        world.cloud.start_process(label, when)
        with pytest.raises(Death):
            go(world)
        world.cloud.start_process()
        retired = go(world)
        assert failed(retired) is None
        gone = kept.pop(0)
        world.clock.sleep(1.0)
        assert differences(world, kept, decoys) == [], f"killed {when} {label}"
        retirement = world.catalog.marks.retirement(RECIPE, gone.version)
        assert retirement is not None
        assert retirement.status == "retired"
        assert Journals(world.path / ".goldenami/test/builds").unfinished() == ()
        world.cloud.start_process()
        go(world)
        assert world.cloud.mutations == []


def test_rules_are_needed(world: World) -> None:
    releases(world, 3)
    assert go(world, {}).with_fate("delete") == ()
    assert go(world, RULES, later=timedelta(days=1)).with_fate("delete") == ()
