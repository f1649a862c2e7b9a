"""The state of a build, computed from its events, for the views. It does no I/O and reads no clock.

Threads emit events in any order, and a newer version may emit other kinds. An event without an expected field, or a
finish without a start, is not an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from goldenami.events import Event
from goldenami.report.text import TEST_NUMBERS

FAILED: Final = ("failed", "error", "invalid")
READY: Final = ("available", "ready", "done", "shared", "verified", "released", "completed")
"""The states of a target that has its image, and of one that cannot get it."""

OPERATION_ORDER: Final = ("failed", "changed", "ok", "skipped")
_ROWS: Final = 8  # targets that are shown one by one; of more, the counts and the unusual ones
_ODD: Final = 4  # unusual targets that are shown then


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
    tests: dict[str, int] = field(default_factory=dict)  # outcome -> count
    instance: str = ""  # that it launched
    beside: bool = False

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


@dataclass(frozen=True, slots=True)
class Expected:
    """A stage that the build will run. ``seconds``: how long it took in past builds; ``left``: the time from its start
    to the end of the build; None if unknown."""

    name: str
    architecture: str
    seconds: float | None
    left: float | None


@dataclass(slots=True)
class TargetRow:
    """The last known state of one target and architecture. ``percent``: 0 to 100, None if unknown."""

    target: str
    architecture: str
    state: str = ""
    percent: float | None = None
    image_id: str = ""
    detail: str = ""

    @property
    def label(self) -> str:
        return f"{self.target} ({self.architecture})" if self.architecture else self.target

    @property
    def failed(self) -> bool:
        return self.state in FAILED

    @property
    def moving(self) -> bool:
        return self.state not in (*FAILED, *READY)


@dataclass(frozen=True, slots=True)
class Targets:
    """What a view shows of targets. ``summary``: the counts, if there are many; "" if ``rows`` are all of them."""

    summary: str
    rows: tuple[TargetRow, ...]
    more: int = 0  # unusual ones that are not in ``rows``


class BuildState:
    """The state of a build. ``stages`` and ``tests`` contain only running ones; ``targets`` contains all.

    ``build_id``: "" before the build began. ``upcoming``: the stages that have not begun. ``instances``: the id of the
    running instance, by its purpose and architecture.
    """

    def __init__(self) -> None:
        self.started: float | None = None
        self.build_id = ""
        self.upcoming: list[Expected] = []
        self.instances: dict[tuple[str, str], str] = {}
        self._expected: dict[tuple[str, str], Expected] = {}
        self._ends: float | None = None  # when the build probably ends
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
                self.instances.clear()
                self.build_id = _text(fields, "build_id")
                self.upcoming = _expected(fields.get("expected"))
                self._expected = {(one.name, one.architecture): one for one in self.upcoming}
                self._ends = None
            case "stage.started":
                key = (_text(fields, "stage"), _text(fields, "architecture"))
                stage = self.stages[key] = Stage(*key, started=now, beside=fields.get("beside") is True)
                self._begin(stage, now)
                return stage
            case "stage.finished":
                key = (_text(fields, "stage"), _text(fields, "architecture"))
                self._gone(*key)
                return self.stages.pop(key, None) or Stage(*key, started=now)
            case "host.launched":
                return self._launched(fields)
            case "host.replaced":
                self.instances.pop((_text(fields, "purpose"), _text(fields, "architecture")), None)
            case "operation.started" | "operation.finished" | "operation.output":
                return self._operation(event)
            case "tests.started" | "test.started" | "test.finished" | "tests.finished":
                return self._tests(event, now)
            case "target.progress":
                return self._target(fields)
        return None

    def left(self, now: float) -> float | None:
        """Return the probable seconds to the end of the build, by past builds; None if they are unknown or over."""
        known = [(stage, self._expected.get(key)) for key, stage in self.stages.items()]
        # A stage that takes longer than usual postpones the end: what follows it still takes its time.
        ends = [
            max(stage.started + one.left, now + one.left - one.seconds)
            for stage, one in known
            if one is not None and one.left is not None and one.seconds is not None
        ]
        end = max(ends) if ends else self._ends
        return end - now if end is not None and end - now > 0.5 else None

    def shown_targets(self) -> Targets:
        """Return the targets that a view shows: all, or if there are many, those that failed or are tried again."""
        rows = tuple(self.targets.values())
        if len(rows) <= _ROWS:
            return Targets("", rows)
        odd = [row for row in rows if row.failed or row.state == "retrying"]
        return Targets(summary_of(rows), tuple(odd[:_ODD]), max(0, len(odd) - _ODD))

    def _begin(self, stage: Stage, now: float) -> None:
        """Remove a stage, and those that a resume skipped before it, from the upcoming ones."""
        key = (stage.name, stage.architecture)
        one = self._expected.get(key)
        if one is None:
            return
        if one in self.upcoming:
            at = self.upcoming.index(one)
            together = self._together(key) if stage.beside else ()
            before = [
                other for other in self.upcoming[:at] if key[1] not in ("", other.architecture) or other in together
            ]
            self.upcoming = before + self.upcoming[at + 1 :]
        if one.left is not None:
            self._ends = now + one.left

    def _together(self, key: tuple[str, str]) -> list[Expected]:
        """Return the stages before a stage beside others that run at the same time: those after the last stage of all
        architectures. Empty if there is no such stage."""
        earlier = list(self._expected.values())[: list(self._expected).index(key)]
        common = [number for number, one in enumerate(earlier) if not one.architecture]
        return earlier[common[-1] + 1 :] if common else []

    def _launched(self, fields: Mapping[str, Any]) -> Stage | None:
        purpose, architecture = _text(fields, "purpose"), _text(fields, "architecture")
        self.instances[purpose, architecture] = _text(fields, "instance_id")
        stage = self._stage_of(architecture)
        if stage is not None:
            stage.instance = _text(fields, "instance_id")
        return stage

    def _gone(self, stage: str, architecture: str) -> None:
        """Forget the instance that a stage was the last one to use."""
        purpose = {"capture": "builder", "test image": "proof"}.get(stage)
        if purpose is not None:
            self.instances.pop((purpose, architecture), None)

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
        running = [stage for stage in self.stages.values() if not stage.beside] or list(self.stages.values())
        same = [stage for stage in running if stage.architecture == architecture]
        candidates = same or running
        return candidates[-1] if candidates else None

    def _tests(self, event: Event, now: float) -> Tests | None:
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
            stage = self.stages.get((f"test {key[0]}", key[1]))
            if stage is not None:
                stage.tests = {name: _number(fields, name) for name in TEST_NUMBERS}
                return None  # the line of the stage has the counts
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


def summary_of(rows: Iterable[TargetRow]) -> str:
    """Return the counts of many targets: "copying 257 · available 43 · failed 0 · slowest eu-west-1 12 %"."""
    every = list(rows)
    numbers = Counter("failed" if row.failed else row.state for row in every)
    failed = numbers.pop("failed", 0)
    states = sorted(numbers, key=lambda state: (state in READY, list(numbers).index(state)))
    parts = [*(f"{state} {numbers[state]}" for state in states), f"failed {failed}"]
    moving = [row for row in every if row.moving and row.percent is not None]
    if moving:
        slowest = min(moving, key=lambda row: (row.percent or 0.0, row.label))
        parts.append(f"slowest {slowest.label} {slowest.percent or 0.0:.0f} %")
    return " · ".join(parts)


def _expected(value: Any) -> list[Expected]:
    """Return the stages of the event build.started; none if they have an unknown form."""
    stages = [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []
    return [
        Expected(_text(one, "stage"), _text(one, "architecture"), _float(one, "seconds"), _float(one, "left"))
        for one in stages
    ]


def _float(fields: Mapping[str, Any], name: str) -> float | None:
    value = fields.get(name)
    return float(value) if isinstance(value, int | float) else None


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return "" if value is None else str(value)


def _number(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name)
    return value if isinstance(value, int) else 0
