"""Environments, clones and machines that share two accounts never change what another one made."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from pathlib import Path

import pytest

from goldenami import pipeline, recipe
from goldenami.aws import journals
from goldenami.cli.main import main
from goldenami.errors import CatalogError, UsageError
from goldenami.model import Place
from goldenami.release.versions import Reference
from goldenami.schedules.dlm import sync
from tests.worlds import inventory
from tests.worlds.builds import APPS, HOME, PLACES, World
from tests.worlds.matrix import matrix
from tests.worlds.neighbours import COMMANDS, Neighbour, Street, checkout
from tests.worlds.recordings import calls
from tests.worlds.retiring import Tomorrow

HERE = Place(HOME, "eu-central-1")
SEEDS = 3
STEPS = 22


@pytest.fixture
def world(build_world: World) -> World:
    build_world.fresh()
    build_world.remember("a volume and decoys", lambda: of_a_person(build_world))
    build_world.cloud.start_process()
    return build_world


def of_a_person(world: World) -> None:
    volume = world.client("ec2", HERE).create_volume(
        AvailabilityZone="eu-central-1a",
        Size=1,
        TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "backup", "Value": "nightly"}]}],
    )
    assert volume["VolumeId"]
    inventory.place_decoys(world)


def names_of_images(world: World, part: str) -> list[str]:
    """The names that contain it, but those of a person."""
    found = [i["Name"] for p in PLACES for i in world.client("ec2", p).describe_images(Owners=["self"])["Images"]]
    return [name for name in found if part in name and "20200101" not in name]


def first(world: World, **settings: str) -> Neighbour:
    """A team's environment, with two releases."""
    return with_releases(world, checkout(world, "first", **settings), 2)


def with_releases(world: World, neighbour: Neighbour, count: int) -> Neighbour:
    """A neighbour that has built so often."""

    def build() -> int:
        for _ in range(count):
            world.cloud.start_process()
            neighbour.build()
        return neighbour.number

    neighbour.number = world.remember((neighbour.name, count), build)
    neighbour.load()
    return neighbour


def second(world: World) -> Neighbour:
    """Another environment, with a release."""
    other = checkout(world, "other", environment="other", recipe="shop", parameter_prefix="/golden-ami-other")
    return with_releases(world, other, 1)


# --- a fresh clone ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["orphans --delete", "clean --expired", "retire"])
def test_an_empty_catalog_beside_released_resources_is_refused(world: World, command: str) -> None:
    team, clone = first(world), checkout(world, "clone")
    street = Street(world, [team, clone])
    answer = clone.act(command, random.Random(1))
    street.after(clone, command)
    assert answer.startswith("CatalogError: the catalog ")
    assert "does not exist yet, but there are released resources: image ami-" in answer
    assert "Nothing is deleted" in answer
    assert world.cloud.mutations == []
    assert not Path(clone.environment.catalog, "catalog.json").exists()
    with pytest.raises(CatalogError) as caught:
        clone.delete_orphans()
    assert "goldenami catalog rebuild" in str(caught.value.hint)


def test_a_fresh_clone_lists_what_others_own(world: World) -> None:
    team, clone = first(world), checkout(world, "clone")
    found = clone.find_orphans()
    assert found.orphaned == ()
    theirs = {decision.resource.id for decision in found.of("theirs")}
    released = [image for version in team.catalog.versions("web") for image in team.catalog.get("web", version).images]
    assert {image.image_id for image in released} <= theirs
    assert {s.snapshot_id for image in released for s in image.snapshots} <= theirs
    assert "/golden-ami/web/x86_64/stable/image-id" in theirs
    assert {decision.rule for decision in found.of("theirs")} == {
        f"of the catalog {team.catalog.identity()}, environment test"
    }
    # Those of a person, who copied some tags.
    assert {decision.whose for decision in found.decisions} == {"theirs", "unknown"}


def test_a_clone_that_lost_its_releases_is_refused(world: World) -> None:
    """The catalog has its id, but no release: what carries the id would look like orphans."""
    team = first(world)
    for file in Path(team.environment.catalog, "releases/web").iterdir():
        file.unlink()
    street = Street(world, [team])
    answer = team.act("orphans --delete", random.Random(1))
    assert "has no release, but there are released resources" in answer
    street.after(checkout(world, "nobody"), "orphans --delete")


