"""Runs many short commands of one connection over few channels: each channel has a shell that reads commands from its
input.

A command of its own channel costs two round trips. A shell that is open costs none beyond the one for all commands that
are sent together, and its channel runs them one after the other. The input of a shell names each command by a number.
The shell prints a mark before the output of a command, and another one with the exit status after it, on stdout and on
stderr. The mark is random and known only to the shell, which reads it from its input; so all other bytes are output,
and binary output passes unchanged. Each command runs without input, in a subshell unless it leaves nothing behind.

Only commands that change nothing belong into such a shell. After an interruption, nobody knows which of them ran; and a
program that a command left in the background would print into the output of the next one.
"""

from __future__ import annotations

import re
import shlex
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from goldenami.ssh.connection import Completed, Connection
from goldenami.ssh.library import GONE, end_channel, paramiko
from goldenami.ssh.loginshell import Head, needs_terminal, new_mark, with_terminal

_STDERR_BYTES = 256 << 10  # only the end of a command's stderr is kept, as Connection.run does
_CHUNK = 256 << 10
_BEHIND = 4  # how much more a command counts that a shell still has to answer: it may be slow
_SIGNALS = 128  # a shell reports a signal as an exit status above this number

# sshd accepts no input for a channel before its program runs, so the first commands are part of the program, up to this
# size. That saves one round trip.
_FIRST_BYTES = 16 << 10

# Commands that leave nothing in the shell: some of its own, and one program with plain arguments. They need no
# subshell, whose start is all that the former cost. But some shells keep where a program is (hash): each forgets it
# first, since a program may be removed.
_WORD = r"([A-Za-z0-9_./@+,:%-]+|'[^'\n]*')"
_PROGRAMS = "cat|date|df|dpkg-query|findmnt|getent|grep|id|ls|ps|readlink|realpath|rpm|ss|stat|sysctl|systemctl|uname"
_PLAIN = re.compile(
    r"(test -[a-zA-Z]|command -v) [A-Za-z0-9_./@+][A-Za-z0-9_./@+-]*"
    rf"|((/usr)?/s?bin/)?({_PROGRAMS})( +{_WORD})*"
)

# The names of its variables are long, because each command sees them. They are not in its environment. The mark never
# follows a line end here, as it does in the output: a command may print the arguments of this process.
_PROGRAM = r"""goldenami_mark={mark}
goldenami_run() {{
  printf '\n%s begin %s\n' "$goldenami_mark" "$1"
  printf '\n%s begin %s\n' "$goldenami_mark" "$1" >&2
  case $3 in plain) hash -r; eval "$2" </dev/null ;; *) (eval "$2") </dev/null ;; esac
  goldenami_status=$?
  printf '\n%s end %s %s\n' "$goldenami_mark" "$1" "$goldenami_status"
  printf '\n%s end %s %s\n' "$goldenami_mark" "$1" "$goldenami_status" >&2
}}
{first}
while read -r goldenami_id goldenami_lines goldenami_kind; do
  goldenami_text=
  while [ "$goldenami_lines" -gt 0 ]; do
    IFS= read -r goldenami_line || exit 0
    goldenami_text="$goldenami_text$goldenami_line
"
    goldenami_lines=$((goldenami_lines - 1))
  done
  goldenami_run "$goldenami_id" "$goldenami_text" "$goldenami_kind"
done"""


@dataclass(frozen=True, slots=True)
class ShellAnswer:
    """What a command of a shell returned, and the seconds that it took."""

    done: Completed
    seconds: float


