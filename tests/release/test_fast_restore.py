"""Fast snapshot restore follows the releases that channels point to, in the zones that their recipe declares."""

from __future__ import annotations

from typing import Any

import pytest

from goldenami import costs, pipeline, planning, recipe
from goldenami.aws import tags
from goldenami.errors import CatalogError, CredentialsRefused, GoldenAmiError, InvalidInput, TargetsFailed
from goldenami.model import ImageManifest, Place
from goldenami.pipeline import Request
from goldenami.release import channels, fast_restore, redistribute
from goldenami.release.versions import Reference
from goldenami.snapshots.prices import Prices, Rate
from tests.worlds import distributing
from tests.worlds.builds import CHANNEL, HOME, PLACES, RECIPE, Death, Label, World
from tests.worlds.distributing import declare
from tests.worlds.retiring import releases

ENABLE, DISABLE = "EnableFastSnapshotRestores", "DisableFastSnapshotRestores"
CENTRAL, WEST, OF_APPS, _ = PLACES
TWO_ZONES = "fast_restore: {zones: [eu-central-1a, eu-west-1b], targets: [home]}"


@pytest.fixture
def world(build_world: World) -> World:
    build_world.fresh()
    return build_world


def distribute(world: World, manifest: ImageManifest, **more: Any) -> redistribute.Redistributed:
    world.cloud.start_process()
    return distributing.distribute(world, manifest, **more)


def drift(world: World) -> list[str]:
    found = distributing.drift(world)
    return [f"{c.what}: {c.before} -> {c.after}" for one in found for c in one.changes]


def fast(world: World, manifest: ImageManifest) -> dict[Place, tuple[set[str], str | None]]:
    """Where the snapshots of a release have fast restore, as plain clients see it, and their tag."""
    found = {}
    for row in manifest.images:
        if row.mode == "share":
            continue
        ec2 = world.client("ec2", row.place)
        ids = [snapshot.snapshot_id for snapshot in row.snapshots]
        every = ec2.describe_fast_snapshot_restores(Filters=[{"Name": "snapshot-id", "Values": ids}])
        on = [one for one in every["FastSnapshotRestores"] if not one["State"].startswith("disabl")]
        (snapshot,) = ec2.describe_snapshots(SnapshotIds=ids)["Snapshots"]
        tag = tags.from_list(snapshot["Tags"]).get(tags.FAST_RESTORE)
        if on or tag:
            found[row.place] = {one["AvailabilityZone"] for one in on}, tag
    return found


DECLARED = {CENTRAL: ({"eu-central-1a"}, "eu-central-1a"), WEST: ({"eu-west-1b"}, "eu-west-1b")}


def test_a_build_enables_it_and_the_next_one_ends_it_for_the_release_before(world: World) -> None:
    declare(world, TWO_ZONES)
    first, second = releases(world, 2)
    assert fast(world, first) == {}
    assert fast(world, second) == DECLARED
    calls = [c["action"] for c in world.paper.calls]
    assert (calls.count(ENABLE), calls.count(DISABLE)) == (4, 2)
    assert calls.index(ENABLE) > calls.index("PutParameter")
    assert drift(world) == []
    seen = len(world.paper.calls)
    assert (distribute(world, second).task_id, world.made(seen)) == (None, [])


@pytest.mark.parametrize("error", [CatalogError("the bucket does not answer"), CredentialsRefused("expired")])
def test_a_look_that_failed_beside_the_publication_is_made_again(
    world: World, monkeypatch: pytest.MonkeyPatch, error: GoldenAmiError
) -> None:
    """Otherwise the release before would keep it, for which AWS charges."""
    declare(world, TWO_ZONES)
    (first,) = releases(world, 1)
    assert fast(world, first) == DECLARED
    declare(world, "")
    looks, look = list[ImageManifest](), fast_restore.look

    def failing(cloud: Any, manifest: ImageManifest, zones: Any) -> fast_restore.Seen:
        looks.append(manifest)
        if len(looks) == 1:
            raise error
        return look(cloud, manifest, zones)

    monkeypatch.setattr(fast_restore, "look", failing)
    world.cloud.start_process()
    assert world.build().status == "released"
    assert (len(looks), fast(world, first)) == (2, {})


def test_it_follows_its_declaration_without_a_build(world: World) -> None:
    (only,) = releases(world, 1)
    assert fast(world, only) == {}
    declare(world, "fast_restore: {zones: [eu-central-1a, eu-central-1b]}")
    plan = distribute(world, only, dry_run=True).difference
    assert {(c.place, c.kind, c.what) for c in plan.changes if c.kind != "tag"} == {
        (place, "fast restore", zone) for place in (CENTRAL, OF_APPS) for zone in ("eu-central-1a", "eu-central-1b")
    }
    distribute(world, only)
    both = {"eu-central-1a", "eu-central-1b"}, "eu-central-1a eu-central-1b"
    assert fast(world, only) == {CENTRAL: both, OF_APPS: both}
    row = next(r for r in only.images if r.place == CENTRAL)
    ids = [snapshot.snapshot_id for snapshot in row.snapshots]
    world.client("ec2", CENTRAL).enable_fast_snapshot_restores(
        AvailabilityZones=["eu-central-1c"], SourceSnapshotIds=ids
    )
    assert drift(world) == [], "that of somebody else is no difference"
    declare(world, "fast_restore: {zones: [eu-central-1b], targets: [home]}")
    distribute(world, only)
    assert fast(world, only) == {CENTRAL: ({"eu-central-1b", "eu-central-1c"}, "eu-central-1b")}
    declare(world, "")
    assert drift(world) == ["eu-central-1b: enabled -> None", f"{tags.FAST_RESTORE}: eu-central-1b -> None"]
    distribute(world, only)
    assert fast(world, only) == {CENTRAL: ({"eu-central-1c"}, None)}, "and it stays"
    assert drift(world) == []


