"""Doing one thing for many items or places: one that fails does not stop the others, unless its error ends everything.

Whether an error ends everything is said by its class (``GoldenAmiError.ends_everything``), and nowhere else. These two
are the only code that catches an error of one item or place and goes on with the next one:

    each(places, ask)       asks all of them at once, with a bounded number of threads
    Failures().of(item)     a block of code in a loop, one item after the other

:func:`all_of` has the same threads, and raises the first failure.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from goldenami.errors import GoldenAmiError, Interrupted

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
R = TypeVar("R")

AT_ONCE: Final = 16  # threads; each place has limits of its own, so that more would only wait for each other here


class Failures(Generic[K]):
    """The failures of items that do not stop each other, in the order in which they came.

    ``errors``: by item. ``reasons``: the same as messages for people; a caller may add reasons of its own.
    """

    def __init__(self, on_failure: Callable[[K, GoldenAmiError], None] | None = None, *, undoing: bool = False) -> None:
        """``on_failure`` is called with each failure that is collected. ``undoing``: the work puts something back, and
        goes on to its end even if a signal arrives: an interruption is collected like any other failure."""
        self.errors: dict[K, GoldenAmiError] = {}
        self.reasons: dict[K, str] = {}
        self._on_failure = on_failure
        self._undoing = undoing

    @contextmanager
    def of(self, item: K) -> Iterator[None]:
        """Do the work of one item inside of this. Raises what ends everything, and what is no GoldenAmiError."""
        try:
            yield
        except GoldenAmiError as error:
            if not self.collects(error):
                raise
            self.add(item, error)

    def collects(self, error: BaseException | None) -> bool:
        """Whether this error is the item's alone."""
        if not isinstance(error, GoldenAmiError):
            return False
        return not error.ends_everything or (self._undoing and isinstance(error, Interrupted))

    def add(self, item: K, error: GoldenAmiError) -> None:
        """Collect a failure that was found in another way than by an exception."""
        self.errors[item] = error
        self.reasons[item] = error.message
        if self._on_failure is not None:
            self._on_failure(item, error)


@dataclass(frozen=True, slots=True)
class Answers(Generic[K, R]):
    """What came of all items: each is either in ``results`` or in ``errors``, in the order in which they were given."""

    results: Mapping[K, R]
    errors: Mapping[K, GoldenAmiError]

    @property
    def reasons(self) -> dict[K, str]:
        """Why an item, or a place, gave no answer."""
        return {item: error.message for item, error in self.errors.items()}


def each(
    items: Iterable[K],
    do: Callable[[K], R],
    *,
    at_once: int = AT_ONCE,
    on_failure: Callable[[K, GoldenAmiError], None] | None = None,
    undoing: bool = False,
) -> Answers[K, R]:
    """Do something for every item, or ask every place, with at most ``at_once`` threads.

    Raises at once what ends everything, and what is no GoldenAmiError: items that have not begun are left out then, and
    those under way are waited for, so that nothing is made any more when this returns. ``undoing``: see
    :class:`Failures`; nothing is left out then. A single item is done in the caller's own thread.
    """
    failures = Failures(on_failure, undoing=undoing)
    ordered = list(dict.fromkeys(items))
    results: dict[K, R] = {}
    if len(ordered) == 1:
        with failures.of(ordered[0]):
            results[ordered[0]] = do(ordered[0])
        return Answers(results, failures.errors)

    def collected(number: int, error: BaseException) -> bool:
        if not isinstance(error, GoldenAmiError) or not failures.collects(error):
            return False
        failures.add(ordered[number], error)
        return True

    ended = _run(ordered, do, at_once, collected, keep_on=undoing)
    for item, future in zip(ordered, ended, strict=True):
        if future.exception() is None:
            results[item] = future.result()
    return Answers(results, {item: failures.errors[item] for item in ordered if item in failures.errors})


def all_of(items: Iterable[T], do: Callable[[T], R], *, at_once: int = AT_ONCE) -> list[R]:
    """The results for all items, in their order, with at most ``at_once`` threads. Raises the first item's error of
    those that fail; items that have not begun are left out then, and those under way are waited for."""
    ordered = list(items)
    if len(ordered) <= 1:
        return [do(item) for item in ordered]
    return [future.result() for future in _run(ordered, do, at_once, _never)]


def _never(_number: int, _error: BaseException) -> bool:
    return False


class _Gate:
    """Counts what is under way. ``ThreadPoolExecutor.shutdown`` does not know a thread whose start was interrupted."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._closed = False
        self.begun: set[int] = set()

    def enter(self, number: int) -> bool:
        """Whether this item may begin; once only."""
        with self._changed:
            if self._closed or number in self.begun:
                return False
            self.begun.add(number)
            self._running += 1
            return True

    def leave(self) -> None:
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """Let nothing begin any more, and wait for what is under way."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._running)


def _run(
    ordered: Sequence[T],
    do: Callable[[T], R],
    at_once: int,
    collected: Callable[[int, BaseException], bool],
    *,
    keep_on: bool = False,
) -> list[Future[R]]:
    """Every item in a bounded pool of threads, until all have ended. ``collected``: told of each error, by the item's
    number; if it answers False, the error is raised. ``keep_on``: what has not begun is done all the same."""
    if not ordered:
        return []
    gate = _Gate()

    def one(number: int) -> R:
        if not gate.enter(number):
            raise CancelledError
        try:
            return do(ordered[number])
        finally:
            gate.leave()

    with ThreadPoolExecutor(min(len(ordered), at_once), thread_name_prefix="each") as pool:
        numbers: dict[Future[R], int] = {}
        try:
            for number in range(len(ordered)):
                numbers[pool.submit(one, number)] = number
            for future in as_completed(numbers):
                error = future.exception()
                if error is not None and not collected(numbers[future], error):
                    break
            else:
                return list(numbers)
        except BaseException:  # Ctrl-C arrives here, in the main thread
            if keep_on:
                for number in range(len(ordered)):
                    with suppress(CancelledError, GoldenAmiError):
                        one(number)
            gate.close()
            raise
        if keep_on:
            wait(numbers)
        gate.close()
    raised = [error for future in numbers if (error := future.exception()) is not None]
    # A mistake of this program comes before anything that ends the work; both come before failures of items.
    ending = [e for e in raised if not isinstance(e, (GoldenAmiError, CancelledError))] or [
        e for e in raised if isinstance(e, GoldenAmiError) and e.ends_everything
    ]
    raise (ending or [e for e in raised if not isinstance(e, CancelledError)])[0]
