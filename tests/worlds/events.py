"""A clock for many threads: time stands still while any of them works, and moves to the next moment that one waits for.

So work takes no time, however busy the machine is: the seconds between two events are those of a machine without
limits. ``Clock`` of ``builds`` moves for each sleeper, and is for few threads.

Whether a thread works, the kernel says (the state R or D in /proc). One that waits for a lock or another thread does
not work, and the one that it waits for either does, or sleeps by this clock. The threads are read one after the other,
and one that was read already may begin meanwhile, because another one ended its work. So nobody works if two looks in
a row find all threads asleep, and none has run between them: the kernel counts how often each went to sleep. A thread
that waits for a processor, or for Python's lock that the clock had, has run or is about to run at the second look.
"""

from __future__ import annotations

import heapq
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.worlds.builds import Clock, World, a_world

_THREADS = Path("/proc/self/task")
_PAUSE = 0.001  # seconds between two looks
_IDLE = 0.00005  # seconds of processor time of other threads between two looks
_TOGETHER = 0.5  # seconds: who waits for moments that are so close together is woken at the last of them


class EventClock(Clock):
    """Use :func:`running`."""

    def __init__(self) -> None:
        super().__init__()
        self.settle: Callable[[], object] = lambda: None
        self.used = 0.0  # seconds of processor time of the thread that moves the time
        self.busy: Callable[[], bool] = lambda: False  # whether another process works for this one
        # As in other worlds, whose states are taken over: what is there must not be of a later time.
        self._began = self._time = super().now()
        self._sleeping: dict[int, None] = {}
        self._due: list[tuple[float, int, int, threading.Event]] = []
        self._numbers = itertools.count()
        self._own = threading.Lock()

    def now(self) -> float:
        return self._time

    @property
    def offset(self) -> float:
        return self._time - self._began

    def reset(self, offset: float = 0.0) -> None:
        self._time = self._began + offset

    def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            return
        wake, thread = threading.Event(), threading.get_native_id()
        with self._own:
            heapq.heappush(self._due, (self._time + seconds, next(self._numbers), thread, wake))
            self._sleeping[thread] = None
        wake.wait()

    def drive(self, end: threading.Event) -> None:
        """Move the time until the end."""
        before, asleep = _used_by_others(), None  # as the last look found them
        while not end.is_set():
            self.used = time.thread_time()
            time.sleep(_PAUSE)
            used = _used_by_others()
            may_be_idle, before = used - before < _IDLE and bool(self._due), used
            last, asleep = asleep, self._asleep() if may_be_idle else None
            if asleep is not None and asleep == last:
                asleep = None
                self._move()

    def _move(self) -> None:
        with self._own:
            last, wakes = self._due[0][0] + _TOGETHER, list[threading.Event]()
            while self._due and self._due[0][0] <= last:
                due, _, thread, wake = heapq.heappop(self._due)
                self._time = max(self._time, due)
                self._sleeping.pop(thread, None)
                wakes.append(wake)
        # All of them wake at one time: otherwise it would depend on the machine which of them see an earlier one.
        for wake in wakes:
            wake.set()

    def _asleep(self) -> dict[str, bytes] | None:
        """Return how often each thread went to sleep that does not sleep by this clock; None if one of them works."""
        if self.busy():
            return None
        own = threading.get_native_id()
        found: dict[str, bytes] = {}
        for name in os.listdir(_THREADS):  # noqa: PTH208  names are all that is needed, often
            if int(name) == own or int(name) in self._sleeping:
                continue
            try:
                text = (_THREADS / name / "status").read_bytes()
            except OSError:  # it has ended, and may have woken another one
                return None
            if _field(text, b"State")[:1] in b"RD":
                return None
            found[name] = _field(text, b"voluntary_ctxt_switches")
        return None if self.busy() else found


def _used_by_others() -> float:
    return time.process_time() - time.thread_time()


def _field(status: bytes, name: bytes) -> bytes:
    return status.partition(b"\n" + name + b":\t")[2].partition(b"\n")[0]


@contextmanager
def running() -> Iterator[EventClock]:
    clock, end = EventClock(), threading.Event()
    driver = threading.Thread(target=clock.drive, args=(end,), name="clock", daemon=True)
    driver.start()
    try:
        yield clock
    finally:
        end.set()
        driver.join()


@contextmanager
def timed_world(path: Path, *, wire: bool = False, kind: type[World] = World) -> Iterator[World]:
    """A world of ``builds`` with this clock: it does not add up what threads sleep beside each other. For tests of how
    long something takes."""
    with (
        running() as clock,
        pytest.MonkeyPatch.context() as patch,
        a_world(path, patch, wire=wire, clock=clock, kind=kind) as world,
    ):
        yield world
