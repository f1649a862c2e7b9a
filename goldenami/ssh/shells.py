"""Runs many short commands of one connection over few channels: each channel has a shell that reads commands from its
input.

A command of its own channel costs two round trips. A shell that is open costs none beyond the one for all commands that
are sent together, and its channel runs them one after the other. The input of a shell names each command by a number.
The shell prints a mark before the output of a command, and another one with the exit status after it, on stdout and on
stderr. The mark is random and known only to the shell, which reads it from its input; so all other bytes are output,
and binary output passes unchanged. Each command runs in a subshell without input.

Only commands that change nothing belong into such a shell. After an interruption, nobody knows which of them ran; and a
program that a command left in the background would print into the output of the next one.
"""

from __future__ import annotations

import shlex
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import paramiko

from goldenami.ssh.connection import Completed, Connection
from goldenami.ssh.loginshell import Head, new_mark

_STDERR_BYTES = 256 << 10  # only the end of a command's stderr is kept, as Connection.run does
_CHUNK = 256 << 10
_SIGNALS = 128  # a shell reports a signal as an exit status above this number

# The names of its variables are long, because each command sees them. They are not in its environment.
_PROGRAM = r"""IFS= read -r goldenami_mark || exit 0
while read -r goldenami_id goldenami_lines; do
  goldenami_text=
  while [ "$goldenami_lines" -gt 0 ]; do
    IFS= read -r goldenami_line || exit 0
    goldenami_text="$goldenami_text$goldenami_line
"
    goldenami_lines=$((goldenami_lines - 1))
  done
  printf '\n%s begin %s\n' "$goldenami_mark" "$goldenami_id"
  printf '\n%s begin %s\n' "$goldenami_mark" "$goldenami_id" >&2
  (eval "$goldenami_text") </dev/null
  goldenami_status=$?
  printf '\n%s end %s %s\n' "$goldenami_mark" "$goldenami_id" "$goldenami_status"
  printf '\n%s end %s %s\n' "$goldenami_mark" "$goldenami_id" "$goldenami_status" >&2
done"""


@dataclass(frozen=True, slots=True)
class ShellAnswer:
    """What a command of a shell returned, and the seconds that it took."""

    done: Completed
    seconds: float


# Is called from other threads with each command's text and its answer. The answer is None if the command has to be run
# on a channel of its own: the shell did not start, it ended, or a signal ended the command.
OnAnswer = Callable[[str, ShellAnswer | None], None]


class Shells:
    """A few shells on one host, for commands that only read. ``count``: of the login user, and as many of root."""

    def __init__(self, connection: Connection, *, count: int) -> None:
        self._connection = connection
        self._count = count
        self._shells: dict[bool, list[_Shell]] = {False: [], True: []}  # by whether they belong to root
        self._refused: set[bool] = set()
        connection.on_refused_session = self.close

    @property
    def has_answered(self) -> bool:
        """Whether a shell has answered a command."""
        return any(shell.has_answered for group in self._shells.values() for shell in group)

    def ask(self, plain: Sequence[str], as_root: Sequence[tuple[str, str]], on_answer: OnAnswer) -> None:
        """Send commands: all at once, and without waiting for their end. Opens the shells that are missing.

        ``plain``: commands as text. ``as_root``: a command's text with sudo, and the command that sudo runs. A shell of
        root runs the second one; if there is none, another shell runs the text with sudo.
        """
        self._open(as_user=bool(plain), as_root=bool(as_root))
        users, roots = self._shells[False], self._shells[True]
        texts = [(text, text) for text in plain]
        if not roots:
            texts += as_root
        if not users and roots:
            # One session only, and root has it.
            for text, _ in texts:
                on_answer(text, None)
        else:
            _spread(users, texts, on_answer)
        if roots:
            _spread(roots, as_root, on_answer)

    def close(self) -> bool:
        """End all shells. Commands without an answer get None. Return whether there was a shell."""
        shells = [shell for group in self._shells.values() for shell in group]
        self._shells = {False: [], True: []}
        for shell in shells:
            shell.close()
        return bool(shells)

    def _open(self, *, as_user: bool, as_root: bool) -> None:
        for group in self._shells.values():
            group[:] = [shell for shell in group if not shell.ended]
        wanted: list[bool] = []
        if as_user and not self._shells[False] and False not in self._refused:
            wanted += [False] * self._count
        if as_root and not self._shells[True] and True not in self._refused:
            wanted += [True] * self._count
        if not wanted:
            return
        # The first one is for the user: with a single session, it can run commands with sudo as well.
        if True in wanted and not self._shells[False] and False not in wanted:
            wanted.insert(0, False)
        root = self._connection.as_root(f"/bin/sh -c {shlex.quote(_PROGRAM)}")
        opened = self._connection.start([root if of_root else _PROGRAM for of_root in wanted])
        for of_root, session in zip(wanted, opened, strict=True):
            if session is not None:
                self._shells[of_root].append(_Shell(*session, partial(self._refused.add, of_root)))


