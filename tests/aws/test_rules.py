"""The pure rules: pace, retries, tags, names, sources, states."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenami.aws import images, tags, waiters
from goldenami.aws.limits import SCARCE, Bucket, Pace, Retries, Retry
from goldenami.aws.network import choose_source, local_address
from goldenami.aws.session import Cloud
from goldenami.errors import CloudError, Throttled, Unreachable, UsageError
from goldenami.journal import token
from goldenami.model import Place, timestamp
from goldenami.polling import poll


class Time:
    """A clock that moves only by sleeping."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds


# --- pace -----------------------------------------------------------------------------------------------------------


def test_nothing_is_held_back_until_the_service_throttles() -> None:
    time = Time()
    pace = Pace(time.clock, time.sleep)
    for _ in range(1000):
        pace.acquire()
    assert time.slept == 0
    assert pace.rate is None


def test_throttling_halves_the_rate_which_is_regained() -> None:
    time = Time()
    pace = Pace(time.clock, time.sleep)
    for _ in range(40):  # 20 a second
        pace.acquire()
        time.now += 0.05
    pace.throttled()
    assert pace.rate == pytest.approx(10, rel=0.1)
    pace.throttled()
    assert pace.rate == pytest.approx(10, rel=0.1), "refusals of one burst count once"
    before = time.slept
    for _ in range(20):
        pace.acquire()
    assert 1.0 < time.slept - before < 2.5
    time.now += 1000
    pace.acquire()
    assert pace.rate is None, "long without throttling, there is no limit"


def test_the_rate_never_falls_to_nothing() -> None:
    time = Time()
    pace = Pace(time.clock, time.sleep)
    for _ in range(50):
        pace.acquire()
        time.now += 5
        pace.throttled()
    assert pace.rate is not None
    assert pace.rate >= 1.0


def test_what_is_scarce_waits_for_its_turn() -> None:
    time = Time()
    pace = Pace(time.clock, time.sleep, Bucket(burst=5, rate=2))
    for _ in range(5):
        pace.acquire()
    assert time.slept == 0
    for _ in range(10):
        pace.acquire()
    assert time.slept == pytest.approx(5.0)
    time.now += 1000
    for _ in range(5):
        pace.acquire()
    assert time.slept == pytest.approx(5.0), "no more than the burst is saved up"
    pace.acquire()
    assert time.slept == pytest.approx(5.5)


def test_paces_at_rest_are_removed() -> None:
    """With thousands of places there would be ten for each."""
    time = Time()
    cloud = Cloud({}, Place("111111111111", "eu-central-1"), clock=time.clock, sleep=time.sleep)
    slow = Place("0", "eu-central-1")
    for number in range(3000):
        pace = cloud._pace(Place(str(number), "eu-central-1"), "ssm", "GetParameters")
        pace.acquire()
        if number == 0:
            pace.throttled()
        time.now += 0.01
    assert len(cloud._paces) <= 1000
    assert cloud._pace(slow, "ssm", "GetParameters").rate is not None, "a limit that is known stays"
    newest = Place("2999", "eu-central-1")
    assert not cloud._pace(newest, "ssm", "GetParameters").is_at_rest()


@given(st.sampled_from(sorted(SCARCE.values(), key=str)), st.lists(st.floats(0, 30), max_size=150))
def test_a_scarce_action_is_never_sent_beyond_its_bucket(bucket: Bucket, gaps: list[float]) -> None:
    """Whatever the moments at which calls are wanted, a bucket of that size at the other end never runs dry."""
    time = Time()
    pace = Pace(time.clock, time.sleep, bucket)
    tokens, filled = bucket.burst, time.now
    for gap in gaps:
        time.now += gap / 20
        if pace.is_at_rest():  # it may have been removed
            pace = Pace(time.clock, time.sleep, bucket)
        pace.acquire()
        tokens = min(bucket.burst, tokens + (time.now - filled) * bucket.rate) - 1
        filled = time.now
        assert tokens > -1e-6


# --- retries --------------------------------------------------------------------------------------------------------


def tries(error: Exception, policy: Retry) -> tuple[int, float]:
    time = Time()
    attempts = Retries(policy, time.clock, time.sleep, random.Random(7)).start()
    count = 1
    while attempts.wait(error):
        count += 1
    return count, time.slept


