"""The two helpers that go on after a failure: what they collect, what they raise, and how many threads they take."""

from __future__ import annotations

import _thread
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from goldenami import errors
from goldenami.each import AT_ONCE, Asides, Failures, all_of, beside, both, each
from goldenami.errors import (
    AccessError,
    Busy,
    CloudError,
    CredentialsRefused,
    GoldenAmiError,
    Interrupted,
    JournalError,
    LeaseLost,
    NotFound,
    UnjournaledMutation,
    UnscopedRead,
)

ENDS_EVERYTHING: set[type[GoldenAmiError]] = {
    CredentialsRefused,
    Interrupted,
    JournalError,
    LeaseLost,
    UnjournaledMutation,
    UnscopedRead,
}


def every_class(root: type[GoldenAmiError] = GoldenAmiError) -> set[type[GoldenAmiError]]:
    return {root}.union(*(every_class(sub) for sub in root.__subclasses__() if sub.__module__ == errors.__name__))


def test_each_class_says_whether_it_ends_everything() -> None:
    """The set is written down here once: a new class is looked at by whoever adds it."""
    assert {kind for kind in every_class() if kind.ends_everything} == ENDS_EVERYTHING
    # The tree at the head of the module marks the same ones.
    marked = {line.split()[-3] for line in (errors.__doc__ or "").splitlines() if " ! " in line.partition("   ")[2]}
    listed = {
        line.strip("│├└─ ").split()[0] for line in (errors.__doc__ or "").splitlines() if "──" in line and " ! " in line
    }
    assert listed == {kind.__name__ for kind in ENDS_EVERYTHING}, marked


def test_what_cannot_be_cleaned_up_after() -> None:
    assert {kind for kind in every_class() if not kind.can_clean_up} == {
        CredentialsRefused,
        JournalError,
        LeaseLost,
        Busy,
    }


