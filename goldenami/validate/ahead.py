"""Answers the commands of tests from batches that were sent ahead.

A test that needs an answer from the host waits for one round trip, and a hundred tests need several hundred answers. So
when a test needs its first answer, the test process forks, and this test and those that follow run in the copy
(``rehearsal``) until each needs an answer. Their commands go out together, over few channels (``ssh.Shells``), the
answers come back, and the copy goes on. The tests themselves run in their order, one at a time, in this process, and
find their answers here. They take as many turns as the longest chain of commands in one test, not the sum of all.

Results are those of a run without it, by these rules:

- Only commands that are known to be reading (``commands``) are sent ahead. Any other runs on a channel of its own, and
  before it does, all answers are forgotten, and the copy ends.
- A test gets an answer that was read ahead only if its rehearsal asked the same command at the same place. At the first
  one that differs, it gets answers of the moment, and all others are forgotten.
- When a test does anything beside computing and asking (``effects``: a file, a program, a connection, a pause), in its
  body, in a fixture or in a hook, all answers are forgotten, and it gets answers of the moment from then on.
- A command that a test asks again is asked on the host again. If the answer could have changed by itself, or has
  changed, all others are forgotten. So a test that waits for a change sees it, and so do those after it.
- A clock of the host is read when the test asks for it.
- All answers are forgotten at the end of a test that the rehearsal did not follow to its end or that took another
  course, before a test is repeated, after the connection was lost, and after ten seconds.
- A test with the mark ``reads`` promises that it does nothing but read, with its fixtures. All its commands count as
  reading, it may take another course, and it gets an answer as often as it asked for it in the rehearsal.
- A command without a plain answer (the shell ended, a signal) is run again on its own channel.

Two tests may get the same answer, since nothing has happened between them.
"""

from __future__ import annotations

import inspect
import os
import queue
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import pytest

from goldenami.errors import ConnectionLost
from goldenami.ssh import Completed, Connection, ShellAnswer, Shells
from goldenami.validate.commands import Kind, is_of_the_moment, is_settled, kind_of
from goldenami.validate.effects import is_effect
from goldenami.validate.gathering import Gathering, gather
from goldenami.validate.reading import WAIT_FOR_BOOT
from goldenami.validate.rehearsal import MOST_BODIES, Message, Rehearsal, Result, promises_to_read, send_answers

_SHELLS = 2  # for the login user, and as many for root
_FEWEST = 4  # tests with which a copy begins
_FRESH_SECONDS = 10.0
_PARTIAL_SECONDS = 2.0  # the copy gets the answers so far, while slower commands run
_QUIET_SECONDS = 0.02  # the same, if no answer came in this time, and a shell has nothing to do
_START_SECONDS = 20.0  # for the first answer of a shell
_IDLE_SECONDS = 5.0  # for the commands that run, before one that runs alone
_SILENT_SECONDS = 3.0  # of the copy while it computes; then it hangs
_POLL = 0.25
# What testinfra's modules and the built-in suites ask first to find out what kind of host this is. They are asked while
# the copy starts, which saves a turn for each.
_BOOTED = "LC_ALL=C systemctl is-system-running"  # no test asks it in these words
_UNCHANGED = ("command -v command", "uname -s", "uname -m")  # by the boot
_FACTS = (
    _BOOTED,
    *_UNCHANGED,
    "cat /etc/os-release",
    "test -d /run/systemd/system/",
    "realpath /bin/ps",
    "test -e /bin/busybox",
    "command -v ss",
    "command -v sysctl",
    "command -v /sbin/sysctl",
    "command -v ip",
    "command -v /sbin/ip",
    "command -v cloud-init",
)
_FIRST_FACT = "uname -s"  # after which testinfra asks no more what kind of host this is


class Backend(Protocol):
    """What the answers need of the backend."""

    ask_rehearsal: Callable[[str], Result | None] | None

    @property
    def connection(self) -> Connection: ...

    def inside_sudo(self, text: str) -> str | None:
        """Return the command that a command with sudo runs as root. None for other commands."""