def test_how_long_one_goes_on() -> None:
    policy = Retry()
    assert tries(CloudError("no", code="InvalidParameterValue"), policy) == (1, 0.0)
    count, slept = tries(Unreachable("reset"), policy)
    assert 8 < count < 40
    assert policy.unreachable <= slept < policy.unreachable + policy.longest
    _, slept = tries(Throttled("slow down", code="RequestLimitExceeded"), policy)
    assert policy.throttled <= slept < policy.throttled + policy.longest
    _, slept = tries(Throttled("wait", code="ResourceLimitExceeded"), policy)
    assert slept >= policy.queued
    count, _ = tries(Throttled("slow down", code="RequestLimitExceeded"), Retry(repeats=2))
    assert count == 3


# --- tags -----------------------------------------------------------------------------------------------------------


def test_the_environments_tags_cannot_replace_ours() -> None:
    made = tags.build_tags(
        recipe="web", version="1.0", build_id="b", own={"owner": "me", tags.RECIPE: "other"}, git_commit=None
    )
    assert made == {"owner": "me", tags.RECIPE: "web", tags.VERSION: "1.0", tags.BUILD_ID: "b"}


def test_tags_that_aws_would_refuse() -> None:
    assert tags.checked({"a": "x" * 300}) == {"a": "x" * 256}
    with pytest.raises(UsageError, match="51 tags, expected 50 at most"):
        tags.checked({str(n): "" for n in range(51)})
    for key in ("", "aws:thing", "x" * 128):
        with pytest.raises(UsageError, match="is invalid, expected 1 to 127 characters"):
            tags.checked({key: "v"})


def test_only_what_has_a_token_of_its_own_is_ours() -> None:
    ours = {tags.BUILD_ID: "b", tags.KEY: "image/x", tags.TOKEN: token("b", "image/x", 3)}
    assert tags.made_by(ours, "b", None)
    assert not tags.made_by(ours, "c", None)
    assert not tags.made_by({**ours, tags.KEY: "image/y"}, "b", None)
    assert not tags.made_by({**ours, tags.TOKEN: "0" * 40}, "b", None)
    assert not tags.made_by({tags.BUILD_ID: "b"}, "b", None)
    assert not tags.made_by({**ours, tags.BUILD_ID: "c"}, "c", None), "the build id alone can be copied"
    assert not tags.made_by(ours, "b", "0123456789abcdef")
    assert not tags.made_by({**ours, tags.CATALOG: "0123456789abcdef"}, "b", None)
    assert tags.made_by({**ours, tags.CATALOG: "0123456789abcdef"}, "b", "0123456789abcdef")


def test_expiry_is_written_and_read() -> None:
    moment = datetime(2026, 11, 25, 3, 0, tzinfo=UTC)
    assert tags.parse_timestamp(timestamp(moment)) == moment
    assert tags.parse_timestamp("tomorrow") is None


# --- names ----------------------------------------------------------------------------------------------------------


@given(st.text(min_size=3, max_size=300))
def test_image_names_are_ones_ec2_takes(name: str) -> None:
    import re

    assert re.fullmatch(r"[A-Za-z0-9()\[\] ./\-'@_]{3,128}", images.valid_name(name))


def test_image_names_keep_their_end() -> None:
    assert images.valid_name("debian 12: web") == "debian 12- web"
    assert images.valid_name("x" * 200 + " 1.4.20261124.1").endswith("x 1.4.20261124.1")
    with pytest.raises(UsageError, match="too short"):
        images.valid_name("ab")


# --- who may reach the builder --------------------------------------------------------------------------------------

SUBNET = "10.1.2.0/24"
CHECKED = "203.0.113.9"


def ways(**local: str) -> Callable[[str], str]:
    return lambda host: local[{"10.1.2.1": "subnet", "ec2": "endpoint"}[host]]


@pytest.mark.parametrize(
    ("private", "subnet", "endpoint", "expected"),
    [
        pytest.param(True, "10.1.9.4", "10.1.9.4", "10.1.9.4/32", id="a runner in the VPC, private addresses"),
        pytest.param(True, "192.168.0.5", "192.168.0.5", "192.168.0.5/32", id="a VPN to the VPC"),
        pytest.param(False, "192.168.0.5", "192.168.0.5", f"{CHECKED}/32", id="a laptop behind a router"),
        pytest.param(False, "10.1.9.4", "10.1.9.4", f"{CHECKED}/32", id="a runner in the VPC, public addresses"),
        pytest.param(False, "8.8.4.4", "8.8.4.4", "8.8.4.4/32", id="a machine with a public address"),
        pytest.param(False, "198.18.0.1", "127.0.0.1", "198.18.0.1/32", id="a cloud on this machine"),
        pytest.param(False, "2600::1", "2600::1", "2600::1/128", id="IPv6"),
    ],
)
def test_the_source_address(private: bool, subnet: str, endpoint: str, expected: str) -> None:
    assert (
        choose_source(
            private=private,
            subnet=SUBNET,
            endpoint="ec2",
            local=ways(subnet=subnet, endpoint=endpoint),
            public=lambda: CHECKED,
        )
        == expected
    )


