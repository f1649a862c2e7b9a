"""Work in a separate thread: while the caller waits (``run_work``), or in the background (``start``)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Generic, ParamSpec, TypeVar

from goldenami.each import LOOK_SECONDS
from goldenami.events import Emit, Event, ignore_events
from goldenami.interrupts import Interrupts

OnEvent = Callable[[Event], object]

_T = TypeVar("_T")
_P = ParamSpec("_P")


@dataclass(slots=True)
class _Result(Generic[_T]):
    values: list[_T] = field(default_factory=list)
    error: BaseException | None = None


def run_work(work: Callable[[Interrupts, Emit], _T], on_event: OnEvent | None, stop: threading.Event | None) -> _T:
    """Run work in a separate thread, call ``on_event`` in this thread with each event, and return the result.

    Ctrl-C, an exception of ``on_event`` and a set ``stop`` request the end of the work. The exception is raised after
    it; a second Ctrl-C does not wait for that.
    """
    interrupts = Interrupts(stop, signals=False)
    events: SimpleQueue[Event | None] = SimpleQueue()
    result: _Result[_T] = _Result()

    def run() -> None:
        try:
            result.values.append(work(interrupts, events.put if on_event is not None else ignore_events))
        except BaseException as error:
            result.error = error
        finally:
            events.put(None)

    thread = threading.Thread(target=run, name="goldenami", daemon=True)
    thread.start()
    ending: BaseException | None = None  # the exception to raise after the work has ended
    while True:
        try:
            event = _next(events)
            if event is None:
                break
            if on_event is not None:
                on_event(event)
        except KeyboardInterrupt as interrupt:
            if ending is not None:
                raise
            ending = interrupt
            interrupts.stop.set()
        except BaseException as error:  # an error of on_event, which is not called again
            ending = ending or error
            on_event = None
            interrupts.stop.set()
    thread.join()
    if ending is not None:
        raise ending from result.error
    if result.error is not None:
        raise result.error
    return result.values[0]


def _next(events: SimpleQueue[Event | None]) -> Event | None:
    while True:
        with suppress(Empty):
            return events.get(timeout=LOOK_SECONDS)


class Run(Generic[_T]):
    """Work in the background, returned by ``start``. Iterate over it for its events, then call ``result``.

    ::

        run = goldenami.start(goldenami.build, plan)
        for event in run:
            print(event.kind)
        outcome = run.result()
    """

    def __init__(self, function: Callable[..., _T], arguments: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        self._stop = threading.Event()
        self._events: SimpleQueue[Event | None] = SimpleQueue()
        self._future: Future[_T] = Future()
        self._future.set_running_or_notify_cancel()

        def work() -> None:
            try:
                result = function(*arguments, on_event=self._events.put, stop=self._stop, **options)
            except BaseException as error:
                self._future.set_exception(error)
            else:
                self._future.set_result(result)
            finally:
                self._events.put(None)

        threading.Thread(target=work, name="goldenami run", daemon=True).start()

    def __iter__(self) -> Iterator[Event]:
        """Yield the events that were not read yet, and wait for more until the work has ended."""
        while (event := _next(self._events)) is not None:
            yield event
        self._events.put(None)  # so that a second iteration ends at once

    @property
    def done(self) -> bool:
        """Whether the work has ended."""
        return self._future.done()

    def stop(self) -> None:
        """Request the end: the resources of a build are deleted, and ``result`` raises Interrupted. Returns at once."""
        self._stop.set()

    def result(self, timeout: float | None = None) -> _T:
        """Wait for the end, and return the function's result or raise its error.

        Raises TimeoutError after ``timeout`` seconds; the work continues. A second call returns the same result.
        """
        return self._future.result(timeout)


def start(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Run[_T]:
    """Start ``plan``, ``build``, ``resume`` or ``clean`` in the background, with the same arguments.

    Do not pass ``on_event`` and ``stop``: the Run sets them.
    """
    return Run(function, args, kwargs)
