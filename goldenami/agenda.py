"""Runs functions at set times in a few threads: work that waits takes no thread.

Thousands of copies can be under way at once. Each is looked at from time to time, and does something when it is ready.
A thread for each would take most of the memory, so they share an agenda::

    agenda = Agenda(cloud.clock, cloud.sleep, failed, name="distribute")
    agenda.soon(begin)               # as soon as a thread is free
    agenda.later(60.0, look)         # in a minute
    agenda.close()                   # nothing begins any more; what runs has ended when it returns

One thread sleeps until the next function is due. If an earlier one is added, another thread sleeps for that one.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from typing import Final

from goldenami.each import AT_ONCE
from goldenami.polling import Clock, Sleep

SLEEPERS: Final = 8  # threads that sleep at the same time, at most
_SOONER: Final = 0.02  # seconds: a function that is due so little earlier waits for the thread that sleeps already


class Agenda:
    """Functions, each with the time at which it is due. Its methods may be called from any thread.

    A function that is due runs in one of ``at_once`` threads, as soon as one of them is free. It must not raise: an
    error of the function, or one that ``sleep`` raises after a signal, goes to ``failed``, and nothing begins any more.
    """

    def __init__(
        self, clock: Clock, sleep: Sleep, failed: Callable[[BaseException], None], *, name: str, at_once: int = AT_ONCE
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._failed = failed
        self._name = name
        self._at_once = at_once
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count(1)
        self._threads = 0
        self._idle = 0
        self._running = 0
        self._asleep: list[float] = []  # when each sleeping thread wakes
        self._closed = False

    def soon(self, do: Callable[[], None]) -> bool:
        """Run a function as soon as a thread is free. Functions that are due begin in the order of their times. Returns
        False after :meth:`close`, when nothing begins any more."""
        return self.later(0.0, do)

    def later(self, seconds: float, do: Callable[[], None]) -> bool:
        """Run a function in some seconds. Returns False, and does nothing, after :meth:`close`."""
        with self._changed:
            if self._closed:
                return False
            heapq.heappush(self._due, (self._clock() + max(0.0, seconds), next(self._numbers), do))
            self._call_a_thread()
            return True

    def close(self) -> None:
        """Let nothing begin any more, and wait for what runs. Threads that sleep end when they wake."""
        with self._changed:
            self._closed = True
            self._due.clear()
            self._changed.notify_all()
            while self._running:
                self._changed.wait()

    # --- in its threads; all methods but _work are called with the lock -----------------------------------------------

    def _call_a_thread(self) -> None:
        """Let another thread look at the agenda, if there is something for it."""
        if self._closed or not self._due or self._waits_for(self._due[0][0], self._clock()):
            return
        if self._idle:
            self._changed.notify()
        elif self._threads - len(self._asleep) < self._at_once:
            self._threads += 1
            number = next(self._numbers)
            threading.Thread(target=self._work, name=f"{self._name} {number}", daemon=True).start()

    def _waits_for(self, due: float, now: float) -> bool:
        """Return whether a thread sleeps that wakes in time for this, or no further thread may sleep."""
        if due <= now:
            return False
        return len(self._asleep) >= SLEEPERS or any(wakes <= due + _SOONER for wakes in self._asleep)

    def _work(self) -> None:
        with self._changed:
            try:
                self._take_part()
            finally:
                self._threads -= 1

    def _take_part(self) -> None:
        while not self._closed:
            now = self._clock()
            due = self._due[0][0] if self._due else None
            if due is not None and due <= now:
                self._run(heapq.heappop(self._due)[2])
            elif due is not None and not self._waits_for(due, now):
                self._sleep_until(due, now)
            else:
                self._idle += 1
                self._changed.wait()
                self._idle -= 1

    def _run(self, do: Callable[[], None]) -> None:
        self._call_a_thread()  # for what else is due
        self._running += 1
        try:
            self._unlocked(do)
        finally:
            self._running -= 1
            if self._closed:
                self._changed.notify_all()

    def _sleep_until(self, due: float, now: float) -> None:
        self._asleep.append(due)
        try:
            self._unlocked(lambda: self._sleep(due - now))
        finally:
            self._asleep.remove(due)

    def _unlocked(self, do: Callable[[], None]) -> None:
        self._changed.release()
        try:
            do()
        except BaseException as error:
            with self._changed:
                self._closed = True
                self._due.clear()
                self._changed.notify_all()
            self._failed(error)
        finally:
            self._changed.acquire()
