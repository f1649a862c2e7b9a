"""Where images really boot: in each place that the recipe names, after a reboot, through a group, and of others."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.worlds.machines import Cloud, Done, Workspace

pytestmark = [pytest.mark.root, pytest.mark.nightly]

SETTINGS = """\
environments:
  sandbox:
    sandbox: true
    consumers: [{account: apps, services: [autoscaling]}]
"""
RECIPE = """\
name: {name}
version: "1.0"
base: {{filter: debian-12-amd64-*, owners: ["136693071363"]}}
patches: {{level: none, reboot: never}}
tests: {tests}
distribution:
  targets: [home/eu-central-1, home/eu-west-1, apps/eu-west-1]
  prove: {prove}
  channel: stable
"""
HERE, THERE, CONSUMER = "", "home/eu-west-1", "apps/eu-west-1"


def build(workspace: Workspace, name: str, *, prove: str, tests: str) -> Done:
    workspace.write("goldenami.yaml", SETTINGS)
    workspace.write(f"recipes/{name}.yaml", RECIPE.format(name=name, prove=prove, tests=tests))
    done = workspace.run("build", name, "--json")
    assert done.status == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def proved(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Done]:
    """A release whose image booted in each target, with a reboot."""
    from tests.worlds.machines import Workspace

    workspace = Workspace(tmp_path_factory.mktemp("proved"), cloud)
    return workspace, build(workspace, "proved", prove="each-target", tests="[base, performance, reboot]")


def test_the_image_boots_and_reboots_in_each_target(proved: tuple[Workspace, Done]) -> None:
    _, done = proved
    reports = done.manifest["tests"]
    assert {(one["gate"], one.get("place", "")) for one in reports} == {
        ("builder", ""),
        *((gate, place) for gate in ("image", "reboot") for place in (HERE, THERE, CONSUMER)),
    }
    assert all(one["passed"] and not one["failed"] for one in reports)
    boots = {one["facts"]["running"]["boot"] for one in reports if one["gate"] == "image"}
    assert len(boots) == 3, "each place has an instance of its own"


def test_the_image_boots_once_in_each_region(workspace: Workspace) -> None:
    done = build(workspace, "regional", prove="each-region", tests="[base]")
    gates = [(one["gate"], one.get("place", "")) for one in done.manifest["tests"]]
    assert sorted(gates) == [("builder", ""), ("image", HERE), ("image", THERE)]


def test_a_group_of_the_consumer_launches_the_release(proved: tuple[Workspace, Done]) -> None:
    """With the role of apps, by the service-linked role of Auto Scaling there, which has a grant on the key."""
    workspace, done = proved
    [image] = [one["image_id"] for one in done.manifest["images"] if one["account"] == "222222222222"]
    where = ("--account", "apps", "--region", "eu-west-1", "--through", "autoscaling")
    tested: list[Done] = []
    calls = workspace.cloud.calls_of(
        lambda: tested.append(workspace.run("test", "proved@stable", *where, "--suite", "base", "--json"))
    )
    [result] = tested
    assert result.status == 0, result.stderr
    [report] = result.json["tests"]
    assert (report["gate"], report["failed"]) == ("image", 0)
    assert report["passed"] > 5
    groups = [one for one in calls if one["action"] == "CreateAutoScalingGroup"]
    assert [(one["account"], one["region"]) for one in groups] == [("222222222222", "eu-west-1")]
    ec2 = workspace.cloud.client("ec2", ("222222222222", "eu-west-1"))
    started = [i for r in ec2.describe_instances()["Reservations"] for i in r["Instances"] if i["ImageId"] == image]
    assert {one["State"]["Name"] for one in started} <= {"shutting-down", "terminated"}


def test_any_image_is_tested_without_a_recipe(workspace: Workspace) -> None:
    """Debian's own image, with a reboot, a report of JUnit and a page."""
    images = workspace.cloud.client("ec2", ("111111111111", "eu-central-1")).describe_images(
        Owners=["136693071363"], Filters=[{"Name": "name", "Values": ["debian-12-amd64-*"]}]
    )["Images"]
    image_id = images[0]["ImageId"]
    before = workspace.cloud.inventory()
    done = workspace.run("test", image_id, "--reboot", "--json", "--junit", "tests.xml", "--html", "tests.html")
    assert done.status == 0, done.stderr
    first, second = done.json["tests"]
    assert (first["gate"], second["gate"]) == ("image", "reboot")
    assert first["passed"] > 20
    assert second["passed"] > 5
    assert "22/tcp" in first["facts"]["ports"]
    cases = ET.parse(workspace.root / "tests.xml").getroot().findall(".//testcase")
    assert len(cases) >= first["passed"] + second["passed"]
    assert image_id in (workspace.root / "tests.html").read_text()
    assert workspace.cloud.inventory() == before, "nothing is left"