# --- a second environment ---------------------------------------------------------------------------------------------


def test_a_second_environment_takes_nothing_of_the_first(world: World) -> None:
    team = first(world)
    other = second(world)
    street = Street(world, [team, other])
    for command in ("orphans --delete", "clean --expired", "clean --all", "retire", "dlm apply", "schedule run"):
        assert other.act(command, random.Random(1)) == "done"
        street.after(other, command)


def test_expired_resources_of_others_are_listed_and_kept(world: World) -> None:
    """The grant of a released, shared image of another catalog, and the temporary resources of its lost machine."""
    team = first(world)
    other = second(world)
    team.build_until(next(label for label in calls("build") if label.action == "CreateImage"))
    world.cloud.start_process()
    street = Street(world, [team, other])
    done = other.clean_expired()
    street.after(other, "clean --expired")
    assert done[None].deleted == ()
    assert done[None].others
    mine = f"theirs: of the catalog {team.catalog.identity()}, environment test"
    assert mine in done[None].others.values()
    # Its own catalog collects them.
    team.clean_expired()
    assert names_of_images(world, "candidate") == []


def test_journals_in_one_place_do_not_mix(world: World) -> None:
    """Two environments with one directory of journals: each cleans its own builds."""
    builds = str(world.path / "builds")
    team = checkout(world, "first", builds=builds)
    other = checkout(
        world, "other", environment="other", recipe="shop", builds=builds, parameter_prefix="/golden-ami-x"
    )
    team.build_until(next(label for label in calls("build") if label.action == "RunInstances"))
    street = Street(world, [team, other])
    world.cloud.start_process()
    other.clean_all()
    street.after(other, "clean --all")
    (left,) = journals.open_journals(other.environment).unfinished()
    with pytest.raises(UsageError, match="is of the environment 'test', not 'other'"):
        pipeline.clean(other.environment, left.build_id, cloud=world.cloud)
    team.clean_all()
    assert journals.open_journals(team.environment).unfinished() == ()


# --- the same catalog -------------------------------------------------------------------------------------------------


def test_a_second_machine_with_the_same_catalog_owns_the_same(world: World) -> None:
    catalog = str(world.path / "shared/catalog")
    team = first(world, catalog=catalog)
    machine = checkout(world, "machine", owner="first", catalog=catalog)
    assert machine.catalog.identity() == team.catalog.identity()
    assert machine.delete_orphans().orphaned == ()
    team.build_until(next(label for label in calls("build") if label.action == "CopyImage"))
    world.cloud.start_process()
    done = machine.clean_expired()
    assert {found.kind for found in done[None].deleted} >= {"image", "snapshot"}
    assert done[None].others == {}
    assert names_of_images(world, "candidate") == []
    assert len(machine.catalog.versions("web")) == 2


# --- schedules, policies, single snapshots ----------------------------------------------------------------------------


def test_schedules_of_the_same_name_do_not_count_each_others_snapshots(world: World) -> None:
    team, clone = checkout(world, "first"), checkout(world, "clone")
    for _ in range(3):
        world.cloud.start_process()
        team.schedule()
    street = Street(world, [team, clone])
    clone.ahead = team.ahead
    for _ in range(3):
        world.cloud.start_process()
        (run,) = clone.schedule()
        street.after(clone, "schedule run")
    assert run.failures == {}
    assert len(run.steps.decisions) == 2, "its newest, and the one that it deletes"
    assert set(run.others.values()) == {f"of the catalog {team.catalog.identity()}, environment test"}
    (kept,) = run.others
    assert kept.startswith("snap-")


def test_a_snapshot_of_an_unknown_owner_fills_its_slot_and_is_kept(world: World) -> None:
    """An earlier version of goldenami made it, without the id of a catalog."""
    team = checkout(world, "first")
    team.schedule()
    ec2 = world.client("ec2", HERE)
    (made,) = ec2.describe_snapshots(Filters=[{"Name": "tag-key", "Values": ["goldenami:schedule"]}])["Snapshots"]
    ec2.delete_tags(Resources=[made["SnapshotId"]], Tags=[{"Key": "goldenami:catalog"}])
    world.cloud.start_process()
    team.ahead -= timedelta(days=1)
    (run,) = team.schedule()
    assert run.steps.makes == (), "its slot is filled"
    for _ in range(3):
        world.cloud.start_process()
        (run,) = team.schedule()
    rules = {one.id: (decision.action, decision.rule) for one, decision in run.steps.decisions}
    assert rules[made["SnapshotId"]] == ("keep", "without the tag goldenami:catalog: the owner cannot be determined")
    assert made["SnapshotId"] in {s["SnapshotId"] for s in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]}


