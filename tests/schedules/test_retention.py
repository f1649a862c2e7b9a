"""What is kept: the example, every rule, and a year on a simulated clock against a rule that shares no code."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goldenami.schedules.calendar import occurrences
from goldenami.schedules.due import MOST_AT_ONCE, due_slots
from goldenami.schedules.policy import Missed, Retention, Schedule, Selection
from goldenami.schedules.retention import Saved, decide
from goldenami.schedules.timing import parse

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [ZoneInfo(z) for z in ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe")]


def schedule(when: str, retention: Retention, zone: ZoneInfo = BERLIN, missed: Missed = "latest") -> Schedule:
    return Schedule("s", Selection("volumes", {"a": "b"}), parse(when), zone, (), retention, missed=missed)


def snapshot(slot: datetime, source: str = "vol-1", **more: object) -> Saved:
    return Saved(f"snap-{slot:%Y%m%d%H%M}", source, slot, **more)  # type: ignore[arg-type]


class Calendar:
    """A world with nothing but time in it: the runner wakes, makes what is due, deletes what no rule keeps."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.there: dict[datetime, Saved] = {}
        self.ever: list[datetime] = []
        self.log: list[str] = []

    def run(self, now: datetime) -> None:
        for slot in due_slots(self.schedule, self.there.keys(), now):
            self.there[slot] = snapshot(slot)
            self.ever.append(slot)
            self.log.append(f"+{slot.astimezone(self.schedule.zone):%a}")
        for verdict in decide(self.there.values(), self.schedule.retention, now, self.schedule.zone):
            if not verdict.keep:
                del self.there[verdict.saved.slot]
                self.log.append(f"-{verdict.saved.slot.astimezone(self.schedule.zone):%a}")

    def days(self) -> list[str]:
        return [f"{slot.astimezone(self.schedule.zone):%a %d}" for slot in sorted(self.there)]


def hourly(start: datetime, days: int) -> list[datetime]:
    return [start + timedelta(hours=n) for n in range(days * 24)]


@pytest.mark.parametrize("monday", [datetime(2026, 3, 23, tzinfo=BERLIN), datetime(2026, 10, 19, tzinfo=BERLIN)])
def test_monday_to_friday_are_five_and_saturdays_removes_mondays(monday: datetime) -> None:
    """At 03:00 with retention 5, in the weeks in which the clocks change (on the Sunday)."""
    world = Calendar(schedule("0 3 * * *", Retention(keep=5)))
    moments = hourly(monday.astimezone(UTC), 8)
    friday = [
        m for m in moments if m.astimezone(BERLIN).weekday() <= 4 and m.astimezone(BERLIN) < monday + timedelta(5)
    ]
    for now in friday:
        world.run(now)
    assert world.log == ["+Sun", "+Mon", "+Tue", "+Wed", "+Thu", "+Fri", "-Sun"]
    for now in moments[len(friday) :]:
        world.run(now)
    assert world.log[7:] == ["+Sat", "-Mon", "+Sun", "-Tue", "+Mon", "-Wed"]


def test_the_example_from_an_empty_account() -> None:
    monday = datetime(2026, 11, 23, 3, tzinfo=BERLIN)
    world = Calendar(schedule("0 3 * * *", Retention(keep=5)))
    for day in range(5):
        world.run(monday + timedelta(days=day))
    assert world.log == ["+Mon", "+Tue", "+Wed", "+Thu", "+Fri"]
    world.run(monday + timedelta(days=5))
    assert world.log[5:] == ["+Sat", "-Mon"]
    assert world.days() == ["Tue 24", "Wed 25", "Thu 26", "Fri 27", "Sat 28"]


