"""The scripts that start a program and follow it, run by the shell of this machine."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from goldenami.provision import follower
from goldenami.provision.follower import NO_DIRECTORY, attach_script, start_script

MARK = "mark-of-this-test"


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("run", "disk", "flags"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(follower, "DISK", f"{tmp_path}/disk")
    monkeypatch.setattr(follower, "FLAGS", f"{tmp_path}/flags")
    monkeypatch.setattr(follower, "_TOO_LATE", f"{tmp_path}/run/start-too-late")


def archive(program: str) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        entry = tarfile.TarInfo("program")
        entry.size = len(program)
        tar.addfile(entry, io.BytesIO(program.encode()))
    return made.getvalue()


def start(work: str, program: str, *earlier: str) -> int:
    """Start a program, read its log to its end, confirm that, and return the status."""
    data = archive(program)
    return follow(start_script(work, MARK, "", len(data), on_disk=True, earlier=earlier), data)


def follow(script: str, data: bytes) -> int:
    """Run a start script as goldenami does, and return its exit status."""
    with subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(data)
            process.stdin.flush()
        if any(line.startswith(f"{MARK} gone".encode()) for line in process.stdout):
            process.stdin.write(b"read\n")
            process.stdin.flush()
        return process.wait(60)


def test_the_end_of_a_program_creates_nothing_in_a_directory_that_is_being_removed(tmp_path: Path) -> None:
    """As on a busy host: the reader has its last line, and removes the directory, before the program has ended."""
    work, emptied = tmp_path / "run/goldenami.ee", tmp_path / "emptied"
    slow = tmp_path / "bin/rm"
    slow.parent.mkdir()
    slow.write_text(
        f'#!/bin/sh\n[ "$*" = "-rf {work}" ] || exec /bin/rm "$@"\n'
        f"find {work} -mindepth 1 -delete; : >{emptied}; sleep 0.7; rmdir {work}\n"
    )
    slow.chmod(0o755)
    data = archive(f"echo {MARK} gone; until [ -e {emptied} ]; do sleep 0.02; done; exit 3")
    script = start_script(str(work), MARK, "", len(data), on_disk=True)
    follow(f"PATH={slow.parent}:$PATH\n{script}", data)
    assert [*work.parent.iterdir()] == []


def test_a_start_removes_what_lost_runs_of_the_program_left(tmp_path: Path) -> None:
    """As after a reboot: the process that removes it has ended."""
    lost = [f"{tmp_path}/run/goldenami.{name}" for name in ("aa", "bb")]
    other = tmp_path / "disk/goldenami.cc.log"
    for path in (*(Path(one, "log") for one in lost), tmp_path / "disk/goldenami.aa.log", other):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "flags/.goldenami.bb").touch()
    start(
        f"{tmp_path}/run/goldenami.dd", f"ls {tmp_path}/run {tmp_path}/disk -A {tmp_path}/flags >{tmp_path}/seen", *lost
    )
    found = {line for line in (tmp_path / "seen").read_text().split() if "goldenami" in line}
    assert not any(name in one for one in found for name in ("aa", "bb"))
    assert other.exists(), "of another program"
    assert not Path(tmp_path, "run/goldenami.dd").exists()


def test_a_start_ends_a_run_that_was_given_up_and_no_other_process(tmp_path: Path) -> None:
    """As on a host that stood still for seconds. The id of another lost run belongs to another process now."""
    slow, other = (f"{tmp_path}/run/goldenami.{name}" for name in ("aa", "bb"))
    data = archive(f"for _ in $(seq 2000); do echo more >>{tmp_path}/written; sleep 0.05; done")
    script = start_script(slow, MARK, "", len(data), on_disk=True)
    with (
        subprocess.Popen(["sleep", "600"]) as process,
        subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as following,
    ):
        try:
            assert following.stdin is not None
            following.stdin.write(data)
            following.stdin.flush()
            pid = Path(slow, "pid")
            until(lambda: pid.exists() and pid.read_text().endswith("\n") and (tmp_path / "written").exists())
            program = Path("/proc", pid.read_text().strip())
            assert program.exists()
            Path(other).mkdir()
            Path(other, "pid").write_text(f"{process.pid}\n")
            start(f"{tmp_path}/run/goldenami.cc", ":", slow, other)
            until(lambda: not program.exists())
            assert process.poll() is None
            assert not Path(slow).exists()
            assert not Path(other).exists()
        finally:
            process.kill()


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_start_that_is_late_starts_nothing_and_nothing_is_left(tmp_path: Path) -> None:
    work = tmp_path / "run/goldenami.ee"
    with subprocess.Popen(["sh", "-c", attach_script(str(work), MARK)], start_new_session=True) as attaching:
        try:
            assert attaching.wait(60) == NO_DIRECTORY
            assert not work.exists(), "a test of the recipe would find it"
            assert start(str(work), f": >{tmp_path}/started") == NO_DIRECTORY
            assert not (tmp_path / "started").exists()
            assert not work.exists()
        finally:
            os.killpg(attaching.pid, signal.SIGKILL)  # what removes the mark later
