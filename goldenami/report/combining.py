"""Combines several event consumers into one Emit. All consumers receive the events of all threads in the same order.

A view must never break a build. A consumer that raises an error receives no more events, and the other consumers
receive a ``note`` about it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from goldenami.events import Emit, Event
from goldenami.report.terminal import Live


def tee(*consumers: Emit) -> Emit:
    """Combine consumers. The returned Emit may be called from several threads; consumers are called one at a time."""
    return _Tee(consumers)


@contextmanager
def paused(emit: Emit) -> Iterator[None]:
    """Pause the live view of an Emit of ``tee`` inside a ``with`` block, for a question on the terminal."""
    with ExitStack() as stack:
        for consumer in emit.consumers if isinstance(emit, _Tee) else ():
            if isinstance(consumer, Live):
                stack.enter_context(consumer.paused())
        yield


class _Tee:
    def __init__(self, consumers: Sequence[Emit]) -> None:
        self._consumers = list(consumers)
        self._lock = threading.RLock()  # reentrant, because a consumer may emit an event itself

    @property
    def consumers(self) -> tuple[Emit, ...]:
        return tuple(self._consumers)

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
