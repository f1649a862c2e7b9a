"""Ctrl-C and SIGTERM: the first asks for the end, and there is time to clean up; the second ends the process at once.

A signal raises KeyboardInterrupt in the main thread, and wakes every other thread at its next ``sleep``. The journal
makes the second one safe: what a killed build was doing is found again by ``goldenami resume`` or ``goldenami clean``.
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
    """While entered (in the main thread), signals are handled as above. The first one sets ``stop``.

    With ``signals=False`` the handlers of the process stay as they are: whoever sets ``stop`` asks for the end.
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
        """time.sleep that ends with Interrupted when a signal arrives; not in the clean-up, which needs its waits."""
        if self._cleaning:
            time.sleep(seconds)
        elif self.stop.wait(seconds):
            raise Interrupted("interrupted")

    def clean_up(self) -> None:
        """From now on the waits are the clean-up's: the first signal has been heard."""
        self._cleaning = True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.stop.is_set():
            # No clean-up, no flushing of anything: the user asked twice.
            sys.stderr.write(
                "\nStopped without clean-up. Run `goldenami resume` to continue a build, "
                "or `goldenami clean` to delete its resources.\n"
            )
            sys.stderr.flush()
            os._exit(_EXIT)
        self.stop.set()
        raise KeyboardInterrupt
