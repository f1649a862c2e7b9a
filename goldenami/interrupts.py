"""Handles SIGINT (Ctrl-C) and SIGTERM. The first signal starts the clean-up; the second one ends the process at once.

The first signal raises KeyboardInterrupt in the main thread, and ends the ``sleep`` of every other thread. The second
one is safe because of the journal: ``goldenami resume`` and ``goldenami clean`` continue from it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

from goldenami.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_EXIT = 130


class Interrupts:
    """Handles signals inside a ``with`` block in the main thread. The first signal sets ``stop``.

    With ``signals=False`` the signal handlers are not changed. Then the caller sets ``stop`` to end the run.
    """

    def __init__(self, stop: threading.Event | None = None, *, signals: bool = True) -> None:
        self.stop = stop if stop is not None else threading.Event()
        self._signals = signals
        self._cleaning = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if self._signals and threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def sleep(self, seconds: float) -> None:
        """Sleep for some seconds. Raises Interrupted when a signal arrives, except during the clean-up."""
        if self._cleaning:
            time.sleep(seconds)
        elif self.stop.wait(seconds):
            raise Interrupted("interrupted")

    def clean_up(self) -> None:
        """Start the clean-up: from now on ``sleep`` does not raise Interrupted for the first signal."""
        self._cleaning = True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.stop.is_set():
            # The second signal ends the process without clean-up and without flushing.
            sys.stderr.write(
                "\nStopped without clean-up. Run `goldenami resume` to continue a build, "
                "or `goldenami clean` to delete its resources.\n"
            )
            sys.stderr.flush()
            os._exit(_EXIT)
        self.stop.set()
        raise KeyboardInterrupt
