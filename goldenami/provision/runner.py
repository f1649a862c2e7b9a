"""Runs a stage on a host: one command, whose input is the archive and whose output is the event stream.

The program runs beside the connection and writes to a file in its working directory (in /run, which is memory); the
command only follows that file. So nothing is cut off in its middle when a connection drops: the runner connects anew
and goes on reading where it was. Only if the host has forgotten the run (a crash, a reboot) is the stage run again,
which idempotence allows; an operation that cannot tell whether it was done (``Steps.once``) and was seen to start but
not to end is an error then.
"""

from __future__ import annotations

import contextlib
import queue
import secrets as randomness
import shlex
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Literal

from goldenami.errors import BuilderError, ConnectionLost, OperationFailed
from goldenami.events import Emit, emit, silent
from goldenami.provision import hints
from goldenami.provision.operation import Stage
from goldenami.provision.program import Program, compile_stage
from goldenami.provision.stream import Ended, Finished, Message, Reader, RebootDue, Started, Status

if TYPE_CHECKING:  # paramiko takes a while to load, and recipes are validated without it
    from goldenami.ssh import Completed, Connection

MASK = "(secret)"

_ATTEMPTS = 3  # of a stage whose run the host has forgotten
_RECONNECT_SECONDS = 180.0
_REBOOT_SECONDS = 600.0
_OUTPUT_LINES = 20
_MEMORY_BYTES = 64 << 20  # larger archives go to the disk, into /var/tmp
_CHUNK = 256 << 10

_NO_DIRECTORY = 97


@dataclass(frozen=True, slots=True)
class OperationResult:
    """How one operation went. In check mode, "changed" means that it would be."""

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


def run_stage(
    connection: Connection,
    stage: Stage,
    emit: Emit = silent,
    *,
    secrets: Iterable[str] = (),
    mode: Literal["apply", "check"] = "apply",
    timeout: float | None = None,
) -> StageResult:
    """Run a stage as root (by sudo, unless the connection is root's); reboots and new connections on the way are part
    of it.

    ``mode`` "check" changes nothing and reports what would be. ``secrets`` are masked in events and errors.
    ``timeout``: seconds that the program may go without an end. Raises OperationFailed (the first failure ends the
    stage), BuilderError, ConnectionLost.
    """
    run = _Run(connection, compile_stage(stage), emit, _masker(secrets), mode, timeout)
    return run.carry_out()


def sudo(connection: Connection, script: str) -> str:
    """The command that runs a script as root on this connection."""
    command = f"sh -c {shlex.quote(script)}"
    return command if connection.endpoint.user == "root" else f"sudo -n {command}"


