"""Runs programs on a host: one command, whose input is the archive and whose output is the event stream.

A lost connection does not interrupt the program (see ``follower``): the runner connects again and continues to read.
The runner starts the program again only if the host lost the run (a crash, a reboot); operations are idempotent. An
operation whose completion cannot be checked (``Steps.once``) is not repeated: if it ended, it is skipped; if it started
and its end is unknown, the run fails with OperationDoubtful.
"""

from __future__ import annotations

import contextlib
import math
import secrets as randomness
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from goldenami.errors import BuilderError, ConnectionLost, OperationDoubtful, OperationFailed
from goldenami.events import Emit, ignore_events
from goldenami.model import Mark
from goldenami.provision import hints
from goldenami.provision.boot import BootEnded
from goldenami.provision.follower import (
    AGAIN,
    LOG_BYTES,
    LOST,
    NO_DIRECTORY,
    UNWRITTEN,
    Follower,
    attach_script,
    end_script,
    removal_script,
    start_script,
    sudo,
)
from goldenami.provision.masking import masker
from goldenami.provision.network import BuildNetwork
from goldenami.provision.operation import BoundOperation, Stage, WorkHere
from goldenami.provision.program import Item, Program, compile_program
from goldenami.provision.progress import OnFact, Progress, Within
from goldenami.provision.results import RunResult, StageResult
from goldenami.provision.stream import Ended, Finished, Started

if TYPE_CHECKING:  # paramiko takes a while to load, and recipes are validated without it
    from goldenami.ssh import Completed, Connection, Deadline

REBOOT_SECONDS = 600.0
_LOOK_SECONDS = 10.0
GOING_DOWN = (  # as in prelude.sh
    "command -v systemctl >/dev/null || exit 0; for n in 1 2 3 4 5; do "
    "[ ! -e /run/systemd/shutdown/scheduled ] || { echo yes; exit; }; "
    "case $(systemctl is-system-running 2>/dev/null; busctl get-property org.freedesktop.login1 "
    "/org/freedesktop/login1 org.freedesktop.login1.Manager PreparingForShutdown 2>/dev/null) in "
    "*stopping* | *'b true'*) echo yes; exit ;; *unknown*) sleep 1 ;; *) exit ;; esac; done"
)
_ATTEMPTS = 3  # of a program that the host lost, and of connections without progress
_RECONNECT_SECONDS = 180.0
_LITTLE_KIB = 256  # of free space: too little for a log
_LONG_KIB = 32 << 10  # a log of this size is why the disk is full
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 60.0  # seconds before an operation on this machine is tried again, as in prelude.sh
_MEMORY_BYTES = 64 << 20  # larger archives are stored on the disk, in /var/tmp


def preload() -> None:
    """Load what the first program of a process needs."""
    compile_program([]).archive().close()


def run_stage(
    connection: Connection,
    stage: Stage,
    emit: Emit = ignore_events,
    *,
    secrets: Iterable[str] = (),
    mode: Literal["apply", "check"] = "apply",
    timeout: float | None = None,
) -> StageResult:
    """Run one stage. Raises the same errors as ``run_program``."""
    result = run_program(connection, [stage], emit, secrets=secrets, mode=mode, timeout=timeout)
    return result.stages[0] if result.stages else StageResult(stage.name, (), result.seconds)


