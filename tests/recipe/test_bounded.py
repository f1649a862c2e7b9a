"""Calls in a child process with limits."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from goldenami import bounded
from goldenami.bounded import Budget, TooMuch


def _double(number: int) -> int:
    return number * 2


def _fail() -> None:
    raise KeyError("x")


def _pid() -> int:
    return os.getpid()


def _open_files() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


def _loop() -> None:
    while True:
        pass


def _never_returns_to_python() -> bool:
    first: list[object] = [1]
    second: list[object] = [1]
    for _ in range(60):
        first, second = [first, first], [second, second]
    return first == second


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _fill() -> int:
    return len(b"x" * (1 << 30))


def test_the_result_and_the_error_of_a_function_come_back() -> None:
    assert bounded.call(Budget(), _double, 21) == 42
    with pytest.raises(KeyError, match="x"):
        bounded.call(Budget(), _fail)


def test_the_child_is_kept_and_has_no_open_files() -> None:
    pid = bounded.call(Budget(), _pid)
    assert pid == bounded.call(Budget(), _pid) != os.getpid()
    assert len(bounded.call(Budget(), _open_files)) == 3  # two pipes, and the listing itself


@pytest.mark.parametrize("function", [_loop, _never_returns_to_python])
def test_time_is_limited(function: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "SECONDS", 0.1)
    start = time.process_time()
    with pytest.raises(TooMuch, match=r"^0\.1 s of processor time$"):
        bounded.call(Budget(), function)  # type: ignore[arg-type]
    assert time.process_time() - start < 1
    assert bounded.call(Budget(), _double, 2) == 4


def test_memory_is_limited() -> None:
    with pytest.raises(TooMuch, match="128 MiB of memory"):
        bounded.call(Budget(), _fill)


def test_a_child_that_was_ended_is_replaced() -> None:
    first = bounded.call(Budget(), _pid)
    os.kill(first, signal.SIGKILL)
    assert bounded.call(Budget(), _double, 1) == 2
    assert bounded.call(Budget(), _pid) != first


def test_a_function_whose_child_is_ended_each_time_needs_too_much() -> None:
    with pytest.raises(TooMuch, match="of memory"):
        bounded.call(Budget(), _end)
    assert bounded.call(Budget(), _double, 1) == 2


def test_threads_use_one_child() -> None:
    assert threading.current_thread() is threading.main_thread()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda number: bounded.call(Budget(), _double, number), range(200))) == [*range(0, 400, 2)]


def test_a_budget_is_for_all_calls_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "SECONDS", 0.1)
    budget = Budget(seconds=0.15)
    for _ in range(2):
        with pytest.raises(TooMuch):
            bounded.call(budget, _loop)
    with pytest.raises(TooMuch, match=r"0\.15 s of processor time, together with those before it"):
        bounded.call(budget, _double, 1)


def test_a_regular_expression_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "SECONDS", 0.1)
    assert bounded.matches(Budget(), "a+", "aaa")
    assert not bounded.matches(Budget(), "a", "aaa")
    with pytest.raises(TooMuch):
        bounded.matches(Budget(), "(a+)+", "a" * 40 + "!")
