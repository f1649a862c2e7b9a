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
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from goldenami.errors import BuilderError, ConnectionLost, OperationDoubtful, OperationFailed
from goldenami.events import Emit, ignore_events
from goldenami.provision.follower import NO_DIRECTORY, Follower, attach_script, end_script, start_script, sudo
from goldenami.provision.masking import masker
from goldenami.provision.operation import BoundOperation, Stage
from goldenami.provision.program import Item, Program, compile_program
from goldenami.provision.progress import Progress, Within
from goldenami.provision.results import RunResult, StageResult

if TYPE_CHECKING:  # paramiko takes a while to load, and recipes are validated without it
    from goldenami.ssh import Completed, Connection, Deadline

REBOOT_SECONDS = 600.0
_ATTEMPTS = 3  # of a program that the host has forgotten, and of connections that are lost without any progress between
_RECONNECT_SECONDS = 180.0
_MEMORY_BYTES = 64 << 20  # larger archives go to the disk, into /var/tmp


def run_stage(
    connection: Connection,
    stage: Stage,
    emit: Emit = ignore_events,
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
    emit: Emit = ignore_events,
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
        self._mode = mode
        self._timeout = timeout
        self._reboot_timeout = reboot_timeout
        self._deadline: Deadline | None = None
        self._progress = Progress(program, to, mask, connection.endpoint.address, within, self._on_stage)

    def carry_out(self) -> RunResult:
        start = time.monotonic()
        try:
            self._to_the_end()
        except BaseException as error:
            self._progress.leave(error)
            raise
        self._progress.leave(None)
        return RunResult(self._progress.stages, self._progress.facts, time.monotonic() - start)

    def _to_the_end(self) -> None:
        first, lost, progress = 0, 0, self._progress
        while True:
            progress.reboot_after = None
            whole = self._attempt(first)
            if progress.failure is not None:
                raise progress.failure
            if not whole:
                lost += 1
                self._look_at_what_was_lost(lost)
            elif progress.reboot_after is None:
                return
            else:
                first = progress.reboot_after + 1
                self._reboot()

    def _on_stage(self) -> None:
        """The time is a stage's own."""
        if self._deadline is not None:
            self._deadline.restart()

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
            follower = Follower(mark, self._progress.on_message, self._progress.on_output)
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
        ended = self._progress.ended
        changed = [i for i, status in ended.items() if i >= first and status == "changed"]
        spared = [i for i in ended if i >= first and self._program.steps[i].once]
        words = ["".join(f" {i}" for i in sorted(group)) + " " for group in (changed, spared)]
        return f"{self._mode} {first} '{words[0]}' '{words[1]}'"

    def _attach(self, work: str, follower: Follower) -> bool:
        """Connect anew and go on reading what the program writes. False if the host knows nothing of it any more."""
        from goldenami.ssh import CommandTimeout

        without_progress = 0
        while without_progress < _ATTEMPTS:
            self._progress.say(
                f"the connection to {self._connection.endpoint.address} was lost; connecting again", "warning"
            )
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
            f"{self._connection.endpoint.address}: the connection was lost again and again while {self._progress.doing}"
        )

    def _did_not_start(self, done: Completed) -> BuilderError:
        said = done.stderr.decode(errors="replace").strip() or self._progress.output.replace("\n", "; ")
        hint = None
        if "sudo" in said:
            hint = f"The user {self._connection.endpoint.user!r} must be allowed to use sudo without a password."
        return BuilderError(
            f"the stage {self._progress.stage_name} could not be started: {self._progress.mask(said)}", hint=hint
        )

    def _was_ended(self) -> OperationFailed:
        """The connection held, but something on the host ended the program."""
        progress = self._progress
        if progress.bound is None:
            what = f"the program ended by itself in the stage {progress.stage_name}"
            return OperationFailed(what, output=progress.output)
        return self._failed(
            progress.bound,
            f"the program was ended from outside while {progress.doing}",
            "Is there enough memory? The kernel's log on the host tells whether it killed something.",
        )

    def _took_too_long(self, work: str) -> OperationFailed | BuilderError:
        with contextlib.suppress(BuilderError):
            self._connection.run(sudo(self._connection, end_script(work)), timeout=10)
        progress = self._progress
        text = f"the stage {progress.stage_name} did not end within {self._timeout:.0f} s; it was {progress.doing}"
        hint = "A stage that needs longer: set builder.timeout in the recipe."
        return self._failed(progress.bound, text, hint) if progress.bound else BuilderError(text, hint=hint)

    def _failed(self, bound: BoundOperation, text: str, hint: str) -> OperationFailed:
        """Of what runs."""
        return OperationFailed(
            f"{self._progress.mask(bound.label)}: {text}",
            place=str(bound.mark),
            output=self._progress.output,
            hint=hint,
        )

    def _look_at_what_was_lost(self, times: int) -> None:
        progress = self._progress
        running, bound = progress.running, progress.bound
        progress.running = None
        if running is not None and bound is not None and self._program.steps[running.index].once:
            raise OperationDoubtful(
                f"{progress.mask(bound.label)}: the host went away while this ran, and nothing on it tells whether it"
                " was done",
                place=str(bound.mark),
                output=progress.output,
                hint="Give it creates, unless, or idempotent: true if it may be run again; then build again.",
            )
        if times >= _ATTEMPTS:
            raise ConnectionLost(
                f"the host forgot the stage {progress.stage_name} {times} times while {progress.doing}"
            )
        progress.say(f"the host has forgotten the stage {progress.stage_name}; running it again", "warning")

    def _reboot(self) -> None:
        connection = self._connection
        self._progress.say(f"rebooting {connection.endpoint.address}")
        started = time.monotonic()
        with contextlib.suppress(ConnectionLost):
            done = connection.run(sudo(connection, "systemctl reboot"), timeout=60)
            if done.status > 0:
                raise BuilderError(f"the host does not reboot: {done.stderr.decode(errors='replace').strip()}")
        connection.wait_for_reboot(
            self._progress.boot,
            timeout=self._reboot_timeout,
            on_wait=lambda seconds: self._progress.say(
                f"{connection.endpoint.address} is not back after {seconds:.0f} s; waiting until "
                f"{self._reboot_timeout:.0f} s are over"
            ),
        )
        self._progress.rebooted()
        self._progress.say(f"{connection.endpoint.address} is back after {time.monotonic() - started:.0f} s")
