"""A signal reaches the main thread while it waits for something else, whichever thread of the process got it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading

import pytest

from goldenami.interrupts import Interrupts, main_woken

# The kernel may give the signal to the thread, here it does. Python handles it in the main thread.
PROGRAM = """
import signal, sys, threading, time
from goldenami.background import run_work
from goldenami.interrupts import Interrupts

def interrupt() -> None:
    time.sleep(0.5)
    signal.pthread_kill(threading.get_ident(), signal.{name})

def work(interrupts, emit) -> None:
    interrupts.stop.wait()

threading.Thread(target=interrupt, daemon=True).start()
try:
    if sys.argv[1:] == ["background"]:
        run_work(work, None, None)
    else:
        with Interrupts() as interrupts:
            threading.Event().wait()
except KeyboardInterrupt:
    print("interrupted", signal.getsignal(signal.SIGURG) is signal.SIG_DFL, signal.set_wakeup_fd(-1))
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_of_another_thread_ends_a_wait_without_end(name: str) -> None:
    command = [sys.executable, "-c", PROGRAM.format(name=name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "interrupted True -1\n", "and nothing of it is left"


def test_work_beside_the_main_thread_is_interrupted_so_too() -> None:
    command = [sys.executable, "-c", PROGRAM.format(name="SIGINT"), "background"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "interrupted True -1\n"


def test_where_signals_wake_somebody_already_nothing_is_changed() -> None:
    async def inside() -> tuple[int, int]:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print)
        before = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(before)
        with Interrupts():
            during = signal.set_wakeup_fd(before)
        return before, during

    before, during = asyncio.run(inside())
    assert before == during != -1


def test_other_threads_change_no_handler() -> None:
    found: list[object] = []

    def work() -> None:
        with main_woken():
            found.append(signal.getsignal(signal.SIGURG))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL]