@pytest.fixture
def signals() -> Iterator[None]:
    """SIGINT as a terminal has it: a shell's background jobs ignore it, and pytest may be one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("at_once", [1, 3, AT_ONCE])
def test_the_others_go_on(at_once: int) -> None:
    asked = []

    def ask(place: int) -> str:
        asked.append(place)
        if place % 3 == 0:
            raise AccessError(f"{place} is refused")
        return f"answer of {place}"

    answers = each([5, 3, 1, 6, 3, 2], ask, at_once=at_once)
    assert sorted(asked) == [1, 2, 3, 5, 6], "each once"
    assert list(answers.results.items()) == [(n, f"answer of {n}") for n in (5, 1, 2)], "in the order given"
    assert list(answers.reasons.items()) == [(3, "3 is refused"), (6, "6 is refused")]
    assert all(isinstance(error, AccessError) for error in answers.errors.values())


def test_nothing_and_one() -> None:
    assert each([], str).results == {}
    assert each([7], lambda _: threading.current_thread()).results == {7: threading.current_thread()}

    def refuse(_: int) -> None:
        raise CloudError("no")

    assert each([7], refuse).reasons == {7: "no"}
    with pytest.raises(ZeroDivisionError):
        each([7], lambda n: n // 0)


IN_ORDER = sorted(ENDS_EVERYTHING, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", IN_ORDER)
@pytest.mark.parametrize("count", [1, 2000])
def test_what_ends_everything_ends_it_at_once(kind: type[GoldenAmiError], count: int) -> None:
    begun = []
    lock = threading.Lock()

    def ask(place: int) -> None:
        with lock:
            begun.append(place)
        if place == 0:
            raise kind("the end")
        time.sleep(0.1)  # all of them take almost a minute: until then, the caller has learned of the end
        raise NotFound("this one's alone")

    with pytest.raises(kind, match="the end"):
        each(range(count), ask, at_once=4)
    assert len(begun) < max(count, 2), "what had not begun is left out"
    ended = len(begun)
    time.sleep(0.1)
    assert len(begun) == ended, "nothing goes on after it was raised"
    with pytest.raises(kind), Failures[int]().of(1):
        raise kind("the end")


def test_a_mistake_of_the_program_comes_first() -> None:
    barrier = threading.Barrier(2)

    def ask(place: int) -> None:
        barrier.wait(120)
        if place == 1:
            raise ZeroDivisionError
        raise CredentialsRefused("expired")

    with pytest.raises(ZeroDivisionError):
        each([0, 1], ask)


def test_what_puts_back_goes_on_to_its_end() -> None:
    done = []

    def put_back(item: int) -> None:
        if item == 0:
            raise Interrupted("interrupted")
        done.append(item)

    answers = each(range(6), put_back, at_once=1, undoing=True)
    assert answers.reasons == {0: "interrupted"}
    assert sorted(done) == [1, 2, 3, 4, 5]
    with pytest.raises(JournalError):
        each([0, 1], lambda _: (_ for _ in ()).throw(JournalError("full")), undoing=True)


def test_failures_are_told_when_they_come() -> None:
    told: list[tuple[str, str]] = []
    failures = Failures[str](lambda item, error: told.append((item, error.message)))
    for item in ("a", "b", "c"):
        with failures.of(item):
            if item != "b":
                raise CloudError(f"{item} failed")
    failures.reasons["d"] = "said by the caller"
    assert told == [("a", "a failed"), ("c", "c failed")]
    assert failures.reasons == {"a": "a failed", "c": "c failed", "d": "said by the caller"}
    with pytest.raises(ValueError, match="a bug"), failures.of("e"):
        raise ValueError("a bug")


def test_no_more_threads_than_are_allowed() -> None:
    running = most = 0
    lock = threading.Lock()
    together = threading.Barrier(5)

    def ask(item: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        if item < together.parties:
            together.wait(120)  # as many run as are allowed
        time.sleep(0.001)
        with lock:
            running -= 1

    each(range(60), ask, at_once=5)
    assert most == 5
    most, together = 0, threading.Barrier(3)
    all_of(range(60), ask, at_once=3)
    assert most == 3


def test_both_run_at_the_same_time_and_raise() -> None:
    meeting = threading.Barrier(2)

    def refuse() -> int:
        raise NotFound("no such type")

    assert both(lambda: meeting.wait(120) >= 0, lambda: str(meeting.wait(120) >= 0)) == (True, "True")
    with pytest.raises(NotFound, match="no such type"):
        both(lambda: "", refuse)


def test_what_runs_beside_another_function() -> None:
    meeting = threading.Barrier(2)

    def refuse(error: Exception) -> int:
        meeting.wait(120)
        raise error

    def here() -> threading.Thread:
        meeting.wait(120)
        return threading.current_thread()

    assert beside(here, lambda: meeting.wait(120) >= 0) == (threading.current_thread(), True)
    with pytest.raises(NotFound, match="beside"):
        beside(here, lambda: refuse(NotFound("beside")))
    with pytest.raises(NotFound, match="here"):
        beside(lambda: refuse(NotFound("here")), lambda: refuse(NotFound("beside")))
    with pytest.raises(CredentialsRefused):  # it ends everything
        beside(lambda: refuse(NotFound("here")), lambda: refuse(CredentialsRefused("beside")))


def test_a_signal_waits_for_what_runs_beside(signals: None) -> None:
    started, ended = threading.Event(), []

    def beside_it() -> None:
        started.set()
        time.sleep(0.1)
        ended.append(True)

    def here() -> None:
        started.wait(120)
        _thread.interrupt_main()
        time.sleep(120)

    with pytest.raises(KeyboardInterrupt):
        beside(here, beside_it)
    assert ended


def test_all_of_raises_the_first_in_order() -> None:
    assert all_of([3, 1, 2], str) == ["3", "1", "2"]
    assert all_of([], str) == []
    begun = []

    def ask(item: int) -> None:
        begun.append(item)
        time.sleep(0.02 if item == 1 else 0.001)
        if item in (1, 2):
            raise CloudError(f"{item}")

    with pytest.raises(CloudError, match="1"):
        all_of(range(50_000), ask, at_once=3)
    assert len(begun) < 50_000


def test_a_signal_waits_for_those_under_way(signals: None) -> None:
    """Ctrl-C reaches the main thread while the others call: none of them may make anything afterwards."""
    made = []
    started = threading.Event()
    items = 1000

    def make(item: int) -> None:
        started.set()
        time.sleep(0.1)  # so that the main thread learns of the signal before all have begun
        made.append(item)

    def interrupt() -> None:
        started.wait(120)
        _thread.interrupt_main()

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        each(range(items), make, at_once=2)
    count = len(made)
    assert 1 <= count < items
    time.sleep(0.2)
    assert len(made) == count


def test_a_signal_does_not_stop_what_puts_back(signals: None) -> None:
    done = []
    started = threading.Event()

    def put_back(item: int) -> None:
        started.set()
        time.sleep(0.05)
        done.append(item)

    def interrupt() -> None:
        started.wait(120)
        _thread.interrupt_main()

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        each(range(12), put_back, at_once=2, undoing=True)
    assert sorted(done) == list(range(12))


def test_what_nothing_waits_for_has_ended_at_the_end_of_the_block() -> None:
    asides, began, go = Asides(), threading.Event(), threading.Event()
    done: list[str] = []

    def slow() -> None:
        began.set()
        assert go.wait(120)
        done.append("slow")

    with asides:
        asides.start(slow)
        asides.start(lambda: done.append("in turn"), in_turn=True)
        assert began.wait(120)
        assert done == [], "the block did not wait"
        go.set()
    assert done == ["slow", "in turn"]
    asides.start(lambda: done.append("at once"))
    assert done[-1] == "at once", "outside of a block, nobody would wait for it"


def test_what_runs_in_turn_does_not_wait_for_what_is_apart() -> None:
    asides, go = Asides(), threading.Event()
    done: list[str] = []

    def slow() -> None:
        assert go.wait(120)
        done.append("apart")

    with asides:
        asides.start(slow, apart=True)
        asides.start(lambda: done.append("before"))
        asides.start(lambda: done.append("in turn"), in_turn=True)()
        assert done == ["before", "in turn"]
        go.set()
    assert done == ["before", "in turn", "apart"], "the end of the block waits for all"


@pytest.mark.parametrize(
    ("error", "raised"),
    [(CloudError("one's"), None), (JournalError("all's"), JournalError), (ValueError(), ValueError)],
)
def test_an_error_beside_the_block_is_raised_if_it_ends_everything(
    error: Exception, raised: type[Exception] | None
) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(raised) if raised is not None else nullcontext(), Asides() as asides:
        asides.start(fail)


def test_a_signal_after_an_error_of_the_block_waits_for_what_runs() -> None:
    """Ctrl-C while the block waits for what runs beside it: the clean-up that follows must not be beside that."""
    raised, ended = threading.Event(), []

    def interrupt(*_: object) -> None:
        raised.set()
        raise KeyboardInterrupt

    def slow() -> None:
        time.sleep(0.02)  # the main thread waits, probably
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        assert raised.wait(10)
        time.sleep(0.05)
        ended.append(True)

    def block() -> None:
        with Asides() as asides:
            asides.start(slow)
            raise NotFound("of the block")

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            block()
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended


def test_after_an_error_of_the_block_only_what_runs_ends() -> None:
    began, go = threading.Event(), threading.Event()
    done: list[str] = []

    def slow() -> None:
        began.set()
        assert go.wait(120)
        done.append("slow")
        raise JournalError("the block's error counts")

    def block() -> None:
        with Asides() as asides:
            asides.start(slow)
            assert began.wait(120)
            asides.start(lambda: done.append("in turn"), in_turn=True)
            threading.Timer(0.05, go.set).start()
            raise NotFound("of the block")

    with pytest.raises(NotFound, match="of the block"):
        block()
    assert done[0] == "slow", "nothing of it runs when the clean-up begins"
    count = len(done)
    time.sleep(0.02)
    assert len(done) == count