def test_policies_of_a_schedule_of_the_same_name_are_listed_and_kept(world: World) -> None:
    team, clone = checkout(world, "first"), checkout(world, "clone")

    def plan(of: Neighbour, *, to_apply: bool = False) -> sync.Plan:
        schedules = recipe.schedules(of.project, of.environment)
        return sync.make_plan(of.environment, schedules, cloud=world.cloud, to_apply=to_apply)

    sync.apply(team.environment, plan(team, to_apply=True), cloud=world.cloud)
    street = Street(world, [team, clone])
    (step,) = plan(clone).steps
    assert step.action == "create"
    sync.apply(clone.environment, plan(clone, to_apply=True), cloud=world.cloud)
    street.after(clone, "dlm apply")
    again = plan(clone)
    assert (again.steps, again.in_step, again.unowned) == ((), 1, {})
    assert list(again.others.values()) == [f"of the catalog {team.catalog.identity()}, environment test"]
    # Without the tag, the owner of its own policy is unknown as well: nothing is created beside it.
    dlm = world.client("dlm", HERE)
    mine = next(
        policy
        for policy in dlm.get_lifecycle_policies()["Policies"]
        if policy["Tags"]["goldenami:catalog"] == clone.catalog.identity()
    )
    arn = dlm.get_lifecycle_policy(PolicyId=mine["PolicyId"])["Policy"]["PolicyArn"]
    dlm.untag_resource(ResourceArn=arn, TagKeys=["goldenami:catalog"])
    unknown = plan(clone)
    assert unknown.steps == ()
    assert list(unknown.unowned) == [f"{mine['PolicyId']} in {HERE}"]


def test_a_release_whose_owner_is_unknown_is_not_retired(world: World) -> None:
    team = with_releases(world, first(world), 2)
    oldest, older = (team.catalog.get("web", version) for version in reversed(team.catalog.versions("web")[2:]))
    row = next(image for image in oldest.images if image.place == HERE)
    world.client("ec2", HERE).delete_tags(Resources=[row.image_id], Tags=[{"Key": "goldenami:catalog"}])
    world.cloud.start_process()
    done = team.retire()
    rules = {decision.release.label: (decision.fate, decision.rule) for decision in done.decisions}
    reason = "without the tag goldenami:catalog: the owner cannot be determined"
    assert rules[oldest.label] == ("keep", f"not ours: image {row.image_id} in {HERE} is {reason}")
    assert rules[older.label][0] == "delete"
    assert done.left == {}


