"""Handles SIGINT (Ctrl-C), SIGTERM and SIGHUP. The first signal starts the clean-up; a second SIGINT or SIGTERM ends
the process at once.

The first signal raises KeyboardInterrupt in the main thread, and ends the ``sleep`` of every other thread. The second
one is safe because of the journal: ``goldenami resume`` and ``goldenami clean`` continue from it.

A terminal that is closed sends SIGHUP, often twice (the shell and the kernel both send it), so SIGHUP is never the
second signal. A process that was started with SIGHUP ignored (``nohup``) continues without its terminal.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Final, Self

from goldenami.errors import Interrupted

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_EXIT: Final = 130
_STOPPED: Final = (
    b"\nStopped without clean-up. Run `goldenami resume` to continue a build, "
    b"or `goldenami clean` to delete its resources.\n"
)


class Interrupts:
    """Handles signals inside a ``with`` block in the main thread. The first signal sets ``stop``.

    With ``signals=False`` the signal handlers are not changed. Then the caller sets ``stop`` to end the run.
    """

    def __init__(self, stop: threading.Event | None = None, *, signals: bool = True) -> None:
        self.stop = stop if stop is not None else threading.Event()
        self._signals = signals
        self._cleaning = False
        self._before: dict[int, Any] = {}
        self._hung_up = False

    def __enter__(self) -> Self:
        if self._signals and threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            # After the clean-up, a second SIGHUP must not end the process before it returns its exit code.
            ignored = number == signal.SIGHUP and self._hung_up
            signal.signal(number, signal.SIG_IGN if ignored else handler)

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
        self._hung_up = self._hung_up or number == signal.SIGHUP
        if self.stop.is_set():
            if number == signal.SIGHUP:
                return
            # The second signal ends the process without clean-up and without flushing. The terminal may be closed, and
            # the interrupted code may be in the midst of a write to sys.stderr.
            with suppress(OSError):
                os.write(2, _STOPPED)
            os._exit(_EXIT)
        self.stop.set()
        raise KeyboardInterrupt
