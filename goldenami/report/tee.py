"""One Emit for many: gives every event to each consumer, in the same order, whatever thread it comes from.

A view must never break a build. A consumer that raises is not asked again, and the others are told once by a note.
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
        self._lock = threading.RLock()  # a consumer that emits itself would otherwise wait for itself

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
                    self(Event("note", {"level": "warning", "message": f"{name} ended its report: {reason}"}))
