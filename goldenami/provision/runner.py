"""Runs programs on a host: one command, whose input is the archive and whose output is the event stream.

A connection that drops cuts nothing off (see ``follower``): the runner connects anew and goes on reading where it was.
Only if the host has forgotten the run (a crash, a reboot) is the program run again, which idempotence allows; an
operation that cannot tell whether it was done (``Steps.once``) is not repeated: one that had ended is passed over, and
one that was seen to start but not to end is an error.
"""

from __future__ import annotations

import contextlib
import secrets as randomness
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from goldenami.errors import BuilderError, ConnectionLost, OperationDoubtful, OperationFailed
from goldenami.events import Emit, emit, silent
from goldenami.provision import hints
from goldenami.provision.follower import NO_DIRECTORY, Follower, attach_script, end_script, start_script, sudo
from goldenami.provision.operation import Stage
from goldenami.provision.program import Item, Placed, Program, compile_program
from goldenami.provision.stream import Begun, FactRead, Finished, Message, RebootDue, StageStarted, Started, Status

if TYPE_CHECKING:  # paramiko takes a while to load, and recipes are validated without it
    from goldenami.ssh import Completed, Connection, Deadline

MASK = "(secret)"

REBOOT_SECONDS = 600.0
_ATTEMPTS = 3  # of a program that the host has forgotten, and of connections that are lost without any progress between
_RECONNECT_SECONDS = 180.0
_OUTPUT_LINES = 20
_MEMORY_BYTES = 64 << 20  # larger archives go to the disk, into /var/tmp

Within = Callable[[str], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True)
class OperationResult:
    """How one operation went. In check mode, "changed" means that it would be. ``index``: from 0, within its stage."""

    index: int
    title: str
    place: str
    status: Status
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StageResult:
    """``operations``: in the order in which they ended; handlers are among them if they ran. ``rebooted``: how often
    the host was.
    """

    stage: str
    operations: tuple[OperationResult, ...]
    seconds: float
    rebooted: int = 0

    def count(self, status: Status) -> int:
        return sum(1 for o in self.operations if o.status == status)

    @property
    def changed(self) -> int:
        return self.count("changed")

    @property
    def ok(self) -> int:
        return self.count("ok")


@dataclass(frozen=True, slots=True)
class RunResult:
    """``stages``: those that have operations, in order. ``facts``: what was read, by the fact's name."""

    stages: tuple[StageResult, ...]
    facts: Mapping[str, str]
    seconds: float


def run_stage(
    connection: Connection,
    stage: Stage,
    emit: Emit = silent,
    *,
    secrets: Iterable[str] = (),
    mode: Literal["apply", "check"] = "apply",
    timeout: float | None = None,
) -> StageResult:
    """Run one stage; see ``run_program``."""
    result = run_program(connection, [stage], emit, secrets=secrets, mode=mode, timeout=timeout)
    return result.stages[0] if result.stages else StageResult(stage.name, (), result.seconds)


def run_program(
    connection: Connection,
    items: Sequence[Item],
    emit: Emit = silent,
    *,
    secrets: Iterable[str] = (),
    mode: Literal["apply", "check"] = "apply",
    timeout: float | None = None,
    reboot_timeout: float = REBOOT_SECONDS,
    within: Within = contextlib.nullcontext,
) -> RunResult:
    """Run stages as root (by sudo, unless the connection is root's), and read facts on the way: three round trips,
    however many there are. Reboots and new connections on the way are part of it. However it ends, its working
    directory on the host is gone before the connection's next command begins; where the connection is lost or this is
    interrupted, it goes by itself, within ten minutes of the program's end.

    ``mode`` "check" changes nothing and reports what would be. ``secrets`` are masked in events and errors.
    ``timeout``: seconds that one stage may take; ``reboot_timeout``: seconds until the host must be back.
    ``within(name)`` is entered while a stage runs. Raises OperationFailed (the first failure ends the program),
    OperationDoubtful, BuilderError, ConnectionLost; ssh.NotBack for a host that does not come back from a reboot.
    """
    run = _Run(connection, compile_program(items), emit, masker(secrets), mode, timeout, reboot_timeout, within)
    return run.carry_out()


