"""Every picture of the program with few and with many items, and with long names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from goldenami.events import Event
from goldenami.journal import Recorded
from goldenami.release import history_picture
from goldenami.release.history import HistoryEvent
from goldenami.report import graph, timeline
from goldenami.schedules import picture
from goldenami.schedules.policy import Retention, Schedule, Selection
from goldenami.schedules.timing import parse
from goldenami.site import chart as site_chart
from goldenami.snapshots import chart
from goldenami.snapshots.lineage import Described, Lineage, Member
from goldenami.snapshots.prices import Rate

START = datetime(2026, 11, 24, 3, tzinfo=UTC)
LONG = "a-very-long-name-of-an-image-that-somebody-chose-" * 4
WIDE = "Ｗｉｄｅ WWW " * 12
MIB = 1 << 20


def name(number: int, long: bool) -> str:
    return f"{WIDE if number % 2 else LONG}{number}" if long else f"item-{number}"


def lineage(count: int, long: bool) -> Lineage:
    ids = [f"snap-{number:017x}" for number in range(count)]
    members = []
    for number, id in enumerate(ids):
        refers = {earlier: (300 - 5 * at) * MIB // max(number, 1) for at, earlier in enumerate(ids[:number])}
        own = (8 << 30 if number == 0 else (number % 5) * 90 * MIB) + 512 * 1024
        lost = number % 7 == 6
        snapshot = Described(
            id,
            "vol-0123456789abcdef0",
            f"2026-11-{number % 28 + 1:02}T03:00:00Z",
            8,
            name(number, long) if number % 3 else "",
        )
        broken = f"not comparable with {ids[number - 1]}: {LONG}" if number % 6 == 5 else None
        members.append(
            Member(snapshot, None, "AccessDenied", 9 << 30, None, None, None)
            if lost
            else Member(snapshot, None, broken, own + sum(refers.values()), own, refers, own // 2)
        )
    return Lineage(tuple(members))


def snapshots(count: int, long: bool) -> str:
    section = chart.Section("111111111111/eu-central-1", lineage(count, long), Rate(0.054, 0.0135))
    return chart.draw([section], f"Snapshots of {name(0, long)}", "USD")


def places(count: int, long: bool) -> str:
    """The lineage of a release: all its places in one picture."""
    sections = [
        chart.Section(f"{'1' * 12}/region-{number}", lineage(min(count, 3), long), Rate(0.054, 0.0135))
        for number in range(count)
    ]
    return chart.draw(sections, f"Snapshots of {name(0, long)}", "USD")


def build(count: int, long: bool) -> str:
    events = []
    at = START
    for number in range(count):
        stage = {"stage": name(number, long), "architecture": "x86_64"}
        events.append(Recorded("a", at, Event("stage.started", stage)))
        at += timedelta(seconds=1 + 40 * (number % 3))
        status = {"status": "failed" if number == 4 else "ok"}
        if number < count - 1 or count == 1:
            events.append(Recorded("a", at, Event("stage.finished", {**stage, **status})))
    return timeline.draw(timeline.timeline(events, running=True), name(0, long))


def images(count: int, long: bool) -> str:
    found = []
    for number in range(count):
        parent = name((number - 1) // 3, long) if number else None
        stale = {"built_on": "1.0.20261124.1", "parent_release": f"1.0.20261125.{number % 2 + 1}"}
        found.append(
            graph.Image(
                name(number, long),
                f"{parent}@stable" if parent else f"filter {name(0, long)}",
                parent,
                "stable" if parent else "",
                "candidate",
                "1.0.20261126.1" if number % 4 else None,
                **(stale if number % 3 == 1 else {}),
            )
        )
    return graph.draw(found, "Images of the environment production", releases=True)


def history(count: int, long: bool) -> str:
    events = [
        HistoryEvent(
            (START + timedelta(hours=number)).isoformat(),
            "promote" if number % 5 else "revoke",
            f"1.0.20261124.{number}",
            (f"channel-{number % 7}-{LONG}" if long else f"channel-{number % 4}") if number % 5 else None,
            f"arn:aws:iam::111111111111:user/{name(number, long)}" if number % 2 else None,
            name(number, long) if number % 3 else None,
        )
        for number in range(count * 2)
    ]
    return history_picture.draw(events, f"History of {name(0, long)}")


def schedules(count: int, long: bool) -> str:
    found = []
    for number in range(count):
        one = Schedule(
            name(number, long),
            Selection("volumes", {"a": "b"}),
            parse("cron(0 3 ? * MON-FRI *)" if number % 2 else "rate(6 hours)"),
            ZoneInfo("Europe/Berlin"),
            (),
            Retention(keep=5),
        )
        found.append(picture.calendar(one, START, 1 + 4 * (number == 0)))
    return picture.draw(found, "Schedules of the environment production")


def releases(count: int, long: bool) -> str:
    points = [
        site_chart.Point(f"1.0.{number}", START + timedelta(days=number), 1_200_000 + number * (number % 3), 8 + number)
        for number in range(count)
    ]
    return site_chart.draw(points, f"{name(0, long)}: packages and size")


PICTURES: Mapping[str, Callable[[int, bool], str]] = {
    "snapshots": snapshots,
    "places": places,
    "build": build,
    "images": images,
    "history": history,
    "schedules": schedules,
    "releases": releases,
}
SIZES = ((1, False), (8, False), (40, False), (1, True), (8, True))