@pytest.mark.parametrize("expression", ["0 3 * * 1-5", "cron(0 3 ? * MON-FRI *)"])
def test_working_days_only_the_sixth_removes_mondays(expression: str) -> None:
    """Where nothing is made on Saturday nothing is removed on Saturday; the sixth is the next Monday's."""
    monday = datetime(2026, 11, 23, 3, tzinfo=BERLIN)
    world = Calendar(schedule(expression, Retention(keep=5)))
    for day in range(7):
        world.run(monday + timedelta(days=day))
    assert world.days() == ["Mon 23", "Tue 24", "Wed 25", "Thu 26", "Fri 27"]
    world.run(monday + timedelta(days=7))
    assert world.days() == ["Tue 24", "Wed 25", "Thu 26", "Fri 27", "Mon 30"]


# --- a year, and an independent rule ----------------------------------------------------------------------------------


def brute_force(ever: list[datetime], retention: Retention, now: datetime, zone: ZoneInfo) -> set[datetime]:
    """Return which of all created snapshots the documented rules keep. A simple, quadratic implementation."""
    names: dict[str, Callable[[datetime], str]] = {
        "hourly": lambda t: t.strftime("%Y-%m-%d %H %z"),
        "daily": lambda t: t.strftime("%Y-%m-%d"),
        "weekly": lambda t: t.strftime("%G-%V"),
        "monthly": lambda t: t.strftime("%Y-%m"),
        "yearly": lambda t: t.strftime("%Y"),
    }
    called = {tier: {one: name(one.astimezone(zone)) for one in ever} for tier, name in names.items()}
    kept = set()
    for one in ever:
        later = [other for other in ever if other > one]
        good = len(later) < retention.keep or not later
        good = good or (retention.max_age is not None and one + retention.max_age > now)
        for tier, of in called.items():
            is_first = not any(other < one and of[other] == of[one] for other in ever)
            periods = {of[other] for other in later} - {of[one]}
            good = good or (is_first and len(periods) < getattr(retention, tier))
        if good:
            kept.add(one)
    return kept


RETENTIONS = st.builds(
    Retention,
    keep=st.integers(0, 10),
    max_age=st.one_of(st.none(), st.integers(1, 24 * 60).map(lambda h: timedelta(hours=h))),
    hourly=st.sampled_from([0, 0, 0, 5, 30]),
    daily=st.integers(0, 14),
    weekly=st.integers(0, 8),
    monthly=st.integers(0, 13),
    yearly=st.integers(0, 3),
).filter(lambda r: not r.everything)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["0 3 * * *", "0 3 * * 1-5", "30 2 * * *", "0 0 1,15 * *", "rate(17 hours)", "12h", "0 1 * * 0"]),
    RETENTIONS,
    st.sampled_from(ZONES),
    st.datetimes(min_value=datetime(2024, 1, 1), max_value=datetime(2026, 12, 31)),
    st.sampled_from(["latest", "each"]),
    st.randoms(use_true_random=False),
)
def test_a_year_keeps_exactly_what_the_rules_say(
    when: str, retention: Retention, zone: ZoneInfo, begin: datetime, missed: Missed, chance: object
) -> None:
    """The runner wakes at random, with outages of days. What it leaves is what the rule, applied once to everything
    that was ever made, would have left."""
    world = Calendar(schedule(when, retention, zone, missed))
    now = begin.replace(tzinfo=UTC)
    end = now + timedelta(days=366)
    while now < end:
        world.run(now)
        pause = chance.choice([3, 12, 24, 24, 24, 30, 24 * 9])  # type: ignore[attr-defined]
        now += timedelta(hours=pause)
    world.run(end)
    assert set(world.there) == brute_force(world.ever, retention, end, zone)
    assert len(world.ever) == len(set(world.ever))
    before = set(world.there)
    world.run(end)
    assert set(world.there) == before


def test_each_missed_slot_is_made_up_for() -> None:
    start = datetime(2026, 1, 1, 12, tzinfo=UTC)
    world = Calendar(schedule("0 3 * * *", Retention(keep=100), ZoneInfo("UTC"), "each"))
    world.run(start)
    world.run(start + timedelta(days=10))
    slots = occurrences(parse("0 3 * * *"), ZoneInfo("UTC"), start - timedelta(days=1), start + timedelta(days=10))
    assert world.ever == list(slots)
    world.run(start + timedelta(days=200))
    assert len(world.ever) == 11 + MOST_AT_ONCE