def test_after_a_rollback_drift_tells_both_releases_and_distribute_mends_them(world: World) -> None:
    declare(world, TWO_ZONES)
    first, second = releases(world, 2)
    world.cloud.start_process()
    channels.rollback(world.environment, RECIPE, CHANNEL, cloud=world.cloud)
    told = drift(world)
    assert told.count("eu-central-1a: enabled -> None") == 1
    assert told.count("eu-central-1a: None -> enabled") == 1
    distribute(world, first)
    assert (fast(world, first), fast(world, second)) == (DECLARED, {})
    assert drift(world) == []


@pytest.mark.parametrize(("action", "when"), [(ENABLE, "after"), (DISABLE, "before"), ("DeleteTags", "before")])
def test_a_killed_distribute_leaves_nothing_that_the_next_one_does_not_know(
    world: World, action: str, when: str
) -> None:
    declare(world, "fast_restore: {zones: [eu-central-1a]}")
    (only,) = releases(world, 1)
    if action == ENABLE:
        declare(world, "fast_restore: {zones: [eu-central-1a, eu-central-1c]}")
    else:
        declare(world, "")
    world.cloud.start_process(Label("ec2", action, HOME, "eu-central-1", 1), when)
    declaration = recipe.declaration(world.project, world.environment, RECIPE)
    with pytest.raises(Death):
        redistribute.distribute(
            world.environment, Reference(RECIPE, version=only.version), declaration, cloud=world.cloud
        )
    if action != ENABLE:
        declare(world, "fast_restore: {zones: [eu-west-1a]}")  # the person changes their mind before the next run
    distribute(world, only)
    zones = {"eu-central-1a", "eu-central-1c"}
    both = dict.fromkeys((CENTRAL, OF_APPS), (zones, "eu-central-1a eu-central-1c"))
    assert fast(world, only) == (both if action == ENABLE else {WEST: ({"eu-west-1a"}, "eu-west-1a")})
    assert world.journals.unfinished() == ()


def test_a_full_quota_is_told_and_the_release_stays(world: World) -> None:
    ec2 = world.client("ec2", WEST)
    volume = ec2.create_volume(AvailabilityZone="eu-west-1a", Size=1)["VolumeId"]
    world.behind.settle()
    others = [ec2.create_snapshot(VolumeId=volume)["SnapshotId"] for _ in range(5)]
    world.behind.settle()
    ec2.enable_fast_snapshot_restores(AvailabilityZones=["eu-west-1a"], SourceSnapshotIds=others)
    declare(world, TWO_ZONES)
    outcome = world.build()
    assert outcome.status == "released"
    assert outcome.manifest is not None
    ((place, reason),) = outcome.failures.items()
    assert place == str(WEST)
    assert "has no fast restore" in reason
    assert list(fast(world, outcome.manifest)) == [CENTRAL, WEST], "it has the tag there"
    with pytest.raises(TargetsFailed):
        distribute(world, outcome.manifest)
    ec2.disable_fast_snapshot_restores(AvailabilityZones=["eu-west-1a"], SourceSnapshotIds=others[:1])
    distribute(world, outcome.manifest)
    assert fast(world, outcome.manifest) == DECLARED


def test_a_plan_tells_it_and_its_cost(world: World) -> None:
    plain = pipeline.make_plan(Request(world.project, world.environment, RECIPE))
    declare(world, TWO_ZONES)
    plan = pipeline.make_plan(Request(world.project, world.environment, RECIPE))
    assert plan.digest == plain.digest, "it is not an input"
    assert f"  fast snapshot restore in {HOME}: eu-west-1b" in planning.describe(plan)
    prices = Prices("EUR", Rate(0.05, 0.01, 0.02, fast_restore=0.5), {"eu-west-1": Rate(0.05, 0.01, fast_restore=1.0)})
    before, after = (costs.of_build(one, 60.0, prices).monthly for one in (plain, plan))
    assert after - before == pytest.approx((0.5 + 1.0) * 730)
    without = Prices("EUR", Rate(0.05, 0.01, 0.02), {})
    assert "the price of fast restore in eu-west-1" in costs.of_build(plan, 60.0, without).unknown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zones: [eu-north-1a]", "zones: eu-north-1a is not an Availability Zone of eu-central-1 or eu-west-1"),
        ("zones: [eu-central-1-ham-1a]", "zones: eu-central-1-ham-1a is not an Availability Zone"),
        ("zones: [eu-west-1a], targets: [apps]", "zones: eu-west-1a is not an Availability Zone of eu-central-1"),
        ("zones: [eu-west-1a], targets: [apps/eu-west-1]", "no target 'apps/eu-west-1' with an image of its own"),
        ("zones: []", "zones"),
    ],
)
def test_wrong_zones_and_targets_are_problems_with_their_places(world: World, text: str, message: str) -> None:
    declare(world, f"fast_restore: {{{text}}}")
    with pytest.raises(InvalidInput) as caught:
        recipe.declaration(world.project, world.environment, RECIPE)
    assert message in str(caught.value.problems[0])
