"""Waiting with repeated checks: the one polling loop of goldenami::

    for _ in poll(cloud.clock, cloud.sleep, timeout=600):
        if is_ready():
            return
    raise CloudError("it is not ready after 600 seconds")

The pauses are short at first, since small resources are ready in a second, and then grow. The caller passes the clock
and the sleep function: the sleep of a command raises Interrupted when a signal arrives
(``interrupts.Interrupts.sleep``), and tests pass their own clock.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

Clock = Callable[[], float]  # monotonic seconds
Sleep = Callable[[float], None]

_JITTER: Final = random.Random()  # one for all: making one takes longer than most waits that end at the first check
RESOLUTION: Final = 0.01  # seconds; if less time than this is left, the deadline counts as reached
_OLD: Final = 1.0  # seconds since the last check began; then it says nothing of now


@dataclass(frozen=True, slots=True)
class Interval:
    """Seconds between two checks: ``first``, then ``factor`` times the previous pause, up to ``longest``. ``jitter``:
    the fraction by which a pause varies at random, so that many waiting threads do not send requests together."""

    first: float = 0.2
    factor: float = 1.3
    longest: float = 15.0
    jitter: float = 0.0

    @classmethod
    def every(cls, seconds: float) -> Interval:
        """Return an interval with a constant pause."""
        return cls(seconds, 1.0, seconds)


STANDARD: Final = Interval()


def pauses(interval: Interval, jitter: random.Random) -> Iterator[float]:
    """Yield the pauses of an interval, without end."""
    pause = interval.first
    while True:
        yield pause * (1 + jitter.uniform(-interval.jitter, interval.jitter))
        pause = min(pause * interval.factor, interval.longest)


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
    never_old: bool = False,
    ahead: Callable[[float], float | None] | None = None,
) -> Iterator[float]:
    """Yield once for each check, with the seconds since the first one. Pause in between. Return at the timeout.

    ``timeout``: seconds; None or infinity waits without a limit. There is at least one check. If the next pause is
    longer than the time left, the wait ends; with ``last_look`` that pause is shortened, and one more check follows at
    the end (for a lock, which may become free at any moment). With ``never_old`` it follows too if the last check
    took long, as when this process was stopped meanwhile: what the check saw is old then. The caller leaves the loop
    when the condition is met; the code after the loop handles the timeout.
    ``check`` is called before each check; an exception that it raises ends the wait. ``sign_of_life`` is called with
    the seconds so far, about every ``silence`` seconds, to report that the wait goes on. ``sleep`` may raise too.
    ``ahead``: called with the seconds so far before each pause. It returns the next pause if it can guess when the
    condition will be met, or None. A guess that is longer than the time left is shortened to it, so that a wrong guess
    ends no wait early.
    """
    usual = pauses(interval, jitter or _JITTER)
    start = last_sign = clock()
    pause = next(usual)
    while True:
        if check is not None:
            check()
        elapsed = clock() - start
        yield elapsed
        now = clock()
        left = float("inf") if timeout is None else timeout - (now - start)
        is_old = never_old and now - start - elapsed > max(pause, _OLD)
        if left < RESOLUTION:
            if is_old and timeout is not None and elapsed < timeout - RESOLUTION:
                continue
            return
        if sign_of_life is not None and now - last_sign >= silence:
            last_sign = now
            sign_of_life(now - start)
        known = ahead(now - start) if ahead is not None else None
        if known is None and pause > left and not (last_look or is_old):
            return
        if known is not None:
            sleep(min(known, left))
            continue
        sleep(min(pause, left))
        pause = next(usual)
