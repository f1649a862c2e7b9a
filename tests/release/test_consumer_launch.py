"""The launch of an application team: in its account, from the image that it uses, through an Auto Scaling group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from goldenami import recipe as recipes
from goldenami import task
from goldenami.aws import autoscaling
from goldenami.errors import BuilderError, OperationFailed
from goldenami.model import Architecture, Place, TestReport
from goldenami.stages import fresh
from goldenami.stages.build import BuildContext, Host
from tests.worlds import inventory
from tests.worlds.builds import APPS, HOME, RECIPE, World

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
    world.build()
    world.cloud.start_process()


def launch(world: World, place: Place, failing: bool = False) -> dict[str, Any]:
    """Test the release in a place, through a group. Returns the instance as it was during the tests."""
    image = next(
        one for one in world.catalog.get(RECIPE, world.catalog.versions(RECIPE)[0]).images if one.place == place
    )
    recipe = recipes.load(world.project, RECIPE, world.environment)
    seen: dict[str, Any] = {}

    def on_instance(build: BuildContext, arch: Architecture, host: Host, outputs: Mapping[str, str]) -> TestReport:
        answer = world.client("ec2", place).describe_instances(InstanceIds=[host.instance_id])
        seen.update(answer["Reservations"][0]["Instances"][0])
        if failing:
            raise OperationFailed("x", place="", output="")
        return TestReport("image", arch, 1, 0, 0, 0, 0.1)

    with task.run(world.environment, fresh.KIND, {}, cloud=world.cloud, emit_to=world.events.append) as job:
        (report,) = fresh.run(
            job, recipe, "1.0", "x86_64", image.image_id,
            outputs={}, place=place, in_group=True, on_instance=on_instance,
        )  # fmt: skip
    assert report.place == str(place)
    assert seen["ImageId"] == image.image_id
    return seen


@pytest.mark.parametrize("place", [SHARED, COPIED], ids=["shared", "copied"])
def test_a_group_of_the_account_launches_the_image(world: World, place: Place) -> None:
    released(world, consumers=True)
    before = inventory.take(world)
    seen = launch(world, place)
    assert seen["State"]["Name"] == "running"
    assert autoscaling.group_of(seen)
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
        launch(world, COPIED, failing=True)
    assert inventory.take(world) == before
    for place in (SHARED, COPIED, Place(HOME, "eu-central-1")):
        assert world.client("autoscaling", place).describe_auto_scaling_groups()["AutoScalingGroups"] == []
        assert world.client("ec2", place).describe_launch_templates()["LaunchTemplates"] == []


def test_a_launch_that_ec2_refuses_is_told(world: World) -> None:
    released(world, consumers=True)
    image = next(i for i in world.catalog.get(RECIPE, world.catalog.versions(RECIPE)[0]).images if i.place == SHARED)
    world.client("ec2", Place(HOME, SHARED.region)).modify_image_attribute(
        ImageId=image.image_id, LaunchPermission={"Remove": [{"UserId": APPS}]}
    )
    with pytest.raises(BuilderError, match="launched no instance") as caught:
        launch(world, SHARED)
    assert "Launching EC2 instance failed" in caught.value.message
