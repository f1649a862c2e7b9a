"""``distribution.prove``: where the final image is booted before it is published."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from goldenami import costs, pipeline, planning
from goldenami import recipe as recipes
from goldenami.aws.guard import reads_only
from goldenami.errors import TestsFailed
from goldenami.manifest import dumps, loads
from goldenami.model import Place
from goldenami.preflight import PreflightFailed
from goldenami.snapshots.prices import Prices, Rate
from goldenami.stages.build import BuildContext, Candidate, Host
from tests.worlds.builds import APPS, HOME, PLACES, PaperHostWork, World

DEBIAN = "136693071363"


class Somewhere(PaperHostWork):
    """Notes where instances of the image are tested, and what is in their launch. Tests fail in ``broken``."""

    def __init__(self, world: World, broken: Place | None = None) -> None:
        super().__init__()
        self.world = world
        self.broken = broken
        self.seen: dict[str, dict[str, Any]] = {}

    def prove(self, build: BuildContext, made: Candidate, host: Host) -> Any:
        place = host.place or build.home
        [found] = self.world.client("ec2", place).describe_instances(InstanceIds=[host.instance_id])["Reservations"]
        self.seen[str(place)] = found["Instances"][0]
        if place == self.broken:
            raise TestsFailed("1 of 4 tests failed at gate image")
        return super().prove(build, made, host)


@pytest.fixture
def world(build_world: World) -> World:
    build_world.fresh()
    return build_world


def prove(world: World, where: str, broken: Place | None = None) -> Somewhere:
    file = world.path / "recipes" / "web.yaml"
    file.write_text(file.read_text().replace("{channel: stable}", f"{{channel: stable, prove: {where}}}"))
    world.project = recipes.load_project(world.path)
    world.host_work = work = Somewhere(world, broken)
    return work


EVERY = {str(place) for place in PLACES}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("home", {f"{HOME}/eu-central-1"}),
        ("each-region", {f"{HOME}/eu-central-1", f"{HOME}/eu-west-1"}),
        ("each-target", EVERY),
    ],
)
def test_the_image_boots_where_the_recipe_says(world: World, where: str, expected: set[str]) -> None:
    work = prove(world, where)
    outcome = world.build()
    assert set(work.seen) == expected
    rows = {str(image.place): image.image_id for image in outcome.manifest.images}
    assert {place: one["ImageId"] for place, one in work.seen.items()} == {place: rows[place] for place in expected}
    gates = [(report.gate, report.place) for report in outcome.manifest.tests]
    labels = {"home/eu-west-1", "apps/eu-central-1", "apps/eu-west-1"} if where == "each-target" else set()
    labels |= {"home/eu-west-1"} if where == "each-region" else set()
    assert sorted(gates) == sorted([("builder", ""), ("image", ""), *(("image", label) for label in labels)])
    assert loads(dumps(outcome.manifest)).tests == outcome.manifest.tests


def test_nothing_is_left_in_any_place(world: World) -> None:
    prove(world, "each-target")
    outcome = world.build()
    assert not outcome.left
    for place in PLACES:
        ec2 = world.client("ec2", place)
        states = [i["State"]["Name"] for r in ec2.describe_instances()["Reservations"] for i in r["Instances"]]
        assert set(states) <= {"shutting-down", "terminated"}
        assert ec2.describe_key_pairs()["KeyPairs"] == []
        assert [g["GroupName"] for g in ec2.describe_security_groups()["SecurityGroups"]] == ["default"]


def test_a_shared_image_that_fails_in_its_account_is_not_published(world: World) -> None:
    prove(world, "each-target", broken=Place(APPS, "eu-west-1"))
    with pytest.raises(TestsFailed):
        world.build()
    assert world.catalog.channel("web", "stable") is None
    for place in PLACES:
        assert world.client("ec2", place).describe_images(Owners=["self"])["Images"] == []


def no_subnet(world: World) -> None:
    ec2 = world.client("ec2", Place(APPS, "eu-central-1"))
    for subnet in ec2.describe_subnets()["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])


def no_room(world: World) -> None:
    world.paper.set(vcpu_quotas={"L-1216C47A": 3})
    ec2 = world.client("ec2", Place(APPS, "eu-central-1"))
    query = [{"Name": "name", "Values": ["debian-12-amd64-*"]}]
    image = ec2.describe_images(Owners=[DEBIAN], Filters=query)["Images"][0]["ImageId"]
    ec2.run_instances(ImageId=image, InstanceType="t3.small", MinCount=1, MaxCount=1)


@pytest.mark.parametrize(
    ("provoke", "message", "exit_code"),
    [
        (no_subnet, "has no default subnet", 3),
        (no_room, r"web needs 2 vCPUs \(on-demand\), but 2 of 3 are used", 1),
    ],
)
def test_a_place_that_cannot_launch_is_found_before_anything_is_made(
    world: World, provoke: Callable[[World], None], message: str, exit_code: int
) -> None:
    provoke(world)
    prove(world, "each-target")
    before = len(world.paper.calls)
    with pytest.raises(PreflightFailed, match=rf"{APPS}/eu-central-1.*{message}") as caught:
        world.build()
    assert caught.value.exit_code == exit_code
    assert [c for c in world.paper.calls[before:] if not reads_only(c["service"], c["action"])] == []
    # With the default, no instance is launched there.
    file = world.path / "recipes" / "web.yaml"
    file.write_text(file.read_text().replace("prove: each-target", "prove: home"))
    world.project = recipes.load_project(world.path)
    assert world.build().status == "released"


def test_the_plan_names_the_places_and_the_price(world: World) -> None:
    def plan() -> planning.BuildPlan:
        return pipeline.make_plan(pipeline.Request(world.project, world.environment, "web"))

    at_home = plan()
    prove(world, "each-target")
    everywhere = plan()
    assert "boots before it is published" not in "\n".join(planning.describe(at_home))
    text = "\n".join(planning.describe(everywhere))
    assert f"in {APPS}/eu-west-1 (apps/eu-west-1)" in text
    assert set(planning.to_json(everywhere)["proved_in"]) == EVERY
    table = Prices("EUR", Rate(0.05, 0.01, 0.0, {"t3.small": 0.36}), {}, "2026-01")
    once = [costs.of_build(one, 3600.0, table).once for one in (at_home, everywhere)]
    assert once == [pytest.approx(2 * 0.36), pytest.approx(5 * 0.36)]  # three more instances
    assert at_home.digest != everywhere.digest
