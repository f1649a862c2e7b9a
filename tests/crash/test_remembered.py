"""What a world remembers is made once, and only for worlds in the same state (``World.remember``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from goldenami.recipe.consent import EVERYTHING
from tests.worlds.builds import _MADE, PLACES, Death, Label, World
from tests.worlds.roles import restrict

HOME_PLACE = PLACES[0]


def volume(world: World) -> str:
    made = world.client("ec2", HOME_PLACE).create_volume(AvailabilityZone="eu-central-1a", Size=1)
    return str(made["VolumeId"])


def images(world: World) -> int:
    return len(world.client("ec2", HOME_PLACE).describe_images(Owners=["136693071363"])["Images"])


def test_a_cloud_that_was_only_read_has_its_public_images_afterwards(world: World) -> None:
    world.fresh()
    made = world.remember("images", lambda: volume(world))
    expected = images(world)
    assert expected
    world.fresh()
    assert images(world) == expected
    assert world.remember("images", lambda: volume(world)) == made, "it was not made again"
    assert images(world) == expected


def from_inside(world: World, _: pytest.MonkeyPatch) -> None:
    world.behind.ec2._cloud.store.images.clear()


def another_project(world: World, _: pytest.MonkeyPatch) -> None:
    world.project = replace(world.project, consent=EVERYTHING)


def with_an_address(world: World, _: pytest.MonkeyPatch) -> None:
    world.host_work.inventory = {"x86_64": object()}  # type: ignore[dict-item]


def with_other_keys(_: World, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("AWS_ACCESS_KEY_ID", "AKIAAAAAAAAAAAAAAAAA")


@pytest.mark.parametrize("change", [from_inside, another_project, with_an_address, with_other_keys])
def test_what_was_made_in_another_state_is_not_taken(
    world: World, monkeypatch: pytest.MonkeyPatch, change: Callable[[World, pytest.MonkeyPatch], None]
) -> None:
    world.fresh()
    made = world.remember("states", lambda: volume(world))
    world.fresh()
    change(world, monkeypatch)
    assert world.remember("states", lambda: volume(world)) != made


@pytest.mark.parametrize("remembered", [True, False])
def test_a_new_process_goes_on(world: World, remembered: bool) -> None:
    world.fresh()
    if not remembered:
        assert world.behind
    place, label = HOME_PLACE, Label("ec2", "DescribeRegions", HOME_PLACE.account, HOME_PLACE.region, 1)
    before = world.cloud.recent
    world.remember("process", lambda: world.cloud.send(place, "ec2", "DescribeRegions", {}))
    assert world.cloud.recent is not before
    assert world.cloud.mutations == [label]


def test_a_process_that_died_stays_dead_where_nothing_is_remembered(world: World) -> None:
    world.fresh()
    assert world.behind
    world.remember("death", world.cloud.die)
    with pytest.raises(Death):
        world.cloud.sleep(1)


def test_a_policy_that_lacks_a_statement_is_not_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fresh(new_process=True)
    before = len(_MADE)
    restrict(world, monkeypatch, keep=lambda _, statement: statement["Sid"] != "Nothing")
    assert len(_MADE) == before
