"""Calls a function in a child process with limits, for input that decides how much time and memory it takes.

A template or a regular expression of a recipe can take any time and memory (``9**9**9``). The kernel stops such a call:
RLIMIT_AS refuses memory, and after ``SECONDS`` of processor time a signal raises ``TooMuch`` in the function. If the
function does not return to Python even then, another signal ends the child.

The child is a fork of this process, made at the first call and kept for the next ones: a fork costs some milliseconds,
a call about 0.1 ms. It has no open files but its two pipes, and ends when this process ends. The function and its
arguments are pickled; the function must be one of a module, without side effects.
"""

from __future__ import annotations

import os
import pickle
import re
import resource
import signal
import struct
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, ParamSpec, TypeVar, cast

SECONDS = 1.0  # of processor time for one call
_GRACE = 0.2  # seconds more, until the child is ended
MEMORY = 128 << 20  # bytes, in addition to what this process has

P = ParamSpec("P")
R = TypeVar("R")

_HEAD = struct.Struct("!dQ")  # seconds of processor time: allowed in a request, used in an answer; size of what follows


class TooMuch(Exception):
    """A call was stopped. Its text completes the sentence "the expression needs more than …"."""


class Budget:
    """The processor time and the text that one input may use for all its calls together."""

    def __init__(self, seconds: float = 2.0, characters: int = 16 << 20) -> None:
        self.seconds = seconds
        self.characters = characters
        self._given = (seconds, characters)

    def spend(self, seconds: float, characters: int = 0) -> None:
        """Count what was used. Raises TooMuch if the budget is used up."""
        self.seconds -= seconds
        self.characters -= characters
        if self.seconds <= 0:
            raise TooMuch(f"{self._given[0]:g} s of processor time, together with those before it")
        if self.characters < 0:
            raise TooMuch(f"{self._given[1] >> 20} MiB of text, together with those before it")


def call(budget: Budget, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Return ``function(*args, **kwargs)``, called in the child. Raises what it raises, and TooMuch at a limit."""
    budget.spend(0)
    with _LOCK:
        seconds = max(min(SECONDS, budget.seconds), 0.001)
        request = function, args, kwargs
        try:
            used, (succeeded, answer) = _ask(seconds, request)
        except TooMuch as error:
            used, succeeded, answer = seconds, False, error
        if isinstance(answer, TooMuch):
            used = max(used, seconds)  # the timer of the child may end a little early
    budget.spend(used)
    if not succeeded:
        raise cast(Exception, answer)
    return cast(R, answer)


def matches(budget: Budget, pattern: str, text: str, flags: int = 0) -> bool:
    """Return whether a regular expression that a recipe gives matches a whole text. Raises TooMuch.

    The answers for short texts are kept, because many recipes have the same values.
    """
    asked = pattern, text, flags
    if asked in _MATCHES:
        return _MATCHES[asked]
    answer = call(budget, _matches, pattern, text, flags)
    if len(pattern) + len(text) <= _SHORT and len(_MATCHES) < _MOST:
        _MATCHES[asked] = answer
    return answer


def _matches(pattern: str, text: str, flags: int) -> bool:
    return re.fullmatch(pattern, text, flags) is not None


_SHORT = 500  # characters
_MOST = 4096  # answers
_MATCHES: dict[tuple[str, str, int], bool] = {}
_LOCK = threading.Lock()


class _Child:
    _current: _Child | None = None

    @classmethod
    def current(cls) -> _Child:
        """Return the child of this process. A fork of this process gets its own."""
        if cls._current is None or cls._current._parent != os.getpid():
            cls._current = cls()
        return cls._current

    def __init__(self) -> None:
        self._parent = os.getpid()
        requests, self._requests = os.pipe()
        self._answers, answers = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads: the child uses none of them
            self._pid = os.fork()
        if not self._pid:
            _serve(requests, answers)
        os.close(requests)
        os.close(answers)

    def ask(self, seconds: float, request: object) -> tuple[float, tuple[bool, object]]:
        """Return the processor time and the result. Raises EOFError if the child has ended."""
        data = pickle.dumps(request)
        try:
            _write(self._requests, seconds, data)
        except BrokenPipeError:
            raise EOFError from None
        used, data = _read(self._answers)
        return used, pickle.loads(data)

    def end(self) -> int:
        """Return how the child ended, as ``os.waitpid`` does. The next call starts another one."""
        _Child._current = None
        os.close(self._requests)
        os.close(self._answers)
        _, status = os.waitpid(self._pid, 0)
        return status


def _ask(seconds: float, request: object) -> tuple[float, tuple[bool, object]]:
    """Ask the child. Raises TooMuch if it ended at a limit; a child that somebody else ended is replaced, once."""
    for last in (False, True):
        child = _Child.current()
        try:
            return child.ask(seconds, request)
        except EOFError:
            status = child.end()
        match os.WIFSIGNALED(status) and os.WTERMSIG(status):
            case signal.SIGVTALRM:
                raise TooMuch(_time(seconds))
            case signal.SIGSEGV:
                raise TooMuch("the stack of the process")
            case signal.SIGABRT:
                break
        if last:
            break
    raise TooMuch(SPACE)


SPACE = f"{MEMORY >> 20} MiB of memory"


def _time(seconds: float) -> str:
    return f"{seconds:.2g} s of processor time"


def _serve(requests: int, answers: int) -> NoReturn:
    """Answer requests until the parent ends."""
    try:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGVTALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
        signal.set_wakeup_fd(-1)
        low, high = sorted((requests, answers))
        os.closerange(0, low)
        os.closerange(low + 1, high)
        os.closerange(high + 1, os.sysconf("SC_OPEN_MAX"))
        with open("/proc/self/statm") as file:  # noqa: PTH123 - closed again
            size = int(file.read().split()[0]) * resource.getpagesize()
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        wanted = size + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (wanted if most < 0 else min(wanted, most), most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        while True:
            seconds, data = _read(requests)
            function, args, kwargs = pickle.loads(data)
            start = time.process_time()
            try:
                with _stopped_after(seconds):
                    answer = pickle.dumps((True, function(*args, **kwargs)))
            except MemoryError:
                answer = pickle.dumps((False, TooMuch(SPACE)))
            except Exception as error:
                answer = _pickled(error)
            _write(answers, time.process_time() - start, answer)
    except BaseException:
        pass
    os._exit(1)


@contextmanager
def _stopped_after(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooMuch(_time(seconds))

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds + _GRACE)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _pickled(error: Exception) -> bytes:
    try:
        answer = pickle.dumps((False, error))
        pickle.loads(answer)
    except Exception:
        return pickle.dumps((False, ValueError(f"{type(error).__name__}: {error}")))
    return answer


def _write(to: int, seconds: float, data: bytes) -> None:
    rest = memoryview(_HEAD.pack(seconds, len(data)) + data)
    while rest:
        rest = rest[os.write(to, rest) :]


def _read(source: int) -> tuple[float, bytes]:
    seconds, size = _HEAD.unpack(_exactly(source, _HEAD.size))
    return seconds, _exactly(source, size)


def _exactly(source: int, size: int) -> bytes:
    parts = []
    while size:
        part = os.read(source, min(size, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