def _spread(shells: Sequence[_Shell], texts: Sequence[tuple[str, str]], on_answer: OnAnswer) -> None:
    """Give commands to shells in turns, and each shell all its commands in one piece."""
    for number, shell in enumerate(shells):
        shell.ask(texts[number :: len(shells)], on_answer)
    if not shells:
        for text, _ in texts:
            on_answer(text, None)


class _Shell:
    """One channel with a shell, and the threads that read its output."""

    def __init__(
        self,
        channel: paramiko.Channel,
        mark: str,
        on_not_started: Callable[[], None],
    ) -> None:
        self._channel = channel
        self._on_not_started = on_not_started
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._pending: deque[tuple[int, str, OnAnswer]] = deque()
        self._outputs: dict[int, dict[bool, tuple[int, bytes, float]]] = {}  # by number, and whether it is stderr
        self._number = 0
        self.has_answered = False
        self.ended = False
        channel.settimeout(None)
        mark_of_output = new_mark()  # the other one was in the arguments of a process
        self._first = f"{mark_of_output}\n".encode()  # is sent with the first commands
        for is_stderr in (False, True):
            arguments = (is_stderr, Head(mark), Frames(mark_of_output))
            threading.Thread(target=self._read, args=arguments, daemon=True).start()

    def ask(self, texts: Sequence[tuple[str, str]], on_answer: OnAnswer) -> None:
        """Send commands, each with the text by which it is known and the one that the shell runs."""
        data = b""
        lost: list[str] = []
        with self._lock:
            for text, command in texts:
                if self.ended:
                    lost.append(text)
                    continue
                self._number += 1
                self._pending.append((self._number, text, on_answer))
                encoded = command.encode("utf-8", errors="surrogateescape")
                data += f"{self._number} {encoded.count(10) + 1}\n".encode() + encoded + b"\n"
        if data:
            data, self._first = self._first + data, b""
            # Another thread sends: a shell reads nothing while a command runs, so the window may be full.
            threading.Thread(target=self._send, args=(data,), daemon=True).start()
        for text in lost:
            on_answer(text, None)

    def close(self) -> None:
        self._channel.close()
        self._end()

    def _send(self, data: bytes) -> None:
        with self._sending:
            try:
                self._channel.sendall(data)
            except (OSError, paramiko.SSHException):
                self._end()

    def _read(self, is_stderr: bool, head: Head, frames: Frames) -> None:
        receive = self._channel.recv_stderr if is_stderr else self._channel.recv
        try:
            while data := receive(_CHUNK):
                if not (data := head.feed(data)):
                    continue
                for number, status, output, seconds in frames.feed(data):
                    self._add(number, is_stderr, status, output, seconds)
        except OSError:
            pass
        finally:
            self._end()

    def _add(self, number: int, is_stderr: bool, status: int, output: bytes, seconds: float) -> None:
        with self._lock:
            found = self._outputs.setdefault(number, {})
            found[is_stderr] = (status, output, seconds)
            if len(found) < 2 or not self._pending or self._pending[0][0] != number:
                return
            _, text, on_answer = self._pending.popleft()
            self.has_answered = True
            del self._outputs[number]
        answer = None
        if status <= _SIGNALS:
            stdout, stderr = found[False][1], found[True][1][-_STDERR_BYTES:]
            answer = ShellAnswer(Completed(status, stdout, stderr), max(found[False][2], found[True][2]))
        on_answer(text, answer)

    def _end(self) -> None:
        """Give up all commands without an answer."""
        with self._lock:
            if self.ended:
                return
            self.ended = True
            left = list(self._pending)
            self._pending.clear()
        if not self.has_answered:
            self._on_not_started()
        self._channel.close()
        for _, text, on_answer in left:
            on_answer(text, None)


class Frames:
    """Finds the outputs of commands in one stream of a shell."""

    def __init__(self, mark: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._mark = f"\n{mark} ".encode()
        self._clock = clock
        self._data = bytearray()
        self._looked = 0  # bytes of the data that contain no mark
        self._began = -1.0

    def feed(self, data: bytes) -> list[tuple[int, int, bytes, float]]:
        """Return number, status, output and seconds of each command whose end is in the data so far."""
        self._data += data
        found: list[tuple[int, int, bytes, float]] = []
        while (at := self._data.find(self._mark, self._looked)) >= 0:
            start = at + len(self._mark)
            end = self._data.find(b"\n", start)
            if end < 0:
                self._looked = at
                return found
            what, *numbers = bytes(self._data[start:end]).split()
            output = bytes(self._data[:at])
            del self._data[: end + 1]
            self._looked = 0
            if what == b"begin":  # what is before it belongs to no command
                self._began = self._clock()
            else:
                found.append((int(numbers[0]), int(numbers[1]), output, self._clock() - self._began))
        self._looked = max(0, len(self._data) - len(self._mark))
        return found
