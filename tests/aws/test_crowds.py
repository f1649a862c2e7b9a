"""Copies into a full place stand in line: few are refused, and the place stays full."""

from __future__ import annotations

import random

import pytest

from goldenami.aws.crowds import Crowds
from goldenami.aws.limits import Retry
from goldenami.model import Place

PLACE = Place("111111111111", "eu-west-1")
COPY = 240.0  # seconds


class Ec2:
    """A place with a quota, and copies of others that end after some time."""

    def __init__(self, quota: int, others: int = 0, until: float = 0.0) -> None:
        self.quota, self.others, self.until = quota, others, until
        self.now = 0.0
        self.running: list[float] = []  # when each of ours ends
        self.refused = 0
        self.most = 0
        self.crowds = Crowds(lambda: self.now, Retry(), random.Random(1))
        self.waiting = 0

    def copy(self) -> None:
        if not self.crowds.begin(PLACE):
            self._wait()
            return
        others = self.others if self.now < self.until else 0
        if len(self.running) + others >= self.quota:
            self.refused += 1
            self.crowds.refuse(PLACE)
            self._wait()
            return
        self.running.append(self.now + COPY)
        self.most = max(self.most, len(self.running) + others)
        self.crowds.accept(PLACE)

    def _wait(self) -> None:
        self.waiting += 1

        def again() -> bool:
            self.waiting -= 1
            self.copy()
            return True

        self.crowds.stand_in_line(PLACE, again)

    def run(self) -> None:
        """Until no copy waits and none runs."""
        while self.running or self.waiting:
            pause = self.crowds.call(PLACE)
            ends = min(self.running, default=float("inf"))
            assert pause is not None or self.running
            self.now = min(ends, self.now + (pause if pause is not None else COPY))
            for _ in range(self.running.count(self.now)):
                self.running.remove(self.now)
                self.crowds.end(PLACE)


@pytest.mark.parametrize("number", [21, 100, 300])
def test_a_place_stays_at_its_quota_and_refuses_few(number: int) -> None:
    ec2 = Ec2(quota=20)
    for _ in range(number):
        ec2.copy()
    ec2.run()
    assert ec2.most == 20
    assert ec2.now <= 1.05 * -(-number // 20) * COPY
    assert ec2.refused <= 12 + 4 * (number // 20)


def test_room_that_others_give_back_is_used() -> None:
    ec2 = Ec2(quota=20, others=20, until=1000.0)
    for _ in range(40):
        ec2.copy()
    ec2.run()
    assert ec2.now <= 1000.0 + 20.0 + 2 * COPY + 120.0
    assert ec2.refused <= 80


def test_copies_of_before_count() -> None:
    ec2 = Ec2(quota=2)
    for _ in range(2):
        assert ec2.crowds.begin(PLACE, is_there=True)
        ec2.running.append(COPY)
    ec2.copy()
    assert (ec2.refused, ec2.waiting) == (1, 1)
    ec2.run()
    assert ec2.now == 2 * COPY