def test_the_local_address_of_a_route() -> None:
    assert local_address("127.0.0.1") == "127.0.0.1"
    with pytest.raises(Unreachable, match=r"no route to host\.invalid"):
        local_address("host.invalid")


# --- states ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "item", "readiness", "reason"),
    [
        (waiters.IMAGES, {"State": "pending"}, "pending", ""),
        (waiters.IMAGES, {"State": "available"}, "ready", ""),
        (
            waiters.IMAGES,
            {"State": "failed", "StateReason": {"Message": "key is disabled"}},
            "failed",
            "key is disabled",
        ),
        (waiters.IMAGES, {"State": "error"}, "failed", "its state is error"),
        (waiters.SNAPSHOTS, {"State": "completed"}, "ready", ""),
        (waiters.SNAPSHOTS, {"State": "error", "StateMessage": "no such key"}, "failed", "no such key"),
        (waiters.RUNNING, {"State": {"Name": "pending"}}, "pending", ""),
        (waiters.RUNNING, {"State": {"Name": "running"}}, "ready", ""),
        (
            waiters.RUNNING,
            {"State": {"Name": "terminated"}, "StateReason": {"Message": "Client.InternalError"}},
            "failed",
            "Client.InternalError",
        ),
        (waiters.STOPPED, {"State": {"Name": "stopping"}}, "pending", ""),
        (waiters.STOPPED, {"State": {"Name": "stopped"}}, "ready", ""),
        (waiters.TERMINATED, {"State": {"Name": "shutting-down"}}, "pending", ""),
        (waiters.TERMINATED, {"State": {"Name": "terminated"}}, "ready", ""),
        (waiters.DETACHED, {"State": "in-use"}, "pending", ""),
        (waiters.DETACHED, {"State": "available"}, "ready", ""),
    ],
)
def test_what_states_mean(what: waiters.Watched, item: waiters.Item, readiness: str, reason: str) -> None:
    assert what.classify(item) == (readiness, reason)


def test_percentages() -> None:
    assert waiters.progress_percent("42%") == 42.0
    assert waiters.progress_percent("") is None
    assert waiters.progress_percent(None) is None


def looks(
    duration: float, *, expected: float | None = None, tells: bool = True, steps: int = 1, still: float = 0.0
) -> list[float]:
    """The moments of the looks at a resource that is ready after ``duration`` seconds, which tells its progress in
    steps of so many percent. ``still``: seconds before it begins to move."""
    clock, found = [0.0], []
    ahead = waiters.Ahead(expected, has_progress=tells)

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    for elapsed in poll(lambda: clock[0], sleep, timeout=None, ahead=ahead.pause):
        found.append(elapsed)
        if elapsed >= duration:
            return found
        percent = max(elapsed - still, 0.0) / (duration - still) * 100 // steps * steps
        ahead.seen(elapsed, [percent] if tells and elapsed else [])
    raise AssertionError("it never ends")


@pytest.mark.parametrize("duration", [1.0, 12.0, 240.0, 7000.0])
def test_a_progress_saves_looks_and_ends_the_wait_soon(duration: float) -> None:
    usual, told = looks(duration, tells=False), looks(duration)
    assert len(told) <= len(usual)
    assert told[-1] - duration <= max(0.05 * duration, 1.0)
    again = looks(duration, expected=duration)
    assert len(again) <= 7 + duration // 600
    assert again[-1] - duration <= max(0.05 * duration, 1.0)


