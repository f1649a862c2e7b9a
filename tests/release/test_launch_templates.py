"""Launch templates follow a channel: in every target or in none, and no version of others is changed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from goldenami import recipe
from goldenami.aws.guard import reads_only
from goldenami.errors import GoldenAmiError, InvalidInput, TargetsFailed, UsageError
from goldenami.model import ImageManifest, Place
from goldenami.preflight.finding import PreflightFailed
from goldenami.release import channels, launchers, redistribute
from goldenami.release.parameters import parameter_name
from goldenami.release.versions import Reference
from tests.worlds.builds import APPS, CHANNEL, HOME, PLACES, RECIPE, Death, Label, Saved, World
from tests.worlds.faults import FAULTS, Fault, Once
from tests.worlds.matrix import matrix
from tests.worlds.retiring import releases

DECLARED = f"    launch_templates:\n      - {{template: web, recipe: {RECIPE}, channel: {CHANNEL}}}\n"
CREATE, SWITCH = "CreateLaunchTemplateVersion", "ModifyLaunchTemplate"


def begin(world: World) -> None:
    world.fresh()
    declare(world, DECLARED)
    world.remember("templates", lambda: make_templates(world))


def make_templates(world: World) -> None:
    for place in PLACES:
        data = {"ImageId": "ami-11111111", "InstanceType": "t3.micro", "KeyName": "team"}
        world.client("ec2", place).create_launch_template(LaunchTemplateName="web", LaunchTemplateData=data)


@pytest.fixture
def world(build_world: World) -> World:
    """No release yet; in each place a launch template."""
    begin(build_world)
    return build_world


class Two(NamedTuple):
    """A world with two releases: the second one is in the channel, and is version 3 of each template."""

    saved: Saved
    first: ImageManifest
    second: ImageManifest


@pytest.fixture(scope="module")
def built(build_world: World) -> Two:
    begin(build_world)
    first, second = releases(build_world, 2)
    return Two(build_world.save(), first, second)


@pytest.fixture
def two(build_world: World, built: Two) -> Two:
    build_world.fresh(saved=built.saved)
    return built


def declare(world: World, text: str) -> None:
    file = world.path / "goldenami.yaml"
    before = file.read_text().partition("    launch_templates:")[0]
    file.write_text(before + text)
    world.project = recipe.load_project(world.path)
    world.environment = recipe.environment(world.project, "test")


def versions(world: World, place: Place) -> dict[int, dict[str, Any]]:
    found = world.client("ec2", place).describe_launch_template_versions(LaunchTemplateName="web")
    return {one["VersionNumber"]: one for one in found["LaunchTemplateVersions"]}


def default(world: World, place: Place) -> tuple[int, str]:
    """The number and the image of the default version."""
    (one,) = (one for one in versions(world, place).values() if one["DefaultVersion"])
    return one["VersionNumber"], one["LaunchTemplateData"]["ImageId"]


def images(world: World) -> dict[Place, str]:
    return {place: default(world, place)[1] for place in PLACES}


def ids(manifest: ImageManifest) -> dict[Place, str]:
    return {row.place: row.image_id for row in manifest.images}


def promote(world: World, manifest: ImageManifest) -> channels.Moved:
    reference = Reference(RECIPE, version=manifest.version)
    return channels.promote(world.environment, reference, CHANNEL, cloud=world.cloud, emit_to=world.events.append)


def rollback(world: World) -> channels.Moved:
    return channels.rollback(world.environment, RECIPE, CHANNEL, cloud=world.cloud, emit_to=world.events.append)


def changes(world: World, since: int = 0) -> list[str]:
    """The changing calls about launch templates."""
    calls = [c["action"] for c in world.paper.calls[since:] if not reads_only(c["service"], c["action"])]
    return [action for action in calls if "LaunchTemplate" in action and action != "CreateLaunchTemplate"]


# --- moves ------------------------------------------------------------------------------------------------------------


def test_a_build_gives_each_template_a_default_version_with_the_image(world: World) -> None:
    (first,) = releases(world, 1)
    assert images(world) == ids(first)
    assert changes(world) == [CREATE] * len(PLACES) + [SWITCH] * len(PLACES), "prepared everywhere, then switched"
    for place in PLACES:
        made = versions(world, place)[2]
        assert made["LaunchTemplateData"] == {
            "ImageId": ids(first)[place],
            "InstanceType": "t3.micro",
            "KeyName": "team",
        }
        assert made["VersionDescription"].startswith(f"{RECIPE} {first.version} ({CHANNEL}) [goldenami ")


def test_a_rollback_sets_the_earlier_version_and_makes_none(build_world: World, two: Two) -> None:
    world, first, second = build_world, two.first, two.second
    seen = len(world.paper.calls)
    world.cloud.start_process()
    rollback(world)
    assert {place: default(world, place) for place in PLACES} == {place: (2, ids(first)[place]) for place in PLACES}
    assert changes(world, seen) == [SWITCH] * len(PLACES)
    seen = len(world.paper.calls)
    assert promote(world, second).changed
    assert {default(world, place) for place in PLACES} == {(3, id) for id in ids(second).values()}
    assert changes(world, seen) == [SWITCH] * len(PLACES)
    seen = len(world.paper.calls)
    assert promote(world, second).changed is False
    assert changes(world, seen) == [], "a second call changes nothing"


def a_group(world: World, place: Place, version: dict[str, str]) -> None:
    zones = [f"{place.region}a"]
    world.client("autoscaling", place).create_auto_scaling_group(
        AutoScalingGroupName="one", MinSize=0, MaxSize=0, AvailabilityZones=zones, LaunchTemplate=version
    )


def a_mixed_group(world: World, place: Place, version: dict[str, str]) -> None:
    policy = {"LaunchTemplate": {"LaunchTemplateSpecification": version, "Overrides": [{"InstanceType": "t3.small"}]}}
    zones = [f"{place.region}a"]
    world.client("autoscaling", place).create_auto_scaling_group(
        AutoScalingGroupName="mixed", MinSize=0, MaxSize=0, AvailabilityZones=zones, MixedInstancesPolicy=policy
    )


def a_fleet(world: World, place: Place, version: dict[str, str]) -> None:
    world.client("ec2", place).create_fleet(
        Type="maintain",
        LaunchTemplateConfigs=[{"LaunchTemplateSpecification": version}],
        TargetCapacitySpecification={"TotalTargetCapacity": 0, "DefaultTargetCapacityType": "spot"},
    )


def a_node_group(world: World, place: Place, version: dict[str, str]) -> None:
    given = {("id" if key.endswith("Id") else "version"): value for key, value in version.items()}
    subnets = [world.client("ec2", place).describe_subnets()["Subnets"][0]["SubnetId"]]
    role = f"arn:aws:iam::{place.account}:role/eks"
    eks = world.client("eks", place)
    eks.create_cluster(name="shop", roleArn=role, resourcesVpcConfig={"subnetIds": subnets})
    eks.create_nodegroup(
        clusterName="shop", nodegroupName="workers", subnets=subnets, nodeRole=role, launchTemplate=given
    )


def test_an_old_version_keeps_its_release_only_while_something_names_it(build_world: World, two: Two) -> None:
    world, place = build_world, PLACES[0]
    first, second = ids(two.first)[place], ids(two.second)[place]

    def named() -> set[str]:
        return {id for id, _ in launchers.named(world.cloud, place)} - {"ami-11111111"}

    world.cloud.start_process()
    assert named() == {second}
    ec2 = world.client("ec2", place)
    (template,) = ec2.describe_launch_templates(LaunchTemplateNames=["web"])["LaunchTemplates"]
    saved = world.save()
    for use in (a_group, a_mixed_group, a_fleet, a_node_group):
        world.fresh(saved=saved)
        use(world, place, {"LaunchTemplateId": template["LaunchTemplateId"], "Version": "2"})
        assert named() == {first, second}, use
    world.fresh(saved=saved)
    a_group(world, place, {"LaunchTemplateName": "web", "Version": "$Latest"})
    assert named() == {second}
    ec2.create_launch_template_version(LaunchTemplateName="web", LaunchTemplateData={"ImageId": first})
    ec2.create_launch_template_version(LaunchTemplateName="web", LaunchTemplateData={"ImageId": second})
    assert named() == {first, second}, "an old version of the team"


def test_a_revocation_takes_the_templates_along(build_world: World, two: Two) -> None:
    world, first, second = build_world, two.first, two.second
    world.cloud.start_process()
    done = channels.revoke(world.environment, RECIPE, second.version, reason="CVE-2026-1", cloud=world.cloud)
    assert done.left == {}
    assert images(world) == ids(first)


def test_a_version_of_the_team_is_kept_and_its_parameters_are_taken_over(build_world: World, two: Two) -> None:
    """The default version counts: a draft stays a draft. A rollback keeps what the team changed since."""
    world, first, second = build_world, two.first, two.second
    place = PLACES[0]
    ec2 = world.client("ec2", place)
    larger = {"InstanceType": "t3.large"}
    ec2.create_launch_template_version(LaunchTemplateName="web", SourceVersion="3", LaunchTemplateData=larger)
    ec2.modify_launch_template(LaunchTemplateName="web", DefaultVersion="4")
    draft = {"InstanceType": "t3.2xlarge"}
    ec2.create_launch_template_version(LaunchTemplateName="web", SourceVersion="4", LaunchTemplateData=draft)
    before = versions(world, place)
    world.cloud.start_process()
    rollback(world)
    now = versions(world, place)
    assert default(world, place) == (6, ids(first)[place])
    assert now[6]["LaunchTemplateData"] == {"ImageId": ids(first)[place], "InstanceType": "t3.large", "KeyName": "team"}
    assert {n: now[n]["LaunchTemplateData"] for n in before} == {n: before[n]["LaunchTemplateData"] for n in before}
    assert default(world, PLACES[1]) == (2, ids(first)[PLACES[1]])
    assert second.version


def test_without_a_default_version_the_newest_one_counts(world: World) -> None:
    declare(world, DECLARED.replace("}", ", default: false}"))
    first, second = releases(world, 2)
    world.cloud.start_process()
    rollback(world)
    for place in PLACES:
        found = {number: one["LaunchTemplateData"]["ImageId"] for number, one in versions(world, place).items()}
        a, b = ids(first)[place], ids(second)[place]
        assert found == {1: "ami-11111111", 2: a, 3: b, 4: a}
        assert default(world, place) == (1, "ami-11111111")
    assert SWITCH not in changes(world)


def test_a_template_that_names_a_parameter_follows_by_itself(world: World) -> None:
    place = PLACES[3]
    name = parameter_name("/golden-ami", RECIPE, "x86_64", CHANNEL)
    data = {"ImageId": f"resolve:ssm:{name}"}
    ec2 = world.client("ec2", place)
    ec2.create_launch_template_version(LaunchTemplateName="web", SourceVersion="1", LaunchTemplateData=data)
    ec2.modify_launch_template(LaunchTemplateName="web", DefaultVersion="2")
    (first,) = releases(world, 1)
    assert default(world, place) == (2, f"resolve:ssm:{name}")
    assert {p: default(world, p)[1] for p in PLACES[:3]} == {p: ids(first)[p] for p in PLACES[:3]}
    notes = [e.fields["message"] for e in world.events if e.kind == "note"]
    assert any("follows by itself" in note for note in notes)


def test_distribute_gives_a_template_its_image_back(build_world: World, two: Two) -> None:
    world = build_world
    place = PLACES[2]
    declaration = recipe.declaration(world.project, world.environment, RECIPE)
    reference = Reference(RECIPE, channel=CHANNEL)

    def distribute() -> redistribute.Redistributed:
        return redistribute.distribute(world.environment, reference, declaration, cloud=world.cloud)

    assert distribute().task_id is None, "nothing differs"
    world.client("ec2", place).modify_launch_template(LaunchTemplateName="web", DefaultVersion="1")
    seen = len(world.paper.calls)
    (change,) = distribute().difference.changes
    assert str(change) == f"{place} web: launch template {CHANNEL}: ami-11111111 -> {ids(two.second)[place]}"
    assert changes(world, seen) == [SWITCH]
    assert images(world) == ids(two.second)
    world.client("ec2", place).delete_launch_template(LaunchTemplateName="web")
    with pytest.raises(TargetsFailed) as caught:
        distribute()
    assert caught.value.failures == {f"{place}/web:": f"{place}/web: this launch template does not exist"}


# --- before anything changes ------------------------------------------------------------------------------------------


def test_a_missing_template_stops_a_build_before_its_launch_and_a_move_before_its_first_call(
    build_world: World, two: Two
) -> None:
    world, first, second = build_world, two.first, two.second
    world.client("ec2", PLACES[2]).delete_launch_template(LaunchTemplateName="web")
    seen = len(world.paper.calls)
    world.change_recipe("third")
    world.cloud.start_process()
    with pytest.raises(PreflightFailed, match=f"{PLACES[2]}: launch template web does not exist") as caught:
        world.build()
    assert caught.value.exit_code == 3
    with pytest.raises(TargetsFailed, match="launch templates cannot be changed in apps/eu-central-1"):
        promote(world, first)
    assert [c for c in world.paper.calls[seen:] if not reads_only(c["service"], c["action"])] == []
    assert {place: default(world, place)[1] for place in PLACES if place != PLACES[2]} == {
        place: id for place, id in ids(second).items() if place != PLACES[2]
    }


def test_an_architecture_that_the_release_lacks_is_an_error(build_world: World, two: Two) -> None:
    world, first = build_world, two.first
    declare(world, DECLARED.replace("}", ", architecture: arm64}"))
    world.cloud.start_process()
    with pytest.raises(UsageError, match="architecture is arm64, expected one of x86_64"):
        promote(world, first)
    assert images(world) == ids(two.second)


def refused(world: World, text: str) -> str:
    """The only problem of a declaration, with its place."""
    with pytest.raises(InvalidInput) as caught:
        declare(world, text)
    (problem,) = caught.value.problems
    assert problem.file.endswith("goldenami.yaml"), problem
    assert problem.line > 10, problem
    return str(problem)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("account: app", "there is no account 'app'"),
        ("regions: [us-east-1]", "no target is in us-east-1"),
        ("account: apps, regions: [eu-west-1], defalt: false", "defalt"),
    ],
    ids=["account", "region", "key"],
)
def test_a_wrong_declaration_is_named_with_its_place(world: World, more: str, message: str) -> None:
    assert message in refused(world, DECLARED.replace("}", f", {more}}}"))


def test_an_id_needs_its_place_and_a_template_has_one_declaration(world: World) -> None:
    assert "is in one account and region" in refused(world, DECLARED.replace("web,", "lt-0123456789abcdef0,", 1))
    assert "declared twice" in refused(world, DECLARED + DECLARED.splitlines(keepends=True)[1])
    declare(world, DECLARED.replace("}", ", account: apps, regions: [eu-west-1]}"))
    assert [one.places for one in world.environment.launch_templates] == [(Place(APPS, "eu-west-1"),)]


# --- whatever happens -------------------------------------------------------------------------------------------------


def check(world: World, first: ImageManifest, second: ImageManifest, *, moved: bool | None) -> None:
    """All default versions and the pointer are at one release, and an undone move left no version."""
    pointer = world.catalog.channel(RECIPE, CHANNEL)
    assert pointer is not None
    if moved is not None:
        assert pointer.current == (first if moved else second).version
    at = first if pointer.current == first.version else second
    assert images(world) == ids(at)
    if at == second:
        assert [len(versions(world, place)) for place in PLACES] == [3] * len(PLACES)


def labels() -> Iterator[Label]:
    for action, account, region in itertools.product((CREATE, SWITCH), (HOME, APPS), ("eu-central-1", "eu-west-1")):
        yield Label("ec2", action, account, region, 1)


def prepared(world: World, two: Two) -> tuple[ImageManifest, ImageManifest]:
    """The template's version for the first release is gone, so a move makes another one."""
    for place in PLACES:
        ec2 = world.client("ec2", place)
        ec2.delete_launch_template_versions(LaunchTemplateName="web", Versions=["2"])
        data = {"InstanceType": "t3.nano"}
        ec2.create_launch_template_version(LaunchTemplateName="web", SourceVersion="1", LaunchTemplateData=data)
    return two.first, two.second


