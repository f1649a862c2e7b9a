"""Run one function for many items or places. A failure of one item does not stop the others.

An error that ends everything does stop them. The class of the error decides that (``ends_everything``). Only these two
catch an error of one item or place and continue with the next one::

    each(places, query)     runs the function for all items, with a bounded number of threads
    Failures().of(item)     runs a block of code in a loop, for one item after the other

:func:`all_of` uses the same threads, and raises the first failure; :func:`both` is for two functions, and
:func:`beside` for two of which one stays in the caller's thread. :class:`Asides` are functions that nothing waits for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar, cast

from goldenami.errors import GoldenAmiError, Interrupted

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
R = TypeVar("R")

AT_ONCE: Final = 16  # threads; AWS limits the rate of calls for each place, so more threads would only wait
AT_ONCE_BESIDE: Final = 10  # of each of several works that run at the same time
# Between two looks for an interruption: the main thread learns of one that another thread got, or that comes right
# before it waits, at the next.
LOOK_SECONDS: Final = 0.5


class Failures(Generic[K]):
    """Collects the failures of items that do not stop each other, in the order in which they happened.

    ``errors``: the errors by item. ``reasons``: their messages by item; a caller may add more reasons.
    """

    def __init__(self, on_failure: Callable[[K, GoldenAmiError], None] | None = None, *, undoing: bool = False) -> None:
        """``on_failure`` is called with each failure that is collected. ``undoing``: the work undoes a change and must
        finish even if a signal arrives, so an interruption is collected like any other failure."""
        self.errors: dict[K, GoldenAmiError] = {}
        self.reasons: dict[K, str] = {}
        self._on_failure = on_failure
        self._undoing = undoing

    @contextmanager
    def of(self, item: K) -> Iterator[None]:
        """Run the block of code of one item (``with``). Raises errors that end everything, and errors of other
        classes than GoldenAmiError."""
        try:
            yield
        except GoldenAmiError as error:
            if not self.collects(error):
                raise
            self.add(item, error)

    def collects(self, error: BaseException | None) -> bool:
        """Return whether an error belongs to one item only."""
        if not isinstance(error, GoldenAmiError):
            return False
        return not error.ends_everything or (self._undoing and isinstance(error, Interrupted))

    def add(self, item: K, error: GoldenAmiError) -> None:
        """Collect a failure that was not raised as an exception."""
        self.errors[item] = error
        self.reasons[item] = error.message
        if self._on_failure is not None:
            self._on_failure(item, error)


@dataclass(frozen=True, slots=True)
class Answers(Generic[K, R]):
    """The results and errors of all items, in the order of the items. Each item is in one of the two."""

    results: Mapping[K, R]
    errors: Mapping[K, GoldenAmiError]

    @property
    def reasons(self) -> dict[K, str]:
        """The messages of the errors, by item."""
        return {item: error.message for item, error in self.errors.items()}


def each(
    items: Iterable[K],
    do: Callable[[K], R],
    *,
    at_once: int = AT_ONCE,
    on_failure: Callable[[K, GoldenAmiError], None] | None = None,
    undoing: bool = False,
) -> Answers[K, R]:
    """Call ``do`` for every item, or for every place, with at most ``at_once`` threads.

    Raises errors that end everything, and errors of other classes than GoldenAmiError. Before it raises, it waits for
    the items that have begun, so that no thread creates anything afterwards; the remaining items are not started.
    ``undoing``: see :class:`Failures`; then all items are processed. A single item, and all
    items with ``at_once=1``, run in the caller's own thread.
    """
    failures = Failures(on_failure, undoing=undoing)
    ordered = list(dict.fromkeys(items))
    if len(ordered) == 1 or (at_once == 1 and not undoing):
        results: dict[K, R] = {}
        for item in ordered:
            with failures.of(item):
                results[item] = do(item)
        return Answers(results, failures.errors)

    def collected(number: int, error: BaseException) -> bool:
        if not isinstance(error, GoldenAmiError) or not failures.collects(error):
            return False
        failures.add(ordered[number], error)
        return True

    ended = _run(ordered, do, at_once, collected, keep_on=undoing)
    answered = {item: ended[number] for number, item in enumerate(ordered) if number in ended}
    return Answers(answered, {item: failures.errors[item] for item in ordered if item in failures.errors})


def all_of(items: Iterable[T], do: Callable[[T], R], *, at_once: int = AT_ONCE) -> list[R]:
    """Return the results for all items, in their order, with at most ``at_once`` threads.

    Raises the error of the first item that fails. Before it raises, it waits for the items that have begun; the
    remaining items are not started.
    """
    ordered = list(items)
    if len(ordered) <= 1:
        return [do(item) for item in ordered]
    ended = _run(ordered, do, at_once, _never)
    return [ended[number] for number in range(len(ordered))]


def parts(items: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    """Yield the items in their order, in parts of at most ``most``, for calls that take no more of them."""
    for start in range(0, len(items), most):
        yield items[start : start + most]


def both(first: Callable[[], T], second: Callable[[], R]) -> tuple[T, R]:
    """Return what two functions return, which run at the same time. Raises as :func:`all_of`."""
    works: tuple[Callable[[], object], ...] = (first, second)
    one, other = all_of(works, lambda work: work())
    return cast(T, one), cast(R, other)


def beside(first: Callable[[], T], second: Callable[[], R]) -> tuple[T, R]:
    """Return what two functions return. Only ``second`` gets a thread: a signal interrupts ``first`` at once, in the
    caller's thread. Raises as :func:`all_of`, and an interruption after ``second`` has ended."""
    from concurrent.futures import ThreadPoolExecutor, wait

    gate = _Gate()
    with ThreadPoolExecutor(1, thread_name_prefix="each") as pool:
        try:
            future = pool.submit(gate.run, 0, second)
            try:
                one = first()
            except Exception as error:
                wait([future])
                worst = _gravest([error, *filter(None, [future.exception()])])
                if worst is not error:
                    raise worst from error
                raise
            return one, future.result()
        except BaseException:
            gate.close()
            raise


