"""What goes, goes into the Recycle Bin where a rule says so: until when is told, and what lies there is no orphan."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from goldenami.aws import recyclebin
from goldenami.aws.recyclebin import Rule
from goldenami.cli.main import main
from goldenami.model import Place
from goldenami.release import orphans
from goldenami.release.retire import failed
from tests.worlds.builds import PLACES, RECIPE, World
from tests.worlds.retiring import Tomorrow, differences, go, releases


@pytest.fixture
def world(build_world: World) -> World:
    build_world.fresh()
    return build_world


def retain(world: World, place: Place, kind: str, days: int, **more: Any) -> None:
    period = {"RetentionPeriodValue": days, "RetentionPeriodUnit": "DAYS"}
    world.client("rbin", place).create_rule(ResourceType=kind, RetentionPeriod=period, **more)


def binned(world: World) -> dict[str, datetime]:
    """In all places, in the product's words."""
    found = {}
    for place in PLACES:
        ec2 = world.client("ec2", place)
        for image in ec2.list_images_in_recycle_bin()["Images"]:
            found[f"image {image['ImageId']} in {place}"] = image["RecycleBinExitTime"]
        for snapshot in ec2.list_snapshots_in_recycle_bin()["Snapshots"]:
            found[f"snapshot {snapshot['SnapshotId']} in {place}"] = snapshot["RecycleBinExitTime"]
    return found


def test_which_rule_counts() -> None:
    rules = [
        Rule("image", 3),
        Rule("snapshot", 5, frozenset({("a", None), ("b", "c")})),
        Rule("snapshot", 2, exclude=frozenset({("x", "y")})),
    ]
    assert recyclebin.days(rules, "image", {}) == 3
    assert recyclebin.days(rules, "snapshot", {"a": "any"}) == 5
    assert recyclebin.days(rules, "snapshot", {"b": "d"}) == 2
    assert recyclebin.days(rules, "snapshot", {"x": "y"}) is None
    assert recyclebin.days(rules, "snapshot", {"x": "y", "b": "c"}) == 5


def test_retire_tells_until_when_it_can_be_recovered(world: World) -> None:
    """By a region's rule, by tags that releases carry, and nothing where no rule is; as EC2 itself says it."""
    made = releases(world, 4)
    home, apps = PLACES[0], PLACES[2]
    retain(world, home, "EC2_IMAGE", 30)
    retain(world, home, "EBS_SNAPSHOT", 5)
    tag = {"ResourceTagKey": "goldenami:recipe", "ResourceTagValue": RECIPE}
    retain(world, home, "EBS_SNAPSHOT", 14, ResourceTags=[tag])
    retain(world, apps, "EC2_IMAGE", 7, ResourceTags=[{"ResourceTagKey": "nobody-has-it"}])
    planned = go(world, dry_run=True)
    retired = go(world)
    assert failed(retired) is None
    really = binned(world)
    assert {line.split()[0] for line in really} == {"image", "snapshot"}
    assert {line.rpartition(" in ")[2] for line in really} == {str(home)}
    assert set(planned.recoverable) == set(retired.recoverable) == set(really) < set(retired.deleted)
    ahead = timedelta(seconds=world.clock.now() - time.time())  # of the world; AWS's answers have the real date here
    for line, until in really.items():
        assert abs(retired.recoverable[line] + ahead - until) < timedelta(minutes=10), line
    assert retired.unknown_bins == {}
    # It is nobody's, and nobody's business.
    assert differences(world, made[2:]) == []
    world.cloud.start_process()
    assert go(world).deleted == ()
    assert world.cloud.mutations == []
    later = datetime.now(UTC) + timedelta(days=9)
    assert orphans.find(world.cloud, world.environment, world.catalog, later).orphaned == ()


def test_a_bin_that_cannot_be_asked_is_told(world: World) -> None:
    made = releases(world, 3)
    home = PLACES[0]
    retain(world, PLACES[1], "EC2_IMAGE", 7)
    fault = {"action": "rbin:ListRules", "account": home.account, "region": home.region, "nth": 0}
    world.paper.set(faults=[{**fault, "code": "AccessDeniedException", "message": "no", "status": 403}])
    retired = go(world)
    assert failed(retired) is None
    assert [v.release.manifest for v in retired.with_fate("delete")] == [made[0]]
    assert list(retired.unknown_bins) == [home]
    assert set(retired.recoverable) == set(binned(world))
    assert all(str(PLACES[1]) in line for line in retired.recoverable)


def test_what_the_commands_say(
    world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    releases(world, 3)
    retain(world, PLACES[0], "EC2_IMAGE", 30)
    monkeypatch.chdir(world.path)
    file = world.path / "recipes" / "web.yaml"
    file.write_text(file.read_text().replace("retention: {", "retention: {keep: 1, minimum_age: 0h, unused_for: 0h, "))
    capfd.readouterr()
    # AWS may not list all resources of a release yet in its first minutes, so nothing is deleted then.
    monkeypatch.setattr("goldenami.cli.lifecycle.datetime", Tomorrow)
    assert main(["retire", "-e", "test", "--dry-run", "--json"]) == 0
    planned = json.loads(capfd.readouterr().out)
    assert len(planned["recoverable"]) == 1
    assert planned["unknown_bins"] == {}
    assert main(["retire", "-e", "test"]) == 0
    said = capfd.readouterr().err
    (what,) = planned["recoverable"]
    assert f"  {what} (in the Recycle Bin until 20" in said
    assert said.count("Recycle Bin") == 1


def test_orphans_and_snapshots_too(world: World) -> None:
    """A build's images whose manifest is lost."""
    made = releases(world, 2)
    for place in PLACES:
        retain(world, place, "EC2_IMAGE", 4)
        retain(world, place, "EBS_SNAPSHOT", 4)
    (world.path / ".goldenami/test/catalog/releases" / RECIPE / f"{made[0].version}.json").unlink()
    later = datetime.now(UTC) + timedelta(days=9)
    done = orphans.delete(world.cloud, world.environment, world.catalog, later)
    assert done.left == {}
    assert set(done.recoverable) == set(binned(world)) != set()
    assert orphans.find(world.cloud, world.environment, world.catalog, later).orphaned == ()
