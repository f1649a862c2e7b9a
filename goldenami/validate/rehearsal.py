"""The rehearsal: a copy of the test process, in which the bodies of many tests run at once, to find their commands.

The process of the tests forks. The copy runs the fixtures and bodies of tests, each in a thread of its own; a body
stops at each command until the answer is there. The copy sends the commands of all bodies together to the process of
the tests, which runs them on the host as one batch. Outcomes in the copy mean nothing and are thrown away with it: the
tests themselves run afterwards, one after the other, as pytest runs them. So the memory of the tests is not touched.

A test is rehearsed only as long as it computes and reads. Python reports to an audit hook what a body does beside that
(``effects``): it opens a socket, writes a file, starts a program, sleeps. The body then ends in the copy before it has
done that; so it does with a command that is not known to be reading, and one that it asks again, perhaps because it
waits for a change. Later tests may depend on what that test does, so they are not rehearsed either, until that test has
run. What no hook reports, the kernel refuses (``isolation``), and ends the copy. Where the kernel cannot do that, only
tests run here that promise to do nothing but read (mark ``reads``)."""

from __future__ import annotations

import contextlib
import functools
import gc
import inspect
import marshal
import os
import signal
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any, NoReturn, Protocol

import pytest

from goldenami.validate.commands import Kind, is_settled, kind_of
from goldenami.validate.effects import is_effect
from goldenami.validate.isolation import isolate

Result = tuple[int, bytes, bytes]  # status, stdout, stderr

MOST_BODIES = 200  # that run at the same time
_STUCK_SECONDS = 2.0  # limit for a body's computing between two commands
_WAIT_SECONDS = 0.3  # a body that takes longer may wait for something, in a way that no hook reports
_SIGN_SECONDS = 0.5  # pause between two signs of life, while bodies compute
_MOST_ASKED = 20  # times that one body may ask for one command; then it is a loop that waits for something


_current = threading.local()  # ``body``: the one that this thread runs


class StopRehearsalError(BaseException):
    """A body is about to do something other than computing and reading, so its rehearsal ends."""

    def __init__(self) -> None:
        super().__init__()
        body = getattr(_current, "body", None)
        if body is not None:
            body.is_told_to_stop = True  # it may catch this


class _State(Enum):
    NEW = auto()
    RUNNING = auto()
    ASKING = auto()  # for a command
    BLOCKED = auto()  # by a fixture that another body is setting up
    ENDED = auto()
    STOPPED = auto()


class RehearsedBackend(Protocol):
    """What the rehearsal needs of the backend: where its commands go."""

    ask_rehearsal: Callable[[str], Result | None] | None


@dataclass
class Message:
    """What the copy tells the process of the tests."""

    asked: list[tuple[int, str]]  # the test's number, and a command
    known: list[tuple[int, str]]  # the same, for commands whose answers the copy had already
    ended: list[int]
    stopped: list[int]
    is_last: bool
    is_sign: bool = False  # only a sign of life, while the copy computes

    def to_bytes(self) -> bytes:
        data = marshal.dumps((self.asked, self.known, self.ended, self.stopped, self.is_last, self.is_sign))
        return struct.pack("<Q", len(data)) + data

    @classmethod
    def read(cls, descriptor: int) -> Message | None:
        """Read one message. None at the end of the pipe."""
        data = _read_piece(descriptor)
        return None if data is None else cls(*marshal.loads(data))


def send_answers(descriptor: int, answers: Mapping[str, Result | None]) -> None:
    """Send answers to the copy. Raises BrokenPipeError if it has ended."""
    data = marshal.dumps(dict(answers))
    _write(descriptor, struct.pack("<Q", len(data)) + data)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _read_piece(descriptor: int) -> bytes | None:
    head = _read_exactly(descriptor, 8)
    return None if head is None else _read_exactly(descriptor, struct.unpack("<Q", head)[0])


