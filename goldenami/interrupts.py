"""Handles SIGINT (Ctrl-C), SIGTERM and SIGHUP. The first signal starts the clean-up; a second SIGINT or SIGTERM ends
the process at once.

The first signal raises KeyboardInterrupt in the main thread, and ends the ``sleep`` of every other thread. The second
one is safe because of the journal: ``goldenami resume`` and ``goldenami clean`` continue from it.

The kernel may give a signal to any thread, or right before the main thread begins to wait for another one. Python would
tell the main thread only when that wait ends: after hours. So a thread wakes it (:func:`main_woken`).

A terminal that is closed sends SIGHUP, often twice (the shell and the kernel both send it), so SIGHUP is never the
second signal. A process that was started with SIGHUP ignored (``nohup``) continues without its terminal.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any, Final, Self

from goldenami.errors import Interrupted

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_EXIT: Final = 130
_STOPPED: Final = (
    b"\nStopped without clean-up. Run `goldenami resume` to continue a build, "
    b"or `goldenami clean` to delete its resources.\n"
)

# Seconds between the wakings after a signal: the main thread may be about to wait at each of them.
_WAKINGS: Final = (0.0, 0.02, 0.1, 0.5)
_WAKING: Final = signal.SIGURG  # nothing here uses it, and a process that has no handler ignores it


@contextmanager
def main_woken() -> Iterator[None]:
    """Wake the main thread from its waits after each signal, inside a ``with`` block: it handles the signal at once,
    whichever thread got it. Does nothing in other threads, and where signals wake somebody already, as with asyncio."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    ended = threading.Event()
    waker = threading.Thread(target=_wake_main, args=(reading, ended), name="signals", daemon=True)
    handler = signal.getsignal(_WAKING)
    others = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        if others != -1:
            signal.set_wakeup_fd(others)
        else:
            signal.signal(_WAKING, _ignore)
            waker.start()
        yield
    finally:
        now = signal.set_wakeup_fd(-1)
        if now != writing:  # somebody else's, since before or by now
            signal.set_wakeup_fd(now)
        ended.set()
        if waker.ident is not None:
            # A process that was forked meanwhile may have the pipe too, so its end alone tells nothing.
            with suppress(BlockingIOError):  # it is full, so there is something to read
                os.write(writing, b"\0")
            waker.join()
            signal.signal(_WAKING, handler)
        os.close(reading)
        os.close(writing)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    pass


def _wake_main(reading: int, ended: threading.Event) -> None:
    """Wake the main thread for each signal that a pipe names, until the end."""
    main = threading.main_thread().ident
    assert main is not None
    while not ended.is_set():
        numbers = os.read(reading, 64)
        for pause in _WAKINGS if set(numbers) & set(_SIGNALS) else ():
            if ended.wait(pause):
                return
            signal.pthread_kill(main, _WAKING)


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
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if self._signals and threading.current_thread() is threading.main_thread():
            self._stack.enter_context(main_woken())
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
        self._stack.close()

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
