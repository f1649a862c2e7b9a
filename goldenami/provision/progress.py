"""The progress of a program, computed from its messages. Each message is passed on as an event, with secrets masked.

A second run of a program, and its continuation after a reboot, use the same ``Progress``: no event is emitted twice.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from goldenami.errors import BuilderError, OperationFailed
from goldenami.events import Emit, Event, emit
from goldenami.provision import hints
from goldenami.provision.operation import BoundOperation, Stage
from goldenami.provision.program import Program
from goldenami.provision.results import Drift, OperationResult, StageResult
from goldenami.provision.stream import (
    Begun,
    Drifted,
    FactBegun,
    FactRead,
    Finished,
    GoingDown,
    HereDue,
    Message,
    RebootDue,
    RefusedByGuard,
    StageStarted,
    Started,
    Status,
)

_OUTPUT_LINES = 20
_SHOWN_LINES = 100_000  # of one operation: after these its output is counted only

Within = Callable[[str], AbstractContextManager[object]]
OnFact = Callable[[str, str], None]


@dataclass(slots=True)
class _StageSoFar:
    stage: Stage
    started: float = 0.0
    seconds: float = 0.0
    rebooted: int = 0
    results: list[OperationResult] = field(default_factory=list)

    def result(self) -> StageResult:
        return StageResult(self.stage.name, tuple(self.results), self.seconds, self.rebooted)


class Progress:
    """The state of one run. ``within`` is entered while a stage runs. ``on_limit`` is called when a stage has begun,
    and when the reading of a fact begins (True) or ends. ``on_fact`` gets the name and the text of each fact.

    ``boot``: the boot id of the host when the program started. ``reboot_after``: the operation after which the host
    must reboot. ``here``: the operation that is due on this machine. ``going_down``: the host goes down, by an
    operation's own doing. ``refused``: a guard ended the program before its first stage. ``failure``: the error that
    ended the program. ``running``: the operation that has begun and not ended.
    """

    def __init__(
        self,
        program: Program,
        to: Emit,
        mask: Callable[[str], str],
        host: str,
        within: Within,
        on_limit: Callable[[bool], None],
        on_fact: OnFact | None = None,
    ) -> None:
        self.facts: dict[str, str] = {}
        self.ended: dict[int, Status] = {}
        self.drift: dict[str, dict[int, Drift]] = {}
        self.running: Started | None = None
        self.boot = ""
        self.reboot_after: int | None = None
        self.here: int | None = None
        self.going_down = False
        self.refused = False
        self.failure: OperationFailed | BuilderError | None = None
        self.mask = mask
        self._operations = program.operations
        self._emit = to
        self._host = host
        self._within = within
        self._on_limit = on_limit
        self._take_fact = on_fact
        self._stages = [_StageSoFar(stage) for stage in program.stages]
        self._current: int | None = None  # the stage that runs; ``_entered`` is its context
        self._entered: AbstractContextManager[object] | None = None
        self._output: deque[str] = deque(maxlen=_OUTPUT_LINES)  # not masked yet
        self._lines = 0  # of the operation that runs

    # --- results so far -----------------------------------------------------------------------------------------------

    @property
    def stages(self) -> tuple[StageResult, ...]:
        return tuple(stage.result() for stage in self._stages)

    @property
    def stage_name(self) -> str:
        """The name of the stage that runs, or else of the first stage."""
        return self._stages[self._current or 0].stage.name if self._stages else "reading facts"

    @property
    def output(self) -> str:
        """The last lines of output of the current or the last operation."""
        return "\n".join(map(self.mask, self._output))

    @property
    def bound(self) -> BoundOperation | None:
        """The operation that runs."""
        return self._operations[self.running.index].bound if self.running is not None else None

    @property
    def doing(self) -> str:
        """The current activity, as the end of a sentence."""
        return f"running {self.mask(self.bound.label)}" if self.bound is not None else "between two operations"

    def pass_on(self, event: Event) -> None:
        """Passes on what is a sign of life in the work of another program."""
        if event.kind in ("note", "operation.output"):
            self._emit(event)

    def silent(self, seconds: float) -> None:
        """Tells that the program goes on without output."""
        self.say(f"{self._host}: no output for {seconds:.0f} s while {self.doing}")

    def say(self, message: str, level: str = "info") -> None:
        emit(self._emit, "note", message=message, level=level)

    # --- stages -------------------------------------------------------------------------------------------------------

    def ended_by_reboot(self) -> None:
        """Records that the operation that runs has ended: it was to reboot the host, and did."""
        assert self.running is not None
        self._on_finished(Finished(self.running.index, self.running.uptime, "changed", 0, "the host rebooted"))

    def rebooted(self) -> None:
        """Records that the host rebooted for the current stage."""
        if self._current is not None:
            self._stages[self._current].rebooted += 1

    def leave(self, error: BaseException | None) -> None:
        """Ends the current stage, with this error if there was one. A second call does nothing."""
        entered, self._entered = self._entered, None
        if entered is None or self._current is None:
            return
        stage = self._stages[self._current]
        stage.seconds = time.monotonic() - stage.started
        entered.__exit__(type(error) if error is not None else None, error, None)

    def _enter(self, index: int) -> None:
        """Begins a stage. Does nothing if a reboot divided the stage and it continues."""
        if self._current is not None and index <= self._current:
            return
        self.leave(None)
        self._current = index
        self._stages[index].started = time.monotonic()
        self._entered = self._within(self._stages[index].stage.name)
        self._entered.__enter__()
        self._on_limit(False)

    # --- messages of the program --------------------------------------------------------------------------------------

    def on_message(self, message: Message) -> None:
        match message:
            case Begun():
                self.boot = message.boot
            case StageStarted():
                self._enter(message.index)
            case FactBegun():
                self._on_limit(True)
            case FactRead():
                self._on_limit(False)
                self._on_fact(message)
            case Started():
                self.running = message
                self._output.clear()
                self._lines = 0
                if message.index not in self.ended:
                    self._report("operation.started", message.index)
            case Finished():
                self._on_finished(message)
            case Drifted():
                bound = self._operations[message.index].bound
                drift = Drift(self.mask(bound.label), str(bound.mark), self.mask(message.detail))
                self.drift.setdefault(message.when, {})[message.index] = drift
            case RebootDue():
                self.reboot_after = message.index
            case HereDue():
                self.here = message.index
            case GoingDown():
                self.going_down = True
            case RefusedByGuard():
                self._on_refusal()

    def _on_refusal(self) -> None:
        # In a second run of the program, the first one may have done a part of a stage.
        self.refused = self._current is None
        if not self.refused:
            self.failure = BuilderError(f"{self._host} rebooted by itself in the stage {self.stage_name}")

    def on_output(self, line: str) -> None:
        self._output.append(line)
        self._lines += 1
        if self._lines > _SHOWN_LINES:
            if self._lines % _SHOWN_LINES == 1:
                self.say(f"{self._lines - 1} lines of output while {self.doing}; further lines are not shown")
            return
        line = self.mask(line)
        number = self._operations[self.running.index].number if self.running else None
        emit(self._emit, "operation.output", line=line, index=number)

    def _on_fact(self, fact: FactRead) -> None:
        if fact.status != 0:
            last_lines = fact.text.strip().splitlines()[-_OUTPUT_LINES:]
            self.failure = BuilderError(
                f"the fact {fact.name} could not be read from the host: " + "; ".join(last_lines)
            )
        elif fact.name not in self.facts and self._take_fact is not None:
            self._take_fact(fact.name, fact.text)
        self.facts.setdefault(fact.name, fact.text)

    def _on_finished(self, message: Finished) -> None:
        started, self.running = self.running, None
        seconds = max(0.0, message.uptime - started.uptime) if started else 0.0
        placed = self._operations[message.index]
        bound = placed.bound
        title = self.mask(bound.label)
        detail = self.mask(message.detail)
        if message.index not in self.ended:
            self.ended[message.index] = message.status
            self._stages[placed.stage].results.append(
                OperationResult(placed.number - 1, title, str(bound.mark), message.status, seconds, detail)
            )
            self._report(
                "operation.finished",
                message.index,
                status=message.status,
                seconds=round(seconds, 3),
                detail=detail or None,
            )
        if message.status == "failed":
            status = message.exit_status
            killed = re.fullmatch(r"out of memory: (\d+)", message.detail)  # as prelude.sh says it
            why = f", and the kernel ended processes for lack of memory ({killed[1]})" if killed else ""
            self.failure = OperationFailed(
                f"{title} failed" + (f" with exit status {status}" if status > 0 else "") + why,
                place=str(bound.mark),
                status=status,
                output=self.output,
                hint=hints.MORE_MEMORY if killed else hints.find_hint(self.output),
            )

    def _report(self, kind: str, index: int, **fields: object) -> None:
        placed = self._operations[index]
        emit(
            self._emit,
            kind,
            index=placed.number,
            total=placed.total,
            title=self.mask(placed.bound.label),
            place=str(placed.bound.mark),
            host=self._host,
            **fields,
        )