def test_snapshots_of_others_are_not_changed_by_name(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    team, clone = first(world), checkout(world, "clone")
    snapshots = [s.snapshot_id for i in team.catalog.find(Reference("web")).images for s in i.snapshots]
    monkeypatch.chdir(clone.path)
    street = Street(world, [team, clone])
    assert main(["snapshot", "delete", snapshots[0], "--yes"]) == 2
    assert f"nothing was changed: {snapshots[0]} is of the catalog {team.catalog.identity()}" in capsys.readouterr().err
    assert main(["snapshot", "share", snapshots[0], "--with", "apps"]) == 2
    street.after(clone, "snapshot delete")


def test_the_command_lists_whose_it_is_and_asks(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    team, clone = first(world), checkout(world, "clone")
    monkeypatch.chdir(clone.path)
    assert main(["orphans"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(
        line.startswith("theirs ") and line.endswith(f"of the catalog {team.catalog.identity()}, environment test")
        for line in lines
    )
    assert any(line.startswith("unknown ") for line in lines)
    assert not any(line.startswith("orphan") for line in lines)
    assert main(["orphans", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["orphans"]
    assert {(row["owner"], row["orphan"]) for row in found} == {("theirs", False), ("unknown", False)}
    assert main(["orphans", "--delete", "--yes"]) == 1
    assert "goldenami catalog rebuild" in capsys.readouterr().err
    # The team itself has an orphan, which is not deleted without a confirmation.
    monkeypatch.chdir(team.path)
    Path(team.environment.catalog, f"releases/web/{team.catalog.versions('web')[-1]}.json").unlink()
    monkeypatch.setattr("goldenami.release.orphans.MINIMUM_AGE", timedelta())
    monkeypatch.setattr("goldenami.release.orphans.UNUSED_FOR", timedelta())
    monkeypatch.setattr("goldenami.cli.lifecycle.datetime", Tomorrow)
    street = Street(world, [team, clone])
    assert main(["orphans", "--delete"]) == 2
    assert "needs a confirmation" in capsys.readouterr().err
    street.after(clone, "orphans --delete")
    assert main(["orphans", "--delete", "--yes"]) == 0
    assert "deleted  image ami-" in capsys.readouterr().out


# --- use --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("account", [HOME, APPS])
def test_an_orphaned_image_in_use_is_kept(world: World, account: str) -> None:
    """The catalog lost one of its releases, and an instance still runs from its image."""
    team = first(world)
    oldest = team.catalog.versions("web")[-1]
    manifest = team.catalog.get("web", oldest)
    Path(team.environment.catalog, f"releases/web/{oldest}.json").unlink()
    place = Place(account, "eu-west-1")
    row = next(image for image in manifest.images if image.place == place)
    world.client("ec2", place).run_instances(ImageId=row.image_id, MinCount=1, MaxCount=1, InstanceType="t3.small")
    found = team.find_orphans()
    (used,) = [d for d in found.decisions if d.resource.id == row.image_id]
    assert not used.orphan
    assert used.rule.startswith("in use: instance i-")
    done = team.delete_orphans()
    assert done.left == {}
    there = {image["ImageId"] for image in world.client("ec2", HERE).describe_images(Owners=["self"])["Images"]}
    west = world.client("ec2", Place(HOME, "eu-west-1"))
    there |= {image["ImageId"] for image in west.describe_images(Owners=["self"])["Images"]}
    assert row.image_id in there
    assert next(i.image_id for i in manifest.images if i.place == HERE) not in there


def test_a_use_that_cannot_be_determined_keeps_the_images(world: World) -> None:
    team = first(world)
    oldest = team.catalog.versions("web")[-1]
    manifest = team.catalog.get("web", oldest)
    Path(team.environment.catalog, f"releases/web/{oldest}.json").unlink()
    fault = {"action": "ec2:DescribeLaunchTemplates", "account": APPS, "region": "eu-west-1"}
    world.paper.set(faults=[{**fault, "code": "AccessDenied", "status": 403, "nth": 0}])
    done = team.delete_orphans()
    assert Place(APPS, "eu-west-1") in done.unreachable
    kept = {d.resource.id: d.rule for d in done.decisions if d.resource.kind == "image"}
    for image in manifest.images:
        assert kept[image.image_id].startswith("its use cannot be determined: 222222222222/eu-west-1 did not answer")
    assert not {r.id for r in done.deleted} & {image.image_id for image in manifest.images}


# --- all of it --------------------------------------------------------------------------------------------------------


@matrix("seed", [(seed,) for seed in range(SEEDS)], every=SEEDS)
def test_random_interleavings_change_only_what_is_ones_own(world: World, seed: int) -> None:
    """Two machines with one catalog, an environment with the same catalog, an environment with another one that shares
    the place of the journals, and a fresh clone."""
    draw = random.Random(seed)
    catalog, builds = str(world.path / "shared/catalog"), str(world.path / "shared/builds")
    street = Street(
        world,
        [
            checkout(world, "machine-1", owner="team", catalog=catalog, builds=builds),
            checkout(world, "machine-2", owner="team", catalog=catalog),
            checkout(
                world, "twin", environment="twin", recipe="twin", catalog=catalog, parameter_prefix="/golden-ami-twin"
            ),
            checkout(
                world, "other", environment="other", recipe="shop", builds=builds, parameter_prefix="/golden-ami-other"
            ),
            checkout(world, "clone", recipe="api"),
        ],
    )
    for number in range(STEPS):
        neighbour = draw.choice(street.neighbours)
        # Each begins with something of its own, sooner or later.
        what = "build" if number < 4 else draw.choice(COMMANDS)
        answer = neighbour.act(what, draw)
        street.after(neighbour, f"{what}: {answer}")
        world.clock.sleep(timedelta(minutes=1).total_seconds())
    assert street.deleted, "\n".join(street.log)
