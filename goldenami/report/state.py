"""The state of a build, computed from its events, for the views. It does no I/O and reads no clock.

Threads emit events in any order, and a newer version may emit other kinds. An event without an expected field, or a
finish without a start, is not an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from goldenami.events import Event


@dataclass(slots=True)
class Running:
    """An operation in progress. ``line``: the last line of its output."""

    index: int = 0
    total: int = 0
    title: str = ""
    line: str = ""


@dataclass(slots=True)
class Stage:
    """A stage in progress. ``started``: seconds, monotonic. ``operations``: finished operations by status."""

    name: str
    architecture: str
    started: float
    operation: Running | None = None
    operations: dict[str, int] = field(default_factory=dict)  # status -> count

    @property
    def label(self) -> str:
        return f"{self.name} ({self.architecture})" if self.architecture else self.name


@dataclass(slots=True)
class Tests:
    """A run of tests in progress. ``running``: the current test. ``outcomes``: finished tests by outcome."""

    gate: str
    architecture: str
    started: float
    total: int = 0
    running: str = ""
    outcomes: dict[str, int] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"tests at gate {self.gate}" + (f" ({self.architecture})" if self.architecture else "")

    @property
    def done(self) -> int:
        return sum(self.outcomes.values())


@dataclass(slots=True)
class TargetRow:
    """The last known state of one target and architecture. ``percent``: 0 to 100, None if unknown."""

    target: str
    architecture: str
    state: str = ""
    percent: float | None = None
    image_id: str = ""
    detail: str = ""


class BuildState:
    """The state of a build. ``stages`` and ``tests`` contain only running ones; ``targets`` contains all."""

    def __init__(self) -> None:
        self.started: float | None = None
        self.stages: dict[tuple[str, str], Stage] = {}
        self.tests: dict[tuple[str, str], Tests] = {}
        self.targets: dict[tuple[str, str], TargetRow] = {}

    def apply(self, event: Event, now: float) -> Stage | Tests | TargetRow | None:
        """Apply one event. Returns the stage, run of tests or target that it changed, also if it has just ended."""
        if self.started is None:
            self.started = now
        fields = event.fields
        match event.kind:
            case "build.started":  # a base recipe is built before its child: remove its targets
                self.stages.clear()
                self.tests.clear()
                self.targets.clear()
            case "stage.started":
                key = (_text(fields, "stage"), _text(fields, "architecture"))
                stage = self.stages[key] = Stage(*key, started=now)
                return stage
            case "stage.finished":
                key = (_text(fields, "stage"), _text(fields, "architecture"))
                return self.stages.pop(key, None) or Stage(*key, started=now)
            case "operation.started" | "operation.finished" | "operation.output":
                return self._operation(event)
            case "tests.started" | "test.started" | "test.finished" | "tests.finished":
                return self._tests(event, now)
            case "target.progress":
                return self._target(fields)
        return None

    def _operation(self, event: Event) -> Stage | None:
        fields = event.fields
        stage = self._stage_of(_text(fields, "architecture"))
        if stage is None:
            return None
        if event.kind == "operation.started":
            stage.operation = Running(_number(fields, "index"), _number(fields, "total"), _text(fields, "title"))
        elif event.kind == "operation.output":
            if stage.operation is not None:
                stage.operation.line = _text(fields, "line")
        else:
            status = _text(fields, "status")
            stage.operations[status] = stage.operations.get(status, 0) + 1
            stage.operation = None
        return stage

    def _stage_of(self, architecture: str) -> Stage | None:
        """Return the stage of an operation: the latest one of its architecture, otherwise the latest one, or None."""
        running = list(self.stages.values())
        same = [stage for stage in running if stage.architecture == architecture]
        candidates = same or running
        return candidates[-1] if candidates else None

    def _tests(self, event: Event, now: float) -> Tests:
        fields = event.fields
        key = (_text(fields, "gate"), _text(fields, "architecture"))
        tests = self.tests.setdefault(key, Tests(*key, started=now))
        if event.kind == "tests.started":
            tests = self.tests[key] = Tests(*key, started=now, total=_number(fields, "total"))
        elif event.kind == "test.started":
            tests.running = _text(fields, "name")
        elif event.kind == "test.finished":
            outcome = _text(fields, "outcome")
            tests.outcomes[outcome] = tests.outcomes.get(outcome, 0) + 1
        else:
            del self.tests[key]
        return tests

    def _target(self, fields: Mapping[str, Any]) -> TargetRow:
        key = (_text(fields, "target"), _text(fields, "architecture"))
        row = self.targets.setdefault(key, TargetRow(*key))
        row.state = _text(fields, "state") or row.state
        percent = fields.get("percent")
        row.percent = min(100.0, max(0.0, float(percent))) if isinstance(percent, int | float) else None
        row.image_id = _text(fields, "image_id") or row.image_id
        row.detail = _text(fields, "detail")
        return row


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return "" if value is None else str(value)


def _number(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name)
    return value if isinstance(value, int) else 0
