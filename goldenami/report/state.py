"""What a build's events add up to: the state that the views draw. No I/O, no clock of its own.

Events come in any order that threads produce, and of kinds that this version may not know: nothing here fails because a
field is missing or a finish has no start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from goldenami.events import Event


@dataclass(slots=True)
class Running:
    """An operation in progress. ``line`` is the last one that it printed."""

    index: int = 0
    total: int = 0
    title: str = ""
    line: str = ""


@dataclass(slots=True)
class Stage:
    name: str
    architecture: str
    started: float
    operation: Running | None = None
    operations: dict[str, int] = field(default_factory=dict)  # status -> how many

    @property
    def label(self) -> str:
        return f"{self.name} ({self.architecture})" if self.architecture else self.name


@dataclass(slots=True)
class Tests:
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
    target: str
    architecture: str
    state: str = ""
    percent: float | None = None
    image_id: str = ""
    detail: str = ""


class BuildState:
    """The sum of a build's events. ``stages`` and ``tests`` hold what runs now; ``targets`` stay until the end."""

    def __init__(self) -> None:
        self.started: float | None = None
        self.stages: dict[tuple[str, str], Stage] = {}
        self.tests: dict[tuple[str, str], Tests] = {}
        self.targets: dict[tuple[str, str], TargetRow] = {}

    def apply(self, event: Event, now: float) -> Stage | Tests | TargetRow | None:
        """Take one event in. Returns what it is about; something that has just ended is returned a last time."""
        if self.started is None:
            self.started = now
        fields = event.fields
        match event.kind:
            case "build.started":  # a base recipe is built before its child: what was said of its targets is over
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
        """The stage that an operation belongs to: the latest one of its architecture, else the latest."""
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