def _gravest(errors: Sequence[BaseException]) -> BaseException:
    """Return a bug in this program if there is one, else an error that ends everything, else the first failure."""
    from concurrent.futures import CancelledError

    ending = [e for e in errors if not isinstance(e, (GoldenAmiError, CancelledError))] or [
        e for e in errors if isinstance(e, GoldenAmiError) and e.ends_everything
    ]
    return (ending or [e for e in errors if not isinstance(e, CancelledError)])[0]


class Asides:
    """Runs functions beside a block (``with``), which waits for them at its end only. Thread-safe::

        with asides:
            asides.start(lambda: terminate(instance))
            publish()

    It can be entered again after its end. Outside of a block, a function runs at once, in the caller's own thread.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._gate = _Gate()
        self._pool: ThreadPoolExecutor | None = None
        self._started: list[Future[object]] = []
        self._line: list[Future[object]] = []  # those that a function in turn waits for
        self._is_open = False

    def __enter__(self) -> Self:
        self._gate, self._started, self._line, self._is_open = _Gate(), [], [], True
        return self

    def start(self, do: Callable[[], object], *, in_turn: bool = False, apart: bool = False) -> Callable[[], None]:
        """Run a function beside the block. Its error does not reach the caller. ``in_turn``: only after all functions
        that were started before have ended. ``apart``: those in turn do not wait for this one. Returns a function that
        waits for the end of this one alone."""
        from concurrent.futures import ThreadPoolExecutor, wait

        if not self._is_open:
            do()
            return lambda: None
        with self._mutex:
            number, gate, before = len(self._started), self._gate, list(self._line) if in_turn else []

            def one() -> object:
                wait(before)
                return gate.run(number, do)

            self._pool = self._pool or ThreadPoolExecutor(AT_ONCE, thread_name_prefix="each")
            self._started.append(started := self._pool.submit(one))
            if not apart:
                self._line.append(started)

        def ended() -> None:
            wait([started])

        return ended

    def wait(self) -> None:
        """Wait for all functions that were started. Raises their first error that ends everything, or that is of
        another class than GoldenAmiError. Others are lost: a function collects the failures that matter itself."""
        from concurrent.futures import wait

        with self._mutex:
            started = list(self._started)
        wait(started)
        for future in started:
            error = future.exception()
            if error is not None and not (isinstance(error, GoldenAmiError) and not error.ends_everything):
                raise error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for what runs, and raise as :meth:`wait`. After an error of the block, the rest is left out."""
        try:
            if error is None:
                self.wait()
        finally:
            try:
                self._is_open = False
                self._gate.close()
            finally:
                if self._pool is not None:
                    self._pool.shutdown(wait=False, cancel_futures=True)
                self._pool = None


