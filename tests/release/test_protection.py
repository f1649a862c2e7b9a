"""Released images are protected from deregistration as their recipe declares, and retired nevertheless."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

import pytest
from botocore.exceptions import ClientError
from goldenami_sandbox.direct import Direct

from goldenami.aws import tags
from goldenami.errors import TargetsFailed
from goldenami.model import ImageManifest
from goldenami.release import targets as modes
from goldenami.release.retention import Rules
from tests.worlds import distributing, retiring
from tests.worlds.builds import APPS, HOME, PLACES, RECIPE, Death, Label, MortalCloud, Saved, World
from tests.worlds.distributing import declare, distribute
from tests.worlds.faults import Once, denied
from tests.worlds.retiring import LATER, releases

COOLDOWN = "deregistration_protection: with-cooldown"
DAY = timedelta(days=1)
ENABLE, DISABLE = "EnableImageDeregistrationProtection", "DisableImageDeregistrationProtection"


class Three(NamedTuple):
    """Three protected releases: no channel points to the first one."""

    saved: Saved
    releases: list[ImageManifest]
    calls: list[str]


@pytest.fixture(scope="module")
def built(build_world: World) -> Three:
    build_world.fresh()
    declare(build_world, COOLDOWN)
    made = releases(build_world, 3)
    return Three(build_world.save(), made, [c["action"] for c in build_world.paper.calls])


@pytest.fixture
def world(build_world: World, built: Three) -> World:
    build_world.fresh(saved=built.saved)
    return build_world


@pytest.fixture
def old(built: Three) -> ImageManifest:
    return built.releases[0]


@pytest.fixture
def current(built: Three) -> ImageManifest:
    return built.releases[2]


def a_day_later(world: World) -> None:
    """The sessions of the process have ended, too."""
    world.clock.sleep(DAY.total_seconds() + 600)
    accounts, home = world.environment.accounts, world.environment.home_place
    world.cloud = MortalCloud(world.clock, accounts, home, Direct(world.gate.serve))


def drift(world: World) -> list[str]:
    found = distributing.drift(world)
    return [f"{c.kind}: {c.before} -> {c.after}" for one in found for c in one.changes]


def state(world: World, manifest: ImageManifest) -> set[tuple[str, str | None]]:
    """The protection and the tag of every image of a release."""
    found = set()
    for row in manifest.images:
        if modes.owns(row):
            (image,) = world.client("ec2", row.place).describe_images(ImageIds=[row.image_id], IncludeDisabled=True)[
                "Images"
            ]
            found.add((image["DeregistrationProtection"], tags.from_list(image["Tags"]).get(tags.PROTECTION)))
    return found


def test_a_build_protects_its_images_after_they_are_released(
    world: World, built: Three, current: ImageManifest
) -> None:
    assert state(world, current) == {("enabled-with-cooldown", "with-cooldown")}
    assert built.calls.count(ENABLE) == 9, "one for each image; apps uses one of home"
    assert built.calls.index(ENABLE) > built.calls.index("PutParameter")
    assert drift(world) == []
    assert distribute(world, current).task_id is None
    assert ENABLE not in world.made(0)


@pytest.mark.parametrize(("when", "then"), [("before", "resume"), ("after", "clean")])
def test_a_build_that_is_killed_while_it_protects_keeps_its_release(world: World, when: str, then: str) -> None:
    world.change_recipe("fourth")
    declare(world, COOLDOWN)
    world.build_until(Label("ec2", ENABLE, HOME, "eu-west-1", 1), when)
    (left,) = world.journals.unfinished()
    if then == "resume":
        assert world.resume(left.build_id).status == "released"
    else:
        assert world.clean(left.build_id).complete
    manifest = world.catalog.get(RECIPE, max(world.catalog.versions(RECIPE)))
    assert manifest.build_id == left.build_id
    if then == "clean":
        world.cloud.start_process()
        distribute(world, manifest)
    assert state(world, manifest) == {("enabled-with-cooldown", "with-cooldown")}


def test_a_refused_protection_is_told_and_the_release_stays(world: World) -> None:
    world.change_recipe("fourth")
    declare(world, COOLDOWN)
    world.gate.start(Once(Label("ec2", ENABLE, APPS, "eu-central-1", 1), denied))
    outcome = world.build()
    world.gate.stop()
    assert outcome.status == "released"
    ((place, reason),) = outcome.failures.items()
    assert place == f"{APPS}/eu-central-1"
    assert "is not protected" in reason
    assert drift(world) == ["deregistration protection: None -> with-cooldown"]
    world.gate.start(Once(Label("ec2", ENABLE, APPS, "eu-central-1", 1), denied))
    world.cloud.start_process()
    with pytest.raises(TargetsFailed):
        distribute(world, outcome.manifest)
    world.gate.stop()
    world.cloud.start_process()
    distribute(world, outcome.manifest)
    assert drift(world) == []


def test_the_protection_follows_its_declaration(world: World, current: ImageManifest) -> None:
    declare(world, "deregistration_protection: without-cooldown")
    assert drift(world).count("deregistration protection: with-cooldown -> without-cooldown") == 3
    distribute(world, current)
    assert state(world, current) == {("enabled-without-cooldown", "without-cooldown")}
    declare(world, "")
    distribute(world, current)
    assert state(world, current) == {("disabled", None)}
    assert drift(world) == []


def test_the_protection_of_somebody_else_stays(world: World, old: ImageManifest) -> None:
    declare(world, "")
    distribute(world, old)
    row = old.images[0]
    world.client("ec2", row.place).enable_image_deregistration_protection(ImageId=row.image_id)
    assert distribute(world, old).task_id is None
    (kept,) = [v for v in retiring.go(world).decisions if v.release.manifest == old]
    assert (kept.fate, kept.rule) == ("keep", f"protected from deregistration: {row.image_id} in {row.place}")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_protected_release_is_retired_after_its_cooldown(world: World, old: ImageManifest, when: str) -> None:
    world.cloud.start_process(Label("ec2", DISABLE, HOME, "eu-west-1", 1), when)
    with pytest.raises(Death):
        retiring.go(world)
    world.cloud.start_process()
    retired = retiring.go(world)
    ((label, end),) = retired.waiting.items()
    assert (label, retired.left, retired.deleted) == (old.label, {}, ())
    row = old.images[0]
    with pytest.raises(ClientError, match="OperationNotPermitted"):
        world.client("ec2", row.place).deregister_image(ImageId=row.image_id)
    seen = len(world.paper.calls)
    again = retiring.go(world, later=LATER + timedelta(hours=23))
    assert (again.deleted, again.left, list(again.waiting.values())) == ((), {}, [end])
    assert world.made(seen) == [], "nothing is due, so nothing is sent"
    a_day_later(world)
    done = retiring.go(world, later=LATER + DAY + timedelta(minutes=10))
    assert (done.left, done.waiting) == ({}, {})
    assert f"image {row.image_id} in {row.place}" in done.deleted
    for place in PLACES:
        every = world.client("ec2", place).describe_images(Owners=["self"])["Images"]
        assert old.version not in " ".join(image["Name"] for image in every)


@pytest.mark.parametrize("killed", [None, DISABLE, "CreateTags"])
def test_a_cooldown_is_known_after_the_recipe_drops_the_protection(
    world: World, old: ImageManifest, killed: str | None
) -> None:
    declare(world, "")
    rules = {RECIPE: Rules(keep=1, minimum_age=timedelta(), unused_for=timedelta())}
    if killed is not None:
        world.cloud.start_process(Label("ec2", killed, HOME, "eu-west-1", 1), "before")
        with pytest.raises(Death):
            distribute(world, old)
        world.cloud.start_process()
    distribute(world, old)
    assert {protected for protected, _ in state(world, old)} == {"disabled"}
    assert "" not in {tag or "" for _, tag in state(world, old)}, "the end of the cooldown"
    assert distribute(world, old).task_id is None, "the tag is no difference"
    retired = retiring.go(world, rules, later=timedelta(hours=1))
    assert (retired.left, retired.deleted, list(retired.waiting)) == ({}, (), [old.label])
    a_day_later(world)
    done = retiring.go(world, rules, later=DAY + timedelta(minutes=30))
    assert (done.left, done.waiting) == ({}, {})
    assert len([line for line in done.deleted if line.startswith("image ")]) == 3


def test_a_release_that_comes_back_is_protected_again(world: World, old: ImageManifest) -> None:
    retired = retiring.go(world)
    assert list(retired.waiting) == [old.label]
    assert {protected for protected, _ in state(world, old)} == {"disabled"}
    world.catalog.marks.pin(RECIPE, old.version, "needed", world.cloud.now())
    retiring.go(world)
    assert state(world, old) == {("enabled-with-cooldown", "with-cooldown")}


def test_without_a_cooldown_a_protected_release_is_retired_at_once(world: World, old: ImageManifest) -> None:
    declare(world, "deregistration_protection: without-cooldown")
    distribute(world, old)
    retired = retiring.go(world)
    assert (retired.left, retired.waiting) == ({}, {})
    assert len([line for line in retired.deleted if line.startswith("image ")]) == 3