@dataclass(slots=True)
class _Progress:
    """What one stage has come to."""

    stage: Stage
    started: float = 0.0
    seconds: float = 0.0
    rebooted: int = 0
    results: list[OperationResult] = field(default_factory=list)

    def result(self) -> StageResult:
        return StageResult(self.stage.name, tuple(self.results), self.seconds, self.rebooted)


class _Run:
    def __init__(
        self,
        connection: Connection,
        program: Program,
        to: Emit,
        mask: Callable[[str], str],
        mode: str,
        timeout: float | None,
        reboot_timeout: float,
        within: Within,
    ) -> None:
        self._connection = connection
        self._program = program
        self._operations = program.operations
        self._emit = to
        self._mask = mask
        self._mode = mode
        self._timeout = timeout
        self._reboot_timeout = reboot_timeout
        self._within = within
        self._stages = [_Progress(stage) for stage in program.stages]
        self._current: int | None = None  # the stage that runs, and what was entered for it
        self._entered: AbstractContextManager[object] | None = None
        self._deadline: Deadline | None = None
        self._facts: dict[str, str] = {}
        self._ended: dict[int, Status] = {}  # what was reported; a program that is run again does not report twice
        self._running: Started | None = None
        self._output: deque[str] = deque(maxlen=_OUTPUT_LINES)
        self._boot = ""
        self._reboot_after: int | None = None
        self._failure: OperationFailed | BuilderError | None = None

    def carry_out(self) -> RunResult:
        start = time.monotonic()
        try:
            self._to_the_end()
        except BaseException as error:
            self._leave(error)
            raise
        self._leave(None)
        return RunResult(tuple(p.result() for p in self._stages), self._facts, time.monotonic() - start)

    def _to_the_end(self) -> None:
        first, lost = 0, 0
        while True:
            self._reboot_after = None
            whole = self._attempt(first)
            if self._failure is not None:
                raise self._failure
            if not whole:
                lost += 1
                self._look_at_what_was_lost(lost)
            elif self._reboot_after is None:
                return
            else:
                first = self._reboot_after + 1
                self._reboot()

    # --- stages, as they are seen from here ---------------------------------------------------------------------------

    def _enter(self, index: int) -> None:
        """A stage begins; nothing to do where the program was divided, and goes on within it."""
        if self._current is not None and index <= self._current:
            return
        self._leave(None)
        self._current = index
        self._stages[index].started = time.monotonic()
        self._entered = self._within(self._stages[index].stage.name)
        self._entered.__enter__()
        if self._deadline is not None:
            self._deadline.restart()

    def _leave(self, error: BaseException | None) -> None:
        """The stage that runs has ended."""
        entered, self._entered = self._entered, None
        if entered is None or self._current is None:
            return
        stage = self._stages[self._current]
        stage.seconds = time.monotonic() - stage.started
        entered.__exit__(type(error) if error is not None else None, error, None)

    @property
    def _name(self) -> str:
        """Of the stage that runs, or would be the first to."""
        return self._stages[self._current or 0].stage.name if self._stages else "reading facts"

    # --- one run of the program ---------------------------------------------------------------------------------------

    def _attempt(self, first: int) -> bool:
        """Run the program from an operation on, through lost connections. False if it did not come to an end."""
        from goldenami.ssh import CommandTimeout, Deadline

        name = f"goldenami.{randomness.token_hex(8)}"
        mark = f"goldenami-{randomness.token_hex(8)}"
        self._deadline = Deadline(self._timeout) if self._timeout is not None else None
        with self._program.archive() as archive:
            size = archive.seek(0, 2)
            archive.seek(0)
            work = f"{'/run' if size <= _MEMORY_BYTES else '/var/tmp'}/{name}"
            follower = Follower(mark, self._on_message, self._on_output)
            command = sudo(self._connection, start_script(work, mark, self._arguments(first), size))
            try:
                done = follower.follow(self._connection, command, archive, self._deadline)
            except CommandTimeout:
                raise self._took_too_long(work) from None
            except ConnectionLost:
                return self._attach(work, follower)
        if not follower.ended:
            raise self._did_not_start(done)
        if not follower.whole:
            raise self._was_ended()
        return True

    def _arguments(self, first: int) -> str:
        """See ``program``: the last two tell a host that has forgotten a run what that had done."""
        changed = [i for i, status in self._ended.items() if i >= first and status == "changed"]
        spared = [i for i in self._ended if i >= first and self._program.steps[i].once]
        words = ["".join(f" {i}" for i in sorted(group)) + " " for group in (changed, spared)]
        return f"{self._mode} {first} '{words[0]}' '{words[1]}'"

    def _attach(self, work: str, follower: Follower) -> bool:
        """Connect anew and go on reading what the program writes. False if the host knows nothing of it any more."""
        from goldenami.ssh import CommandTimeout

        without_progress = 0
        while without_progress < _ATTEMPTS:
            self._say(f"the connection to {self._connection.endpoint.address} was lost; connecting again", "warning")
            self._connection.reconnect(timeout=_RECONNECT_SECONDS)
            command = sudo(self._connection, attach_script(work))
            before = follower.taken
            try:
                done = follower.follow(self._connection, command, None, self._deadline)
            except CommandTimeout:
                raise self._took_too_long(work) from None
            except ConnectionLost:
                without_progress = without_progress + 1 if follower.taken == before else 0
                continue
            if done.status == NO_DIRECTORY and not follower.ended:
                return False
            if follower.ended and not follower.whole:
                raise self._was_ended()
            return follower.whole
        raise ConnectionLost(
            f"{self._connection.endpoint.address}: the connection was lost again and again while {self._doing()}"
        )

    def _did_not_start(self, done: Completed) -> BuilderError:
        said = done.stderr.decode(errors="replace").strip() or "; ".join(self._output)
        hint = None
        if "sudo" in said:
            hint = f"The user {self._connection.endpoint.user!r} must be allowed to use sudo without a password."
        return BuilderError(f"the stage {self._name} could not be started: {self._mask(said)}", hint=hint)

    def _was_ended(self) -> OperationFailed:
        """The connection held, but something on the host ended the program."""
        if self._running is None:
            return OperationFailed(
                f"the program ended by itself in the stage {self._name}", output="\n".join(self._output)
            )
        return self._failed(
            f"the program was ended from outside while {self._doing()}",
            "Is there enough memory? The kernel's log on the host tells whether it killed something.",
        )

    def _took_too_long(self, work: str) -> OperationFailed | BuilderError:
        with contextlib.suppress(BuilderError):
            self._connection.run(sudo(self._connection, end_script(work)), timeout=10)
        text = f"the stage {self._name} did not end within {self._timeout:.0f} s; it was {self._doing()}"
        hint = "A stage that needs longer: set builder.timeout in the recipe."
        return self._failed(text, hint) if self._running is not None else BuilderError(text, hint=hint)

    def _failed(self, text: str, hint: str) -> OperationFailed:
        """Of what runs."""
        assert self._running is not None
        bound = self._operations[self._running.index].bound
        output = "\n".join(self._output)
        return OperationFailed(f"{self._mask(bound.label)}: {text}", place=str(bound.mark), output=output, hint=hint)

    def _look_at_what_was_lost(self, times: int) -> None:
        running, self._running = self._running, None
        if running is not None and self._program.steps[running.index].once:
            bound = self._operations[running.index].bound
            raise OperationDoubtful(
                f"{self._mask(bound.label)}: the host went away while this ran, and nothing on it tells whether it was"
                " done",
                place=str(bound.mark),
                output="\n".join(self._output),
                hint="Give it creates, unless, or idempotent: true if it may be run again; then build again.",
            )
        if times >= _ATTEMPTS:
            raise ConnectionLost(f"the host forgot the stage {self._name} {times} times while {self._doing()}")
        self._say(f"the host has forgotten the stage {self._name}; running it again", "warning")

    def _reboot(self) -> None:
        connection = self._connection
        self._say(f"rebooting {connection.endpoint.address}")
        started = time.monotonic()
        with contextlib.suppress(ConnectionLost):
            done = connection.run(sudo(connection, "systemctl reboot"), timeout=60)
            if done.status > 0:
                raise BuilderError(f"the host does not reboot: {done.stderr.decode(errors='replace').strip()}")
        connection.wait_for_reboot(
            self._boot,
            timeout=self._reboot_timeout,
            on_wait=lambda seconds: self._say(
                f"{connection.endpoint.address} is not back after {seconds:.0f} s; waiting until "
                f"{self._reboot_timeout:.0f} s are over"
            ),
        )
        if self._current is not None:
            self._stages[self._current].rebooted += 1
        self._say(f"{connection.endpoint.address} is back after {time.monotonic() - started:.0f} s")

    # --- what it says -------------------------------------------------------------------------------------------------

    def _on_message(self, message: Message) -> None:
        match message:
            case Begun():
                self._boot = message.boot
            case StageStarted():
                self._enter(message.index)
            case FactRead():
                self._on_fact(message)
            case Started():
                self._running = message
                self._output.clear()
                if message.index not in self._ended:
                    self._report("operation.started", message.index)
            case Finished():
                self._on_finished(message)
            case RebootDue():
                self._reboot_after = message.index

    def _on_fact(self, fact: FactRead) -> None:
        if fact.status != 0:
            said = fact.text.strip().splitlines()[-_OUTPUT_LINES:]
            self._failure = BuilderError(f"the {fact.name} cannot be read from the host: " + "; ".join(said))
        self._facts.setdefault(fact.name, fact.text)

    def _on_finished(self, message: Finished) -> None:
        started, self._running = self._running, None
        seconds = max(0.0, message.uptime - started.uptime) if started else 0.0
        placed = self._operations[message.index]
        bound = placed.bound
        detail = self._mask(message.detail)
        if message.index not in self._ended:
            self._ended[message.index] = message.status
            title = self._mask(bound.label)
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
            output = "\n".join(self._output)
            status = message.exit_status
            self._failure = OperationFailed(
                f"{self._mask(bound.label)} failed" + (f" with exit status {status}" if status > 0 else ""),
                place=str(bound.mark),
                status=status,
                output=output,
                hint=hints.of_output(output),
            )

    def _on_output(self, line: str) -> None:
        line = self._mask(line)
        self._output.append(line)
        number = self._operations[self._running.index].number if self._running else None
        emit(self._emit, "operation.output", line=line, index=number)

    def _report(self, kind: str, index: int, **fields: object) -> None:
        placed: Placed = self._operations[index]
        emit(
            self._emit,
            kind,
            index=placed.number,
            total=placed.total,
            title=self._mask(placed.bound.label),
            place=str(placed.bound.mark),
            host=self._connection.endpoint.address,
            **fields,
        )

    def _say(self, message: str, level: str = "info") -> None:
        emit(self._emit, "note", message=message, level=level)

    def _doing(self) -> str:
        running = self._running
        return (
            f"running {self._mask(self._operations[running.index].bound.label)}"
            if running
            else "between two operations"
        )


def masker(secrets: Iterable[str]) -> Callable[[str], str]:
    """What puts ``MASK`` in the place of every secret, and of every line of one."""
    # Line by line, since output is masked by the line; longest first, in case one holds another.
    parts = sorted({part for value in secrets for part in value.splitlines() if part.strip()}, key=len, reverse=True)

    def mask(text: str) -> str:
        for part in parts:
            text = text.replace(part, MASK)
        return text

    return mask
