"""When schedules fire: what may be written, and what the clocks on the wall do to it."""

from __future__ import annotations

import calendar as calendars
import itertools
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goldenami.schedules.calendar import fires, following, latest, moment_of, occurrences
from goldenami.schedules.timing import Cron, Rate, check_crontab, parse

BERLIN = ZoneInfo("Europe/Berlin")
# Clocks change in different ways: by an hour; by half an hour (Lord Howe); at midnight (Beirut); a day lost (Apia).
ZONES = [ZoneInfo(z) for z in ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Beirut")]


def local(expression: str, start: str, count: int, zone: ZoneInfo = BERLIN) -> list[str]:
    after = datetime.fromisoformat(start).replace(tzinfo=zone)
    return [f"{m.astimezone(zone):%a %Y-%m-%d %H:%M}" for m in following(parse(expression), zone, after, count)]


@pytest.mark.parametrize(
    ("expression", "first"),
    [
        ("0 3 * * 1-5", ["Mon 2026-11-30 03:00", "Tue 2026-12-01 03:00"]),
        ("0 3 * * MON-FRI", ["Mon 2026-11-30 03:00", "Tue 2026-12-01 03:00"]),
        ("cron(0 3 ? * MON-FRI *)", ["Mon 2026-11-30 03:00", "Tue 2026-12-01 03:00"]),
        ("cron(0 3 ? * 2-6 *)", ["Mon 2026-11-30 03:00", "Tue 2026-12-01 03:00"]),
        ("*/20 0 * * *", ["Sun 2026-11-29 00:00", "Sun 2026-11-29 00:20"]),
        ("5/20 4 * * *", ["Sun 2026-11-29 04:05", "Sun 2026-11-29 04:25"]),
        ("0 0 * * 0", ["Sun 2026-11-29 00:00", "Sun 2026-12-06 00:00"]),
        ("0 0 * * 7", ["Sun 2026-11-29 00:00", "Sun 2026-12-06 00:00"]),
        ("0 0 * * 5-7", ["Sun 2026-11-29 00:00", "Fri 2026-12-04 00:00"]),
        # Both restricted: cron takes either.
        ("0 0 1 * 0", ["Sun 2026-11-29 00:00", "Tue 2026-12-01 00:00"]),
        # One begins with *: cron takes both (crontab(5)).
        ("0 0 */2 * 1", ["Mon 2026-12-07 00:00", "Mon 2026-12-21 00:00"]),
        ("0 0 1-7 * */7", ["Sun 2026-12-06 00:00", "Sun 2027-01-03 00:00"]),
        ("@monthly", ["Tue 2026-12-01 00:00", "Fri 2027-01-01 00:00"]),
        ("0 12 29 2 *", ["Tue 2028-02-29 12:00", "Sun 2032-02-29 12:00"]),
        ("cron(0 8 L * ? *)", ["Mon 2026-11-30 08:00", "Thu 2026-12-31 08:00"]),
        ("cron(0 8 L-1 * ? *)", ["Sun 2026-11-29 08:00", "Wed 2026-12-30 08:00"]),
        ("cron(0 8 LW * ? *)", ["Mon 2026-11-30 08:00", "Thu 2026-12-31 08:00"]),
        ("cron(0 8 1W * ? *)", ["Tue 2026-12-01 08:00", "Fri 2027-01-01 08:00"]),
        ("cron(0 8 30W * ? *)", ["Mon 2026-11-30 08:00", "Wed 2026-12-30 08:00"]),
        ("cron(0 8 ? * 6L *)", ["Fri 2026-12-25 08:00", "Fri 2027-01-29 08:00"]),
        ("cron(0 8 ? * SUN#1 *)", ["Sun 2026-12-06 08:00", "Sun 2027-01-03 08:00"]),
        ("cron(0 8 ? * FRI-SUN *)", ["Sun 2026-11-29 08:00", "Fri 2026-12-04 08:00"]),
        ("cron(30 6 1 JAN ? 2027-2028)", ["Fri 2027-01-01 06:30", "Sat 2028-01-01 06:30"]),
    ],
)
def test_what_an_expression_means(expression: str, first: list[str]) -> None:
    assert local(expression, "2026-11-28 12:00", 2) == first


def test_an_expression_that_ends() -> None:
    assert local("cron(0 0 1 1 ? 2027)", "2026-11-28 12:00", 5) == ["Fri 2027-01-01 00:00"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 3 * *", "has 4 fields, expected five"),
        ("0 3 * * * *", "has 6 fields"),
        ("60 3 * * *", "minute: found 60, expected 0 to 59"),
        ("0 24 * * *", "hour: found 24"),
        ("0 0 0 * *", "day-of-month: found 0"),
        ("0 0 * 13 *", "month: found 13"),
        ("0 0 * * 8", "day-of-week: found 8"),
        ("0 0 * * MOON", "found 'MOON', expected a number from 0 to 7 or a name"),
        ("*/0 0 * * *", "expected a step above 0"),
        ("30-10 0 * * *", "expected a range that begins before its end"),
        ("cron(0 3 * * *)", "expected the six of AWS's form"),
        ("cron(0 3 * * MON *)", "expected ? for exactly one of day-of-month and day-of-week"),
        ("cron(0 3 ? * ? *)", "exactly one"),
        ("cron(0 3 ? * 6#7 *)", "found 7, expected 1 to 5"),
        ("rate(5)", "expected a rate, for example"),
        ("rate(0 hours)", "at least one minute"),
        # "rate(1 hours) and rate(5 hour) aren't valid" (Rate expressions reference, EventBridge user guide)
        ("rate(1 hours)", "expected rate(1 hour): the unit is singular after 1"),
        ("rate(5 hour)", "expected rate(5 hours): the unit is singular after 1, and plural after other numbers"),
        ("30s", "has 1 fields"),
        ("0 3 *x * *", "day-of-month: found '*x', expected a number from 1 to 31 (column 5 of '0 3 *x * *')"),
        ("0 3 * * *MON", "found '*MON', expected a number from 0 to 7 or a name (column 9 of"),
        ("0  24 * * *", "hour: found 24, expected 0 to 23 (column 3 of '0 24 * * *')"),
        ("cron(0 3 ? * MOON *)", "expected a number from 1 to 7 or a name (column 14 of"),
    ],
)
def test_a_wrong_expression_is_refused_with_the_reason(text: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("rate(1 minute)", 1),
        ("rate(5 minutes)", 5),
        ("rate(1 hour)", 60),
        ("rate(5 hours)", 300),
        ("rate(1 day)", 1440),
    ],
)
def test_the_documented_rates(text: str, minutes: int) -> None:
    """Rate expressions reference, EventBridge user guide."""
    assert parse(text) == Rate(text, timedelta(minutes=minutes))


