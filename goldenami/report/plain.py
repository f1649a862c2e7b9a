"""Prints one line for each important event: for logs of CI systems, files, and terminals without cursor control.

    00:00  build    debian-12-web 1.4.20261124.1 · environment sandbox · 6 targets
    00:04  stage    software (x86_64)
    00:09  changed  4/11 nginx-light installed · 3.1 s · recipes/debian-12-web.yaml:21:5
    00:15  ok       software (x86_64) · 11 s · 9 changed, 2 ok

Operations that changed nothing and tests that passed are counted, not listed. In GitLab's CI each stage is a section
that can be folded (https://docs.gitlab.com/ci/jobs/job_logs/#custom-collapsible-sections).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from goldenami.events import Event
from goldenami.printable import escaped
from goldenami.report.state import OPERATION_ORDER, BuildState, Stage, TargetRow, Tests, summary_of
from goldenami.report.text import (
    TEST_NUMBERS,
    about,
    clean_lines,
    counts,
    counts_of_tests,
    duration,
    elapsed,
    first_line,
)

_STEP = 25  # percent of progress between two lines about the same target
_QUIET = 300.0  # seconds after which there is another line about a target that goes on
_MANY = 8  # targets; of more, there is a line with the counts from time to time
_PAUSE = 30.0  # seconds between two of these lines
# By the first word of a line, as in the live view. Codes of ECMA-48, "Select Graphic Rendition".
_COLOURS = {
    **dict.fromkeys(("failed", "interrupted"), "1;31"),
    **dict.fromkeys(("ok", "released"), "32"),
    **dict.fromkeys(("warning", "flaky"), "33"),
    "changed": "36",
    "build": "1",
    "note": "2",
}


class Stream(Protocol):
    """The methods of a text file that ``Lines`` uses."""

    def write(self, text: str, /) -> object:
        """Write a text."""

    def flush(self) -> object:
        """Make it visible."""


class Lines:
    """An Emit that prints lines to ``stream``. Calls from several threads need ``tee``.

    ``clock``: seconds, monotonic. ``sections``: mark stages as sections of GitLab's log, with the time of
    ``wall_clock`` (seconds since the epoch). ``everything``: also print the output of operations, operations that
    changed nothing, tests that passed, and calls that change the cloud. ``colours``: mark results with colors.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        clock: Callable[[], float] = time.monotonic,
        sections: bool = False,
        wall_clock: Callable[[], float] = time.time,
        everything: bool = False,
        colours: bool = False,
    ) -> None:
        self._stream = stream
        self._colours = colours
        self._everything = everything
        self._clock = clock
        self._sections = sections
        self._wall_clock = wall_clock
        self._state = BuildState()
        self._printed: dict[
            tuple[str, str], tuple[str, float, float]
        ] = {}  # target -> its last line: state, percent, time
        self._summed: float | None = None  # when the counts of many targets were printed
        self._section: str | None = None  # GitLab's sections must be nested, so only one is open at a time

    def __call__(self, event: Event) -> None:
        now = self._clock()
        subject = self._state.apply(event, now)
        line = self._line(event.kind, event.fields, subject, now)
        if line is None and self._everything:
            line = _detail(event.kind, event.fields)
        if event.kind == "stage.started" and isinstance(subject, Stage):
            self._open_section(subject)
        if line is not None:
            word, parts = line
            margin = elapsed(now - (self._state.started or now))
            shown = f"{word:<8}"
            if self._colours and word in _COLOURS:
                shown = f"\x1b[{_COLOURS[word]}m{shown}\x1b[0m"
            self._stream.write(f"{margin}  {shown} {' · '.join(part for part in parts if part)}\n")
        if event.kind == "test.finished":
            for text in lines_of_test(event.fields):
                self._stream.write(f"{'':15}| {text}\n")
        if event.kind == "stage.finished" and isinstance(subject, Stage):
            self._close_section(subject)
        self._stream.flush()

    def close(self) -> None:
        """End an open section. The stream stays open."""
        if self._section is not None:
            self._write_section("end", self._section)
            self._section = None
            self._stream.flush()

    def _line(
        self, kind: str, fields: Mapping[str, Any], subject: Stage | Tests | TargetRow | None, now: float
    ) -> tuple[str, list[str]] | None:
        match kind:
            case "build.started":
                self._printed.clear()
                self._summed = None
                return "build", headline(fields)
            case "build.skipped":
                return "skipped", [_get(fields, "reason"), _get(fields, "release")]
            case "build.finished":
                took = duration(float(fields.get("seconds") or 0))
                reason = first_line(_get(fields, "error")).rstrip(":")  # the list after a colon is not shown here
                return _get(fields, "status") or "finished", [f"after {took}", reason]
            case "stage.started" if isinstance(subject, Stage):
                left = self._state.left(now)
                return "stage", [subject.label, f"{about(left)} left" if left is not None else ""]
            case "stage.finished" if isinstance(subject, Stage):
                return _get(fields, "status"), facts_of_stage(subject, fields)
            case "operation.finished" if fields.get("status") in ("changed", "failed", None):
                return _get(fields, "status"), facts_of_operation(fields)
            case "test.finished" if fields.get("outcome") != "passed":
                return _get(fields, "outcome"), facts_of_test(fields)
            case "tests.finished" if isinstance(subject, Tests):
                return "failed" if fields.get("failed") else "ok", facts_of_tests(subject, fields)
            case "target.progress" if isinstance(subject, TargetRow):
                return self._target(subject, now)
            case "note":
                return "warning" if fields.get("level") == "warning" else "note", [first_line(_get(fields, "message"))]
        return None

    def _target(self, row: TargetRow, now: float) -> tuple[str, list[str]] | None:
        """Return a line if the state changed, another 25 percent are done, or more than at the last line, which is some
        time ago; otherwise None.

        Of many targets, only those that failed or are tried again have lines of their own."""
        key = (row.target, row.architecture)
        state, percent, when = self._printed.get(key, ("", -1.0, now))
        done = row.percent if row.percent is not None else -1.0
        due = done // _STEP > percent // _STEP or now - when >= _QUIET
        if row.state == state and not (done > percent and due):
            return None
        self._printed[key] = (row.state, done, now)
        if len(self._state.targets) > _MANY and not row.failed and row.state != "retrying":
            return self._counts(now)
        shown = f"{row.state} {row.percent:.0f} %" if row.percent is not None and row.percent < 100 else row.state
        return "target", [row.label, shown, row.image_id, first_line(row.detail)]

    def _counts(self, now: float) -> tuple[str, list[str]] | None:
        """Return the counts of all targets, if the last such line is some time ago or no target moves any more."""
        rows = self._state.targets.values()
        if self._summed is not None and now - self._summed < _PAUSE and any(row.moving for row in rows):
            return None
        self._summed = now
        return "targets", [summary_of(rows)]

    def _open_section(self, stage: Stage) -> None:
        if self._sections and self._section is None and not stage.beside:
            self._section = "".join(c if c.isalnum() else "_" for c in stage.label)
            self._write_section("start", self._section)

    def _close_section(self, stage: Stage) -> None:
        if self._section == "".join(c if c.isalnum() else "_" for c in stage.label):
            self._write_section("end", self._section)
            self._section = None

    def _write_section(self, what: str, name: str) -> None:
        # The escape sequence and the carriage return hide the marker in the log. The next line becomes its header.
        self._stream.write(f"\x1b[0Ksection_{what}:{int(self._wall_clock())}:{name}\r\x1b[0K")


