"""Combines several event consumers into one Emit. All consumers receive the events of all threads in the same order.

A view must never break a build. A consumer that raises an error receives no more events, and the other consumers
receive a ``note`` about it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from goldenami.events import Emit, Event


def tee(*consumers: Emit) -> Emit:
    """Combine consumers. The returned Emit may be called from several threads; consumers are called one at a time."""
    return _Tee(consumers)


class _Tee:
    def __init__(self, consumers: Sequence[Emit]) -> None:
        self._consumers = list(consumers)
        self._lock = threading.RLock()  # reentrant, because a consumer may emit an event itself

    def __call__(self, event: Event) -> None:
        with self._lock:
            for consumer in tuple(self._consumers):
                try:
                    consumer(event)
                except Exception as error:
                    if consumer not in self._consumers:
                        continue
                    self._consumers.remove(consumer)
                    name = getattr(consumer, "__qualname__", type(consumer).__name__)
                    reason = f"{type(error).__name__}: {error}"
                    message = f"{name} failed and receives no more events: {reason}"
                    self(Event("note", {"level": "warning", "message": message}))