@matrix("label, fault", itertools.product(labels(), FAULTS), every=29)
def test_any_call_may_fail(build_world: World, two: Two, label: Label, fault: Fault) -> None:
    world, first, second = build_world, *prepared(build_world, two)
    world.cloud.start_process()
    world.gate.start(Once(label, fault))
    error: GoldenAmiError | None = None
    try:
        promote(world, first)
    except GoldenAmiError as caught:
        error = caught
    finally:
        world.gate.stop()
    check(world, first, second, moved=error is None)
    if error is not None:
        world.cloud.start_process()
        promote(world, first)
        check(world, first, second, moved=True)


@matrix(
    "label, when, then",
    itertools.product(labels(), ("before", "after"), ("resume", "clean", "again")),
    every=11,
)
def test_killed_at_any_call(build_world: World, two: Two, label: Label, when: str, then: str) -> None:
    world, first, second = build_world, *prepared(build_world, two)
    world.cloud.start_process(label, when)
    with pytest.raises(Death):
        promote(world, first)
    (left,) = world.journals.unfinished()
    if then == "resume":
        assert world.resume(left.build_id).status == "moved"
    elif then == "clean":
        assert world.clean(left.build_id).complete
    else:
        world.cloud.start_process()
        promote(world, first)
    check(world, first, second, moved=then != "clean")
    assert world.journals.unfinished() == ()
    if then != "clean":
        made = [one for one in versions(world, PLACES[0]).values() if "goldenami" in one.get("VersionDescription", "")]
        assert len(made) == 2, "one for each release"