@pytest.mark.parametrize("expected", [None, 8.0, 90.0])
@pytest.mark.parametrize(("duration", "still"), [(8.0, 0.0), (8.0, 2.0), (12.0, 0.0), (90.0, 0.0), (90.0, 30.0)])
def test_a_progress_tells_the_end_to_two_percent(duration: float, still: float, expected: float | None) -> None:
    """Also where nothing moves while an instance is shut down for its capture."""
    if expected is not None and expected > duration:
        expected = duration
    found = looks(duration, expected=expected, still=still)
    assert found[-1] - duration <= max(0.02 * duration, 0.1)
    assert len(found) <= len(looks(duration, tells=False)) + (0 if expected == duration else 5)


@pytest.mark.parametrize("steps", [1, 10, 50, 100])
@pytest.mark.parametrize("duration", [12.0, 240.0])
@pytest.mark.parametrize("expected", [None, 1.0, 90.0, 240.0])
def test_an_uneven_progress_makes_no_wait_much_longer(steps: int, duration: float, expected: float | None) -> None:
    late = looks(duration, expected=expected, steps=steps)[-1] - duration
    assert late <= max(0.5 * (expected or 0.0), 0.35 * duration, 1.0)


def test_a_wait_without_progress_looks_when_the_last_one_ended() -> None:
    assert len(looks(20.0, expected=20.0, tells=False)) <= 4
    assert looks(20.0, expected=20.0, tells=False)[-1] <= 21.5


@pytest.mark.parametrize("tells", [True, False])
def test_a_long_last_wait_delays_no_short_one(tells: bool) -> None:
    assert looks(5.0, expected=7000.0, tells=tells)[-1] <= 60.0
    later = looks(1000.0, expected=7000.0, tells=tells, steps=100)
    assert max(after - before for before, after in itertools.pairwise(later)) <= 60.0


def test_a_forecast_counts_until_the_own_progress_is_known() -> None:
    ahead = waiters.Ahead(None, has_progress=True)
    ahead.expect(240.0)
    assert ahead.pause(10.0) == 40.0, "no longer than four times the wait so far"
    assert ahead.pause(60.0) == pytest.approx(181.2)
    ahead.seen(242.4, [50.0])
    first = ahead.pause(242.4)
    assert first == pytest.approx(0.55 * 242.4, rel=0.02), "about half of it: nobody knows when it began to move"
    ahead.seen(363.6, [75.0])
    exact = ahead.pause(363.6)
    assert exact == pytest.approx(484.8 - 363.6, rel=0.05), "it has moved 25 percent between two looks"
    assert (ahead.pause(7000.0) or 0.0) <= 600.0


def test_a_wait_whose_progress_is_never_told_ends_soon_after_the_usual_time() -> None:
    ahead, clock, number = waiters.Ahead(6.0, has_progress=True), 0.0, 0
    while clock < 6.0:
        ahead.seen(clock, [])
        clock, number = clock + (ahead.pause(clock) or 15.0), number + 1
    assert clock <= 6.5
    assert number <= 4


def test_the_last_wait_of_another_kind_only_gives_the_first_look() -> None:
    """The first copy of an environment, after the capture of its image: that took less time."""
    ahead = waiters.Ahead(8.0, has_progress=True, of_others=True)
    assert ahead.pause(0.0) == 4.0
    ahead.seen(4.0, [33.0])
    assert ahead.pause(4.0) == pytest.approx(0.55 * 8.12, rel=0.01)
    ahead.seen(8.0, [66.0])
    assert ahead.pause(8.0) == pytest.approx(4.0, rel=0.05)


