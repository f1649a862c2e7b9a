"""A clock for many threads: time stands still while any of them works, and moves to the next moment that one waits for.

So work takes no time, however busy the machine is: the seconds between two events are those of a machine without
limits. ``Clock`` of ``builds`` moves for each sleeper, and is for few threads.

Whether a thread works, the kernel says (the state R or D in /proc). One that waits for a lock or another thread does
not work, and the one that it waits for either does, or sleeps by this clock.
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

from tests.worlds.builds import Clock

_THREADS = Path("/proc/self/task")
_PAUSE = 0.001  # seconds between two looks
_LOOKS = 2  # in a row at which nobody works
_IDLE = 0.00005  # seconds of processor time of other threads between two looks
_TOGETHER = 0.5  # seconds: who waits for moments that are so close together is woken at the last of them


class EventClock(Clock):
    """Use :func:`running`."""

    def __init__(self) -> None:
        super().__init__()
        self.settle: Callable[[], object] = lambda: None
        self.used = 0.0  # seconds of processor time of the thread that moves the time
        self.busy: Callable[[], bool] = lambda: False  # whether another process works for this one
        self._began = self._time = time.time()
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
        idle, before = 0, _used_by_others()
        while not end.is_set():
            self.used = time.thread_time()
            time.sleep(_PAUSE)
            used = _used_by_others()
            idle = idle + 1 if used - before < _IDLE else 0
            before = used
            # A thread that works may get no processor, on a busy machine: that is the kernel's to say.
            if idle >= _LOOKS and self._due and not self._somebody_works():
                idle = 0
                self._move()

    def _move(self) -> None:
        with self._own:
            last = self._due[0][0] + _TOGETHER
            while self._due and self._due[0][0] <= last:
                due, _, thread, wake = heapq.heappop(self._due)
                self._time = max(self._time, due)
                self._sleeping.pop(thread, None)
                wake.set()

    def _somebody_works(self) -> bool:
        if self.busy():
            return True
        own = threading.get_native_id()
        for name in os.listdir(_THREADS):  # noqa: PTH208  names are all that is needed, often
            if int(name) != own and int(name) not in self._sleeping and _works(name):
                return True
        return False


def _used_by_others() -> float:
    return time.process_time() - time.thread_time()


def _works(thread: str) -> bool:
    try:
        return (_THREADS / thread / "stat").read_text(errors="replace").rpartition(")")[2].split()[0] in "RD"
    except OSError:  # it has ended
        return False


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
