"""A connection to one host, over which commands run.

Round trips, as a test counts them: connecting costs at most 6, and a command 2 (open a channel; ask for the command,
with its input) plus one for each time that the two sides really wait for each other. Input, output and errors of a
command flow at the same time, whatever their size.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType

import paramiko

from goldenami.errors import BuilderError, ConnectionLost
from goldenami.model import SshEndpoint
from goldenami.polling import Interval, poll
from goldenami.ssh.output import Lines, Tail
from goldenami.ssh.transport import ATTEMPT_SECONDS, NotReachable, Refused, open_transport, translated

Sleep = Callable[[float], None]
Clock = Callable[[], float]
Check = Callable[[], None]

_RETRY = Interval.every(0.25)
_SHORTEST_SECONDS = 2.0  # for an attempt, however little time is left
_PATIENCE_SECONDS = 30.0  # how often somebody who waits for a reboot is told that it takes
# A host that refuses us is asked again for so long: at boot, sshd may run before cloud-init has installed keys and
# users, and pam_nologin turns everybody away until the boot is over.
_REFUSED_SECONDS = 25.0

_CHUNK = 256 << 10
_STDERR_BYTES = 256 << 10  # the end of what a command prints to stderr; the rest is dropped
_POLL_SECONDS = 0.2
_OPEN_SECONDS = 30.0
# A command that has ended can leave a child behind that holds its output open; what was printed has arrived long before
# this.
_LINGER_SECONDS = 2.0
_LEFT_SECONDS = 10.0  # for the end of a command that was left to end by itself


class CommandTimeout(BuilderError):
    """A command did not end in the time that it was given. It may still run."""


class NotBack(BuilderError):
    """A host did not come back from a reboot in the time that it was given."""


class Deadline:
    """A time limit that can begin anew while it runs. Seconds."""

    def __init__(self, seconds: float, clock: Clock = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self.restart()

    def restart(self) -> None:
        self._at = self._clock() + self.seconds

    @property
    def over(self) -> bool:
        return self._clock() >= self._at


@dataclass(frozen=True, slots=True)
class Completed:
    """How a command ended. ``status``: its exit status, -1 if a signal ended it. ``stderr``: the end of it, 256 KiB at
    most.
    """

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Its stdout as text, without white space at the end."""
        return self.stdout.decode(errors="replace").rstrip()


def connect(
    endpoint: SshEndpoint,
    *,
    timeout: float,
    sleep: Sleep = time.sleep,
    clock: Clock = time.monotonic,
    check: Check = lambda: None,
) -> Connection:
    """Connect to a host that may still be booting.

    Until ``timeout`` seconds have gone by it is tried again, as long as nothing listens or what listens is no SSH
    server yet. A wrong host key or a refused login that lasts for 25 seconds is an error before that. ``check`` is
    called before each attempt, also when a connection is made anew, and may raise what ends the waiting. Raises
    NotReachable or Refused, which say what the last attempt met; ValueError for an endpoint whose keys are not keys.
    """
    transport = _transport(endpoint, timeout, sleep, clock, check)
    return Connection(endpoint, transport, sleep=sleep, clock=clock, check=check)


def _transport(endpoint: SshEndpoint, timeout: float, sleep: Sleep, clock: Clock, check: Check) -> paramiko.Transport:
    last: BuilderError | None = None
    refused_since: float | None = None
    for elapsed in poll(clock, sleep, timeout=timeout, interval=_RETRY, check=check):
        try:
            return open_transport(endpoint, max(_SHORTEST_SECONDS, min(ATTEMPT_SECONDS, timeout - elapsed)))
        except NotReachable as error:
            last = error
            refused_since = None
        except Refused as error:
            last = error
            refused_since = clock() if refused_since is None else refused_since
            if clock() - refused_since >= _REFUSED_SECONDS:
                raise
    assert last is not None, "there is at least one attempt"
    raise NotReachable(
        f"no SSH connection within {timeout:.0f} s: {last.message}",
        hint=last.hint or "Check that this machine may reach the address on that port (security group, routes, VPN).",
    ) from last