def run_program(
    connection: Connection,
    items: Sequence[Item],
    emit: Emit = ignore_events,
    *,
    secrets: Iterable[str] = (),
    mode: Literal["apply", "check"] = "apply",
    timeout: float | None = None,
    reboot_timeout: float = REBOOT_SECONDS,
    within: Within = contextlib.nullcontext,
    log_on_disk: bool = True,
    network: BuildNetwork | None = None,
    limits: Mapping[str, float] = MappingProxyType({}),
    fact_limits: Mapping[str, float] = MappingProxyType({}),
    on_fact: OnFact | None = None,
) -> RunResult:
    """Run stages as root, and read the facts between them. A connection that is not root's uses sudo.

    All stages need three round trips together. Reboots and new connections are handled here. The working directory on
    the host is removed before the next command of the connection begins, or ``Connection.close`` returns. If the
    connection is lost or this call is interrupted, the host removes it within 10 minutes after the end of the program.
    What a run leaves that the host lost, such as its log after a reboot, is removed if this call starts the program
    again.

    ``mode`` "check" changes nothing and reports what would change. ``secrets`` are masked in events and errors.
    ``timeout``: seconds for each stage. ``limits``: other seconds for stages, by name. ``fact_limits``: for each fact
    that is waited for in a stage, by its name. ``reboot_timeout``: seconds for each reboot. ``within(name)`` is entered
    while a stage runs. ``log_on_disk``: False keeps the log in memory, for a program whose host is captured next.
    ``network``: its proxy and mirrors. ``on_fact`` gets the name and the text of each fact as soon as it is read.
    Raises OperationFailed (the first failure ends the program), OperationDoubtful, BuilderError and ConnectionLost;
    ssh.NotBack if the host does not return from a reboot.
    """
    run = _Run(
        connection,
        compile_program(items, network),
        emit,
        masker(secrets),
        mode,
        timeout,
        reboot_timeout,
        within,
        log_on_disk,
        limits,
        on_fact,
        fact_limits,
    )
    return run.carry_out()


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
        log_on_disk: bool,
        limits: Mapping[str, float] = MappingProxyType({}),
        on_fact: OnFact | None = None,
        fact_limits: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        self._limits = limits
        self._fact_limits = fact_limits
        self._log_on_disk = log_on_disk
        self._connection = connection
        self._program = program
        self._mode = mode
        self._timeout = timeout
        self._reboot_timeout = reboot_timeout
        self._deadline: Deadline | None = None
        self._earlier: list[str] = []  # the working directories of the runs so far
        self._progress = Progress(program, to, mask, connection.endpoint.address, within, self._limit, on_fact)

    def await_reboot(self, boot: str) -> None:
        """Wait until a host that goes down is back. ``boot``: its boot id now."""
        self._progress.boot = boot
        self._progress.say(
            f"{self._connection.endpoint.address} reboots by itself; waiting until it is back", "warning"
        )
        self._wait_for_reboot()

    def carry_out(self) -> RunResult:
        start = time.monotonic()
        try:
            self._to_the_end()
        except BaseException as error:
            self._progress.leave(error)
            raise
        self._progress.leave(None)
        progress = self._progress
        without = [
            result.title
            for stage in progress.stages
            for result in stage.operations
            if result.status == "skipped" and result.detail.startswith("not executed")
        ]
        if without:
            shown = f"{', '.join(without[:3])}{', …' if without[3:] else ''}"
            text = f"not executed, because this instance has no systemd: {len(without)} of the operations ({shown})"
            progress.say(text, "warning")
        return RunResult(progress.stages, progress.facts, time.monotonic() - start, progress.drift, progress.refused)

    def _to_the_end(self) -> None:
        first, lost, progress = 0, 0, self._progress
        while True:
            progress.reboot_after, progress.here, progress.going_down = None, None, False
            whole = self._attempt(first)
            if progress.failure is not None:
                raise progress.failure
            if progress.reboot_after is not None and whole:
                first = progress.reboot_after + 1
                self._reboot()
            elif progress.here is not None and whole:
                first = progress.here + 1
                self._run_here(progress.here)
            elif progress.going_down or not whole:
                lost += 1
                if progress.going_down or self._boot_changed():
                    self._after_own_reboot(lost)
                else:
                    self._prepare_second_run(lost)
            else:
                return

    def _run_here(self, index: int) -> None:
        """Do an operation from this machine. Raises OperationFailed."""
        progress, bound = self._progress, self._program.operations[index].bound
        work = WorkHere(
            self._connection.endpoint,
            self._mode == "check",
            self._timeout,
            progress.on_output,
            progress.silent,
            self._connection.check,
        )
        progress.on_message(Started(index, time.monotonic()))
        left, pause = bound.retries, _FIRST_PAUSE
        while (done := bound.operation.inner.run_here(bound.payloads, work)).status == "failed" and left > 0:
            progress.on_output(f"{done.detail}. It is tried again in {pause:.0f} s")
            self._connection.pause(pause)
            left, pause = left - 1, min(2 * pause, _LONGEST_PAUSE)
        progress.on_message(Finished(index, time.monotonic(), done.status, done.exit_status, done.detail))
        if progress.failure is not None:
            raise progress.failure

    def _limit(self, reads_fact: bool) -> None:
        """Restarts the deadline: a limit applies to each stage. The limit of a single stage is not for the facts that
        it waits for."""
        if self._deadline is not None:
            self._deadline.seconds = self._seconds(self._fact_limits if reads_fact else self._limits)
            self._deadline.restart()

    def _seconds(self, limits: Mapping[str, float]) -> float:
        """Return the limit of the stage that runs, or of the first: that of ``limits``, or the general one."""
        return limits.get(self._progress.stage_name, math.inf if self._timeout is None else self._timeout)

    # --- one run of the program ---------------------------------------------------------------------------------------

    def _attempt(self, first: int) -> bool:
        """Run the program from an operation on, over several connections. Returns False if the host lost the run."""
        from goldenami.ssh import CommandTimeout, Deadline

        name = f"goldenami.{randomness.token_hex(8)}"
        mark = f"goldenami-{randomness.token_hex(8)}"
        bounded = self._timeout is not None or self._limits
        self._deadline = Deadline(self._seconds(self._limits)) if bounded else None
        with self._program.archive() as archive:
            size = archive.seek(0, 2)
            archive.seek(0)
            work = f"{'/run' if size <= _MEMORY_BYTES else '/var/tmp'}/{name}"
            follower = Follower(mark, self._progress.on_message, self._progress.on_output)
            script = start_script(
                work, mark, self._arguments(first), size, on_disk=self._log_on_disk, earlier=self._earlier
            )
            self._earlier.append(work)
            command = sudo(self._connection, script)
            try:
                done = follower.follow(self._connection, command, archive, self._deadline, self._progress.silent)
            except CommandTimeout:
                raise self._took_too_long(work) from None
            except ConnectionLost:
                return self._attach(work, follower)
        if not follower.ended:
            if self._connection.asks_for_terminal(done):
                return self._attempt(first)
            if done.status == AGAIN:
                return self._attach(work, follower)
            if done.status == LOST:
                return False
            raise self._did_not_start(done)
        return follower.whole or self._was_rebooted(follower.end)

    def _was_rebooted(self, end: Ended) -> bool:
        """Return False, for a run that is lost, if a reboot ended the program. Raises OperationFailed if not."""
        if self._boot_changed():
            return False
        raise self._was_ended(end)

    def _arguments(self, first: int) -> str:
        """Return the arguments of the program. The last two describe what an earlier run did (see ``program``)."""
        ended = self._progress.ended
        # The one before ``first`` may have run on this machine: then this run tells its handlers.
        changed = [i for i, status in ended.items() if i >= first - 1 and status == "changed"]
        spared = [i for i in ended if i >= first and self._program.steps[i].once]
        words = ["".join(f" {i}" for i in sorted(group)) + " " for group in (changed, spared)]
        without = "without-systemd" if self._connection.endpoint.in_user_namespace else ""
        return f"{self._mode} {first} '{words[0]}' '{words[1]}' {without}".rstrip()

    def _attach(self, work: str, follower: Follower) -> bool:
        """Connect again and continue to read the program's log. Returns False if the host lost the run."""
        from goldenami.ssh import CommandTimeout

        without_progress = 0
        while without_progress < _ATTEMPTS:
            self._progress.say(
                f"the connection to {self._connection.endpoint.address} was lost; connecting again", "warning"
            )
            running = self._progress.running
            may_reboot = running is not None and self._program.steps[running.index].own_code
            address = self._connection.endpoint.address
            self._connection.reconnect(
                timeout=self._reboot_timeout if may_reboot else _RECONNECT_SECONDS,
                on_wait=lambda seconds: self._progress.say(f"{address} is not reachable for {seconds:.0f} s"),  # noqa: B023
            )
            command = sudo(self._connection, attach_script(work, follower.mark))
            before = follower.taken
            try:
                done = follower.follow(self._connection, command, None, self._deadline, self._progress.silent)
            except CommandTimeout:
                raise self._took_too_long(work) from None
            except ConnectionLost:
                without_progress = without_progress + 1 if follower.taken == before else 0
                continue
            if done.status in (NO_DIRECTORY, LOST) and not follower.ended:
                return False
            if not follower.ended:  # as with AGAIN
                without_progress = without_progress + 1 if follower.taken == before else 0
                continue
            return follower.whole or self._was_rebooted(follower.end)
        raise ConnectionLost(
            f"{self._connection.endpoint.address}: {_ATTEMPTS} connections in a row were lost without progress while "
            f"{self._progress.doing}"
        )

    def _did_not_start(self, done: Completed) -> BuilderError:
        output = done.stderr.decode(errors="replace").strip() or self._progress.output.replace("\n", "; ")
        hint = None
        if "sudo" in output:
            hint = f"The user {self._connection.endpoint.user!r} must be allowed to use sudo without a password."
        return BuilderError(
            f"the stage {self._progress.stage_name} could not be started: {self._progress.mask(output)}", hint=hint
        )

    def _was_ended(self, end: Ended) -> OperationFailed:
        """Return the error for a program that ended without an end event while the connection was up."""
        progress = self._progress
        reason, hint = _reason(end, on_disk=self._log_on_disk)
        if progress.bound is None:
            what = f"{reason}, in the stage {progress.stage_name}"
            return OperationFailed(what, output=progress.output, hint=hint)
        return self._failed(progress.bound, f"{reason} while {progress.doing}", hint)

    def _took_too_long(self, work: str) -> OperationFailed | BuilderError:
        with contextlib.suppress(BuilderError):
            self._connection.run(sudo(self._connection, end_script(work)), timeout=10)
        progress = self._progress
        seconds = self._deadline.seconds if self._deadline is not None else 0.0
        text = f"the stage {progress.stage_name} did not end within {seconds:.0f} s; it was {progress.doing}"
        # Other limits, such as those of the freezing, are not set in the recipe.
        is_general = seconds == self._timeout
        hint = "If the stage needs more time, increase builder.timeout in the recipe." if is_general else None
        return self._failed(progress.bound, text, hint) if progress.bound else BuilderError(text, hint=hint)

    def _failed(self, bound: BoundOperation, text: str, hint: str | None) -> OperationFailed:
        """Return the error for the operation that runs."""
        return OperationFailed(
            f"{self._progress.mask(bound.label)}: {text}",
            place=str(bound.mark),
            output=self._progress.output,
            hint=hint,
        )

    def _boot_changed(self) -> bool:
        """Return whether the host has booted again since the program started, or is about to."""
        if not self._progress.boot:
            return False
        if is_going_down(self._connection):
            return True
        with contextlib.suppress(BuilderError):
            return self._connection.boot_id() != self._progress.boot
        return False

    def _after_own_reboot(self, times: int) -> None:
        """Wait for a reboot that the recipe's own code began, and permit another run: operations are idempotent, and
        those that ended and must not run twice are left out.

        Raises OperationFailed if the reboot ended an operation that must not run twice. Another builder would meet the
        same, so it is not a lost host. What the lost runs left, their logs, is removed before an error.
        """
        progress = self._progress
        progress.say(f"{self._connection.endpoint.address} reboots by itself while {progress.doing}", "warning")
        try:
            self._wait_for_reboot()
        except OperationFailed:  # the host is back
            self._remove_left()
            raise
        running, bound = progress.running, progress.bound
        if running is not None and bound is not None:
            steps = self._program.steps[running.index]
            if steps.may_reboot:
                progress.ended_by_reboot()
            elif steps.once:
                self._remove_left()
                raise self._failed(
                    bound,
                    "the host rebooted while this ran, and it is unknown whether it ended",
                    "If the operation reboots the host itself: reboots: true. Or add creates or unless, or "
                    "idempotent: true if it may run again.",
                )
        progress.running = None
        if times >= _ATTEMPTS:
            self._remove_left()
            raise BuilderError(
                f"{self._connection.endpoint.address} rebooted by itself {times} times in the stage "
                f"{progress.stage_name}",
                hint="Add creates or unless to the operation that reboots the host, or use the operation `reboot`.",
            )

    def _remove_left(self) -> None:
        """Remove what the runs so far left on the host: no further run does it. The host may not answer."""
        with contextlib.suppress(BuilderError):
            self._connection.run(sudo(self._connection, removal_script(self._earlier)), timeout=_LOOK_SECONDS)

    def _prepare_second_run(self, times: int) -> None:
        """Permit another run after the host lost the last one. Raises OperationDoubtful or ConnectionLost if not."""
        progress = self._progress
        running, bound = progress.running, progress.bound
        progress.running = None
        if running is not None and bound is not None and self._program.steps[running.index].once:
            raise OperationDoubtful(
                f"{progress.mask(bound.label)}: the host was lost while this ran, and it is unknown whether it ended",
                place=str(bound.mark),
                output=progress.output,
                hint="Add creates or unless to the operation, or idempotent: true if it may run again. Build again.",
            )
        if times >= _ATTEMPTS:
            raise ConnectionLost(f"the host lost the stage {progress.stage_name} {times} times while {progress.doing}")
        progress.say(f"the host lost the stage {progress.stage_name}; running it again", "warning")

    def _reboot(self) -> None:
        connection = self._connection
        self._progress.say(f"rebooting {connection.endpoint.address}")
        started = time.monotonic()
        with contextlib.suppress(ConnectionLost):
            done = connection.run(sudo(connection, "systemctl reboot"), timeout=60)
            if done.status > 0:
                raise BuilderError(
                    f"the reboot of the host was refused: {done.stderr.decode(errors='replace').strip()}"
                )
        self._wait_for_reboot()
        self._progress.say(f"{connection.endpoint.address} rebooted in {time.monotonic() - started:.0f} s")

    def _wait_for_reboot(self) -> None:
        """Wait until the host has rebooted and its boot is over. Raises NotBack."""
        connection, progress = self._connection, self._progress
        connection.wait_for_reboot(
            progress.boot,
            timeout=self._reboot_timeout,
            on_wait=lambda seconds: progress.say(
                f"{connection.endpoint.address} is not reachable {seconds:.0f} s after the reboot; waiting for at most "
                f"{self._reboot_timeout:.0f} s"
            ),
        )
        progress.rebooted()
        boot_ended = Stage("boot", (BoundOperation(BootEnded(), Mark("", 0, 0)),))
        _Run(
            connection,
            compile_program([boot_ended]),
            progress.pass_on,
            progress.mask,
            "apply",
            None,
            self._reboot_timeout,
            contextlib.nullcontext,
            log_on_disk=False,
        ).carry_out()


