"""The launch of an application team: in its account, from the image that it uses, through an Auto Scaling group."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from goldenami import pipeline, task
from goldenami import recipe as recipes
from goldenami.aws import autoscaling
from goldenami.cli.main import main
from goldenami.errors import BuilderError, HostLost, OperationFailed
from goldenami.model import Architecture, Place, TestReport
from goldenami.stages import fresh
from goldenami.stages.build import BuildContext, Host
from tests.worlds import inventory
from tests.worlds.builds import APPS, HOME, RECIPE, Death, Label, World

CONSUMERS = "    consumers: [{account: apps, services: [autoscaling]}, {account: home, services: [autoscaling]}]\n"
SHARED = Place(APPS, "eu-west-1")  # apps uses the home account's image there
COPIED = Place(APPS, "eu-central-1")


@pytest.fixture
def world(build_world: World) -> World:
    build_world.fresh()
    return build_world


def released(world: World, *, consumers: bool) -> None:
    settings = world.path / "goldenami.yaml"
    if consumers:
        settings.write_text(settings.read_text() + CONSUMERS)
    world.project = recipes.load_project(world.path)
    world.environment = recipes.environment(world.project, "test")
    world.built()


def launch(world: World, place: Place, *errors: Exception) -> dict[str, Any]:
    """Test the release in a place, through a group. Returns the instance as it was during the tests, with the suspended
    processes of its group. ``errors``: of the first instances, one each."""
    image = next(
        one for one in world.catalog.get(RECIPE, world.catalog.versions(RECIPE)[0]).images if one.place == place
    )
    recipe = recipes.load(world.project, RECIPE, world.environment)
    seen: dict[str, Any] = {}
    left = list(errors)

    def on_instance(build: BuildContext, arch: Architecture, host: Host, outputs: Mapping[str, str]) -> TestReport:
        answer = world.client("ec2", place).describe_instances(InstanceIds=[host.instance_id])
        seen.update(answer["Reservations"][0]["Instances"][0])
        name = autoscaling.group_of(seen)
        groups = world.client("autoscaling", place).describe_auto_scaling_groups(AutoScalingGroupNames=[name])
        seen["suspended"] = {p["ProcessName"] for p in groups["AutoScalingGroups"][0]["SuspendedProcesses"]}
        if left:
            raise left.pop(0)
        return TestReport("image", arch, 1, 0, 0, 0, 0.1)

    with task.run(world.environment, fresh.KIND, {}, cloud=world.cloud, emit_to=world.events.append) as job:
        (report,) = fresh.run(
            job, recipe, "1.0", "x86_64", image.image_id,
            outputs={}, place=place, in_group=True, on_instance=on_instance,
        )  # fmt: skip
    assert report.place == str(place)
    assert seen["ImageId"] == image.image_id
    return seen


def groups_of_instances(world: World, place: Place) -> list[str | None]:
    """Which groups launched the instances of a place, also those that have ended."""
    found = world.client("ec2", place).describe_instances()["Reservations"]
    return [autoscaling.group_of(one) for reservation in found for one in reservation["Instances"]]


def check_no_group(world: World) -> None:
    for place in (SHARED, COPIED, Place(HOME, "eu-central-1")):
        assert world.client("autoscaling", place).describe_auto_scaling_groups()["AutoScalingGroups"] == []
        assert world.client("ec2", place).describe_launch_templates()["LaunchTemplates"] == []


@pytest.mark.parametrize("place", [SHARED, COPIED], ids=["shared", "copied"])
def test_a_group_of_the_account_launches_the_image(world: World, place: Place) -> None:
    released(world, consumers=True)
    before = inventory.take(world)
    seen = launch(world, place)
    assert seen["State"]["Name"] == "running"
    assert autoscaling.group_of(seen)
    assert seen["suspended"] == {"Launch", "HealthCheck", "ReplaceUnhealthy", "AZRebalance"}
    assert inventory.take(world) == before, "the group, its template and its instance are deleted"
    calls = [c for c in world.paper.calls if c["action"] in ("CreateAutoScalingGroup", "CreateLaunchTemplate")]
    assert {(c["account"], c["region"]) for c in calls} == {(place.account, place.region)}


def test_a_group_without_a_grant_fails_and_says_why(world: World) -> None:
    """A role of the account could launch the image."""
    released(world, consumers=False)
    before = inventory.take(world)
    with pytest.raises(BuilderError) as caught:
        launch(world, SHARED)
    assert "Client.InternalError" in caught.value.message or "Client error on launch" in caught.value.message
    assert "consumers" in (caught.value.hint or "")
    assert inventory.take(world) == before


def test_a_failure_leaves_no_group(world: World) -> None:
    released(world, consumers=True)
    before = inventory.take(world)
    with pytest.raises(OperationFailed):
        launch(world, COPIED, OperationFailed("x", place="", output=""))
    assert inventory.take(world) == before
    check_no_group(world)


def test_a_lost_instance_is_replaced_by_another_group(world: World) -> None:
    """On AWS, the first group keeps its name until its instance has ended."""
    released(world, consumers=True)
    before = inventory.take(world)
    launch(world, COPIED, HostLost("it ended", instance_id="i-1", reason="it ended"))
    names = groups_of_instances(world, COPIED)
    assert len(names) == len({*names}) == 2
    assert inventory.take(world) == before
    check_no_group(world)


def test_an_instance_that_ec2_cannot_start_is_lost(world: World) -> None:
    released(world, consumers=True)
    world.paper.node.failures["launch"] = "no power"
    with pytest.raises(HostLost):
        launch(world, COPIED)
    names = groups_of_instances(world, COPIED)
    assert len(names) == len({*names}) == 3, "it was replaced twice"
    check_no_group(world)


def test_what_a_lost_machine_left_of_a_group_is_collected(world: World) -> None:
    """It dies before it has suspended the processes of the group, and its journal is lost."""
    released(world, consumers=True)
    before = inventory.take(world)
    world.cloud.start_process(Label("autoscaling", "SetDesiredCapacity", COPIED.account, COPIED.region, 1), "after")
    with pytest.raises(Death):
        launch(world, COPIED)
    assert inventory.take(world) > before
    shutil.rmtree(world.path / ".goldenami" / "test" / "builds")
    world.cloud.start_process()
    world.cloud.ahead = timedelta(hours=25)
    done = pipeline.clean_expired(world.environment, cloud=world.cloud)
    assert not done[None].left
    kinds = [found.kind for found in done[None].deleted]
    assert kinds.index("auto-scaling-group") < kinds.index("launch-template")
    assert inventory.take(world) == before
    check_no_group(world)


def test_a_launch_that_ec2_refuses_is_told(world: World) -> None:
    released(world, consumers=True)
    image = next(i for i in world.catalog.get(RECIPE, world.catalog.versions(RECIPE)[0]).images if i.place == SHARED)
    world.client("ec2", Place(HOME, SHARED.region)).modify_image_attribute(
        ImageId=image.image_id, LaunchPermission={"Remove": [{"UserId": APPS}]}
    )
    with pytest.raises(BuilderError, match="launched no instance") as caught:
        launch(world, SHARED)
    assert "Launching EC2 instance failed" in caught.value.message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--on", "admin@192.0.2.7", "--through", "autoscaling"], "found --through autoscaling and --on"),
        (["--region", "eu-north-1"], f"{HOME}/eu-north-1 is no place of environment test"),
    ],
    ids=["on a host", "no target"],
)
def test_what_cannot_be_is_refused(
    world: World, options: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world.path)
    assert main(["test", RECIPE, "-e", "test", *options]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
