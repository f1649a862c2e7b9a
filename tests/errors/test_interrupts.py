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
import os, signal, sys, threading, time
from goldenami.background import run_work
from goldenami.interrupts import Interrupts

# The tests may run where they are ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

def interrupt() -> None:
    time.sleep(0.5)
    signal.pthread_kill(threading.get_ident(), signal.{name})

def work(interrupts, emit) -> None:
    threading.Thread(target=interrupt, daemon=True).start()
    interrupts.stop.wait()

child = 0
try:
    if sys.argv[1:] == ["background"]:
        run_work(work, None, None)
    else:
        with Interrupts() as interrupts:
            if sys.argv[1:] == ["fork"]:
                child = os.fork() or time.sleep(600)
            threading.Thread(target=interrupt, daemon=True).start()
            threading.Event().wait()
except KeyboardInterrupt:
    print("interrupted", signal.getsignal(signal.SIGURG) is signal.SIG_DFL, signal.set_wakeup_fd(-1), flush=True)
if child:
    os.kill(child, signal.SIGKILL)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_of_another_thread_ends_a_wait_without_end(name: str) -> None:
    command = [sys.executable, "-c", PROGRAM.format(name=name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "interrupted True -1\n", "and nothing of it is left"


@pytest.mark.parametrize("how", ["background", "fork"])
def test_so_it_does_in_work_beside_the_main_thread_and_in_a_process_that_forks(how: str) -> None:
    """The child has the pipe, too, that wakes the main thread."""
    command = [sys.executable, "-c", PROGRAM.format(name="SIGINT"), how]
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
