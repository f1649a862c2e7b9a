"""Runs commands on one host over one SSH connection.

Connecting needs at most 6 round trips. A command needs 2 (open a channel; request the command and send its input), plus
one for each time that one side waits for the other. A test counts them. Input, stdout and stderr of a command are
transferred at the same time, so their size cannot block it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

from goldenami.errors import BuilderError, ConnectionLost, GoldenAmiError
from goldenami.model import SshEndpoint
from goldenami.polling import Interval, poll
from goldenami.ssh.library import GONE, end_channel, paramiko
from goldenami.ssh.loginshell import Head, needs_terminal, new_mark, with_terminal, wrapped
from goldenami.ssh.output import Lines, Tail
from goldenami.ssh.transport import ATTEMPT_SECONDS, NotReachable, Refused, open_transport, translated

Sleep = Callable[[float], None]
Clock = Callable[[], float]
Check = Callable[[], None]

_RETRY = Interval(0.05, 1.05, 0.25)  # a host that boots fast is found soon: in the first second, after 0.1 s at most
# The pause after a refused login, which sshd counts against this address (PerSourcePenalties, OpenSSH 9.8), and where
# each attempt opens a session of another service (a bastion, Session Manager).
_COSTLY_SECONDS = 0.25
_SESSION = Interval(0.05, 1.3, 1.0)
_SHORTEST_SECONDS = 2.0  # minimum for one attempt, even if less time is left
_PATIENCE_SECONDS = 30.0  # between two calls of ``on_wait`` during a reboot; limit for one attempt to connect
# A host that refuses the login is tried again for this time. At boot, sshd may run before cloud-init has installed keys
# and users, and pam_nologin refuses all logins until the boot is complete.
_REFUSED_SECONDS = 25.0

_SILENCE_SECONDS = 60.0  # between two calls of ``on_silence``
_CHUNK = 256 << 10
_STDERR_BYTES = 256 << 10  # only the end of a command's stderr is kept
_POLL_SECONDS = 0.2
_OPEN_SECONDS = 30.0
_START_SECONDS = 60.0  # limit for the login shell: from a command's request to its start
# sshd refuses a session beyond its MaxSessions. The first limit is for a session while commands of this connection run,
# the second one for a session that would be the only one.
_SESSION_SECONDS = 300.0
_ONLY_SESSION_SECONDS = 5.0
# After a command has ended, a background child may keep its output open. All output of the command itself has arrived
# long before this time.
_LINGER_SECONDS = 2.0
_LEFT_SECONDS = 10.0  # limit for the end of a command that was not waited for


class CommandTimeout(BuilderError):
    """A command did not end within its time limit. It may still run."""


class NotBack(BuilderError):
    """A host did not accept connections again within the time limit after a reboot."""


class Deadline:
    """A time limit in seconds that can be restarted."""

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
    """The result of a command. ``status``: its exit status, -1 if a signal ended it. ``stderr``: its last 256 KiB."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """The stdout as text, without white space at the end."""
        return self.stdout.decode(errors="replace").rstrip()


def connect(
    endpoint: SshEndpoint,
    *,
    timeout: float,
    sleep: Sleep = time.sleep,
    clock: Clock = time.monotonic,
    check: Check = lambda: None,
    on_wait: Callable[[float], None] | None = None,
) -> Connection:
    """Connect to a host that may still be booting.

    Tries again for ``timeout`` seconds while no SSH server answers. A wrong host key or a refused login is an error
    earlier: after 25 seconds. ``check`` is called before each attempt, also at a reconnection, and may raise an error
    that ends the wait. ``on_wait`` is called about every 30 seconds with the seconds so far. Raises NotReachable or
    Refused with the error of the last attempt; ValueError if a key of the
    endpoint is invalid.
    """
    transport = _transport(endpoint, timeout, sleep, clock, check, on_wait)
    return Connection(endpoint, transport, sleep=sleep, clock=clock, check=check)


def log_in_once(endpoint: SshEndpoint, *, sleep: Sleep = time.sleep) -> Connection | None:
    """Connect to a host that may still be booting, once and for some seconds at most. Return None if that fails: then
    :func:`connect` finds out why. Raises ValueError if a key of the endpoint is invalid."""
    try:
        return Connection(endpoint, open_transport(endpoint, _SHORTEST_SECONDS), sleep=sleep)
    except (NotReachable, Refused):
        return None


def _transport(
    endpoint: SshEndpoint,
    timeout: float,
    sleep: Sleep,
    clock: Clock,
    check: Check,
    on_wait: Callable[[float], None] | None = None,
) -> paramiko.Transport:
    last: BuilderError | None = None
    refused_since: float | None = None
    shortest = None if endpoint.transport is None else _COSTLY_SECONDS
    for elapsed in poll(
        clock,
        sleep,
        timeout=timeout,
        interval=_RETRY,
        check=check,
        sign_of_life=on_wait,
        silence=_PATIENCE_SECONDS,
        ahead=lambda _: shortest,  # noqa: B023 - its value of the moment
    ):
        try:
            return open_transport(endpoint, max(_SHORTEST_SECONDS, min(ATTEMPT_SECONDS, timeout - elapsed)))
        except NotReachable as error:
            last = error
            refused_since = None
        except Refused as error:
            last = error
            shortest = _COSTLY_SECONDS  # from now on: sshd may also close the next connections at once
            refused_since = clock() if refused_since is None else refused_since
            if clock() - refused_since >= _REFUSED_SECONDS:
                raise
    assert last is not None, "there is at least one attempt"
    raise NotReachable(
        f"no SSH connection within {timeout:.0f} s: {last.message}",
        hint=last.hint or "Check that this computer can reach the address on that port (security group, routes, VPN).",
    ) from last


class Connection:
    """An open SSH connection, created by ``connect``. Several threads may run commands at the same time. A command
    waits while the host's sshd allows no further session (MaxSessions, ten by default).
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
        self._unfinished: list[paramiko.Channel] = []  # of commands that were not waited for
        self._opening = threading.Lock()
        self._sessions = 0  # commands that run
        self.sudo_needs_terminal = False  # found when sudo refused a command; see ``as_root``
        # Called when sshd refuses a session: whoever has idle sessions (``start``) ends them.
        self.on_refused_session: Callable[[], object] = lambda: None
        self._counting = threading.Lock()

    @property
    def name(self) -> str:
        """The host as "user@address:port"."""
        return f"{self.endpoint.user}@{self.endpoint.address}:{self.endpoint.port}"

    def __enter__(self) -> Connection:
        """Return this connection. The end of the block closes it, or drops it after an error that ends everything."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        is_interrupted = error is not None and not isinstance(error, Exception)
        if is_interrupted or (isinstance(error, GoldenAmiError) and error.ends_everything):
            self.drop()
        else:
            self.close()

    def check(self) -> None:
        """Raise the error of an interruption, if there was one."""
        self._check()

    def under(self, check: Check) -> Connection:
        """Return this connection, which calls ``check`` from now on, as one of ``connect`` does."""
        self._check = check
        return self

    @property
    def is_open(self) -> bool:
        """Whether nobody has closed it, as far as it is known."""
        return self._transport.is_active()

    def pause(self, seconds: float) -> None:
        """Sleep. Raises the error of an interruption."""
        self._sleep(seconds)

    def close(self) -> None:
        """Wait for the end of commands that were not waited for, ten seconds at most, then close the connection.

        What was sent to them last may still be on its way, and the host would lose it. A lost connection is not waited
        for. A second call does nothing."""
        try:
            if self._unfinished:
                with self._opening:
                    self._end_unfinished()
        finally:
            self.drop()

    def drop(self) -> None:
        """Close the connection at once, which ends all its commands and each wait for them: for a host that is about
        to be ended, or does not answer. A second call does nothing."""
        if isinstance(self._transport.sock, socket.socket):
            # It wakes the thread that reads, for which the close would wait up to a tenth of a second.
            with contextlib.suppress(OSError):
                self._transport.sock.shutdown(socket.SHUT_RDWR)
        self._transport.close()

    def reconnect(self, *, timeout: float, on_wait: Callable[[float], None] | None = None) -> None:
        """Close the connection and open a new one. Raises the same errors as ``connect``. ``on_wait``: as there."""
        self.close()
        self._transport = _transport(self.endpoint, timeout, self._sleep, self._clock, self._check, on_wait)

    def run(
        self,
        command: str,
        stdin: bytes | None = None,
        timeout: float | None = None,
        on_silence: Callable[[float], None] | None = None,
    ) -> Completed:
        """Run a command without a terminal, and wait for its end. bash runs it if it is the login shell, else sh.

        What the login shell itself prints is not part of the output. Raises ConnectionLost if the connection ends
        first; the outcome of the command is then unknown. Raises CommandTimeout after ``timeout`` seconds, and Refused
        if the host does not run commands. ``on_silence``: as for ``stream``.
        """
        output: list[bytes] = []
        status, stderr = self._execute(command, stdin, output.append, timeout, on_silence=on_silence)
        return Completed(status, b"".join(output), stderr)

    def start(self, commands: Sequence[str]) -> list[tuple[paramiko.Channel, str] | None]:
        """Start commands at the same time, each on its own channel, and return at once.

        Returns for each command its channel and the mark: the command's output begins after it, on stdout and on
        stderr (``loginshell.Head``). None if sshd allows no session for it. Costs one round trip for all of them; what
        is then sent to the channels needs to wait for nothing. The caller closes the channels.
        """
        channels: list[paramiko.Channel | None] = [None] * len(commands)
        errors: list[Exception] = []

        def open_one(number: int) -> None:
            try:
                channels[number] = self._transport.open_session(window_size=None, timeout=_OPEN_SECONDS)
            except GONE as error:
                # sshd's MaxSessions. paramiko raises a ChannelException for one of several refusals at the same time.
                if not self._transport.is_active():
                    errors.append(error)

        threads = [threading.Thread(target=open_one, args=(number,), daemon=True) for number in range(len(commands))]
        with translated(self.name):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(_OPEN_SECONDS + 1)
            if errors:
                raise errors[0]
            started: list[tuple[paramiko.Channel, str] | None] = []
            for channel, command in zip(channels, commands, strict=True):
                mark = new_mark()
                if channel is not None:
                    _send_request(channel, wrapped(command, mark))
                started.append(None if channel is None else (channel, mark))
        return started

    def as_root(self, command: str) -> str:
        """Return the command that runs a command for sh as root: with sudo, unless the login user is root."""
        if self.endpoint.user == "root":
            return command
        asked = f"sudo -n {command}"
        return with_terminal(asked) if self.sudo_needs_terminal else asked

    def asks_for_terminal(self, done: Completed) -> bool:
        """Return whether sudo refused to start this command of ``as_root`` for lack of a terminal.

        The command can then be sent again: ``as_root`` gives commands a terminal from now on.
        """
        if self.sudo_needs_terminal or not needs_terminal(done.status, done.stderr):
            return False
        self.sudo_needs_terminal = True
        return True

    def stream(
        self,
        command: str,
        stdin: bytes | Iterable[bytes],
        on_line: Callable[[str], None],
        timeout: float | Deadline | None = None,
        until: Callable[[], bool] | None = None,
        on_silence: Callable[[float], None] | None = None,
    ) -> Completed:
        """Run a command as ``run`` does, and call ``on_line`` with each line of stdout as it arrives, also while
        ``stdin`` is being sent.

        Lines are passed without their line end; a last line without one is passed too. Bytes that are not UTF-8 are
        replaced. ``stdin`` may be an iterable that blocks: a separate thread reads it, and stops after the end of the
        command. ``stdout`` of the result is empty.

        ``until`` is called after each piece of output. When it returns true, the end of ``stdin`` is sent, and the
        result is returned with status 0, without waiting for the end of the command. That saves one round trip. The
        next command of this connection waits for that end, at most ten seconds, while its own channel is opened.
        ``close`` waits for it, too.

        ``on_silence`` is called about every minute while no output arrives, with the seconds of silence.
        """
        lines = Lines(on_line)
        status, stderr = self._execute(command, stdin, lines.feed, timeout, until, on_silence)
        lines.end()
        return Completed(status, b"", stderr)

    def boot_id(self) -> str:
        """Read Linux's boot id, which is new after every reboot. Raises BuilderError if it cannot be read."""
        done = self.run("cat /proc/sys/kernel/random/boot_id", timeout=_OPEN_SECONDS)
        if done.status != 0 or not done.text:
            raise BuilderError(f"{self.name}: /proc/sys/kernel/random/boot_id cannot be read (status {done.status})")
        return done.text

    def wait_for_reboot(self, before: str, *, timeout: float, on_wait: Callable[[float], None] | None = None) -> None:
        """Wait until the host has rebooted, and reconnect. ``before``: the boot id before the reboot. The connection is
        dropped at once: a host that goes down may be silent, and loses what its commands would still do.

        ``on_wait`` is called about every 30 seconds with the seconds since the start. Raises NotBack if the host is
        unreachable or has not rebooted after ``timeout`` seconds; Refused if it proves another host key.
        """
        self.drop()
        last = "it did not shut down"
        for elapsed in poll(
            self._clock,
            self._sleep,
            timeout=timeout,
            interval=_RETRY,
            sign_of_life=on_wait,
            silence=_PATIENCE_SECONDS,
            ahead=lambda _: _COSTLY_SECONDS if self.endpoint.transport is not None else None,
        ):
            try:
                self.reconnect(timeout=max(_SHORTEST_SECONDS, min(timeout - elapsed, _PATIENCE_SECONDS)))
                if self.boot_id() != before:
                    return
            except (ConnectionLost, CommandTimeout, NotReachable) as error:
                last = error.message
        raise NotBack(
            f"{self.name} did not come back from its reboot within {timeout:.0f} s: {last}",
            hint="The console output of the host may show the reason.",
        )

    def _execute(
        self,
        command: str,
        stdin: bytes | Iterable[bytes] | None,
        on_output: Callable[[bytes], None],
        timeout: float | Deadline | None,
        until: Callable[[], bool] | None = None,
        on_silence: Callable[[float], None] | None = None,
    ) -> tuple[int, bytes]:
        deadline = Deadline(timeout, self._clock) if isinstance(timeout, int | float) else timeout
        mark, wait = new_mark(), _Wait(self.name, command, deadline, on_silence, self._clock)
        head, errors = Head(mark), Tail(_STDERR_BYTES)
        errors_head = Head(mark)
        with translated(self.name), self._session() as opened:
            channel, is_unfinished = opened, False
            try:
                _send_request(channel, wrapped(command, mark))
                threading.Thread(target=_drain, args=(channel, errors, errors_head), daemon=True).start()
                sender = threading.Thread(target=_send, args=(channel, stdin or ()), daemon=True)
                sender.start()
                for piece in self._output(channel, wait, head):
                    if not (data := head.feed(piece)):
                        continue
                    on_output(data)
                    if until is not None and until():
                        sender.join(_OPEN_SECONDS)
                        is_unfinished = True
                        self._unfinished.append(channel)
                        return 0, errors.so_far()
                status, said = self._status(channel, wait), errors.finish()
                if not head.found or head.on_terminal:
                    raise self._not_run(head, errors_head)
                return status, said
            finally:
                if not is_unfinished:
                    end_channel(channel)

    @contextlib.contextmanager
    def _session(self) -> Iterator[paramiko.Channel]:
        """Open a channel for a command, and count it until the end of the block."""
        with self._counting:
            self._sessions += 1
        try:
            yield self._open()
        finally:
            with self._counting:
                self._sessions -= 1

    def _open(self) -> paramiko.Channel:
        """Open a channel for a command, after waiting for the end of unfinished commands."""
        if not self._unfinished:
            return self._open_session()
        # Other threads wait for the lock, because sshd counts unfinished commands against its MaxSessions.
        with self._opening:
            channel = None
            with contextlib.suppress(paramiko.ChannelException):
                channel = self._transport.open_session(window_size=None, timeout=_OPEN_SECONDS)
            self._end_unfinished()
            return channel or self._open_session()

    def _end_unfinished(self) -> None:
        """Wait for the end of unfinished commands. The end of the connection ends the wait."""
        until = time.monotonic() + _LEFT_SECONDS
        while self._unfinished:
            self._unfinished[0].status_event.wait(until - time.monotonic())
            end_channel(self._unfinished.pop(0))

    def _open_session(self) -> paramiko.Channel:
        """Open a channel. If sshd refuses it, try again while other commands of this connection may free their session.

        Raises Refused: the connection is not lost, and the instance is well.
        """
        last = ""
        for elapsed in poll(self._clock, self._sleep, timeout=_SESSION_SECONDS, interval=_SESSION, check=self._check):
            try:
                return self._transport.open_session(window_size=None, timeout=_OPEN_SECONDS)
            except paramiko.ChannelException as error:
                last = error.text
                self.on_refused_session()
                if self._sessions <= 1 and elapsed >= _ONLY_SESSION_SECONDS:
                    break
        raise Refused(
            f"{self.name} accepts the login, and refuses a session for a command: {last}",
            hint="Check MaxSessions of sshd in the base image: at least 1. Restrictions of the key, and a host without "
            "free memory or processes, are other causes.",
        )

    def _not_run(self, head: Head, errors_head: Head) -> Refused:
        """Return the error for a command that the login shell has not run."""
        if head.on_terminal:
            return Refused(
                f"{self.name} runs commands on a terminal that was not requested",
                hint="A program that records sessions does that, as ForceCommand of sshd or as the login shell. Exempt "
                "the login user of builders from it in the base image.",
            )
        printed = "; ".join(text for text in (head.printed, errors_head.printed) if text)
        return Refused(
            f"{self.name} does not run commands" + (f"; it prints: {printed}" if printed else " and prints nothing"),
            hint="Check ssh_user, its login shell with the start-up files, and ForceCommand of sshd in the base image.",
        )

    def _output(self, channel: paramiko.Channel, wait: _Wait, head: Head) -> Iterator[bytes]:
        """Yield the stdout of a command until its end. Raises CommandTimeout, ConnectionLost, and Refused if the login
        shell does not start the command."""
        channel.settimeout(_POLL_SECONDS)
        start = Deadline(_START_SECONDS, self._clock)
        quiet_since: float | None = None
        while True:
            wait.check()
            if not head.found and start.over:
                raise Refused(
                    f"{self.name}: the login shell did not start a command within {_START_SECONDS:.0f} s"
                    + (f"; it prints: {head.printed}" if head.printed else ""),
                    hint="Check the login shell of ssh_user and its start-up files: they may wait for an answer.",
                )
            try:
                data = channel.recv(_CHUNK)
            except TimeoutError:
                if not self._transport.is_active():
                    raise ConnectionLost(f"{self.name}: the connection was lost during a command") from None
                wait.tell()
                if channel.exit_status_ready():
                    now = self._clock()
                    quiet_since = now if quiet_since is None else quiet_since
                    if now - quiet_since >= _LINGER_SECONDS:
                        return
                continue
            if not data:
                return
            quiet_since = None
            wait.heard()
            yield data

    def _status(self, channel: paramiko.Channel, wait: _Wait) -> int:
        """Return the exit status of a command. It may have closed its output long before its end."""
        while not channel.status_event.wait(_POLL_SECONDS):
            if not self._transport.is_active():
                break
            wait.check()
            wait.tell()
        if channel.exit_status >= 0:
            return channel.exit_status
        # Without a status, either a signal ended the command, or the connection ended first. In the second case the
        # transport becomes inactive a moment later.
        for _ in range(3):
            if not self._transport.is_active():
                raise ConnectionLost(f"{self.name}: the connection was lost during a command")
            time.sleep(0.05)
        return -1