@pytest.mark.parametrize("still", [0.0, 0.1])
@pytest.mark.parametrize("first", [3.0, 10.0, 43.3, 45.0, 60.0])
@pytest.mark.parametrize("duration", [12.0, 90.0, 233.7, 240.0])
def test_no_look_is_too_early(duration: float, first: float, still: float) -> None:
    """Percents are rounded down: an estimate in their middle comes too early every second time, and costs a look."""
    ahead, clock, early = waiters.Ahead(None, has_progress=True), min(first, 0.7 * duration), 0
    while clock < duration:
        ahead.seen(clock, [max(clock - still, 0.0) / (duration - still) * 100 // 1])
        is_sure = ahead.is_sure(clock)
        clock += ahead.pause(clock) or 15.0
        early += is_sure and clock < duration
    assert early == 0
    assert clock <= 1.02 * duration + still


@pytest.mark.parametrize("duration", [12.0, 90.0, 119.0])
@pytest.mark.parametrize("factor", [0.99, 1.0, 1.01])
def test_one_look_is_enough_if_it_confirms_the_last_duration(duration: float, factor: float) -> None:
    found = looks(duration, expected=factor * duration)[1:]
    assert len(found) <= (2 if factor >= 1 else 4)
    assert found[-1] <= 1.02 * duration


def test_the_duration_of_another_wait_counts_if_the_own_progress_agrees() -> None:
    ahead = waiters.Ahead(90.0, has_progress=True, of_others=True)
    ahead.seen(60.0, [25.0])
    assert not ahead.is_sure(60.0)
    ahead.compare(480.0, 475.0)
    assert not ahead.is_sure(60.0), "it is faster than that"
    ahead.compare(240.0, 236.0)
    assert ahead.is_sure(60.0)
    assert ahead.pause(60.0) == pytest.approx(180.0)


def test_a_forecast_does_not_count_against_the_own_progress() -> None:
    """The first copy of a region is of a large volume, and this one of a small one."""
    ahead = waiters.Ahead(None, has_progress=True)
    ahead.expect(240.0, 236.0)
    ahead.seen(5.0, [25.0])
    assert (ahead.pause(5.0) or 0.0) <= 8.3, "half of what is left by the own progress, not four times five seconds"
    assert not ahead.is_sure(5.0)
    ahead = waiters.Ahead(None, has_progress=True)
    ahead.expect(20.1, 19.0)
    ahead.seen(5.0, [25.0])
    assert ahead.pause(5.0) == pytest.approx(15.0, rel=0.02), "both agree"


def test_waits_of_other_lengths_share_no_duration() -> None:
    assert waiters.DETACHED.kind != waiters.AVAILABLE.kind


def test_what_is_missing_is_looked_for_at_the_usual_intervals() -> None:
    ahead = waiters.Ahead(7000.0, has_progress=True)
    ahead.seen(300.0, [10.0])
    assert (ahead.pause(300.0) or 0.0) > 60.0
    ahead.seen(900.0, [20.0], missing=True)
    assert ahead.pause(900.0) is None


def test_a_wait_that_joins_late_looks_no_more_often_than_usual() -> None:
    """A resumed build waits for a copy that is at 90 percent."""
    ahead = waiters.Ahead(None, has_progress=True)
    clock, number = 0.0, 0
    while clock < 100.0:
        ahead.seen(clock, [90 + clock // 10])
        clock, number = clock + (ahead.pause(clock) or 15.0), number + 1
    assert number <= len(looks(100.0, tells=False))


def test_a_cloud_says_how_much_pauses_vary() -> None:
    """So a world of tests can repeat a build with all its calls."""

    def first_pause(jitter: random.Random) -> float:
        cloud = Cloud({}, Place("111111111111", "eu-central-1"), jitter=jitter)
        return waiters.Watch(cloud, cloud.home, waiters.RUNNING, ["i-1"], is_new=True).pause

    assert first_pause(random.Random(1)) == first_pause(random.Random(1)) != first_pause(random.Random(2))


def pauses_of(looks: Iterable[tuple[float, float]]) -> list[float]:
    """The pauses after looks at these seconds and percents."""
    ahead, found = waiters.Ahead(None, has_progress=True), []
    ahead.pause(0.0)
    for elapsed, percent in looks:
        ahead.seen(elapsed, [percent])
        found.append(ahead.pause(elapsed) or 0.0)
    return found


def test_a_progress_that_goes_back_begins_anew() -> None:
    """The largest progress of several snapshots, the foremost of which is ready."""
    assert len(pauses_of([(0.2, 40.0), (1.0, 45.0), (2.0, 39.5)])) == 3
    back = pauses_of([(0.1, 80.0), (2.0, 90.0), (10.0, 10.0), (20.0, 30.0), (50.0, 90.0)])
    assert back[-1] == pytest.approx(5.0, rel=0.1), "two percent a second"
    back = pauses_of([(1.0, 10.0), (10.0, 50.0), (20.0, 30.0), (30.0, 80.0)])
    assert back[-1] == pytest.approx(4.0, rel=0.05), "five percent a second since it went back"


def test_no_progress_ends_a_wait_with_an_error() -> None:
    chance = random.Random(1)
    for _ in range(200):
        percents = [chance.choice((0.0, 0.5, 39.0, 39.5, 40.0, 43.5, 45.0, 80.0, 99.5, 100.0)) for _ in range(12)]
        looks = [(0.2 + number, percent) for number, percent in enumerate(percents)]
        assert all(0.0 <= pause <= 600.0 for pause in pauses_of(looks))
