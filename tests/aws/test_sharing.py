"""Several processes share the limits of API calls: how they find each other, and what that spares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from goldenami_sandbox.direct import Direct
from goldenami_sandbox.settings import EC2_THROTTLE

from goldenami.aws.limits import Bucket, Pace, Shares
from goldenami.aws.sharing import FOLDER, Membership
from goldenami.errors import CatalogError
from goldenami.store import DirectoryStore, Store
from tests.worlds import events
from tests.worlds.builds import PLACES, MortalCloud, World


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now


Join = Callable[[], tuple[Membership, Shares]]


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return DirectoryStore(tmp_path / "catalog", error=CatalogError)


@pytest.fixture
def join(store: Store, time: Time) -> Join:
    def join() -> tuple[Membership, Shares]:
        shares = Shares()
        return Membership(store, shares, time.clock), shares

    return join


def test_processes_count_each_other(join: Join, store: Store) -> None:
    every = [join() for _ in range(3)]
    for _ in range(2):
        for member, _ in every:
            member.beat()
    assert [shares.count for _, shares in every] == [3, 3, 3]
    every[0][0].leave()
    every[0][0].leave()
    every[1][0].beat()
    assert every[1][1].count == 2
    assert len(store.stamps(FOLDER)) == 2


def test_a_process_that_ended_without_a_word_drops_out(join: Join, store: Store, time: Time) -> None:
    (alive, shares), (dead, _) = join(), join()
    dead.beat()
    alive.beat()
    assert shares.count == 2
    for _ in range(3):
        time.now += 30
        alive.beat()
    assert shares.count == 1
    assert len(store.stamps(FOLDER)) == 2
    time.now += 600
    alive.beat()
    assert len(store.stamps(FOLDER)) == 1
    dead.beat()  # it was only suspended
    alive.beat()
    assert shares.count == 2


def test_a_store_that_fails_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "catalog").write_text("no directory")
    shares = Shares(4)
    member = Membership(DirectoryStore(tmp_path / "catalog", error=CatalogError), shares)
    member.beat()
    member.leave()
    assert shares.count == 4


def test_each_process_has_a_part_but_may_always_send_one_call() -> None:
    time, slept = Time(), list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        time.now += seconds

    pace = Pace(time.clock, sleep, Bucket(5, 2), shares=Shares(10))
    pace.acquire()
    assert slept == []
    pace.acquire()
    assert slept == [pytest.approx(5.0)]

    alone = Pace(time.clock, sleep, shared=Bucket(1, 1), shares=Shares(1))
    for _ in range(20):
        alone.acquire()
    assert len(slept) == 1, "one process alone is held back by what AWS answers, not before"


# --- against the limits of AWS ----------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with events.timed_world(tmp_path) as world:
        world.fresh()
        yield world


def refused(world: World, *, parts: int) -> int:
    """Five processes read as fast as they may, together. Returns how many calls AWS throttles."""
    world.paper.set(throttle=EC2_THROTTLE)
    before = len(world.paper.calls)

    def process() -> MortalCloud:
        cloud = MortalCloud(world.clock, world.environment.accounts, PLACES[0], Direct(world.gate.serve))
        cloud.check_caller()
        cloud.shares.count = parts
        return cloud

    def read(cloud: MortalCloud) -> None:
        for _ in range(120):
            cloud.call(PLACES[0], "ec2", "DescribeVpcs")

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(read, [process() for _ in range(5)]))
    return sum(c["result"] == "RequestLimitExceeded" for c in world.paper.calls[before:])


def test_five_processes_that_share_are_hardly_throttled(world: World) -> None:
    storm = refused(world, parts=1)
    world.clock.sleep(60)
    calm = refused(world, parts=5)
    assert storm > 20, "how many depends on the order in which the threads run"
    assert calm <= storm / 10, (storm, calm)
