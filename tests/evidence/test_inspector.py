"""`goldenami scan --inspector`: what Amazon Inspector found in running instances of a release."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from goldenami.aws.session import Cloud
from goldenami.cli.main import main
from goldenami.evidence.packages import Component, Inventory, dumps
from goldenami.model import Place

if TYPE_CHECKING:
    from tests.worlds.builds import World

HOME = "111111111111"
HERE = Place(HOME, "eu-central-1")
INVENTORY = Inventory(
    "debian",
    "12",
    "bookworm",
    (Component("deb", "libssl3", "3.0.11-1", "amd64", source="openssl", source_version="3.0.11-1"),),
)


@pytest.fixture
def world(build_world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    from tests.worlds.builds import logged_in

    build_world.fresh()
    build_world.host_work.inventory["x86_64"] = dumps(INVENTORY)
    monkeypatch.setattr(Cloud, "of", logged_in)
    monkeypatch.chdir(build_world.path)
    yield build_world
    build_world.host_work.inventory.clear()
    build_world.paper.set(inspector={})


def image_of(world: World) -> str:
    return next(image.image_id for image in world.built().manifest.images if image.place == HERE)


def run(world: World, image: str) -> None:
    ec2 = world.client("ec2", HERE)
    instance = ec2.run_instances(ImageId=image, InstanceType="t3.small", MinCount=1, MaxCount=1)["Instances"][0]
    ec2.get_waiter("instance_running").wait(InstanceIds=[instance["InstanceId"]], WaiterConfig={"Delay": 0})


def plant(world: World, image: str, **more: str) -> None:
    one = {"image": image, "id": "CVE-2026-0001", "package": "libssl3", "version": "3.0.11-1", **more}
    newer = {**one, "id": "CVE-2026-0002", "package": "installed-later", "version": "1.0"}
    world.paper.set(inspector={str(HERE): [one, newer]})


def scan(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main(["scan", "web@stable", "--inspector", "--json", "-e", "test"])
    (release,) = json.loads(capsys.readouterr().out)["releases"]
    return code, release


def test_findings_of_instances_are_judged_as_those_of_feeds(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    image = image_of(world)
    plant(world, image, fixed="3.0.13-1")
    run(world, image)
    code, release = scan(capsys)
    (failing,) = release["failing"]  # what only the instance has is not in the image
    assert (code, failing["id"], failing["package"], failing["installed"]) == (
        5, "CVE-2026-0001", "openssl", ["libssl3"]
    )  # fmt: skip
    assert (failing["fixed"], failing["severity"], failing["feeds"]) == ("3.0.13-1", "high", ["Amazon Inspector"])
    assert release["unknown"] == []


@pytest.mark.parametrize("status", ["SUPPRESSED", "CLOSED"])
def test_only_what_is_closed_does_not_count(world: World, capsys: pytest.CaptureFixture[str], status: str) -> None:
    """Who suppresses a finding in Inspector has not waived it here."""
    image = image_of(world)
    plant(world, image, fixed="3.0.13-1", status=status)
    run(world, image)
    code, release = scan(capsys)
    assert (code, len(release["failing"])) == ((5, 1) if status == "SUPPRESSED" else (0, 0))


def test_no_answer_is_not_taken_for_no_vulnerability(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    image = image_of(world)
    code, release = scan(capsys)
    assert code == 5
    assert f"it does not scan instances in {HERE} (its state is DISABLED)" in " ".join(release["unknown"])
    plant(world, image)
    code, release = scan(capsys)
    assert code == 5
    assert f"no instance of {image} runs in {HERE}" in " ".join(release["unknown"])
    world.paper.set(faults=[{"action": "inspector2:ListFindings", "nth": 0, "code": "AccessDenied", "status": 403}])
    run(world, image)
    code, release = scan(capsys)
    world.paper.set(faults=[])
    assert code == 5
    assert "ListFindings" in " ".join(release["unknown"])
    assert not release["failing"]


def test_a_finding_without_a_fix_is_accepted_where_only_fixable_ones_count(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    file = world.path / "goldenami.yaml"
    text = file.read_text()
    file.write_text(text.rstrip("\n") + "\n    vulnerabilities: {fixable: true, severity: high}\n")
    image = image_of(world)
    plant(world, image)
    run(world, image)
    code, release = scan(capsys)
    file.write_text(text)
    assert (code, [one["id"] for one in release["accepted"]]) == (0, ["CVE-2026-0001"])
