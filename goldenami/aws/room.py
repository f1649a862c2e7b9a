"""Launches that wait for vCPUs: a quota that other builds use up is no failure, because they give it back soon.

The first launch of a place that finds no room looks at the instances of all builds there (their tags say so), and is
tried again when one of them has ended. All other launches of this process in that place wait behind it, in the order in
which they came, and send nothing. So many builds at the end of a quota make few calls, and none overtakes another. If
the first one gives up after hours, those behind it fail with it: otherwise each would wait for hours of its own.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from goldenami.aws import tags
from goldenami.aws.reservations import instances_in
from goldenami.errors import BuilderError
from goldenami.model import Place
from goldenami.polling import Interval, poll

if TYPE_CHECKING:
    from goldenami.aws.session import Cloud

# RunInstances: more instances of a market than the quota of vCPUs allows.
QUOTA_CODES: Final = frozenset({"VcpuLimitExceeded", "MaxSpotInstanceCountExceeded", "InstanceLimitExceeded"})
_EVERY: Final = Interval.every(5.0)  # seconds between two looks at the instances
_TRIED_ANYWAY: Final = 120.0  # seconds: others, too, give back vCPUs
_STUCK: Final = 2 * 3600.0  # seconds without any change: the instances were kept on purpose
_ENDING: Final = ("stopping", "shutting-down")
_STATES: Final = ("pending", "running", *_ENDING)
_REAL_PAUSE: Final = 0.5  # seconds of the wall clock between two looks for a signal

Instances = frozenset[tuple[str, bool]]
"""The id of each instance, and whether it is being stopped or terminated."""


@dataclass(slots=True, eq=False)
class _Ticket:
    """A launch that waits, or may have to. ``failed``: why it must not wait any longer."""

    failed: BuilderError | None = None


class Room:
    """The launches of this process that wait, by place. Thread-safe."""

    def __init__(self) -> None:
        self._waiting: dict[Place, deque[_Ticket]] = {}
        self._changed = threading.Condition()

    @contextmanager
    def turn(self, cloud: Cloud, place: Place) -> Iterator[Callable[[], None]]:
        """Wait until no launch is in front in the place, and keep that place until the block ends. If nobody waits,
        the launch may be sent at once, beside others; calling what is yielded makes it one that others wait for.

        Raises BuilderError if the launch in front gave up."""
        with self._changed:
            ticket, line = _Ticket(), self._waiting.setdefault(place, deque())
            if line:
                line.append(ticket)
        try:
            self._until_first(cloud, line, ticket)
            yield lambda: self._stand_in_line(cloud, line, ticket)
        finally:
            with self._changed:
                if ticket in line:
                    line.remove(ticket)
                self._changed.notify_all()

    def give_up(self, place: Place, error: BuilderError) -> None:
        """Let the launches fail that wait in a place now, because the first of them does, with this error."""
        with self._changed:
            for behind in list(self._waiting.get(place, ()))[1:]:
                behind.failed = BuilderError(
                    f"the launch waited behind another one, which found no vCPUs in {place}: {error.message}",
                    hint=error.hint,
                )
            self._changed.notify_all()

    def _stand_in_line(self, cloud: Cloud, line: deque[_Ticket], ticket: _Ticket) -> None:
        with self._changed:
            if ticket not in line:
                line.append(ticket)
        self._until_first(cloud, line, ticket)

    def _until_first(self, cloud: Cloud, line: deque[_Ticket], ticket: _Ticket) -> None:
        while True:
            with self._changed:
                if ticket.failed is not None:
                    raise ticket.failed
                if ticket not in line or line[0] is ticket:
                    return
                self._changed.wait(_REAL_PAUSE)
            cloud.sleep(0.0)  # raises Interrupted after a signal


def of_builds(cloud: Cloud, place: Place) -> Instances:
    """Return the instances of all builds that count for the quotas of a place, or did a moment ago."""
    return frozenset(
        (instance["InstanceId"], instance["State"]["Name"] in _ENDING)
        for instance in instances_in(cloud, place, tag_key=[tags.BUILD_ID], instance_state_name=_STATES)
    )


def await_change(cloud: Cloud, place: Place, before: Instances, since: float) -> bool:
    """Wait until one of these instances ends or has ended, or for two minutes; not at all if there are none. A start
    gives no vCPUs back, so it does not count. Returns False if there was no change for hours. ``since``: when the last
    change was, by ``cloud.clock``."""
    if cloud.clock() - since > _STUCK:
        return False
    if before:
        cloud.sleep(_EVERY.first)
    for _ in poll(cloud.clock, cloud.sleep, timeout=_TRIED_ANYWAY, interval=_EVERY):
        if not before or before - of_builds(cloud, place):
            break
    return True
