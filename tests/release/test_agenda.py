"""An agenda runs what is due in few threads, and nothing after its end."""

from __future__ import annotations

import threading

import pytest

from goldenami.agenda import Agenda
from tests.worlds import events


def test_what_waits_takes_no_thread() -> None:
    done: list[float] = []
    end = threading.Event()
    with events.running() as clock:
        began, before = clock.now(), threading.active_count()

        def note() -> None:
            done.append(round(clock.now() - began))
            if len(done) == 60:
                end.set()

        agenda = Agenda(clock.now, clock.sleep, lambda error: None, name="test", at_once=4)
        for seconds in (60, 30, 90, 10):
            for _ in range(15):
                agenda.later(seconds, note)
        assert threading.active_count() - before <= 4 + 8
        assert end.wait(120)
        agenda.close()
    assert done == [10] * 15 + [30] * 15 + [60] * 15 + [90] * 15


def test_nothing_begins_after_the_end() -> None:
    begun, may_end, done = threading.Event(), threading.Event(), []

    def work() -> None:
        begun.set()
        assert may_end.wait(120)
        done.append("first")

    agenda = Agenda(lambda: 0.0, lambda _: None, lambda error: None, name="test", at_once=1)
    agenda.soon(work)
    agenda.soon(lambda: done.append("second"))
    assert begun.wait(120)
    threading.Timer(0.05, may_end.set).start()
    agenda.close()
    agenda.soon(lambda: done.append("third"))
    assert done == ["first"], "the end waits for what runs"


@pytest.mark.parametrize("where", ["function", "sleep"])
def test_an_error_ends_it_and_is_told(where: str) -> None:
    found: list[BaseException] = []
    told = threading.Event()

    def raises(_: float = 0.0) -> None:
        raise KeyboardInterrupt

    def failed(error: BaseException) -> None:
        found.append(error)
        told.set()

    agenda = Agenda(lambda: 0.0, raises, failed, name="test")
    agenda.later(0.0 if where == "function" else 5.0, raises)
    assert told.wait(120)
    agenda.soon(lambda: found.append(AssertionError()))
    agenda.close()
    assert [type(error) for error in found] == [KeyboardInterrupt]
