"""Times are in one zone in all commands: in UTC, or in the zone of a schedule with its offset.

Two functions of ``goldenami/model.py`` make the texts that people read, and ``timestamp`` those for programs. A time
that is formatted elsewhere fails here: it could lack its zone.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from goldenami.model import local_text, timestamp, utc_text
from tests.worlds import source

# Formats of times that are no text for people, by file and function, with the reason.
NOT_SHOWN = {
    "aws/session.py:_assume": "what botocore takes",
    "cli/harden.py:coverage": "a date",
    "cli/schedule.py:next_runs": "JSON, with the offset of the zone",
    "events.py:to_line": "the form of the event files, with milliseconds and Z",
    "evidence/vulnerabilities.py:_ended": "a date",
    "hardening/results.py:results": "a date",
    "journal/builds.py:forget_events": "the start of build ids",
    "journal/builds.py:newest": "the start of build ids",
    "journal/eventlog.py:recording": "the name of a file",
    "journal/records.py:new_build_id": "a build id",
    "journal/records.py:timestamp": "the journal's own form, with milliseconds and Z",
    "os/managers/manager.py:dated": "a day in the URL of an archive",
    "planning.py:_controls": "a date",
    "recipe/hardening.py:_waivers": "a date",
    "recipe/schedulespec.py:_start": "what the user wrote, which is checked",
    "recipe/variables.py:read_variables": "a date, as the user wrote it",
    "release/index.py:changing": "the name of an object",
    "release/retention.py:_first_of_months": "a month",
    "schedules/dlm/express.py:_create": "the time of day that DLM takes, which is in UTC",
    "schedules/picture.py:lines": "a date",
    "schedules/picture.py:times": "the time of day in a calendar, whose head names the zone",
    "schedules/picture.py:to_json": "JSON, with the offset of the zone",
    "schedules/policy.py:slot_of": "the value of a tag",
    "schedules/preview.py:_saved": "an id inside of the preview",
    "stages/notices.py:waivers": "a date",
    "store/protocol.py:this_process": "the content of a lock, with milliseconds and Z",
}
OWN = "model.py"
CLOCK = ("%H", "%T", "%M:", "%X", "%c", "%R")


def formats(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, int]]:
    """The function and line of each expression that formats a time of day."""
    for node in ast.iter_child_nodes(tree):
        name = node.name if isinstance(node, ast.FunctionDef) else inside
        if isinstance(node, ast.FormattedValue) and any(
            mark in ast.unparse(part) for part in (node.format_spec,) if part is not None for mark in CLOCK
        ):
            yield name, node.lineno
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            kind, given = node.func.attr, [*node.args, *(k.value for k in node.keywords)]
            if kind in ("isoformat", "ctime"):
                yield name, node.lineno
            if kind == "strftime" and not (
                isinstance(given[0], ast.Constant) and not any(mark in str(given[0].value) for mark in CLOCK)
            ):
                yield name, node.lineno
        yield from formats(node, name)


def test_times_are_formatted_in_one_place() -> None:
    trees = source.trees(*CLOCK, "isoformat", "ctime", "strftime")
    found = {f"{file}:{name}" for file, tree in trees if file != OWN for name, _ in formats(tree)}
    assert found - set(NOT_SHOWN) == set(), "use utc_text or local_text"
    assert set(NOT_SHOWN) - found == set(), "these are no longer needed"


@pytest.mark.parametrize(
    "code",
    [
        "f'{moment:%F %T}'",
        "f'{moment:%Y-%m-%d %H:%M} UTC'",
        "moment.strftime('%a %H:%M')",
        "moment.isoformat()",
        "moment.strftime(FORMAT)",
    ],
)
def test_the_rule_sees_what_it_is_for(code: str) -> None:
    assert list(formats(ast.parse(f"def show():\n    print({code})\n"))) == [("show", 2)]


def test_a_day_may_be_without_a_zone() -> None:
    assert list(formats(ast.parse("f'{moment:%Y-%m-%d}'"))) == []


def test_a_time_has_its_zone() -> None:
    moment = datetime(2026, 11, 28, 4, 0, 59, tzinfo=timezone(timedelta(hours=1)))
    assert timestamp(moment) == "2026-11-28T03:00:59Z"
    assert utc_text(moment) == "2026-11-28 03:00:59 UTC"
    assert utc_text(moment, seconds=False) == "2026-11-28 03:00 UTC"
    assert local_text(moment) == "Sat 2026-11-28 04:00 +01:00"


def test_the_two_hours_of_the_night_in_which_clocks_go_back_differ() -> None:
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    berlin = ZoneInfo("Europe/Berlin")
    both = [local_text((first + timedelta(hours=n)).astimezone(berlin)) for n in range(2)]
    assert both == ["Sun 2026-10-25 02:30 +02:00", "Sun 2026-10-25 02:30 +01:00"]
