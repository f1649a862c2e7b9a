"""PID 1 of a guest, which is found while it moves from one cgroup to the next."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
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
