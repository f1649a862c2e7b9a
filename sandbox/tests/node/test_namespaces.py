"""PID 1 of a guest: it is found while it moves from one cgroup to the next, and asked again when it has just begun."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from goldenami_sandbox.node.instances import Guest
from goldenami_sandbox.node.namespaces import guest_leader

pytestmark = pytest.mark.root


def test_a_pid_1_that_moves_down_is_found(tmp_path: Path) -> None:
    payload = tmp_path / "payload"
    payload.mkdir()
    os.mkfifo(payload / "cgroup.procs")
    (tmp_path / "cgroup.procs").touch()
    with subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "sleep", "60"]) as outside:
        children = Path(f"/proc/{outside.pid}/task/{outside.pid}/children")
        deadline = time.monotonic() + 60
        # It is what unshare starts once its name is another.
        while not (init := children.read_text().strip()) or "unshare" in Path(f"/proc/{init}/comm").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)

        def move() -> None:
            with (payload / "cgroup.procs").open("w"):  # as soon as the search reads it
                (payload / "init.scope").mkdir()
                (payload / "init.scope/cgroup.procs").write_text(f"{init}\n")

        moving = threading.Thread(target=move, daemon=True)
        moving.start()
        try:
            assert guest_leader(tmp_path) == int(init)
        finally:
            outside.kill()
        moving.join()


INIT = """\
import signal, sys
signal.signal(38, signal.SIG_IGN)  # SIGRTMIN+4, which an init does not handle before it has begun
print("begun", flush=True)
sys.stdin.readline()
signal.signal(38, signal.SIG_DFL)
print("handles it", flush=True)
signal.pause()
"""


def test_an_init_that_has_just_begun_is_asked_again() -> None:
    argv = [sys.executable, "-I", "-S", "-c", INIT]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as init:
        assert init.stdin is not None
        assert init.stdout is not None
        assert init.stdout.readline() == "begun\n"
        guest = Guest.__new__(Guest)
        guest._find_leader = lambda: init.pid  # type: ignore[method-assign]
        looks = 0

        def ended(_: float) -> bool:
            nonlocal looks
            looks += 1
            if looks == 1:
                init.stdin.write("\n")  # type: ignore[union-attr]
                init.stdin.flush()  # type: ignore[union-attr]
                assert init.stdout.readline() == "handles it\n"  # type: ignore[union-attr]
                return False
            return init.wait() == -38

        assert guest._ask_init(4, ended, 60.0)
        assert looks == 2