# Is called from other threads with each command's text and its answer. The answer is None if the command has to be run
# on a channel of its own: the shell did not start, it ended, a signal ended the command, or sudo asked for a terminal.
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

    @property
    def has_idle(self) -> bool:
        """Whether a shell has answered all its commands."""
        return any(not shell.behind for group in self._shells.values() for shell in group)

    def ask(self, plain: Sequence[str], as_root: Sequence[tuple[str, str]], on_answer: OnAnswer) -> None:
        """Send commands: all at once, and without waiting for their end. Opens the shells that are missing.

        ``plain``: commands as text. ``as_root``: a command's text with sudo, and the command that sudo runs. A shell of
        root runs the second one; if there is none, another shell runs the text with sudo.
        """
        for group in self._shells.values():
            group[:] = [shell for shell in group if not shell.ended]
        commands = {False: [self._as_user(text, on_answer) for text in plain], True: []}
        for text, command in as_root:
            if True in self._refused:
                commands[False].append(self._as_user(text, on_answer))
            else:
                commands[True].append(_Asked(text, command, on_answer))
        if not any(self._shells.values()):
            commands = self._open(commands)
        ready: list[tuple[_Shell, bytes]] = []
        for of_root, group in self._shells.items():
            shells = group or self._shells[False]
            waiting = [_BEHIND * shell.behind for shell in shells]
            shares: list[list[_Asked]] = [[] for _ in shells]
            # A shell that is behind, by a slow command, gets fewer, and so does one with a script, which is slow.
            for asked in sorted(commands[of_root], key=lambda one: -one.weight) if shells else ():
                least = waiting.index(min(waiting))
                waiting[least] += asked.weight
                shares[least].append(asked)
            places = {asked.text: place for place, asked in enumerate(commands[of_root])}
            for share in shares:
                share.sort(key=lambda one: places[one.text])
            for shell, mine in zip(shells, shares, strict=True):
                all_mine = mine if group else [self._as_user(asked.text, on_answer) for asked in mine]
                ready.append((shell, shell.prepare(all_mine)))
            if not shells:
                for asked in commands[of_root]:
                    on_answer(asked.text, None)
        for shell, data in ready:  # at once: a host that is near answers the first before the last is sent
            shell.send(data)

    def close(self) -> bool:
        """End all shells. Commands without an answer get None. Return whether there was a shell."""
        shells = [shell for group in self._shells.values() for shell in group]
        self._shells = {False: [], True: []}
        for shell in shells:
            shell.close()
        return bool(shells)

    def _as_user(self, text: str, on_answer: OnAnswer) -> _Asked:
        """Return a command for a shell of the login user. It may need sudo, which may need a terminal."""
        with_sudo = text.startswith("sudo ") and self._connection.sudo_needs_terminal
        return _Asked(text, with_terminal(text) if with_sudo else text, on_answer)

    def _open(self, commands: dict[bool, list[_Asked]]) -> dict[bool, list[_Asked]]:
        """Open all shells at once, with their first commands. Return the commands that are still to be sent."""
        kinds = [False] if self._connection.endpoint.user == "root" else [False, True]
        # With a single session, a shell of the user can run commands with sudo as well, so it is the first one.
        wanted = [kind for kind in kinds if kind not in self._refused for _ in range(self._count)]
        left: dict[bool, list[_Asked]] = {False: [], True: []}
        firsts: list[list[_Asked]] = []
        for place, kind in enumerate(wanted):
            mine = commands[kind][place % self._count :: self._count]
            size = 0
            for number, asked in enumerate(mine):
                size += len(asked.command)
                if size > _FIRST_BYTES:
                    left[kind] += mine[number:]
                    del mine[number:]
                    break
            firsts.append(mine)
        for kind in {False, True} - set(wanted):
            left[kind] += commands[kind]
        marks = [new_mark() for _ in wanted]  # others than those of the login shell
        programs = []
        for kind, mark, mine in zip(wanted, marks, firsts, strict=True):
            first = "\n".join(f"goldenami_run {n} {shlex.quote(a.command)} {a.kind}" for n, a in enumerate(mine, 1))
            program = _PROGRAM.format(mark=mark, first=first)
            programs.append(self._connection.as_root(f"/bin/sh -c {shlex.quote(program)}") if kind else program)
        for kind, mark, mine, session in zip(wanted, marks, firsts, self._connection.start(programs), strict=True):
            if session is None:
                left[kind] += mine
            else:
                self._shells[kind].append(_Shell(*session, mark, mine, partial(self._refused.add, kind)))
        return left