def _read_exactly(descriptor: int, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        piece = os.read(descriptor, min(size - len(data), 1 << 20))
        if not piece:
            return None
        data += piece
    return bytes(data)


@dataclass(eq=False)
class _Body:
    """One test in the copy."""

    number: int
    item: pytest.Item
    state: _State = _State.NEW
    text: str = ""
    kind: Kind = Kind.READS
    is_sent: bool = False
    answered: int = 0
    is_told_to_stop: bool = False
    key: object = None  # of the fixture by which it is blocked
    get_command: Any = None  # of the backend, while it is in testinfra's ``host.sudo()``
    times: dict[str, int] = field(default_factory=dict)
    since: float = 0.0  # when it went on last
    generators: list[Any] = field(default_factory=list)  # its own fixtures that it tears down
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    back: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    @property
    def is_active(self) -> bool:
        return self.state not in (_State.ENDED, _State.STOPPED)


class Rehearsal:
    """Runs in the copy. ``serve`` does everything, and never returns."""

    def __init__(
        self,
        items: Sequence[pytest.Item],
        start: int,
        backend: RehearsedBackend,
        requests: int,
        answers: int,
        most: int,
        kept_open: Sequence[int] = (),
    ) -> None:
        self._waiting = deque((number, items[number]) for number in range(start, len(items)))
        self._backend = backend
        self._out, self._in = requests, answers
        self._kept_open = kept_open
        self._most = most  # bodies at the same time; twice as many after each turn
        self._active: list[_Body] = []
        self._facts: dict[str, Result | None] = {}
        self._results: dict[str, Result | None] = {}
        self._known: list[tuple[int, str]] = []
        self._ended: list[int] = []
        self._stopped: list[int] = []
        self._end = len(items)  # no test from this number on is rehearsed
        self._is_isolated = False
        self._is_stuck = False  # a body computes without end
        self._told_at = time.monotonic()
        self._fixtures: dict[object, tuple[str, Any]] = {}
        self._kept: list[object] = []  # generators: without a reference, Python would run their clean-up

    def serve(self) -> NoReturn:
        """Run the bodies, until none is left or the process of the tests ends the pipe."""
        try:
            _be_quiet({self._in, self._out, *self._kept_open})
            _without_locks()
            gc.disable()  # it could run the clean-up of generators in any thread
            self._backend.ask_rehearsal = self._ask
            sys.addaudithook(self._watch)
            self._is_isolated = isolate()
            self._run()
        finally:
            os._exit(0)

    # --- the bodies, one at a time ------------------------------------------------------------------------------------

    def _run(self) -> None:
        if not self._hear():
            return
        self._facts, self._results = self._results, {}  # what is known of the host at the start
        while True:
            self._start_bodies()
            asked = self._to_ask()
            is_last = self._is_stuck or (not self._active and not self._waiting)
            for body in asked:
                body.is_sent = True
            asks = [(body.number, body.text) for body in asked]
            message = Message(asks, self._known, self._ended, self._stopped, is_last)
            self._known, self._ended, self._stopped = [], [], []
            self._tell(message)
            if is_last or not self._hear():
                return
            self._most = min(2 * self._most, MOST_BODIES)
            ready = [b for b in self._active if b.state is _State.ASKING and b.is_sent and b.text in self._results]
            has_waited = any(body.kind is Kind.WAITS for body in ready)
            for body in ready:
                if body.number < self._end:
                    body.answered += 1
                    self._resume(body)
            if has_waited:
                self._results.clear()  # they may be older than the state that was waited for
            self._resume_blocked()

    def _tell(self, message: Message) -> None:
        _write(self._out, message.to_bytes())
        self._told_at = time.monotonic()

    def _hear(self) -> bool:
        """Wait for answers. Return false at the end of the pipe."""
        data = _read_piece(self._in)
        self._results.update(marshal.loads(data) if data is not None else {})
        return data is not None

    def _start_bodies(self) -> None:
        while self._waiting and len(self._active) < self._most:
            number, item = self._waiting.popleft()
            if number >= self._end:
                self._waiting.clear()
                return
            body = _Body(number, item)
            self._active.append(body)
            threading.Thread(target=self._run_body, args=(body,), daemon=True).start()
            self._resume(body)
            self._resume_blocked()

    def _resume(self, body: _Body) -> None:
        """Let a body go on until it asks, is blocked, or ends.

        One that computes without end cannot be ended, so the whole rehearsal ends with it."""
        if self._is_stuck:
            return
        if time.monotonic() - self._told_at > _SIGN_SECONDS:
            self._tell(Message([], [], [], [], is_last=False, is_sign=True))
        commands = vars(self._backend)
        if body.get_command is not None:
            commands["get_command"] = body.get_command
        body.state, body.is_sent = _State.RUNNING, False
        body.since = time.monotonic()
        body.go.release()
        is_back = body.back.acquire(timeout=_STUCK_SECONDS)
        has_waited = time.monotonic() - body.since > _WAIT_SECONDS and not promises_to_read(body.item)
        body.get_command = commands.pop("get_command", None)
        if not is_back:
            self._is_stuck = True
        if not is_back or has_waited:
            body.state = _State.STOPPED
        if body.state is _State.ASKING and body.kind is Kind.WAITS and self._has_later_answers(body):
            body.state = _State.STOPPED
        if body.is_active:
            return
        self._active.remove(body)
        (self._ended if body.state is _State.ENDED else self._stopped).append(body.number)
        for key, (state, owner) in list(self._fixtures.items()):
            if state == "busy" and owner is body:
                self._fixtures[key] = ("failed", None)
        if body.state is _State.STOPPED and body.number < self._end:
            self._end = body.number
            self._active = [b for b in self._active if b.number < self._end]

    def _resume_blocked(self) -> None:
        while not self._is_stuck and (ready := [b for b in self._active if self._is_unblocked(b)]):
            self._resume(ready[0])

    def _is_unblocked(self, body: _Body) -> bool:
        return body.state is _State.BLOCKED and self._fixtures[body.key][0] != "busy"

    def _has_later_answers(self, body: _Body) -> bool:
        return any(other.number > body.number and other.answered for other in self._active) or any(
            number > body.number for number in self._ended
        )

    def _is_held_back(self, body: _Body) -> bool:
        """Return whether an earlier test waits for a state of the host."""
        return any(
            other.state is _State.ASKING and other.kind is Kind.WAITS and other.number < body.number
            for other in self._active
        )

    def _to_ask(self) -> list[_Body]:
        """Return the bodies whose commands are sent now. A command that waits for a state of the host, for example the
        end of the boot, holds back those of all later tests, except other ones that wait."""
        asking = [b for b in self._active if b.state is _State.ASKING]
        first = min((b.number for b in asking if b.kind is Kind.WAITS), default=self._end)
        return [b for b in asking if not b.is_sent and (b.number <= first or b.kind is Kind.WAITS)]

    # --- in the thread of a body --------------------------------------------------------------------------------------

    def _run_body(self, body: _Body) -> None:
        body.go.acquire()
        _current.body = body
        state = _State.STOPPED
        try:
            if not self._is_isolated and not promises_to_read(body.item):
                raise StopRehearsalError
            _call(body.item, lambda name: self._fixture(body, name))
            for generator in reversed(body.generators):
                next(generator, None)
            state = _State.ENDED
        except (AssertionError, pytest.fail.Exception, pytest.skip.Exception):
            state = _State.ENDED  # the test itself will fail, or be skipped
        except BaseException:
            pass  # perhaps only because of the rehearsal
        # The hook goes on to watch this thread: what ends with it may clean up.
        body.state = _State.STOPPED if body.is_told_to_stop else state
        body.back.release()

    def _ask(self, text: str) -> Result | None:
        body: _Body = _current.body
        is_declared = promises_to_read(body.item)
        body.kind = kind_of(text, is_declared=is_declared)
        if not is_declared and time.monotonic() - body.since > _WAIT_SECONDS:
            raise StopRehearsalError  # it may have waited; then no answer of before is an answer
        times = body.times[text] = body.times.get(text, 0) + 1
        if body.kind is Kind.OTHER or times > _MOST_ASKED:
            raise StopRehearsalError
        if times > 1 and not is_declared and not is_settled(text):
            raise StopRehearsalError  # perhaps it waits for a change, which later tests then see
        if text in self._facts or (text in self._results and not self._is_held_back(body)):
            self._known.append((body.number, text))
            body.answered += text not in self._facts
        else:
            body.text = text
            self._pause(body, _State.ASKING)
        result = self._facts[text] if text in self._facts else self._results[text]
        if result is None:
            raise StopRehearsalError
        return result

    def _pause(self, body: _Body, state: _State) -> None:
        body.state = state
        body.back.release()
        body.go.acquire()

    def _watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        """The audit hook."""
        if getattr(_current, "body", None) is not None and is_effect(event, arguments):
            raise StopRehearsalError

    def _fixture(self, body: _Body, name: str) -> Any:
        """Return the value of a fixture. Fixtures of a module, class or session are set up once."""
        item = body.item
        if name == "request":
            return _Request(item, lambda other: self._fixture(body, other))
        definitions = _definitions(item, name)
        definition = definitions[-1]
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if definition.scope == "function":
            return self._set_up(body, name, definition, parameters)
        if name not in parameters and (cached := getattr(definition, "cached_result", None)) is not None:
            if cached[2] is None:
                return cached[0]
            raise StopRehearsalError
        place = {"module": item.path, "class": (item.path, getattr(item, "cls", None)), "package": item.path.parent}
        key = (id(definition), place.get(definition.scope), repr(parameters.get(name)))
        while True:
            state, value = self._fixtures.get(key, ("", None))
            if state == "done":
                return value
            if state == "failed":
                raise StopRehearsalError
            if state == "":
                break
            body.key = key
            self._pause(body, _State.BLOCKED)
        self._fixtures[key] = ("busy", body)
        value = self._set_up(body, name, definition, parameters)
        self._fixtures[key] = ("done", value)
        return value

    def _set_up(self, body: _Body, name: str, definition: Any, parameters: Mapping[str, Any]) -> Any:
        function = definition.func
        if function.__module__.startswith("_pytest") and name not in parameters and name != "pytestconfig":
            raise StopRehearsalError  # tmp_path, monkeypatch, capsys: they are made for one test after the other
        if inspect.ismethod(function) or "self" in inspect.signature(function).parameters:
            raise StopRehearsalError
        arguments: dict[str, Any] = {}
        for wanted in definition.argnames:
            if wanted == name:
                raise StopRehearsalError  # a fixture over another one of the same name
            arguments[wanted] = self._fixture(body, wanted)
            if wanted == "request" and name in parameters:
                vars(arguments[wanted])["param"] = parameters[name]
        value = function(**arguments)
        if inspect.isgenerator(value):
            self._kept.append(value)
            if definition.scope == "function":
                body.generators.append(value)
            return next(value)
        if inspect.iscoroutine(value) or inspect.isasyncgen(value):
            raise StopRehearsalError
        return value


def promises_to_read(item: pytest.Item) -> bool:
    """Return whether a test says that it does nothing but read, with its fixtures."""
    return item.get_closest_marker("reads") is not None


def _definitions(item: pytest.Item, name: str) -> Sequence[Any]:
    # pytest has no public access to the fixtures of a test. Without it, a test is only not rehearsed.
    found = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {}).get(name)
    if not found:
        raise StopRehearsalError
    return list(found)


