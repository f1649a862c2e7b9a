"""What the kernel lets the copy of the test process do, and what ends it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from goldenami.validate.effects import is_effect

# Each action runs in a process of its own that is isolated, and prints the status of that.
PROGRAM = """
import ctypes, json, mmap, os, socket, sys, threading, time
from goldenami.validate.isolation import isolate

os.chdir(sys.argv[1])
libc = ctypes.CDLL(None)
number = os.open("existing", os.O_RDONLY)

def computes():
    read = []
    def body():
        with open("existing") as file:
            read.append(file.read())
    threads = [threading.Thread(target=body) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == ["content"] * 20
    import decimal, email.message, sqlite3, xml.dom.minidom
    os.listdir("."), os.stat("existing"), os.readlink("/proc/self/exe"), os.getcwd(), os.cpu_count(), os.uname()
    time.sleep(0.001)
    bytearray(50_000_000)

ACTIONS = {
    "computes": computes,
    "writes": lambda: open("made", "w"),
    "appends": lambda: open("existing", "a"),
    "starts a program": lambda: os.system("touch made"),
    "starts a program by C": lambda: libc.system(b"touch made"),
    "forks": os.fork,
    "makes a pipe": lambda: os.mkfifo("made"),
    "makes a folder": lambda: os.mkdir("made"),
    "removes": lambda: os.unlink("existing"),
    "renames": lambda: os.rename("existing", "made"),
    "changes the mode": lambda: os.fchmod(number, 0o600),
    "opens a connection": socket.socket,
    "sends a signal": lambda: os.kill(os.getppid(), 0),
    "waits for a process": lambda: os.waitpid(-1, os.WNOHANG),
}

def run(action):
    process = os.fork()
    if process == 0:
        if not isolate():
            os._exit(50)
        try:
            action()
        except BaseException:
            os._exit(51)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

found = {name: run(action) for name, action in ACTIONS.items()}
shared = mmap.mmap(-1, 1)
found["shares memory"] = run(lambda: None)
print(json.dumps(found))
"""


def test_only_what_stays_in_the_process_is_possible(tmp_path: Path) -> None:
    (tmp_path / "existing").write_text("content")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    if found["computes"] == 50:
        pytest.skip("this kernel has no seccomp for us")
    assert found.pop("computes") == 0
    assert found.pop("shares memory") == 50
    assert set(found.values()) == {-31}, found  # SIGSYS
    assert [path.name for path in tmp_path.iterdir()] == ["existing"]
    assert (tmp_path / "existing").read_text() == "content"


def test_reading_a_pipe_or_a_device_is_an_effect(tmp_path: Path) -> None:
    """It takes something out of it."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("x")
    assert not is_effect("open", (str(tmp_path / "file"), "r", os.O_RDONLY))
    assert not is_effect("open", (str(tmp_path / "none"), "r", os.O_RDONLY))
    assert is_effect("open", (str(tmp_path / "pipe"), "r", os.O_RDONLY))
    assert is_effect("open", (str(tmp_path / "file"), "r+", os.O_RDWR))
    assert is_effect("open", ("/dev/urandom", "r", os.O_RDONLY))
    assert is_effect("time.sleep", (1,))
    assert not is_effect("import", ("os", None, None, None, None))