def _never(_number: int, _error: BaseException) -> bool:
    return False


class _Gate:
    """Counts the running items. ``ThreadPoolExecutor.shutdown`` does not wait for a thread whose start was
    interrupted."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._closed = False
        self.begun: set[int] = set()

    def enter(self, number: int) -> bool:
        """Return whether this item may begin. A second call for the same item returns False."""
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

    def run(self, number: int, do: Callable[[], R]) -> R:
        """Return what the function of an item returns. Raises CancelledError if the item may not begin."""
        from concurrent.futures import CancelledError

        if not self.enter(number):
            raise CancelledError
        try:
            return do()
        finally:
            self.leave()

    def close(self) -> None:
        """Prevent all further items from beginning, and wait for the running ones. An interruption is raised after
        that, so that the clean-up that follows is not beside them."""
        try:
            self._close()
        except BaseException:  # Ctrl-C arrives here once: the second one ends the process
            self._close()
            raise

    def _close(self) -> None:
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
) -> dict[int, R]:
    """Run every item in a bounded number of threads, until all have ended. Return the results by the items' numbers.
    ``collected``: called in the caller's thread with the number of an item that failed and its error; if it returns
    False, the error is raised. ``keep_on``: items that have not begun are run even so.

    A thread takes one item after the other. The caller is woken only for a failure and for the end of a thread: an item
    that is handed over, and back, takes a tenth of a millisecond of processor time.
    """
    if not ordered:
        return {}
    # Here, because most commands need the class Failures only.
    from concurrent.futures import ThreadPoolExecutor
    from queue import Empty, SimpleQueue

    gate = _Gate()
    results: dict[int, R] = {}
    errors: dict[int, BaseException] = {}
    numbers = iter(range(len(ordered)))  # of the items that no thread has taken yet
    told: SimpleQueue[int | None] = SimpleQueue()  # the numbers of items that failed; None: a thread has ended

    def attempt(number: int) -> None:
        """Do an item, unless it has begun already or may not begin any more."""
        if gate.enter(number):
            try:
                results[number] = do(ordered[number])
            finally:
                gate.leave()

    def work() -> None:
        try:
            for number in numbers:
                try:
                    attempt(number)
                except BaseException as error:  # the caller raises it
                    errors[number] = error
                    told.put(number)
        finally:
            told.put(None)

    with ThreadPoolExecutor(min(len(ordered), at_once), thread_name_prefix="each") as pool:
        try:
            threads = min(len(ordered), at_once)
            for _ in range(threads):
                pool.submit(work)
            while threads:
                try:
                    failed = told.get(timeout=LOOK_SECONDS)
                except Empty:
                    continue
                if failed is None:
                    threads -= 1
                elif not collected(failed, errors[failed]):
                    break
            else:
                return results
        except BaseException:  # Ctrl-C arrives here, in the main thread
            if keep_on:
                for number in range(len(ordered)):
                    with suppress(GoldenAmiError):
                        attempt(number)
            gate.close()
            raise
        if keep_on:
            pool.shutdown()
        gate.close()
    raise _gravest([errors[number] for number in sorted(errors)])