def _call(item: pytest.Item, fixture: Callable[[str], Any]) -> None:
    """Set up the fixtures of a test and call its body."""
    # Tests of unittest are of another type, with a course of their own.
    if type(item) is not pytest.Function or item.get_closest_marker("alone") is not None:
        raise StopRehearsalError
    if not _is_to_run(item):
        return
    values = {name: fixture(name) for name in item.fixturenames if name != "request"}
    function = item.obj
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return
    parameters = inspect.signature(function).parameters
    if "request" in parameters:
        values["request"] = fixture("request")
    function(**{name: values[name] for name in parameters if name in values})


def _is_to_run(item: pytest.Item) -> bool:
    """Return whether the marks let a test run. One that depends on a condition is not rehearsed."""
    if item.get_closest_marker("skip") is not None:
        return False
    if item.get_closest_marker("skipif") is not None or any(m.kwargs.get("run") is False for m in item.iter_markers()):
        raise StopRehearsalError
    return True


class _Request:
    """What fixtures most often need of pytest's request. Anything else ends the rehearsal of the test."""

    def __init__(self, item: pytest.Item, fixture: Callable[[str], Any]) -> None:
        self.node, self.config, self.session = item, item.config, item.session
        self.getfixturevalue = fixture

    def __getattr__(self, name: str) -> NoReturn:
        raise StopRehearsalError


def _be_quiet(kept: Container[int]) -> None:
    """Lead all descriptors to nowhere: output, answers to the parent, the SSH connection. Reset the signals."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        if descriptor not in kept and descriptor != nowhere:
            with contextlib.suppress(OSError):  # it was the descriptor of the list
                os.fstat(descriptor)
                os.dup2(nowhere, descriptor)
    sys.stdout = sys.stderr = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)


def _without_locks() -> None:
    """Let two bodies compute the same cached property. Before Python 3.12 it has a lock, in which a body that asks for
    a command would hold up all others."""
    if hasattr(functools.cached_property(lambda _: None), "lock"):

        class NoLock:
            def __enter__(self) -> None: ...
            def __exit__(self, *_: object) -> None: ...

        original = functools.cached_property.__get__

        def get(self: Any, instance: Any, owner: Any = None) -> Any:
            self.lock = NoLock()
            return original(self, instance, owner)

        functools.cached_property.__get__ = get  # type: ignore[method-assign]
