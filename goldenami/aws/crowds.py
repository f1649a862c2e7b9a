"""Copies that wait because their place runs as many as its quota allows.

EC2 tells the quota of copies only by refusing one ("ResourceLimitExceeded"), and other processes use the same quota. So
this module learns it: a refusal says that there is room for no more than what is under way. Then the copies of this
process stand in line, place by place. When one of them ends, the first in line is sent at once, so the place stays at
its quota. Because copies of others end as well, the first one is also sent after a pause, which grows with each
refusal. So a full place takes one call for each copy and a few more, however many copies wait for it; a process that
dies leaves nothing behind that others would have to wait for.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from goldenami.aws.limits import Retry
from goldenami.model import Place
from goldenami.polling import Clock

_LONGEST: Final = 120.0  # seconds between two tries while copies of this process are under way, whose end makes room


@dataclass(slots=True)
class _Crowd:
    """The copies into one place. ``most``: how many may be under way; None: not known. ``next``: when one more may be
    tried, after the refusals in a row, which are counted in ``refused``."""

    under_way: int = 0
    most: int | None = None
    refused: int = 0
    next: float = 0.0
    line: list[Callable[[], bool]] = field(default_factory=list)  # short; an empty deque takes ten times the memory


class Crowds:
    """The copies of one process, by place. Thread-safe. It calls those in line without its lock."""

    def __init__(self, clock: Clock, retry: Retry, jitter: random.Random) -> None:
        self._clock = clock
        self._retry = retry
        self._jitter = jitter
        self._mutex = threading.Lock()
        self._crowds: dict[Place, _Crowd] = {}

    def begin(self, place: Place, *, is_there: bool = False) -> bool:
        """Return whether a copy may be sent now. It counts as under way then, until :meth:`end` or :meth:`refuse`.
        ``is_there``: it is under way already."""
        with self._mutex:
            crowd = self._crowds.setdefault(place, _Crowd())
            has_room = crowd.most is None or crowd.under_way < crowd.most
            if not is_there and not has_room:
                if self._clock() < crowd.next:
                    return False
                crowd.next = self._clock() + self._pause(crowd)  # this one finds out, and no other one meanwhile
            crowd.under_way += 1
            return True

    def accept(self, place: Place) -> None:
        """Note that EC2 accepted a copy. If it was one more than was known to have room, there may be room for more."""
        with self._mutex:
            crowd = self._crowds[place]
            if crowd.most is None or crowd.under_way <= crowd.most:
                return
            crowd.most, crowd.refused, crowd.next = crowd.under_way, 0, 0.0
        self._call_first(place)

    def refuse(self, place: Place) -> None:
        """Note that EC2 refused a copy, because too many are under way."""
        with self._mutex:
            crowd = self._crowds[place]
            crowd.under_way -= 1
            crowd.most = crowd.under_way
            crowd.refused += 1
            crowd.next = self._clock() + self._pause(crowd)

    def end(self, place: Place, number: int = 1) -> None:
        """Note that copies ended, so that there is room for others."""
        with self._mutex:
            self._crowds[place].under_way -= number
        for _ in range(number):
            self._call_first(place)

    def stand_in_line(self, place: Place, call: Callable[[], bool]) -> float:
        """Let a copy wait for room. ``call``: called once when it should begin again; returns False if nobody waits for
        the copy any more, and the next one is to be called. Return the seconds after which
        :meth:`call` should be called if nothing has happened."""
        with self._mutex:
            crowd = self._crowds.setdefault(place, _Crowd())
            crowd.line.append(call)
            return max(self._retry.first, crowd.next - self._clock())

    def call(self, place: Place) -> float | None:
        """Call the first in line of a place, if it is time to try again. Return the seconds until the next time; None
        if nobody waits."""
        with self._mutex:
            crowd = self._crowds.setdefault(place, _Crowd())
            if not crowd.line:
                return None
            left = crowd.next - self._clock()
            pause = self._pause(crowd)
        if left > 0:
            return left
        self._call_first(place, anyway=True)
        return pause

    def _call_first(self, place: Place, *, anyway: bool = False) -> None:
        called = False
        while not called:
            with self._mutex:
                crowd = self._crowds[place]
                has_room = crowd.most is None or crowd.under_way < crowd.most
                if not crowd.line or not (has_room or anyway or self._clock() >= crowd.next):
                    return
                first = crowd.line.pop(0)
            called = first()

    def _pause(self, crowd: _Crowd) -> float:
        """Return the pause before one more copy is tried: between half and all of it, so that processes that were
        refused together do not try together."""
        longest = _LONGEST if crowd.under_way else self._retry.longest
        full = min(self._retry.first * self._retry.factor ** min(crowd.refused, 32), longest)
        return self._jitter.uniform(full / 2, full)
