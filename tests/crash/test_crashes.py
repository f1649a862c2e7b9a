"""The crash matrix: the process dies at a mutating call, before or after its effect; then it is resumed, or cleaned.

Every mutating call of a build in two regions and two accounts; then those that publish a second release over a first
one; and those of a clean-up, which is done again.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call

from goldenami.errors import TestsFailed
from goldenami.model import Place
from tests.worlds import inventory
from tests.worlds.builds import PLACES, RECIPE, Death, Label, World
from tests.worlds.cases import check, points_to, release_of
from tests.worlds.matrix import matrix
from tests.worlds.recordings import calls

MOMENTS = ("before", "after")
THEN = ("resume", "clean")
LAGS = (1.0, 40.0)  # seconds until calls find what is new: every case has one; the long one costs a third more


@matrix("label, when, then", itertools.product(calls("build"), MOMENTS, THEN), every=29, each_kind=True)
def test_a_build_killed_at_any_call_is_resumed_or_cleaned(
    world: World, label: Label, when: str, then: str, number: int
) -> None:
    killed(world, label, when, then, LAGS[number // 4 % 4 == 3])


def slow(world: World, lag: float) -> None:
    """What is new is unknown to reads and changes for a while, a permission, a grant and a parameter's value have no
    effect."""
    world.paper.set(visibility_delay=lag, grant_delay=2 * lag, pending={"parameter": min(lag, 20.0)})


def place_decoys_at_once(world: World, lag: float, **options: str) -> inventory.Inventory:
    """Decoys that are visible while what the build made is not yet."""
    world.paper.set(visibility_delay=0.0)
    placed = inventory.place_decoys(world, **options)
    slow(world, lag)
    return placed


def killed(world: World, label: Label, when: str, then: str, lag: float) -> None:
    world.fresh()
    decoys = inventory.place_decoys(world)
    slow(world, lag)
    world.build_until(label, when)
    (build_id,) = world.builds
    if lag == max(LAGS):  # after a short one, what the build made could show meanwhile, and be taken for decoys
        decoys |= place_decoys_at_once(world, lag, build_id=build_id, mark="b")
    if then == "clean":
        done = world.clean(build_id)
        assert done.complete, done.left
        world.clock.sleep(lag)
        check(world, decoys, released=None)
        manifest = release_of(world)
        assert manifest is None or points_to(world) in (None, manifest.version)
        return
    captured = any(r.key.startswith("candidate/") for r in summary(world).resources)
    outcome = world.resume()
    assert outcome.status == "released"
    assert summary(world).ending == "released"
    world.clock.sleep(lag)
    check(world, decoys, released=True)
    if captured:
        assert len(world.host_work.prepared) == 1, "an image that was captured was built again"


def summary(world: World) -> Any:
    (found,) = world.journals.list()
    return found


@matrix("label, when, then, lag", itertools.product(calls("second-release"), MOMENTS, THEN, LAGS), every=47)
def test_a_second_release_is_published_in_all_places_or_in_none(
    world: World, label: Label, when: str, then: str, lag: float
) -> None:
    """Publishing moves what is there already, which a clean-up has to put back."""
    second(world, label, when, then, lag)


def second(world: World, label: Label, when: str, then: str, lag: float) -> None:
    world.fresh()
    world.built()
    first = release_of(world)
    assert first is not None
    decoys = inventory.place_decoys(world)
    before = set(world.builds)
    world.change_recipe("second")
    slow(world, lag)
    world.build_until(label, when)
    (build_id,) = set(world.builds) - before
    if then == "resume":
        world.resume(build_id)
        world.clock.sleep(lag)
        check(world, decoys, earlier=first, released=True)
    else:
        assert world.clean(build_id).complete
        world.clock.sleep(lag)
        check(world, decoys, earlier=first, released=None)
        assert points_to(world) == first.version


@matrix("label, when, then", itertools.product(calls("clean-up"), MOMENTS, THEN), every=13)
def test_a_clean_up_killed_at_any_call_is_done_again(
    world: World, label: Label, when: str, then: str, number: int
) -> None:
    """A build dies with everything made and nothing published; its clean-up dies, too; then clean, or resume."""
    last = next(label for label in calls("build") if label.service == "ssm")
    killed_twice(world, last, label, when, then, LAGS[number // 4 % 4 == 3])


def killed_twice(world: World, last: Label, label: Label, when: str, then: str, lag: float) -> None:
    world.fresh()
    decoys = inventory.place_decoys(world)
    slow(world, lag)
    world.build_until(last, "before")
    (build_id,) = world.builds
    world.cloud.start_process(label, when)
    with suppress(Death):  # parameters are made side by side: one more or less was there to delete
        world.clean_again(build_id)
    if then == "clean" or summary(world).ending == "cleaned":
        assert world.clean(build_id).complete
        world.clock.sleep(lag)
        check(world, decoys, released=False)
    else:
        world.resume(build_id)
        world.clock.sleep(lag)
        check(world, decoys, released=True)


def test_a_clean_up_may_die_between_an_image_and_its_parameter_elsewhere(world: World) -> None:
    """Places are cleaned side by side: of an image that is shared, the parameter in the other account may be there when
    the image is gone already. The version is published all the same, with the image that is made anew."""
    world.fresh()
    decoys = inventory.place_decoys(world)
    dies_between(world, ("PutParameter", PLACES[-1]), ("PutParameter", PLACES[0]), world.build)
    (build_id,) = world.builds
    dies_between(
        world,
        ("DeregisterImage", PLACES[1]),
        ("", PLACES[-1]),
        lambda: world.clean_again(build_id),
    )
    assert any(line.startswith(f"{PLACES[-1]}: parameter") for line in inventory.take(world) - decoys)
    world.resume()
    check(world, decoys, released=True)


def dies_between(
    world: World, first: tuple[str, Place], second: tuple[str, Place], program: Callable[[], object]
) -> None:
    """A process that dies when the first of two calls has had its effect, and the second not, nor what follows it in
    its thread. Without a name, the second is the first in its place."""
    done = threading.Event()

    def disturb(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        which = label.action, Place(label.account, label.region)
        if which == second or ("", which[1]) == second:
            assert done.wait(60)
            world.cloud.die()
            return Response(0, drop=True)
        response = serve()
        if which == first:
            done.set()
        return response

    world.cloud.start_process()
    world.gate.start(disturb)
    with pytest.raises(Death):
        program()
    world.gate.stop()


def test_a_build_tells_of_an_unfinished_one(world: World) -> None:
    """It is for a person to say what becomes of it; the new build has a version of its own."""
    copy = next(label for label in calls("build") if label.action == "CopyImage")
    world.fresh()
    world.build_until(copy, "after")
    (unfinished,) = world.builds
    world.cloud.start_process()
    manifest = world.build().manifest
    notes = [str(e.fields.get("message")) for e in world.events if e.kind == "note"]
    assert any(f"goldenami resume {unfinished}" in note and f"goldenami clean {unfinished}" in note for note in notes)
    assert world.clean(unfinished).complete
    assert release_of(world) == manifest
    check(world, frozenset(), released=True)


def test_a_failed_build_leaves_nothing(world: World) -> None:
    """Tests that fail are no reason to keep anything."""

    def fail(*_: Any, **__: Any) -> Any:
        raise TestsFailed("the image is not what it should be")

    world.fresh()
    decoys = inventory.place_decoys(world)
    world.host_work.prove = fail  # type: ignore[method-assign]  # the seam is made for this
    with pytest.raises(TestsFailed):
        world.build()
    check(world, decoys, released=False)
    assert world.catalog.versions(RECIPE) == ()