def test_what_never_comes() -> None:
    assert not fires(parse("0 0 30 2 *"))
    assert not fires(parse("cron(0 0 1 1 ? 1999)"))
    assert fires(parse("0 0 29 2 *"))


def test_a_skipped_time_fires_once_after_the_gap() -> None:
    # In 2026 the clocks of Berlin go from 02:00 to 03:00 on 29 March.
    assert local("30 2 * * *", "2026-03-28 12:00", 2) == ["Sun 2026-03-29 03:00", "Mon 2026-03-30 02:30"]
    # All of an hour that does not exist are one.
    assert local("*/10 2 * * *", "2026-03-28 12:00", 2) == ["Sun 2026-03-29 03:00", "Mon 2026-03-30 02:00"]
    # And one with what is there anyway.
    assert local("0 2,3 * * *", "2026-03-28 12:00", 2) == ["Sun 2026-03-29 03:00", "Mon 2026-03-30 02:00"]


def test_a_doubled_time_fires_once_the_first_time() -> None:
    after = datetime(2026, 10, 24, 12, tzinfo=UTC)
    first, second = following(parse("30 2 * * *"), BERLIN, after, 2)
    assert first == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 02:30 in summer time; 02:30 comes again at 01:30 UTC
    assert second == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def test_an_hourly_schedule_follows_the_hours_that_pass() -> None:
    for expression in ("30 * * * *", "cron(30 * * * ? *)", "*/30 * * * *"):
        timing = parse(expression)
        for start in (datetime(2026, 10, 24, 22, tzinfo=UTC), datetime(2026, 3, 28, 22, tzinfo=UTC)):
            found = list(occurrences(timing, BERLIN, start, start + timedelta(hours=8)))
            apart = {later - earlier for earlier, later in itertools.pairwise(found)}
            assert apart == {timedelta(minutes=30 if "/" in expression else 60)}, expression
            assert latest(timing, BERLIN, found[4]) == found[4]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("5/10 * * * *", "expected a range or * before the step: cron refuses a number (column 1"),
        ("0 3 * * fri-mon", "expected a range that begins before its end (column 9"),
        ("@daily 3", "expected five fields or one of"),
    ],
)
def test_cron_itself_has_its_own_rules(text: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_crontab(text)
    assert words in str(caught.value)


def test_a_day_that_was_left_out() -> None:
    """Samoa went from 29 to 31 December 2011."""
    apia = ZoneInfo("Pacific/Apia")
    assert local("0 3 * * *", "2011-12-29 00:00", 3, apia) == [
        "Thu 2011-12-29 03:00",
        "Sat 2011-12-31 00:00",
        "Sat 2011-12-31 03:00",
    ]


def test_a_rate_is_real_time_from_its_anchor() -> None:
    anchor = datetime(2026, 3, 28, 2, tzinfo=UTC)
    rate = parse("rate(12 hours)")
    assert rate == Rate("rate(12 hours)", timedelta(hours=12))
    found = following(rate, BERLIN, anchor, 3, anchor=anchor)
    assert found == tuple(anchor + timedelta(hours=12 * n) for n in (1, 2, 3))
    assert latest(rate, BERLIN, anchor - timedelta(seconds=1), anchor=anchor) is None
    assert latest(rate, BERLIN, anchor + timedelta(hours=30), anchor=anchor) == anchor + timedelta(hours=24)


FIELDS = st.sampled_from(
    ["0 3 * * *", "30 2 * * *", "0 0 * * 1-5", "*/30 0-4 * * *", "15 2 1,15 * *", "0 2 * 3,10 0", "59 23 31 * *"]
)


@settings(max_examples=40, deadline=None)
@given(
    FIELDS,
    st.sampled_from(ZONES),
    st.datetimes(min_value=datetime(2010, 1, 1), max_value=datetime(2027, 1, 1)),
    st.integers(1, 20),
)
def test_against_a_clock_that_ticks_every_minute(text: str, zone: ZoneInfo, begin: datetime, span: int) -> None:
    """A local minute fires at the first real minute at which the clock shows it or has jumped past it."""
    cron = parse(text)
    assert isinstance(cron, Cron)
    start = begin.replace(second=0, microsecond=0, tzinfo=UTC)
    end = start + timedelta(days=span)
    expected = []
    tick = start - timedelta(days=2)
    reached = tick.astimezone(zone).replace(tzinfo=None) - timedelta(minutes=1)  # the latest the clock ever showed
    while tick <= end:
        shown = tick.astimezone(zone).replace(tzinfo=None)
        passed = []
        while reached < shown:
            reached += timedelta(minutes=1)
            passed.append(reached)
        if (
            any(cron.matches_day(m.date()) and m.hour in cron.hours and m.minute in cron.minutes for m in passed)
            and tick > start
        ):
            expected.append(tick)
        tick += timedelta(minutes=1)
    assert list(occurrences(cron, zone, start, end)) == expected


@given(FIELDS, st.sampled_from(ZONES), st.datetimes(min_value=datetime(2015, 1, 1), max_value=datetime(2027, 1, 1)))
def test_latest_and_following_agree(text: str, zone: ZoneInfo, at: datetime) -> None:
    timing, moment = parse(text), at.replace(tzinfo=UTC)
    before = latest(timing, zone, moment)
    assert before is not None
    assert before <= moment
    (after,) = following(timing, zone, before, 1)
    assert after > moment


def test_every_local_time_has_its_moment() -> None:
    assert moment_of(datetime(2026, 3, 29, 2, 0), BERLIN) == datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert moment_of(datetime(2026, 7, 1, 12), BERLIN) == datetime(2026, 7, 1, 10, tzinfo=UTC)


def test_nearest_working_day_stays_in_its_month() -> None:
    first = parse("cron(0 0 1W * ? *)")
    assert isinstance(first, Cron)
    for year in range(2020, 2030):
        for month in range(1, 13):
            on = [d for d in range(1, 6) if first.matches_day(date(year, month, d))]
            assert len(on) == 1
            assert calendars.weekday(year, month, on[0]) < 5