def is_going_down(connection: Connection) -> bool:
    """Return whether a host shuts down or reboots, or will at a time that is set. A lost connection counts as well."""
    try:
        done = connection.run(GOING_DOWN, timeout=_LOOK_SECONDS)
    except ConnectionLost:
        return True
    except BuilderError:
        return False
    return done.text == "yes"


def _look_at(connection: Connection, *, lost_counts: bool) -> tuple[bool, str]:
    """Return what :func:`is_going_down` does, and the boot id, by one command. ``lost_counts``: a lost connection means
    that the host goes down; otherwise raises ConnectionLost."""
    try:
        done = connection.run(f"({GOING_DOWN}); cat /proc/sys/kernel/random/boot_id", timeout=_LOOK_SECONDS)
    except ConnectionLost:
        if not lost_counts:
            raise
        return True, ""
    except BuilderError:
        return False, connection.boot_id()  # such as a systemd that does not answer
    *going, boot = done.text.splitlines() or [""]
    return going == ["yes"], boot or connection.boot_id()


def settle(
    connection: Connection, emit: Emit = ignore_events, *, since: str = "", reboot_timeout: float = REBOOT_SECONDS
) -> str:
    """Wait for the end of a reboot that the host began itself, so that the next work has a host that stays up.

    It began one if it goes down, or if its boot id is not ``since`` any more. Does nothing for another host. Returns
    the boot id of the host now. Raises NotBack, and ConnectionLost without ``since``.
    """
    going, now = _look_at(connection, lost_counts=bool(since))
    boot = since or now
    if not going and now == boot:
        return now
    nothing = compile_program([])
    run = _Run(
        connection, nothing, emit, masker(()), "apply", None, reboot_timeout, contextlib.nullcontext, log_on_disk=False
    )
    run.await_reboot(boot)
    return connection.boot_id()


