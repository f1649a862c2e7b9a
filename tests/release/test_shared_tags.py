"""Shared images and snapshots have tags in the accounts that use them, as their recipe declares."""

from __future__ import annotations

import pytest

from goldenami import recipe
from goldenami.aws import tags
from goldenami.aws.guard import reads_only
from goldenami.errors import InvalidInput
from goldenami.model import ImageManifest
from goldenami.release import shared_tags
from tests.worlds import distributing
from tests.worlds.builds import APPS, PLACES, RECIPE, Death, Label, World
from tests.worlds.distributing import declare, distribute
from tests.worlds.retiring import releases

OWNER, USER = PLACES[1], PLACES[3]  # the home account's image, and the account that uses it
TEAM = "share: {tags: {team: web}}"
MARK = tags.SHARED_TAGS


@pytest.fixture
def world(build_world: World) -> World:
    build_world.fresh()
    return build_world


def drift(world: World) -> list[str]:
    found = distributing.drift(world)
    return [f"{c.place.account} {c.what}: {c.before} -> {c.after}" for one in found for c in one.changes]


def seen(world: World, manifest: ImageManifest) -> list[dict[str, str]]:
    """The tags of the shared image and of its snapshot, as a plain client of the account sees them, without the
    mark."""
    row = next(r for r in manifest.images if r.place == OWNER)
    ec2 = world.client("ec2", USER)
    (image,) = ec2.describe_images(ImageIds=[row.image_id])["Images"]
    (snapshot,) = ec2.describe_snapshots(SnapshotIds=[row.snapshots[0].snapshot_id])["Snapshots"]
    every = [tags.from_list(one.get("Tags")) for one in (image, snapshot)]
    assert all((MARK in one) == bool(one.keys() - {"mine"}) for one in every)
    return [{key: value for key, value in one.items() if key != MARK} for one in every]


def named(manifest: ImageManifest, **more: str) -> list[dict[str, str]]:
    name = next(r.name for r in manifest.images if r.place == OWNER)
    return [{"Name": name, **more}] * 2


def test_a_build_tags_what_it_shares_and_drift_agrees(world: World) -> None:
    declare(world, TEAM)
    (only,) = releases(world, 1)
    assert seen(world, only) == named(only, team="web")
    row = next(r for r in only.images if r.place == OWNER)
    (image,) = world.client("ec2", OWNER).describe_images(ImageIds=[row.image_id])["Images"]
    assert not {"team", MARK} & tags.from_list(image["Tags"]).keys(), "the owner has its own tags"
    assert drift(world) == []
    before = len(world.paper.calls)
    world.cloud.start_process()
    assert distribute(world, only).task_id is None
    assert [c["action"] for c in world.paper.calls[before:] if not reads_only(c["service"], c["action"])] == []


def test_the_tags_follow_their_declaration_and_those_of_the_account_stay(world: World) -> None:
    (only,) = releases(world, 1)
    assert seen(world, only) == [{}, {}]
    row = next(r for r in only.images if r.place == OWNER)
    mine = [{"Key": "mine", "Value": "x"}]
    ids = [row.image_id, row.snapshots[0].snapshot_id]
    world.client("ec2", USER).create_tags(Resources=ids, Tags=mine)
    declare(world, "share: {tags: {team: web, mine: ours}}")
    assert drift(world).count(f"{APPS} team: None -> web") == 2
    assert f"{APPS} mine: x -> ours" not in drift(world)
    distribute(world, only)
    assert seen(world, only) == named(only, team="web", mine="x")
    declare(world, "share: {tags: {tier: '1'}}")
    world.cloud.start_process()
    distribute(world, only)
    assert seen(world, only) == named(only, tier="1", mine="x")
    world.client("ec2", USER).create_tags(Resources=ids[:1], Tags=[{"Key": "tier", "Value": "2"}])
    assert drift(world) == [f"{APPS} tier: 2 -> 1"]
    declare(world, "")
    world.cloud.start_process()
    distribute(world, only)
    assert seen(world, only) == [{"mine": "x"}] * 2
    assert drift(world) == []


def test_an_account_gets_its_tags_after_its_access_and_loses_them_before_it(world: World) -> None:
    declare(world, f"targets: [home], {TEAM}")
    (only,) = releases(world, 1)
    declare(world, TEAM)
    assert f"{APPS} team: None -> web" in drift(world), "the plan has the tags of an account that comes"
    distribute(world, only)
    assert seen(world, only) == named(only, team="web")
    declare(world, f"targets: [home], {TEAM}")
    world.cloud.start_process()
    before = len(world.paper.calls)
    distribute(world, only)
    calls = [(c["account"], c["action"]) for c in world.paper.calls[before:]]
    assert calls.index((APPS, "DeleteTags")) < calls.index((OWNER.account, "ModifyImageAttribute"))
    assert drift(world) == []
    row = next(r for r in only.images if r.place == OWNER)
    world.client("ec2", OWNER).modify_image_attribute(
        ImageId=row.image_id, LaunchPermission={"Add": [{"UserId": APPS}]}
    )
    (image,) = world.client("ec2", USER).describe_images(ImageIds=[row.image_id])["Images"]
    assert image.get("Tags", []) == []


@pytest.mark.parametrize(
    ("action", "when"), [("CreateTags", "after"), ("DeleteTags", "before"), ("DeleteTags", "after")]
)
def test_a_killed_distribute_leaves_no_tag_that_the_next_one_does_not_know(
    world: World, action: str, when: str
) -> None:
    declare(world, TEAM)
    (only,) = releases(world, 1)
    declare(world, "share: {tags: {tier: '1'}}")
    world.cloud.start_process(Label("ec2", action, APPS, USER.region, 1), when)
    with pytest.raises(Death):
        distribute(world, only)
    world.cloud.start_process()
    declare(world, "")
    distribute(world, only)
    assert seen(world, only) == [{}, {}]
    assert world.journals.unfinished() == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (", ".join(f"k{n}: v" for n in range(11)), "10"),
        ("Name: mine", "the tag 'Name' is set by goldenami"),
        ("'goldenami:x': y", "the tag 'goldenami:x' is set by goldenami"),
    ],
)
def test_more_than_ten_tags_and_reserved_ones_are_problems(world: World, text: str, message: str) -> None:
    declare(world, f"share: {{tags: {{{text}}}}}")
    with pytest.raises(InvalidInput) as caught:
        recipe.declaration(world.project, world.environment, RECIPE)
    assert message in str(caught.value.problems[0])


def test_a_mark_has_room_for_two_declarations() -> None:
    first = {f"a{n}": "v" for n in range(11)}
    second = {f"b{n}": "v" for n in range(11)}
    edit = shared_tags.compare(first, {})
    assert edit.mark is not None
    again = shared_tags.compare(second, {**first, MARK: edit.mark})
    assert again.mark is not None
    assert len(f"{edit.mark} {again.mark}") <= 256
    assert (again.put, again.drop) == (second, first)
