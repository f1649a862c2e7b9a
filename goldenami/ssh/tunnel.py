"""Sockets whose other end is a program or a channel of another SSH connection.

SSH runs over such a socket as over TCP. The socket has a file descriptor, so another process can get it (``handover``).
When all copies of it are closed, the program with its process group is ended, or the channel is closed.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import shlex
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from goldenami.errors import BuilderError
from goldenami.ssh.library import GONE, end_channel, paramiko
from goldenami.ssh.output import Tail

_POLL_MILLISECONDS = 250
# A program that another user runs, as by sudo, cannot be ended. It ends by itself when its input has ended.
_NOT_OURS = (ProcessLookupError, PermissionError)
_TERM_SECONDS = 2.0  # between SIGTERM and SIGKILL
_EXPLAIN_SECONDS = 1.0  # a program that failed has ended after this time
_STDERR_BYTES = 16 << 10
_STDERR_LINES = 5
_CHUNK = 256 << 10


class TunnelSocket(socket.socket):
    """One end of a tunnel. ``explain``: returns why the tunnel ended, as text; empty if that is unknown."""

    explain: Callable[[], str] = staticmethod(lambda: "")


def socket_pair() -> tuple[TunnelSocket, socket.socket]:
    """Return a tunnel's two ends: that for SSH, and that for the program or the channel."""
    ours, theirs = socket.socketpair()
    return TunnelSocket(fileno=ours.detach()), theirs


# --- a program --------------------------------------------------------------------------------------------------------


def open_process(
    command: Sequence[str],
    *,
    variables: Mapping[str, str] | None = None,
    ended: Callable[[], None] = lambda: None,
    shown: str | None = None,
) -> TunnelSocket:
    """Start a program whose standard input and output are the tunnel, in a process group of its own.

    The group is ended after the socket was closed: by SIGTERM, and by SIGKILL two seconds later. ``variables``: the
    whole environment of the program; None: this process's. ``ended``: called after the program ended, in another
    thread. ``shown``: the command for messages, if its arguments have a secret. Raises BuilderError if the program
    cannot be started.
    """
    ours, theirs = socket_pair()
    try:
        process = subprocess.Popen(
            command,
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.PIPE,
            env=None if variables is None else dict(variables),
            start_new_session=True,
        )
    except OSError as error:
        ours.close()
        theirs.close()
        raise BuilderError(
            f"the transport's program {command[0]!r} cannot be started: {error.strerror or error}",
            hint="Install it, or correct `network.transport` in goldenami.yaml.",
        ) from error
    running = _Program(shown or shlex.join(command), process, theirs, ended)
    ours.explain = running.explain
    return ours


class _Program:
    """A running program. Threads collect its stderr, and end its process group after the tunnel was closed."""

    def __init__(
        self, shown: str, process: subprocess.Popen[bytes], theirs: socket.socket, ended: Callable[[], None]
    ) -> None:
        self._shown = shown
        self._process = process
        self._theirs = theirs
        self._ended = ended
        self._errors = Tail(_STDERR_BYTES)
        self._over = threading.Event()
        _running.add(self)
        name = f"transport {process.pid}"
        self._reader = threading.Thread(target=self._read_errors, name=f"{name} stderr", daemon=True)
        self._reader.start()
        threading.Thread(target=self._watch, name=name, daemon=True).start()

    def explain(self) -> str:
        """Return the status and the last lines of stderr of a program that has ended; empty while it runs."""
        if not self._over.wait(_EXPLAIN_SECONDS):
            return ""
        status = self._process.returncode
        how = f"status {status}" if status >= 0 else signal.Signals(-status).name
        text = self._errors.so_far().decode(errors="replace")
        lines = [line.rstrip() for line in text.splitlines() if line.strip()][-_STDERR_LINES:]
        return "\n".join([f"`{self._shown}` ended with {how}", *(f"    {line}" for line in lines)])

    def kill(self) -> None:
        """End the process group at once."""
        with contextlib.suppress(*_NOT_OURS):
            if self._process.returncode is None:
                os.killpg(self._process.pid, signal.SIGKILL)

    def _watch(self) -> None:
        # The kernel reports a hang-up of this end when no process has the other end open any more.
        poller = select.poll()
        poller.register(self._theirs, 0)
        while not poller.poll(_POLL_MILLISECONDS) and not self._has_ended():
            pass
        self._end_group()
        self._theirs.close()  # SSH reads the end of the stream
        self._reader.join(_TERM_SECONDS)
        _running.discard(self)
        self._over.set()
        self._ended()

    def _has_ended(self) -> bool:
        """Return whether the program has ended. WNOWAIT keeps its process id, which is the group's, reserved."""
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def _end_group(self) -> None:
        for end in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(*_NOT_OURS):
                os.killpg(self._process.pid, end)
            until = time.monotonic() + _TERM_SECONDS
            while not self._has_ended() and time.monotonic() < until:
                time.sleep(0.02)
            if self._has_ended():
                break
        with contextlib.suppress(*_NOT_OURS):
            os.killpg(self._process.pid, signal.SIGKILL)  # the other processes of the group
        self._process.wait()

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            while data := os.read(stream.fileno(), 1 << 16):
                self._errors.feed(data)


_running: set[_Program] = set()


@atexit.register
def _kill_all() -> None:
    """End all programs at the end of this process, whose threads do not run any more then."""
    for program in list(_running):
        program.kill()


# --- a channel --------------------------------------------------------------------------------------------------------


def over_channel(channel: paramiko.Channel) -> TunnelSocket:
    """Return a tunnel through a channel of another SSH connection. Two threads copy the data."""
    ours, theirs = socket_pair()
    channel.settimeout(None)
    for copy in (_to_channel, _from_channel):
        threading.Thread(target=copy, args=(theirs, channel), name="transport channel", daemon=True).start()
    return ours


def _to_channel(theirs: socket.socket, channel: paramiko.Channel) -> None:
    with contextlib.suppress(*GONE):
        while data := theirs.recv(_CHUNK):
            channel.sendall(data)
    # SSH never closes only one direction, so the end of its stream is the end of the tunnel.
    end_channel(channel)


def _from_channel(theirs: socket.socket, channel: paramiko.Channel) -> None:
    with contextlib.suppress(*GONE):
        while data := channel.recv(_CHUNK):
            theirs.sendall(data)
    with contextlib.suppress(OSError):
        theirs.shutdown(socket.SHUT_RDWR)
