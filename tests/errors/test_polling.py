"""The one loop that waits."""

from __future__ import annotations

import math

import pytest

from goldenami.errors import Interrupted
from goldenami.polling import Interval, poll


class Time:
    """Time that passes only by sleeping, and by what a look takes."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 3))
        self.now += seconds


def test_pauses_grow_up_to_the_longest() -> None:
    time = Time()
    growing = Interval(1.0, 2.0, 5.0)
    looks = [round(e, 2) for e in poll(time.clock, time.sleep, timeout=20.0, interval=growing)]
    assert looks == [0.0, 1.0, 3.0, 7.0, 12.0, 17.0], "the next pause would not fit"
    assert time.slept == [1.0, 2.0, 4.0, 5.0, 5.0]
    last = Time()
    looks = [round(e, 2) for e in poll(last.clock, last.sleep, timeout=20.0, interval=growing, last_look=True)]
    assert looks == [0.0, 1.0, 3.0, 7.0, 12.0, 17.0, 20.0]
    assert last.slept == [1.0, 2.0, 4.0, 5.0, 5.0, 3.0]


def test_there_is_at_least_one_look() -> None:
    time = Time()
    assert list(poll(time.clock, time.sleep, timeout=0.0)) == [0.0]
    assert time.slept == []
    looks = 0
    for _ in poll(time.clock, time.sleep, timeout=5.0):
        looks += 1
        time.now += 60.0  # a look that takes long
    assert looks == 1


@pytest.mark.parametrize(("took", "expected"), [(0.5, [0.0, 4.5]), (5.0, [0.0, 9.0]), (60.0, [0.0, 60.0])])
def test_what_a_check_saw_long_ago_ends_no_wait(took: float, expected: list[float]) -> None:
    """The process was stopped: nobody has looked since."""
    time = Time()
    looks = []
    for elapsed in poll(time.clock, time.sleep, timeout=10.0, interval=Interval(4.0, 10.0, 40.0), never_old=True):
        looks.append(elapsed)
        time.now += took
    assert looks == expected


def test_checks_that_always_take_long_end() -> None:
    time = Time()
    looks = 0
    for _ in poll(time.clock, time.sleep, timeout=200.0, interval=Interval.every(1.0), never_old=True):
        looks += 1
        time.now += 60.0
    assert looks == 5, "the last one begins after the end"


def test_a_guess_ends_no_wait_early() -> None:
    time = Time()
    assert list(poll(time.clock, time.sleep, timeout=20.0, ahead=lambda elapsed: 50.0)) == [0.0, 20.0]
    assert time.slept == [20.0]


@pytest.mark.parametrize("forever", [None, math.inf])
def test_without_end(forever: float | None) -> None:
    time = Time()
    for elapsed in poll(time.clock, time.sleep, timeout=forever, interval=Interval.every(10.0)):
        if elapsed >= 100_000.0:
            break
    assert set(time.slept) == {10.0}


def test_a_check_and_a_signal_end_it() -> None:
    time = Time()
    checks = iter([None, None, Interrupted("stop")])

    def check() -> None:
        error = next(checks)
        if error is not None:
            raise error

    looks: list[object] = []
    with pytest.raises(Interrupted, match="stop"):
        looks.extend(poll(time.clock, time.sleep, timeout=None, check=check))

    def interrupted(seconds: float) -> None:
        raise Interrupted("signal")

    with pytest.raises(Interrupted, match="signal"):
        list(poll(time.clock, interrupted, timeout=None))


def test_signs_of_life() -> None:
    time, told = Time(), []
    list(
        poll(
            time.clock,
            time.sleep,
            timeout=200.0,
            interval=Interval.every(7.0),
            sign_of_life=lambda e: told.append(round(e)),
        )
    )
    assert told == [63, 126, 189]


def test_jitter_stays_in_its_bounds() -> None:
    time = Time()
    list(poll(time.clock, time.sleep, timeout=1000.0, interval=Interval(10.0, 1.0, 10.0, jitter=0.1)))
    assert all(9.0 <= pause <= 11.0 for pause in time.slept)
    assert len(set(time.slept)) > 10