@dataclass(frozen=True, slots=True)
class _Asked:
    """A command: the text by which it is known, and what the shell runs."""

    text: str
    command: str
    on_answer: OnAnswer

    @property
    def weight(self) -> int:
        """How slow it probably is: its lines."""
        return 1 + self.command.count("\n")

    @property
    def kind(self) -> str:
        return "plain" if _PLAIN.fullmatch(self.command) else "any"


class _Shell:
    """One channel with a shell, and the threads that read its output."""

    def __init__(
        self,
        channel: paramiko.Channel,
        login_mark: str,
        mark: str,
        first: Sequence[_Asked],
        on_not_started: Callable[[], None],
    ) -> None:
        self._channel = channel
        self._on_not_started = on_not_started
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._pending = dict(enumerate(first, 1))  # by number: what is sent may overtake what was sent before
        self._outputs: dict[int, dict[bool, tuple[int, bytes, float]]] = {}  # by number, and whether it is stderr
        self._number = len(first)
        self.has_answered = False
        self.ended = False
        channel.settimeout(None)
        for is_stderr in (False, True):
            arguments = (is_stderr, Head(login_mark), Frames(mark))
            threading.Thread(target=self._read, args=arguments, daemon=True).start()

    @property
    def behind(self) -> int:
        """The weight of the commands that have no answer yet."""
        with self._lock:
            return sum(asked.weight for asked in self._pending.values())

    def prepare(self, commands: Sequence[_Asked]) -> bytes:
        """Expect the answers of commands, and return what is to be sent for them."""
        data = b""
        lost: list[_Asked] = []
        with self._lock:
            for asked in commands:
                if self.ended:
                    lost.append(asked)
                    continue
                self._number += 1
                self._pending[self._number] = asked
                encoded = asked.command.encode("utf-8", errors="surrogateescape")
                data += f"{self._number} {encoded.count(10) + 1} {asked.kind}\n".encode() + encoded + b"\n"
        for asked in lost:
            asked.on_answer(asked.text, None)
        return data

    def send(self, data: bytes) -> None:
        """Send commands that were prepared."""
        # Another thread sends if this one would wait: a shell reads nothing while a command runs, so its window may be
        # full.
        if len(data) <= self._channel.out_window_size and self._sending.acquire(blocking=False):
            try:
                self._send(data)
            finally:
                self._sending.release()
        elif data:
            threading.Thread(target=self._send_later, args=(data,), daemon=True).start()

    def close(self) -> None:
        end_channel(self._channel)
        self._end()

    def _send_later(self, data: bytes) -> None:
        with self._sending:
            self._send(data)

    def _send(self, data: bytes) -> None:
        try:
            self._channel.sendall(data)
        except GONE:
            self._end()

    def _read(self, is_stderr: bool, head: Head, frames: Frames) -> None:
        receive = self._channel.recv_stderr if is_stderr else self._channel.recv
        try:
            while data := receive(_CHUNK):
                if not (data := head.feed(data)):
                    continue
                for number, status, output, seconds in frames.feed(data):
                    self._add(number, is_stderr, status, output, seconds)
        except GONE:
            pass
        finally:
            self._end()

    def _add(self, number: int, is_stderr: bool, status: int, output: bytes, seconds: float) -> None:
        with self._lock:
            found = self._outputs.setdefault(number, {})
            found[is_stderr] = (status, output, seconds)
            if len(found) < 2 or number not in self._pending:
                return
            asked = self._pending.pop(number)
            self.has_answered = True
            del self._outputs[number]
        answer = None
        stdout, stderr = found[False][1], found[True][1][-_STDERR_BYTES:]
        if status <= _SIGNALS and not needs_terminal(status, stderr):
            answer = ShellAnswer(Completed(status, stdout, stderr), max(found[False][2], found[True][2]))
        asked.on_answer(asked.text, answer)

    def _end(self) -> None:
        """Give up all commands without an answer."""
        with self._lock:
            if self.ended:
                return
            self.ended = True
            left = list(self._pending.values())
            self._pending.clear()
        if not self.has_answered:
            self._on_not_started()
        end_channel(self._channel)
        for asked in left:
            asked.on_answer(asked.text, None)


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