@matrix("label, then", itertools.product(labels(), ("resume", "clean")), every=7)
def test_a_build_that_was_killed_while_it_moved(world: World, label: Label, then: str) -> None:
    (first,) = releases(world, 1)
    world.build_until(label, "after")
    (left,) = world.journals.unfinished()
    if then == "resume":
        second = world.resume(left.build_id).manifest
        assert images(world) == ids(second)
    else:
        assert world.clean(left.build_id).complete
        assert images(world) == ids(first)
        assert [len(versions(world, place)) for place in PLACES] == [2] * len(PLACES)


def test_a_default_version_that_somebody_set_since_is_kept(
    build_world: World, two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goldenami.release.publish._AT_ONCE", 1)  # one place switches before it dies in another
    world, first, second = build_world, *prepared(build_world, two)
    world.cloud.start_process(Label("ec2", SWITCH, APPS, "eu-west-1", 1), "before")
    with pytest.raises(Death):
        promote(world, first)
    place = PLACES[0]
    world.client("ec2", place).modify_launch_template(LaunchTemplateName="web", DefaultVersion="1")
    (left,) = world.journals.unfinished()
    assert world.clean(left.build_id).complete
    assert default(world, place) == (1, "ami-11111111")
    assert {p: default(world, p)[1] for p in PLACES[1:]} == {p: ids(second)[p] for p in PLACES[1:]}


def test_a_clean_up_undoes_what_is_declared_no_more(build_world: World, two: Two) -> None:
    world, first, second = build_world, *prepared(build_world, two)
    world.cloud.start_process(Label("ec2", SWITCH, APPS, "eu-west-1", 1), "before")
    with pytest.raises(Death):
        promote(world, first)
    declare(world, "")
    (left,) = world.journals.unfinished()
    assert world.clean(left.build_id).complete
    check(world, first, second, moved=False)
