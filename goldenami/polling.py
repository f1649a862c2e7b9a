"""Waiting for something that has to be asked again and again: the one loop that all of goldenami waits with.

    for _ in poll(cloud.clock, cloud.sleep, timeout=600):
        if is_ready():
            return
    raise CloudError("it is not ready after 600 seconds")

The pauses are short at first, since small things are ready in a second, and grow. The clock and the sleep are those of
the caller: the sleep of a command ends with Interrupted when a signal arrives (``interrupts.Interrupts.sleep``), and
tests have a clock of their own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

Clock = Callable[[], float]  # monotonic seconds
Sleep = Callable[[float], None]

_RESOLUTION: Final = 0.01  # seconds: less than this before the deadline is the deadline


@dataclass(frozen=True, slots=True)
class Interval:
    """Seconds between two looks: ``first``, then ``factor`` times the last one, up to ``longest``. ``jitter``: the part
    of a pause by which it varies at random, either way, so that many waiting threads do not ask together."""

    first: float = 0.2
    factor: float = 1.3
    longest: float = 15.0
    jitter: float = 0.0

    @classmethod
    def every(cls, seconds: float) -> Interval:
        """Always the same pause."""
        return cls(seconds, 1.0, seconds)


STANDARD: Final = Interval()


def poll(
    clock: Clock,
    sleep: Sleep,
    *,
    timeout: float | None,
    interval: Interval = STANDARD,
    check: Callable[[], None] | None = None,
    jitter: random.Random | None = None,
    sign_of_life: Callable[[float], None] | None = None,
    silence: float = 60.0,
    last_look: bool = False,
) -> Iterator[float]:
    """Yield once for each look, with the seconds since the first one; pause in between; end when the time is up.

    ``timeout``: seconds; None, or infinity, waits for as long as it takes. There is at least one look. A pause that
    does not fit into the time left ends the wait; with ``last_look`` it is cut short, for one more look at the end, as
    for a lock that may become free at any moment. The caller leaves the loop when it has seen enough; after the loop,
    the time is up.
    ``check`` is called before each look, and ends the wait by what it raises. ``sign_of_life`` is called with the
    seconds so far, about every ``silence`` seconds, so that a person or a CI system sees that it is still waiting.
    ``sleep`` may raise, too.
    """
    random_ = jitter or random.Random()
    start = told = clock()
    pause = interval.first
    while True:
        if check is not None:
            check()
        elapsed = clock() - start
        yield elapsed
        now = clock()
        left = float("inf") if timeout is None else timeout - (now - start)
        if left < _RESOLUTION:
            return
        if sign_of_life is not None and now - told >= silence:
            told = now
            sign_of_life(now - start)
        if pause > left and not last_look:
            return
        sleep(min(pause * (1 + random_.uniform(-interval.jitter, interval.jitter)), left))
        pause = min(pause * interval.factor, interval.longest)
