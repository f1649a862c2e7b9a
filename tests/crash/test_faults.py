"""The fault matrix: any call of a build, reads too, meets any fault. Then there is a release; or a clear error, and
after it a resume makes the release, or a clean leaves nothing.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping

from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as from_seed
from hypothesis import strategies as st

from goldenami.errors import GoldenAmiError, UnjournaledMutation
from tests.worlds import inventory
from tests.worlds.builds import Disturb, Label, World
from tests.worlds.cases import check
from tests.worlds.faults import FAULTS, PASSING, Fault, FromThenOn, Once, Storm, broken, denied, lost, throttled
from tests.worlds.matrix import matrix
from tests.worlds.recordings import calls

THEN = ("resume", "clean")
DELAYS = (1.0, 1.0, 40.0)  # seconds until calls find what is new


def disturbed(world: World, fault: Disturb, *, then: str, delay: float = 0.0, must_release: bool = False) -> None:
    """A build under a fault; after an error, a process that meets none. ``delay``: until calls find what is new."""
    label = getattr(fault, "label", None)
    world.fresh(new_process=label is not None and label.service == "sts")
    decoys = inventory.place_decoys(world)
    world.paper.set(visibility_delay=delay, grant_delay=2 * delay)
    error = build(world, fault)
    if error is None:
        (summary,) = world.journals.list()
        if summary.ending is None:  # released, and not all of the temporary could be deleted: that was said
            assert any("goldenami clean" in str(e.fields.get("message")) for e in world.events)
            world.clean(summary.build_id)
        wait(world, delay)
        check(world, decoys, released=True)
        return
    if must_release or isinstance(error, UnjournaledMutation) or not error.message:
        raise error
    if not world.builds:  # before anything was made
        check(world, decoys, released=False)
        return
    (build_id,) = world.builds
    if then == "resume":
        world.resume(build_id)
        wait(world, delay)
        check(world, decoys, released=True)
    else:
        assert world.clean(build_id).complete
        wait(world, delay)
        check(world, decoys, released=None)


def build(world: World, fault: Disturb) -> GoldenAmiError | None:
    """How a build under a fault ended. Anything but an error of ours is a mistake, and raised."""
    world.gate.start(fault)
    try:
        world.build()
    except GoldenAmiError as error:
        return error
    finally:
        world.gate.stop()
    return None


def wait(world: World, delay: float) -> None:
    """The witnesses would be blind for that long, too."""
    if delay:
        world.clock.sleep(delay)


@matrix("label, fault", itertools.product(calls("every-call"), FAULTS), every=167)
def test_any_call_may_fail_once(world: World, label: Label, fault: Fault, number: int) -> None:
    """A fault that passes is no reason for a build to fail; a refusal is, and leaves nothing."""
    turn = number // 4
    then, delay = THEN[turn % 2], DELAYS[turn % 3]
    disturbed(world, Once(label, fault), then=then, delay=delay, must_release=fault in PASSING)


@matrix("label, fault", itertools.product(calls("every-call"), (throttled, broken, lost, denied)), every=211)
def test_an_action_may_fail_from_some_call_on(world: World, label: Label, fault: Fault, number: int) -> None:
    """The build ends with an error in bounded time, and what it could not delete is deleted by the next process."""
    turn = number // 4
    disturbed(world, FromThenOn(label, fault), then=THEN[(turn + 1) % 2], delay=DELAYS[turn % 3])


@matrix("seed", ((seed,) for seed in range(200)), every=67)
def test_storms(world: World, seed: int) -> None:
    """Many faults at once."""
    turn = seed // 4
    storm, then = Storm(seed, (0.03, 0.1, 0.3)[turn % 3]), THEN[(turn + 1) % 2]
    disturbed(world, storm, then=then, delay=DELAYS[turn % 3])


class Weather:
    """Faults as drawn: at the n-th call of the build, of whatever kind, and how many calls in a row."""

    def __init__(self, faults: Mapping[int, tuple[Callable[..., Response], int]]) -> None:
        self._due = {n + i: fault for n, (fault, times) in sorted(faults.items()) for i in range(times)}
        self._count = 0
        self._guard = threading.Lock()

    def __call__(self, label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        with self._guard:
            self._count += 1
            fault = self._due.get(self._count)
        return serve() if fault is None else fault(call, serve)


WEATHER = st.dictionaries(st.integers(1, 160), st.tuples(st.sampled_from(FAULTS), st.integers(1, 6)), max_size=12)


def test_any_weather(world: World, whole: bool) -> None:
    """Drawn by hypothesis, from a fixed seed, and made as small as it can be when something is wrong."""

    @from_seed(20261124)
    @settings(
        max_examples=150 if whole else 3,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(faults=WEATHER, then=st.sampled_from(("resume", "clean")), lag=st.sampled_from(DELAYS))
    def hold(faults: Mapping[int, tuple[Callable[..., Response], int]], then: str, lag: float) -> None:
        disturbed(world, Weather(faults), then=then, delay=lag)

    hold()