class Connection:
    """An open SSH connection; made by ``connect``. Commands may run from several threads at once (sshd allows ten, by
    MaxSessions).
    """

    def __init__(
        self,
        endpoint: SshEndpoint,
        transport: paramiko.Transport,
        *,
        sleep: Sleep = time.sleep,
        clock: Clock = time.monotonic,
        check: Check = lambda: None,
    ) -> None:
        self.endpoint = endpoint
        self._transport = transport
        self._check = check
        self._sleep = sleep
        self._clock = clock
        self._left: list[paramiko.Channel] = []  # of commands that were left to end by themselves
        self._opening = threading.Lock()

    @property
    def name(self) -> str:
        """user@address:port"""
        return f"{self.endpoint.user}@{self.endpoint.address}:{self.endpoint.port}"

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it, and every command that still runs over it. Once more does nothing."""
        self._transport.close()

    def reconnect(self, *, timeout: float) -> None:
        """Replace what is left of the connection by a new one. Raises as ``connect`` does."""
        self._transport.close()
        self._transport = _transport(self.endpoint, timeout, self._sleep, self._clock, self._check)

    def run(self, command: str, stdin: bytes | None = None, timeout: float | None = None) -> Completed:
        """Run a command by the login user's shell, without a terminal, and wait for its end.

        Raises ConnectionLost if the connection ends first: the command may have run, or not. CommandTimeout after
        ``timeout`` seconds.
        """
        output: list[bytes] = []
        status, stderr = self._execute(command, stdin, output.append, timeout)
        return Completed(status, b"".join(output), stderr)

    def stream(
        self,
        command: str,
        stdin: bytes | Iterable[bytes],
        on_line: Callable[[str], None],
        timeout: float | Deadline | None = None,
        until: Callable[[], bool] | None = None,
    ) -> Completed:
        """As ``run``, but each line of stdout is handed to ``on_line`` as it arrives, while ``stdin`` is still being
        sent.

        Lines come without their end; a last one that has none counts too. What is no UTF-8 is replaced. ``stdin`` may
        be an iterable that waits: it is read in a thread of its own, and left alone once the command has ended.
        ``stdout`` of the result is empty.

        ``until`` is asked after each piece of output. Once it is true, the end of ``stdin`` is sent, and the command is
        left to end by itself; its status counts as 0. That spares the round trip in which it would be learned: the next
        command of this connection learns it while its own channel is opened, and does not begin before that end, ten
        seconds at most.
        """
        lines = Lines(on_line)
        status, stderr = self._execute(command, stdin, lines.feed, timeout, until)
        lines.end()
        return Completed(status, b"", stderr)

    def boot_id(self) -> str:
        """What Linux calls this boot: differs after every reboot."""
        done = self.run("cat /proc/sys/kernel/random/boot_id", timeout=_OPEN_SECONDS)
        if done.status != 0 or not done.text:
            raise BuilderError(f"{self.name}: the boot id cannot be read")
        return done.text

    def wait_for_reboot(self, before: str, *, timeout: float, on_wait: Callable[[float], None] | None = None) -> None:
        """Wait until the host has booted again and this connection is made anew. ``before``: the boot id before.

        ``on_wait`` is told now and then how many seconds it has been. Raises NotBack if the host is not there, or still
        in the boot before, after ``timeout`` seconds; Refused if it comes back as another one.
        """
        last = "it never went down"
        for elapsed in poll(
            self._clock,
            self._sleep,
            timeout=timeout,
            interval=_RETRY,
            sign_of_life=on_wait,
            silence=_PATIENCE_SECONDS,
        ):
            try:
                self.reconnect(timeout=max(_SHORTEST_SECONDS, min(timeout - elapsed, _PATIENCE_SECONDS)))
                if self.boot_id() != before:
                    return
            except (ConnectionLost, CommandTimeout, NotReachable) as error:
                last = error.message
        raise NotBack(
            f"{self.name} did not come back from its reboot within {timeout:.0f} s: {last}",
            hint="Its console output may say why.",
        )

    def _execute(
        self,
        command: str,
        stdin: bytes | Iterable[bytes] | None,
        on_output: Callable[[bytes], None],
        timeout: float | Deadline | None,
        until: Callable[[], bool] | None = None,
    ) -> tuple[int, bytes]:
        deadline = Deadline(timeout, self._clock) if isinstance(timeout, int | float) else timeout
        with translated(self.name):
            channel, left = self._open(), False
            try:
                _ask(channel, command)
                errors = Tail(_STDERR_BYTES)
                threading.Thread(target=_drain, args=(channel, errors), daemon=True).start()
                sender = threading.Thread(target=_send, args=(channel, stdin or ()), daemon=True)
                sender.start()
                for data in self._output(channel, deadline, command):
                    on_output(data)
                    if until is not None and until():
                        sender.join(_OPEN_SECONDS)
                        left = True
                        self._left.append(channel)
                        return 0, errors.so_far()
                return self._status(channel), errors.finish()
            finally:
                if not left:
                    channel.close()

    def _open(self) -> paramiko.Channel:
        """A channel for a command, once those that were left to end by themselves have ended."""
        if not self._left:
            return self._transport.open_session(window_size=None, timeout=_OPEN_SECONDS)
        # Others wait for their channels until then: sshd counts what has not ended against its MaxSessions.
        with self._opening:
            channel = self._transport.open_session(window_size=None, timeout=_OPEN_SECONDS)
            until = time.monotonic() + _LEFT_SECONDS
            while self._left:
                self._left[0].status_event.wait(until - time.monotonic())
                self._left.pop(0).close()
        return channel

    def _output(self, channel: paramiko.Channel, deadline: Deadline | None, command: str) -> Iterator[bytes]:
        """What the command prints, until its end."""
        channel.settimeout(_POLL_SECONDS)
        silent_since: float | None = None
        while True:
            if deadline is not None and deadline.over:
                raise CommandTimeout(f"{self.name}: a command did not end in time: {command.split(None, 1)[0]} …")
            try:
                data = channel.recv(_CHUNK)
            except TimeoutError:
                now = self._clock()
                if not self._transport.is_active():
                    raise ConnectionLost(f"{self.name}: the connection was lost during a command") from None
                if channel.exit_status_ready():
                    silent_since = now if silent_since is None else silent_since
                    if now - silent_since >= _LINGER_SECONDS:
                        return
                continue
            if not data:
                return
            silent_since = None
            yield data

    def _status(self, channel: paramiko.Channel) -> int:
        while not channel.status_event.wait(_POLL_SECONDS):
            if not self._transport.is_active():
                break
        if channel.exit_status >= 0:
            return channel.exit_status
        # No status: either a signal ended the command, or the connection ended first. The transport notices the latter
        # a moment later.
        for _ in range(3):
            if not self._transport.is_active():
                raise ConnectionLost(f"{self.name}: the connection was lost during a command")
            time.sleep(0.05)
        return -1


def _ask(channel: paramiko.Channel, command: str) -> None:
    """Ask for a command, and do not wait for the consent: its input can follow at once, which spares a round trip.

    paramiko has no call for that. Where the consent is refused, it closes the channel, and the command ends without a
    status.
    """
    vars(channel)["_wait_for_event"] = lambda: None
    channel.exec_command(command)


def _drain(channel: paramiko.Channel, errors: Tail) -> None:
    try:
        while True:
            try:
                data = channel.recv_stderr(_CHUNK)
            except TimeoutError:
                if channel.closed:
                    return
                continue
            if not data:
                return
            errors.feed(data)
    except OSError:
        return
    finally:
        errors.end()


def _send(channel: paramiko.Channel, stdin: bytes | Iterable[bytes]) -> None:
    # A command need not read all of its input: what cannot be sent any more is no error, and its status tells the rest.
    with contextlib.suppress(OSError, paramiko.SSHException):
        for chunk in (stdin,) if isinstance(stdin, bytes) else stdin:
            _send_all(channel, memoryview(chunk))
        channel.shutdown_write()


def _send_all(channel: paramiko.Channel, data: memoryview) -> None:
    while data:
        try:
            sent = channel.send(bytes(data[:_CHUNK]))
        except TimeoutError:  # the window is full: the command does not read just now
            if channel.closed:
                return
            continue
        if sent == 0:
            return
        data = data[sent:]