class Ahead:
    """The answers for the tests of one run."""

    def __init__(
        self,
        backend: Backend,
        on_copy: Callable[[], object] = lambda: None,
        kept_open: Sequence[int] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend = backend
        self._on_copy = on_copy  # is called in the copy
        self._kept_open = kept_open  # descriptors that the copy keeps
        self._clock = clock
        self._items: Sequence[pytest.Item] = ()
        self._numbers: dict[str, int] = {}
        self._shells: tuple[Connection, Shells] | None = None
        self._opened_at = 0.0
        self._early: _Early | None = None
        self._copy: _Copy | None = None
        self._current = -1
        self._is_alone = True  # each command of the current test has its own channel
        self._is_fresh = False  # each is asked on the host, when the test asks it
        self._is_reading = self._is_repeated = False
        self._is_watched = self._has_effect = False
        self._main = threading.get_ident()
        self._used: Counter[str] = Counter()
        self._commands: list[str] = []  # of the current test
        self._body = 0  # how many of them its fixtures asked
        self._given: dict[str, ShellAnswer | None] = {}  # to its body
        self._replay: dict[str, ShellAnswer | None] | None = None  # the same, while the body runs again with them
        self._has_booted = self._has_facts = False
        self._is_early = False  # the body of the current test got an answer that may be older than the end of the boot
        self._seconds = 0.0  # that the host needed for the answers of the current test
        self._most = MOST_BODIES
        self._fruitless = 0  # copies in a row
        self._next_copy = 0  # the first test with which the next one may begin
        self._start_anew()

    def _start_anew(self) -> None:
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._answers: dict[str, tuple[ShellAnswer | None, float]] = {}
        self._outstanding: set[str] = set()
        self._since_boot: set[str] = set()  # commands that were sent when the end of the boot was known
        self._gathered: dict[str, Gathering] = {}  # commands in place of others, without an answer yet
        self._unasked: set[str] = set()  # answers beyond what was asked for, which the copy does not have yet
        self._wanted: dict[int, Counter[str]] = {}
        self._courses: dict[int, list[str]] = {}  # the same, in their order
        self._waits: dict[str, int] = {}  # commands that wait, with the numbers of their tests
        self._only_until: dict[str, int] = {}  # the last test that may use an answer
        self._known: set[int] = set()  # tests whose rehearsal has reached its end
        self._asked: set[str] = set()  # by the copy, which waits for the answers
        self._asked_at = 0.0
        self._silent_since: float | None = None  # while the copy computes: since its last sign of life
        self._rehearsed = -1  # a copy has been started for the tests up to this number

    def open_early(self, connection: Connection) -> None:
        """Open the shells and ask the facts, while the tests are collected. Another thread calls this, before the first
        command; what fails here fails then, and is told."""
        shells = Shells(connection, count=_SHELLS)
        early = _Early(connection, shells, self._events, self._clock())
        shells.ask(_FACTS, [], self._on_answer())
        self._early = early

    # --- the course of the tests --------------------------------------------------------------------------------------

    def collected(self, items: Sequence[pytest.Item]) -> None:
        """Take the tests in their order."""
        self._items = list(items)
        self._numbers = {item.nodeid: number for number, item in enumerate(self._items)}

    def begin(self, item: pytest.Item) -> None:
        """Begin a test."""
        self._current = self._numbers.get(item.nodeid, -1)
        self._used.clear()
        self._commands.clear()
        self._body = 0
        self._replay = None
        self._seconds = 0.0
        self._is_repeated = self._is_fresh = self._has_effect = False
        self._is_reading = promises_to_read(item)
        self._is_alone = self._current < 0 or item.get_closest_marker("alone") is not None
        if self._is_alone:
            self.forget()
        self._is_watched = True

    def watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        """The audit hook of this process: notice what a test does beside asking."""
        if self._is_watched and threading.get_ident() == self._main and is_effect(event, arguments):
            self._has_effect = True

    @contextmanager
    def unwatched(self) -> Iterator[None]:
        """What happens inside does not belong to the test."""
        before, self._is_watched = self._is_watched, False
        try:
            yield
        finally:
            self._is_watched = before

    def begin_body(self) -> None:
        """Begin the body of the current test. Its fixtures are set up."""
        self._body = len(self._commands)
        self._given.clear()
        self._is_early = False

    def begin_again(self) -> None:
        """Repeat the body of the current test."""
        self._used.clear()
        self._commands.clear()
        self._body = 0
        self._replay = None
        self._is_early = False
        self._is_repeated = True
        self.forget()
        self._next_copy = min(self._next_copy, self._current + 1)  # the tests after it have no copy any more

    def begin_to_replay(self) -> None:
        """Run the body of the current test once more, with the same answers. A command without one ends that."""
        self._replay = dict(self._given)

    @property
    def is_reading(self) -> bool:
        """Whether the current test promises that it does nothing but read."""
        return self._is_reading

    def is_definite(self) -> bool:
        """Return whether the host would answer the same if the body of the current test were repeated.

        The body read only packages, accounts, configuration and other things that do not change by themselves, on a
        host whose boot was known to have ended before it was asked; or it asked nothing, since it looks at what a
        fixture has read. It did nothing else: it promises that (mark ``reads``), or its rehearsal, in which the kernel
        watches it, was the same."""
        asked = self._commands[self._body :]
        if self._has_effect or not all(is_settled(text, is_declared=self._is_reading) for text in asked):
            return False
        try:
            if self._is_reading:
                is_watched = not asked or self._is_repeated or self._is_rehearsed()
            else:
                is_watched = not self._is_to_be_forgotten()
            if asked and not self._has_booted:  # so that a repetition is asked after the end of the boot
                self._ask(_BOOTED)
        except ConnectionLost:  # the next command of a test finds it, too
            self.close()
            return False
        return is_watched and (not asked or (self._has_booted and not self._is_early))

    def take_seconds(self) -> float:
        """Return the seconds that the host needed for the answers since the last call."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def end(self, item: pytest.Item, next_item: pytest.Item | None) -> None:
        """End a test. The answers are forgotten, unless the whole test was rehearsed, as it then ran."""
        self._is_watched = False
        if not self._answers and not self._outstanding and self._copy is None:
            return
        try:
            if self._is_to_be_forgotten() or _tears_down(item, next_item):
                self.forget()
        except ConnectionLost:  # the next command of a test finds it, too
            self.close()

    def _is_to_be_forgotten(self) -> bool:
        if self._has_effect or self._is_fresh:
            return True
        if not self._is_reading and len(self._course(self._current)) > len(self._commands):
            return True  # it ended earlier than its rehearsal, which may still wait for an answer
        return not self._is_rehearsed() or not (self._is_reading or self._commands == self._course(self._current))

    def _course(self, number: int) -> list[str]:
        """Return the commands that the rehearsal of a test asked, in their order."""
        return self._courses.get(number, [])

    def _is_rehearsed(self) -> bool:
        """Return whether the rehearsal of the current test has reached its end. A command that it waits for may take
        long: after some seconds it has not."""
        until = self._clock() + _FRESH_SECONDS
        while self._copy is not None and self._current not in self._known and not self._copy.has_stopped:
            if self._clock() > until:
                return False
            self._pump()
        return self._current in self._known

    # --- the commands -------------------------------------------------------------------------------------------------

    def take(self, text: str) -> ShellAnswer | None:
        """Return the answer to a command of the current test. None if the command has to be run on its own channel.

        Raises the errors of the connection."""
        if threading.get_ident() != self._main:  # nobody knows when it asks
            self._has_effect = True
            return None
        if self._replay is not None and (answer := self._replay.get(text)) is not None:
            return answer
        self._replay = None  # the body takes another course
        answer = self._given[text] = self._take(text)
        self._is_early = self._is_early or not (text in self._since_boot or text in _UNCHANGED)
        self._has_facts = self._has_facts or text == _FIRST_FACT  # testinfra keeps them, so later copies have them
        return answer

    def _take(self, text: str) -> ShellAnswer | None:
        self._commands.append(text)
        kind = kind_of(text, is_declared=self._is_reading)
        if kind is Kind.OTHER or self._is_alone:
            self.forget()
            self._is_fresh = True  # what follows in this test cannot be rehearsed
            return None
        if not self._is_reading:
            return self._take_checked(text, kind)
        return self._take_trusted(text, kind)

    def _take_checked(self, text: str, kind: Kind) -> ShellAnswer | None:
        """Return an answer for a test that promises nothing."""
        if self._has_effect and not self._is_fresh:
            self._be_fresh()
        if self._is_fresh:
            return self._ask_now(text)
        if text in self._commands[:-1]:
            before, _ = self._answers.get(text, (None, 0.0))
            answer = self._ask_now(text)
            is_same = before is not None and answer is not None and before.done == answer.done
            if not is_same or not is_settled(text):
                self._be_fresh()
            return answer
        if is_of_the_moment(text):
            return self._ask_now(text)
        place = len(self._commands) - 1
        self._begin_rehearsal()
        while self._copy is not None and not self._copy.has_stopped and self._current not in self._known:
            if len(self._course(self._current)) > place and self._kept(text) is not None:
                break
            self._pump()
        course = self._course(self._current)
        if course[: place + 1] != self._commands:
            # Without any course, there was no rehearsal. What was read may still be asked by later tests.
            if course:
                self._be_fresh()
            return self._ask_now(text)
        kept = self._kept(text)
        return self._use(text, kept[0] if kept is not None else self._ask_now(text))

    def _be_fresh(self) -> None:
        self._is_fresh = True
        self.forget()

    def _ask_now(self, text: str) -> ShellAnswer | None:
        """Ask the host, and wait for an answer that is not older than this call."""
        while text in self._outstanding:
            self._pump()
        return self._ask(text)

    def _begin_rehearsal(self) -> None:
        """Start a copy, unless there is one, or it makes no sense now."""
        is_possible = max(self._rehearsed + 1, self._next_copy) <= self._current < self._end_of_reading() - 1
        if self._copy is None and is_possible and not self._is_repeated:
            self._rehearse()

    def _take_trusted(self, text: str, kind: Kind) -> ShellAnswer | None:
        """Return an answer for a test that promises to read."""
        if self._may_use(text) and (kept := self._kept(text)) is not None:
            return self._use(text, kept[0])
        if not self._may_use(text):  # asked again: it wants the host's state now
            return self._use(text, self._ask(text))
        if kind is Kind.WAITS and text not in self._outstanding and self._copy is None and self._answers:
            self.forget()
        self._begin_rehearsal()
        while self._copy is not None and not self._copy.has_stopped and self._current not in self._known:
            if self._may_use(text) and (kept := self._kept(text)) is not None:
                return self._use(text, kept[0])
            self._pump()
        kept = self._kept(text)
        return self._use(text, kept[0] if kept is not None else self._ask(text))

    def _end_of_reading(self) -> int:
        """Return the number after the last test, from the current one on, that may be rehearsed with it."""
        numbers = range(self._current, len(self._items))
        return next((n for n in numbers if self._items[n].get_closest_marker("alone") is not None), len(self._items))

    def _ask(self, text: str) -> ShellAnswer | None:
        """Ask the host, and wait for the answer."""
        if text not in self._outstanding:
            self._submit([text])
        while text in self._outstanding:
            self._pump()
        return self._answers[text][0]

    def forget(self) -> None:
        """Forget all answers and the rehearsal, and wait a moment for the end of the commands that run."""
        self._end_copy()
        until = self._clock() + _IDLE_SECONDS
        while self._outstanding and self._clock() < until:
            self._pump()
        if self._outstanding:
            self._close_shells()
        self._start_anew()

    def close(self) -> None:
        """End everything at once: the connection is about to be closed. The host may boot before the next one."""
        self._has_booted = False
        self._end_copy()
        self._close_shells()
        self._start_anew()

    def _may_use(self, text: str) -> bool:
        wanted = self._wanted.get(self._current)
        return self._used[text] < max(1, wanted[text] if wanted else 1)

    def _kept(self, text: str, number: int | None = None) -> tuple[ShellAnswer | None, float] | None:
        """Return the answer for a test, by default for the current one."""
        kept = self._answers.get(text)
        if self._only_until.get(text, len(self._items)) < (self._current if number is None else number):
            return None
        return None if kept is None or self._clock() - kept[1] > _FRESH_SECONDS else kept

    def _use(self, text: str, answer: ShellAnswer | None) -> ShellAnswer | None:
        if answer is not None:
            self._seconds += answer.seconds if not self._used[text] else 0.0
        self._used[text] += 1
        return answer

    # --- the shells ---------------------------------------------------------------------------------------------------

    def _submit(self, texts: Sequence[str]) -> None:
        """Send commands. Their answers come as events."""
        shells = self._open_shells()
        self._outstanding.update(texts)
        (self._since_boot.update if self._has_booted else self._since_boot.difference_update)(texts)
        inside = {text: self._backend.inside_sudo(text) for text in texts}
        shells.ask(
            [text for text in texts if inside[text] is None],
            [(text, command) for text, command in inside.items() if command is not None],
            self._on_answer(),
        )

    def _on_answer(self) -> Callable[[str, ShellAnswer | None], None]:
        events = self._events
        # The time is that of the answer, not that of the moment when a test wants it.
        return lambda text, answer: events.put((text, answer, self._clock() - (answer.seconds if answer else 0.0)))

    def _open_shells(self) -> Shells:
        """Return the shells of the connection: those that are there, or were opened early, or new ones."""
        connection = self._backend.connection
        if self._shells is None or self._shells[0] is not connection:
            early = self._early
            if early is not None and early.connection is connection:
                self._shells, self._opened_at = (connection, early.shells), early.at
            else:
                self._shells, self._opened_at = (connection, Shells(connection, count=_SHELLS)), self._clock()
        return self._shells[1]

    def _ask_facts(self) -> None:
        """Ask the facts, unless that was done early, just now."""
        shells, early = self._open_shells(), self._early
        is_asked = early is not None and early.shells is shells and early.events is self._events
        if is_asked and early is not None and self._clock() - early.at < _FRESH_SECONDS / 2:
            self._outstanding.update(text for text in _FACTS if text not in self._answers)
        else:
            self._submit(_FACTS)
        self._early = None

    def _submit_gathered(self, texts: Sequence[str]) -> None:
        """Send commands, of which some run as one (``gathering``)."""
        ready = [text for text in texts if text not in self._waits]
        gatherings = {gathering.command: gathering for gathering in gather(ready)}
        self._gathered |= gatherings
        wanted = {text for gathering in gatherings.values() for text in gathering.wanted}
        self._outstanding |= wanted
        self._submit([*gatherings, *(text for text in texts if text not in wanted)])

    def _close_shells(self) -> None:
        if self._shells is not None:
            self._shells[1].close()
            self._shells = None
        if self._early is not None:
            self._early.shells.close()
            self._early = None

    def _pump(self) -> None:
        """Wait for the next message of the copy or the next answer of the host, and pass it on."""
        is_partial = self._silent_since is None and not self._asked <= self._outstanding
        try:
            event = self._events.get(timeout=_QUIET_SECONDS if is_partial else _POLL)
        except queue.Empty:
            if is_partial and self._shells is not None and self._shells[1].has_idle:
                self._answer_the_copy()
            self._look_at_the_clock()
            return
        if isinstance(event, tuple):
            text, answer, read_at = event
            has_waited = False
            self._outstanding.discard(text)
            if (gathering := self._gathered.pop(text, None)) is not None:
                self._take_apart(gathering, answer, read_at)
            elif has_waited := text in self._waits:  # the state that it waited for is that of its end
                self._keep(text, answer, self._clock())
                self._forget_older(text)
            else:
                self._keep(text, answer, read_at)
            # What was held back until then goes out at once, beside other commands that wait.
            if self._asked and (has_waited or self._asked.isdisjoint(self._outstanding)):
                self._answer_the_copy()
        elif self._copy is not None:
            self._hear(self._copy, event)

    def _keep(self, text: str, answer: ShellAnswer | None, read_at: float) -> None:
        self._answers[text] = (answer, read_at)
        if text == _BOOTED and answer is not None and answer.done.text in ("running", "degraded"):
            self._has_booted = True
        self._only_until.pop(text, None)

    def _take_apart(self, gathering: Gathering, answer: ShellAnswer | None, read_at: float) -> None:
        """Keep the answers that follow from the output of a command in place of others. What has none is asked."""
        wanted = [text for text in gathering.wanted if text in self._outstanding]
        if answer is None:  # each runs on its own channel
            self._outstanding.difference_update(wanted)
            for text in wanted:
                self._keep(text, None, read_at)
            return
        seconds = answer.seconds / max(1, len(wanted))
        is_since_boot = gathering.command in self._since_boot
        for text, output in gathering.split((answer.done.status, answer.done.stdout, answer.done.stderr)).items():
            if text in self._outstanding and text not in gathering.wanted:
                continue  # it runs as it is
            self._outstanding.discard(text)
            (self._since_boot.add if is_since_boot else self._since_boot.discard)(text)
            self._keep(text, ShellAnswer(Completed(*output), seconds), read_at)
            self._unasked.add(text)
        if missing := [text for text in wanted if text in self._outstanding]:
            self._submit(missing)

    def _forget_older(self, waited: str) -> None:
        """Forget, for later tests, what was read before the host had the state that a test waited for."""
        number = self._waits.pop(waited)
        self._answers = {t: a for t, a in self._answers.items() if t in self._asked or t in _FACTS}
        self._only_until |= dict.fromkeys(self._asked - {waited}, number)

    def _look_at_the_clock(self) -> None:
        if self._shells is not None and self._outstanding:
            waited = self._clock() - self._opened_at
            if waited > _START_SECONDS and not self._shells[1].has_answered:
                self._close_shells()  # a login shell that does not start; a channel of its own tells why
        if self._asked - self._outstanding and self._clock() - self._asked_at > _PARTIAL_SECONDS:
            self._answer_the_copy()
        since = self._silent_since
        if self._copy is not None and since is not None and self._clock() - since > _SILENT_SECONDS:
            self._silent_since = None
            self._copy.kill()  # it hangs, for example by a lock that a thread held when it was made

    # --- the copy -----------------------------------------------------------------------------------------------------

    def _rehearse(self) -> None:
        """Start the copy, with the tests from the current one on that promise to read."""
        facts = () if self._has_facts else _FACTS
        if facts:
            self._ask_facts()
        end = self._end_of_reading()
        self._rehearsed = end - 1
        arguments = (self._items[:end], self._current, self._backend)
        self._copy = _Copy(arguments, self._on_copy, self._events, self._most, self._kept_open)
        while not self._outstanding.isdisjoint(facts):
            self._pump()
        self._asked.update(facts)
        if facts and self._has_booted:
            self._asked.add(self._do_not_wait())
        self._answer_the_copy()

    def _do_not_wait(self) -> str:
        """Answer the command of the built-in suites that waits for the end of the boot, which the host has told. Return
        the command."""
        answer, read_at = self._answers[_BOOTED]
        self._since_boot.add(WAIT_FOR_BOOT)
        self._keep(WAIT_FOR_BOOT, answer, read_at)
        return WAIT_FOR_BOOT

    def _hear(self, copy: _Copy, message: Message | None) -> None:
        if message is None:
            if not copy.has_stopped:  # the kernel ended it, or this process because it hung
                self._most, self._fruitless = _FEWEST, self._fruitless + 1
                self._next_copy = copy.start + (1 << min(self._fruitless, 10))
            copy.has_stopped = True
            return
        if message.is_sign:
            self._silent_since = self._clock()
            return
        self._silent_since = None
        self._known.update(message.ended)
        if message.stopped:  # the next copy begins with fewer tests, as many of them may end as early
            reached = min(message.stopped) - copy.start
            self._most = max(_FEWEST, 2 * reached)
            # Copies of which nearly all tests end early are rarer and rarer.
            self._fruitless = self._fruitless + 1 if reached < _FEWEST else 0
            self._next_copy = min(message.stopped) + (1 << min(self._fruitless, 10)) - 1
        for number, text in (*message.known, *message.asked):  # what a body knew, it asked first
            self._courses.setdefault(number, []).append(text)
            self._wanted.setdefault(number, Counter())[text] += 1
            if kind_of(text, is_declared=True) is Kind.WAITS:
                self._waits[text] = number
        texts: dict[str, int] = {}  # in the order of the tests, so that none waits for the commands of later ones
        for number, text in message.asked:
            texts.setdefault(text, number)
        self._asked |= texts.keys()
        self._asked_at = self._clock()
        missing = [t for t, number in texts.items() if self._kept(t, number) is None and t not in self._outstanding]
        if missing:
            self._submit_gathered(missing)
        if message.is_last:
            copy.has_stopped = True
        elif self._asked.isdisjoint(self._outstanding):
            self._answer_the_copy()

    def _answer_the_copy(self) -> None:
        """Send the copy all answers that it waits for and that are there."""
        more = {text for text in self._unasked if text in self._answers}  # what it may ask next
        self._unasked.clear()
        done = self._asked - self._outstanding
        ready = {text: self._answers[text][0] for text in done | more if text in self._answers}
        self._asked -= ready.keys()
        self._silent_since = self._clock()
        if self._copy is not None:
            self._copy.send({t: (a.done.status, a.done.stdout, a.done.stderr) if a else None for t, a in ready.items()})

    def _end_copy(self) -> None:
        copy, self._copy = self._copy, None
        if copy is not None:
            copy.end()


@dataclass(frozen=True, slots=True)
class _Early:
    """Shells that were opened before the first test, where the facts are asked."""

    connection: Connection
    shells: Shells
    events: queue.SimpleQueue[Any]  # of the answers
    at: float


class _Copy:
    """The process of the rehearsal, seen from the process of the tests. Its messages are put into ``events``."""

    def __init__(
        self,
        rehearsed: tuple[Sequence[pytest.Item], int, Backend],
        on_copy: Callable[[], object],
        events: queue.SimpleQueue[Any],
        most: int,
        kept_open: Sequence[int],
    ) -> None:
        self.has_stopped = False
        self.start = rehearsed[1]
        from_copy, requests = os.pipe()
        answers, to_copy = os.pipe()
        with warnings.catch_warnings():
            # Python warns of locks that other threads hold. The copy uses nothing of the SSH connection's threads.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process = os.fork()
        if self._process == 0:
            try:
                os.close(from_copy)
                os.close(to_copy)
                on_copy()
                Rehearsal(*rehearsed, requests, answers, most, kept_open).serve()
            finally:
                os._exit(1)
        os.close(requests)
        os.close(answers)
        self._to_copy = to_copy
        threading.Thread(target=self._listen, args=(from_copy, events), daemon=True).start()

    def _listen(self, descriptor: int, events: queue.SimpleQueue[Any]) -> None:
        message: Message | None = None
        try:
            while (message := Message.read(descriptor)) is not None:
                events.put(message)
        except (OSError, ValueError, EOFError, TypeError):
            pass
        finally:
            os.close(descriptor)
        events.put(None)

    def send(self, answers: dict[str, Result | None]) -> None:
        try:
            send_answers(self._to_copy, answers)
        except OSError:
            self.has_stopped = True

    def kill(self) -> None:
        """Kill the process, which has nothing to finish. Its last message is None."""
        with suppress(ProcessLookupError):
            os.kill(self._process, signal.SIGKILL)

    def end(self) -> None:
        """Kill the process, and forget it."""
        self.has_stopped = True
        os.close(self._to_copy)
        self.kill()
        with suppress(ChildProcessError):  # where SIGCHLD is ignored, the kernel has forgotten it
            os.waitpid(self._process, 0)


def _tears_down(item: pytest.Item, next_item: pytest.Item | None) -> bool:
    """Return whether a fixture that several tests share ends here, with code that was not rehearsed."""
    if next_item is None or next_item.parent is item.parent:
        return False
    found = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    shared = [d for definitions in found.values() for d in definitions if d.scope not in ("function", "session")]
    return any(inspect.isgeneratorfunction(definition.func) for definition in shared)