class _Wait:
    """The wait for a command: its time limit, and the signs of life while no output arrives."""

    def __init__(
        self,
        name: str,
        command: str,
        deadline: Deadline | None,
        on_silence: Callable[[float], None] | None,
        clock: Clock,
    ) -> None:
        self._message = f"{name}: a command did not end in time: {command.split(None, 1)[0]} …"
        self._deadline = deadline
        self._on_silence = on_silence
        self._clock = clock
        self.heard()

    def heard(self) -> None:
        """Note that output has arrived."""
        self._last = self._last_sign = self._clock()

    def check(self) -> None:
        """Raise CommandTimeout after the time limit."""
        if self._deadline is not None and self._deadline.over:
            raise CommandTimeout(self._message)

    def tell(self) -> None:
        """Call ``on_silence`` about every minute."""
        now = self._clock()
        if self._on_silence is not None and now - self._last_sign >= _SILENCE_SECONDS:
            self._last_sign = now
            self._on_silence(now - self._last)


def _send_request(channel: paramiko.Channel, command: str) -> None:
    """Request a command without waiting for the reply. Its input can follow at once, which saves one round trip.

    paramiko has no public call for that. If the server refuses the request, paramiko closes the channel, and the
    command ends without a status.
    """
    vars(channel)["_wait_for_event"] = lambda: None
    channel.exec_command(command)


def _drain(channel: paramiko.Channel, errors: Tail, head: Head) -> None:
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
            errors.feed(head.feed(data))
    except GONE:
        return
    finally:
        errors.end()


def _send(channel: paramiko.Channel, stdin: bytes | Iterable[bytes]) -> None:
    # A command may end before it has read all its input, so a failed send is no error. The status shows the outcome.
    with contextlib.suppress(*GONE):
        for chunk in (stdin,) if isinstance(stdin, bytes) else stdin:
            _send_all(channel, memoryview(chunk))
        channel.shutdown_write()


def _send_all(channel: paramiko.Channel, data: memoryview) -> None:
    while data:
        try:
            sent = channel.send(bytes(data[:_CHUNK]))
        except TimeoutError:  # the window is full, because the command is not reading
            if channel.closed:
                return
            continue
        if sent == 0:
            return
        data = data[sent:]
