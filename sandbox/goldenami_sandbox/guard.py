"""Cleans up after a test process that is killed: its processes, its mounts and its directories in memory.

A test process that ends in the normal way cleans up itself. If it is killed, no ``finally`` runs. So a guard, a small
process in its own session, waits until the pipe from the test process closes. Then it kills each process that has the
mark of the tests in its environment, which processes inherit; unmounts what is mounted below the directory of the
tests; and removes the directories that were registered with ``remove_later``.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

MARK = "GUARDED_TEST_RUN"  # environment variable of all processes that the tests start
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_DONE = b"done"
_SECONDS = 60.0
_pipe: IO[bytes] | None = None


@contextlib.contextmanager
def guarded(directory: Path) -> Iterator[None]:
    """Guard this process until the block ends. ``directory``: mounts below it are unmounted.

    If this process is a worker of pytest-xdist, the kernel also kills it when its parent ends.
    """
    global _pipe
    if "PYTEST_XDIST_WORKER" in os.environ:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    mark = secrets.token_hex(8)
    argv = [sys.executable, "-S", __file__, mark, str(directory)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True, env={}, cwd="/")
    before, os.environ[MARK] = os.environ.get(MARK), mark
    assert process.stdin is not None
    _pipe = process.stdin
    try:
        yield
    finally:
        _pipe = None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(_DONE)
            process.stdin.close()
        process.wait()
        if before is None:
            del os.environ[MARK]
        else:
            os.environ[MARK] = before


def killed_with_parent(argv: Sequence[str]) -> list[str]:
    """Return the command that runs a program which the kernel kills when the thread that started it ends."""
    return ["setpriv", "--pdeathsig", "KILL", "--", *argv]


def remove_later(path: Path) -> None:
    """Remove a directory if this process is killed. Does nothing if the process has no guard."""
    if _pipe is not None:
        _pipe.write(os.fsencode(path) + b"\0")
        _pipe.flush()


def _main(mark: str, directory: str) -> None:
    """Wait for the end of the test process, and clean up if it was killed."""
    *paths, last = sys.stdin.buffer.read().split(b"\0")
    if last == _DONE:
        return
    entry = f"{MARK}={mark}".encode()
    deadline = time.monotonic() + _SECONDS
    while (marked := _marked(entry)) and time.monotonic() < deadline:
        for pid in marked:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    for point in _mounts_below(directory):
        subprocess.run(["umount", "-l", point], check=False)
    for path in paths:
        shutil.rmtree(os.fsdecode(path), ignore_errors=True)


def _marked(entry: bytes) -> list[int]:
    """The processes whose environment has the mark. A zombie has no environment."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                if entry in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
    return found


def _mounts_below(directory: str) -> list[str]:
    """The mount points below a directory, the last mount first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    return [point for point in reversed(points) if point.startswith(directory.rstrip("/") + "/")]


if __name__ == "__main__":
    _main(*sys.argv[1:])
