"""The guard of a test process cleans up if the process is killed, and does nothing otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = """\
import os, subprocess, sys, time
from pathlib import Path
from goldenami_sandbox import guard

home = Path(sys.argv[1])
with guard.guarded(home):
    (home / "memory").mkdir()
    guard.remove_later(home / "memory")
    if os.geteuid() == 0:
        (home / "disk").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", home / "disk"], check=True)
    left = subprocess.Popen(["sh", "-c", "sleep 600 & wait"], start_new_session=True, stdout=subprocess.DEVNULL)
    print(left.pid, flush=True)
    if len(sys.argv) > 2:
        time.sleep(600)
if os.geteuid() == 0:
    subprocess.run(["umount", home / "disk"], check=True)
"""


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def group(leader: int) -> list[int]:
    found = subprocess.run(["pgrep", "--pgroup", str(leader)], capture_output=True, text=True).stdout.split()
    return [int(pid) for pid in found if runs(int(pid))]


def test_a_killed_process_leaves_nothing(tmp_path: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path), "wait"], stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    left = int(program.stdout.readline())
    until(lambda: len(group(left)) == 2)
    program.kill()
    program.wait()
    until(lambda: not group(left) and not (tmp_path / "memory").exists())
    until(lambda: not os.path.ismount(tmp_path / "disk"))


def test_after_a_normal_end_the_guard_changes_nothing(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, text=True, check=True)
    left = int(done.stdout)
    request.addfinalizer(lambda: subprocess.run(["pkill", "-KILL", "--pgroup", str(left)], check=False))
    until(lambda: len(group(left)) == 2)
    time.sleep(0.3)  # a guard that killed would have begun
    assert len(group(left)) == 2
    assert (tmp_path / "memory").exists()