def _detail(kind: str, fields: Mapping[str, Any]) -> tuple[str, list[str]] | None:
    """Return the line of an event that is not listed otherwise."""
    match kind:
        case "operation.output":
            return "", [f"| {_get(fields, 'line')}"]
        case "operation.finished":
            return _get(fields, "status"), facts_of_operation(fields)
        case "test.finished":
            return _get(fields, "outcome"), facts_of_test(fields)
        case "cloud.call":
            place = f"{_get(fields, 'account')}/{_get(fields, 'region')}"
            return "call", [_get(fields, "action"), place, _get(fields, "resource")]
    return None


def headline(fields: Mapping[str, Any]) -> list[str]:
    """Return recipe, version, environment, number of targets and id from the event build.started."""
    targets = fields.get("targets") or ()
    count = f"{len(targets)} target{'' if len(targets) == 1 else 's'}" if targets else ""
    environment = _get(fields, "environment")
    what = f"{_get(fields, 'recipe')} {_get(fields, 'version')}".strip()
    build = _get(fields, "build_id")
    return [what, f"environment {environment}" if environment else "", count, f"build {build}" if build else ""]


def facts_of_stage(stage: Stage, fields: Mapping[str, Any]) -> list[str]:
    """Return the parts of the line of a finished stage."""
    took = duration(float(fields.get("seconds") or 0))
    numbers = counts(stage.operations, OPERATION_ORDER), counts_of_tests(stage.tests)
    return [stage.label, took, stage.instance, *numbers, first_line(_get(fields, "detail"))]


def facts_of_operation(fields: Mapping[str, Any]) -> list[str]:
    """Return the parts of the line of a finished operation."""
    number = f"{_get(fields, 'index')}/{_get(fields, 'total')} " if fields.get("total") else ""
    took = duration(float(fields.get("seconds") or 0))
    detail = first_line(_get(fields, "detail"))
    return [f"{number}{_get(fields, 'title')}", took, detail, _get(fields, "place")]


def facts_of_test(fields: Mapping[str, Any]) -> list[str]:
    """Return the parts of the line of one finished test. ``lines_of_test`` has the message of a failed one."""
    message = "" if fields.get("outcome") == "failed" else first_line(_get(fields, "message"))
    return [_get(fields, "name"), _get(fields, "place"), message]


def lines_of_test(fields: Mapping[str, Any]) -> list[str]:
    """Return the lines below the line of a failed test: its message. The error at the end does not repeat them."""
    return clean_lines(str(fields.get("message") or "")) if fields.get("outcome") == "failed" else []


def facts_of_tests(tests: Tests, fields: Mapping[str, Any]) -> list[str]:
    """Return the parts of the line of a finished run of tests."""
    numbers = {name: int(fields.get(name) or 0) for name in TEST_NUMBERS}
    return [tests.label, duration(float(fields.get("seconds") or 0)), counts_of_tests(numbers)]


def _get(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return "" if value is None else escaped(str(value))