def test_missed_slots_that_nobody_wants() -> None:
    late = datetime(2026, 1, 1, 12, tzinfo=UTC)
    on_time = datetime(2026, 1, 1, 3, 10, tzinfo=UTC)
    nightly = schedule("0 3 * * *", Retention(keep=1), ZoneInfo("UTC"), "none")
    assert due_slots(nightly, [], late) == ()
    assert due_slots(nightly, [], on_time) == (datetime(2026, 1, 1, 3, tzinfo=UTC),)


def test_a_clock_that_goes_back_makes_nothing() -> None:
    nightly = schedule("0 3 * * *", Retention(keep=1), ZoneInfo("UTC"))
    assert due_slots(nightly, [datetime(2026, 1, 5, 3, tzinfo=UTC)], datetime(2026, 1, 3, 12, tzinfo=UTC)) == ()


# --- what is not simply there -----------------------------------------------------------------------------------------

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def ago(days: int) -> datetime:
    return NOW - timedelta(days=days)


def verdicts(*saved: Saved, keep: int = 2, **more: object) -> dict[str, tuple[str, str]]:
    found = decide(saved, Retention(keep=keep, **more), NOW)  # type: ignore[arg-type]
    return {v.saved.id: (v.action, v.rule) for v in found}


def test_the_rule_that_decided_is_said() -> None:
    found = verdicts(*(snapshot(ago(n)) for n in range(5)), monthly=2)
    assert list(found.values()) == [
        ("keep", "monthly 2 of 2"),
        ("delete", "no rule keeps it: the newest 2, 2 monthly"),
        ("delete", "no rule keeps it: the newest 2, 2 monthly"),
        ("keep", "one of the newest 2 (number 2)"),
        ("keep", "one of the newest 2 (the newest)"),
    ]


def test_a_failed_one_goes_and_does_not_count() -> None:
    found = verdicts(snapshot(ago(3)), snapshot(ago(2)), snapshot(ago(1), state="error"))
    assert [action for action, _ in found.values()] == ["keep", "keep", "delete"]


def test_a_pending_one_counts_and_the_last_good_one_stays() -> None:
    found = verdicts(snapshot(ago(3)), snapshot(ago(2)), snapshot(ago(1), state="pending"), keep=1)
    assert [action for action, _ in found.values()] == ["delete", "keep", "keep"]


def test_the_newest_snapshot_is_kept_at_any_age() -> None:
    found = decide([snapshot(ago(90)), snapshot(ago(60))], Retention(max_age=timedelta(days=30)), NOW)
    assert [(v.action, v.rule) for v in found] == [
        ("delete", "no rule keeps it: younger than 30 days"),
        ("keep", "the newest completed snapshot is always kept"),
    ]


def test_of_two_for_one_slot_one_stays() -> None:
    twins = [Saved("snap-b", "vol-1", ago(1), started=ago(1)), Saved("snap-a", "vol-1", ago(1), started=ago(1))]
    found = decide(twins, Retention(keep=5), NOW)
    assert [(v.saved.id, v.action) for v in found] == [("snap-a", "keep"), ("snap-b", "delete")]


def test_what_is_held_stays_and_counts() -> None:
    found = verdicts(snapshot(ago(9), held="image ami-1 uses it"), snapshot(ago(2)), snapshot(ago(1)))
    assert next(iter(found.values())) == ("keep", "image ami-1 uses it")


def test_volumes_do_not_count_against_each_other() -> None:
    saved = [snapshot(ago(n), source) for n in range(4) for source in ("vol-1", "vol-2")]
    kept = [v.saved for v in decide(saved, Retention(keep=2), NOW) if v.keep]
    assert sorted((s.source, s.slot) for s in kept) == [
        ("vol-1", ago(1)),
        ("vol-1", ago(0)),
        ("vol-2", ago(1)),
        ("vol-2", ago(0)),
    ]