def _reason(end: Ended, *, on_disk: bool) -> tuple[str, str | None]:
    """Return why a program ended without its end event, as the begin of a sentence, and a hint. ``on_disk``: its log
    is on the disk, and not in memory."""
    status = int(end.status) if end.status.isdecimal() else None
    is_full = status == UNWRITTEN or (end.free is not None and end.free < _LITTLE_KIB)
    if end.status == "output" or (is_full and end.size > _LONG_KIB):
        most = f"{LOG_BYTES >> 20} MiB or half of the space that was free"
        what = f"the program was ended because it printed {end.size >> 10} MiB, and its log may have {most}"
        return what, "Let the operation write its output to a file, or less of it."
    if end.out_of_memory:
        return (
            f"the kernel ended processes for lack of memory ({end.out_of_memory}), and the program with them",
            hints.MORE_MEMORY,
        )
    if is_full and not on_disk:
        return "the program ended because its log could not be written: no space is left in /run", hints.MORE_MEMORY
    if is_full:
        return (
            "the program ended because its log could not be written: no space is left on the host",
            "Increase image.root_volume.size_gib, or delete what fills the disk.",
        )
    if status is not None and status > 128:
        name = _signal(status - 128)
        return (
            f"another process ended the program ({name})",
            "Look for what sends signals on the host, such as a script.",
        )
    return "the program ended unexpectedly" + (f" with exit status {status}" if status is not None else ""), None


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