class _Run:
    def __init__(
        self,
        connection: Connection,
        program: Program,
        to: Emit,
        mask: Callable[[str], str],
        mode: str,
        timeout: float | None,
    ) -> None:
        self._connection = connection
        self._program = program
        self._operations = program.operations
        self._emit = to
        self._mask = mask
        self._mode = mode
        self._timeout = timeout
        self._results: list[OperationResult] = []
        self._reported: set[int] = set()  # a stage that is run again does not report twice
        self._running: Started | None = None
        self._output: deque[str] = deque(maxlen=_OUTPUT_LINES)
        self._reboot_after: int | None = None
        self._failure: OperationFailed | None = None
        self._rebooted = 0

    def carry_out(self) -> StageResult:
        start = time.monotonic()
        first, lost = 0, 0
        while True:
            self._reboot_after = None
            whole = self._attempt(first)
            if self._failure is not None:
                raise self._failure
            if not whole:
                lost += 1
                self._look_at_what_was_lost(lost)
                continue
            if self._reboot_after is None:
                return StageResult(
                    self._program.stage.name, tuple(self._results), time.monotonic() - start, self._rebooted
                )
            first = self._reboot_after + 1
            self._reboot()

    # --- one run of the program ---------------------------------------------------------------------------------------

    def _attempt(self, first: int) -> bool:
        """Run the program from an operation on, through lost connections. False if it did not come to an end."""
        name = f"goldenami.{randomness.token_hex(8)}"
        mark = f"goldenami-{randomness.token_hex(8)}"
        with self._program.archive() as archive:
            size = archive.seek(0, 2)
            archive.seek(0)
            work = f"{'/run' if size <= _MEMORY_BYTES else '/var/tmp'}/{name}"
            follower = _Follower(mark, self._on_message, self._on_output)
            command = sudo(self._connection, _start_script(work, mark, self._mode, first, size))
            try:
                done = follower.follow(self._connection, command, archive, self._timeout)
            except ConnectionLost:
                return self._attach(work, follower)
        if not follower.ended:
            raise self._did_not_start(done)
        if not follower.whole:
            raise self._was_ended()
        return True

    def _attach(self, work: str, follower: _Follower) -> bool:
        """Connect anew and go on reading what the program writes. False if the host knows nothing of it any more."""
        for _ in range(_ATTEMPTS):
            self._say(f"the connection to {self._connection.endpoint.address} was lost; connecting again")
            self._connection.reconnect(timeout=_RECONNECT_SECONDS)
            command = sudo(self._connection, _attach_script(work))
            try:
                done = follower.follow(self._connection, command, None, self._timeout)
            except ConnectionLost:
                continue
            if done.status == _NO_DIRECTORY and not follower.ended:
                return False
            return follower.whole
        raise ConnectionLost(
            f"{self._connection.endpoint.address}: the connection was lost again and again while {self._doing()}"
        )

    def _did_not_start(self, done: Completed) -> BuilderError:
        said = done.stderr.decode(errors="replace").strip() or "; ".join(self._output)
        hint = None
        if "sudo" in said:
            hint = f"The user {self._connection.endpoint.user!r} must be allowed to use sudo without a password."
        return BuilderError(f"the stage {self._program.stage.name} could not be started: {self._mask(said)}", hint=hint)

    def _was_ended(self) -> OperationFailed:
        """The connection held, but something on the host ended the program."""
        if self._running is None:
            return OperationFailed(
                f"the program of the stage {self._program.stage.name} ended by itself", output="\n".join(self._output)
            )
        bound = self._operations[self._running.index]
        return OperationFailed(
            f"{self._mask(bound.label)}: the program was ended from outside while {self._doing()}",
            place=str(bound.mark),
            output="\n".join(self._output),
            hint="Is there enough memory? The kernel's log on the host tells whether it killed something.",
        )

    def _look_at_what_was_lost(self, times: int) -> None:
        running, self._running = self._running, None
        if running is not None and self._program.steps[running.index].once:
            bound = self._operations[running.index]
            raise OperationFailed(
                f"{bound.label}: the host went away while this ran, and nothing on it tells whether it was done",
                place=str(bound.mark),
                output="\n".join(self._output),
                hint="Give it creates, unless, or idempotent: true if it may be run again; then build again.",
            )
        if times >= _ATTEMPTS:
            raise ConnectionLost(
                f"the host forgot the stage {self._program.stage.name} {times} times while {self._doing()}"
            )
        self._say(f"the host has forgotten the stage {self._program.stage.name}; running it again")

    def _reboot(self) -> None:
        connection = self._connection
        before = connection.boot_id()
        self._say(f"rebooting {connection.endpoint.address}")
        with contextlib.suppress(ConnectionLost):
            done = connection.run(sudo(connection, "systemctl reboot"), timeout=60)
            if done.status > 0:
                raise BuilderError(f"the host does not reboot: {done.stderr.decode(errors='replace').strip()}")
        connection.wait_for_reboot(before, timeout=_REBOOT_SECONDS)
        self._rebooted += 1

    # --- what it says -------------------------------------------------------------------------------------------------

    def _on_message(self, message: Message) -> None:
        if isinstance(message, Started):
            self._running = message
            self._output.clear()
            if message.index not in self._reported:
                self._report("operation.started", message.index)
        elif isinstance(message, Finished):
            self._on_finished(message)
        elif isinstance(message, RebootDue):
            self._reboot_after = message.index

    def _on_finished(self, message: Finished) -> None:
        started, self._running = self._running, None
        seconds = max(0.0, message.uptime - started.uptime) if started else 0.0
        bound = self._operations[message.index]
        detail = self._mask(message.detail)
        if message.index not in self._reported:
            self._reported.add(message.index)
            title = self._mask(bound.label)
            self._results.append(
                OperationResult(message.index, title, str(bound.mark), message.status, seconds, detail)
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
        emit(self._emit, "operation.output", line=line, index=self._running.index + 1 if self._running else None)

    def _report(self, kind: str, index: int, **fields: object) -> None:
        bound = self._operations[index]
        emit(
            self._emit,
            kind,
            index=index + 1,  # people count from 1
            total=len(self._operations),
            title=self._mask(bound.label),
            place=str(bound.mark),
            host=self._connection.endpoint.address,
            **fields,
        )

    def _say(self, message: str) -> None:
        emit(self._emit, "note", message=message, level="info")

    def _doing(self) -> str:
        running = self._running
        return f"running {self._mask(self._operations[running.index].label)}" if running else "between two operations"


class _Follower:
    """Reads one run of a program, over as many connections as it takes."""

    def __init__(self, mark: str, on_message: Callable[[Message], None], on_output: Callable[[str], None]) -> None:
        self.mark = mark
        self.ended = False
        self.whole = False
        self._taken = 0  # lines, over all connections; a new one reads the log from its beginning again
        self._skip = 0
        self._on_message = on_message
        self._reader = Reader(mark, self._message, on_output)
        self._acknowledge: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def follow(
        self, connection: Connection, command: str, archive: IO[bytes] | None, timeout: float | None
    ) -> Completed:
        self._acknowledge = queue.SimpleQueue()
        self._skip = self._taken
        try:
            return connection.stream(command, self._input(archive), self._line, timeout, lambda: self.ended)
        finally:
            self._acknowledge.put(None)

    def _input(self, archive: IO[bytes] | None) -> Iterator[bytes]:
        """The archive; then, once the end was read, the word that the working directory may go."""
        acknowledge = self._acknowledge
        while archive is not None and (chunk := archive.read(_CHUNK)):
            yield chunk
        if (word := acknowledge.get()) is not None:
            yield word

    def _line(self, line: str) -> None:
        if self._skip:
            self._skip -= 1
            return
        self._taken += 1
        self._reader.feed(line)

    def _message(self, message: Message) -> None:
        if isinstance(message, Ended):
            self.ended = True
            self.whole = self.whole or message.whole
            self._acknowledge.put(b"read\n")
        self._on_message(message)


def _start_script(work: str, mark: str, mode: str, first: int, size: int) -> str:
    """Unpack the archive from stdin, start the program apart from this connection, follow what it writes."""
    return f"""umask 077
mkdir -m 0711 {work} || exit {_NO_DIRECTORY}
head -c {size} | tar -xzf - -C {work} --no-same-owner || {{ rm -rf {work}; exit 1; }}
: >{work}/log
if command -v setsid >/dev/null; then apart=setsid; else apart=nohup; fi
(
$apart sh {work}/program {work} {mark} {mode} {first} >>{work}/log 2>&1 &
echo $! >{work}/pid
wait $!
printf '\\n{mark} gone\\n' >>{work}/log
) </dev/null >/dev/null 2>&1 &
tail -n +1 -f -s 0.1 {work}/log &
{_UNTIL_READ.format(work=work)}"""


def _attach_script(work: str) -> str:
    return f"""[ -e {work}/log ] || exit {_NO_DIRECTORY}
tail -n +1 -f -s 0.1 {work}/log &
{_UNTIL_READ.format(work=work)}"""


# Without the word from the other side, the log stays for ten minutes for the next connection to read.
_UNTIL_READ = """follower=$!
if read -r _; then rm -rf {work}; else (sleep 600; rm -rf {work}) </dev/null >/dev/null 2>&1 & fi
kill $follower
"""


def _masker(secrets: Iterable[str]) -> Callable[[str], str]:
    # Line by line, since output is masked by the line; longest first, in case one holds another.
    parts = sorted({part for value in secrets for part in value.splitlines() if part.strip()}, key=len, reverse=True)

    def mask(text: str) -> str:
        for part in parts:
            text = text.replace(part, MASK)
        return text

    return mask
