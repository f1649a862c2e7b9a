"""A command ends as every Python program does, for all that others can see of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

ROOT = str(Path(__file__).resolve().parents[2])
# Each writes at the end what it did. None of it is written at once, because stdout is a pipe.
PROGRAM = """
import atexit, os, signal, sys, threading, weakref
from goldenami.cli import ending

def say(word):
    sys.stdout.write(word + "\\n")  # as a whole, beside other threads: print writes the end of a line apart

class Memory:
    def __del__(self):
        os.write(1, b"memory\\n")

def work():
    threading.main_thread().join()  # returns when the end has begun
    SIGNAL
    say("thread")

memory = Memory()
atexit.register(say, "handler")
weakref.finalize(memory, say, "finalizer")
threading.Thread(target=work).start()
say("program")
END
"""


def output(end: str, *options: str, during: str = "pass") -> list[str]:
    """Return what the program wrote until its end."""
    done = subprocess.run(
        [sys.executable, *options, "-c", PROGRAM.replace("SIGNAL", during).replace("END", end)],
        env={**os.environ, "PYTHONPATH": ROOT},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 7
    return done.stdout.splitlines()


def test_threads_and_handlers_end_and_all_output_is_written() -> None:
    expected = ["program", "thread", "finalizer", "handler"]
    assert output("sys.exit(7)") == [*expected, "memory"]
    assert output("ending.end(7)") == expected


@pytest.mark.parametrize(
    ("option", "observed"),
    [
        (["-X", "dev"], "pass"),
        ([], "sys.settrace(lambda *_: None)"),
        ([], "sys.setprofile(lambda *_: None)"),
    ],
    ids=["development", "traced", "profiled"],
)
def test_python_ends_a_process_that_is_observed(option: list[str], observed: str) -> None:
    # A call of os._exit would be an error, with the status 1.
    assert "handler" in output(f"os._exit = None; {observed}; ending.end(7)", *option)


def test_an_interruption_at_the_end_does_not_change_the_exit_status() -> None:
    ended = output("ending.end(7)", during="os.kill(os.getpid(), signal.SIGINT)")
    assert {"program", "finalizer", "handler"} <= {*ended}


@pytest.mark.parametrize("name", ["stdout", "stderr"])
@pytest.mark.parametrize("ending", ["sys.{0} = None", "sys.{0}.close()", "sys.{0}.detach()"])
def test_a_stream_that_is_closed_or_missing_is_no_failure(name: str, ending: str) -> None:
    assert status(f"{ending.format(name)}; ending.end(7)") == 7


def test_a_disk_that_is_full_at_the_end_is_a_failure() -> None:
    with Path("/dev/full").open("w") as full:
        assert status("sys.stdout.write('x'); ending.end(7)", stdout=full) not in (0, 7)


def status(code: str, stdout: IO[str] | int = subprocess.DEVNULL) -> int:
    command = [sys.executable, "-c", f"import sys; from goldenami.cli import ending; {code}"]
    environment = {**os.environ, "PYTHONPATH": ROOT}
    return subprocess.run(command, env=environment, stdout=stdout, stderr=subprocess.DEVNULL, check=False).returncode


def test_the_program_of_the_command_line_ends_so() -> None:
    """The name of the program is in pyproject.toml. Other callers of ``main`` go on after it."""
    program = (
        "import atexit, sys; from importlib.metadata import EntryPoint; from goldenami.cli import ending, main;"
        "import tomllib; scripts = tomllib.load(open('pyproject.toml', 'rb'))['project']['scripts'];"
        "run = EntryPoint('goldenami', scripts['goldenami'], 'console_scripts').load();"
        "sys.argv = ['goldenami', '--version']; assert main.main() == 0; atexit.register(print, 'handler');"
        "sys.argv = ['goldenami', 'no-command']; sys.exit(run())"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[1:] == ["handler"]
    assert "no-command" in done.stderr
    assert done.returncode == 2
