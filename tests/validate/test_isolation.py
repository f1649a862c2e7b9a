"""What the kernel lets the copy of the test process do, and what ends it."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from goldenami.validate import isolation
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

def names_a_thread():  # as Python 3.14 does with each
    name = ctypes.create_string_buffer(b"body", 16)
    assert libc.prctl(15, name, 0, 0, 0) == 0

ACTIONS = {
    "computes": computes,
    "names a thread": names_a_thread,
    "lets a debugger in": lambda: libc.prctl(0x59616D61, 1, 0, 0, 0),  # PR_SET_PTRACER
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
    assert found.pop("computes") == found.pop("names a thread") == 0
    assert found.pop("shares memory") == 50
    assert set(found.values()) == {-31}, found  # SIGSYS
    assert [path.name for path in tmp_path.iterdir()] == ["existing"]
    assert (tmp_path / "existing").read_text() == "content"


HEADERS = {  # of the kernel, in the Debian package linux-libc-dev
    "x86_64": (Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm/unistd_64.h")),
    "aarch64": (Path("/usr/include/asm-generic/unistd.h"),),
}


@pytest.mark.parametrize("machine", isolation._ARCHITECTURES)
def test_the_numbers_of_the_calls_are_those_of_the_kernel(machine: str) -> None:
    header = next((path for path in HEADERS[machine] if path.exists()), None)
    if header is None:
        pytest.skip("the headers of the kernel are not installed (linux-libc-dev)")
    found = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\s", header.read_text()))
    found.setdefault("newfstatat", found.get("fstatat", ""))  # its name on machines of 64 bits
    for calls in (isolation._CALLS, isolation._CHECKED):
        used = isolation._numbers(calls[machine])
        assert used == {name: int(found[name]) for name in used}


def verdict(machine: str, call: str, *arguments: int) -> str:
    """Run the filter as the kernel does, on one call."""
    numbers = isolation._numbers(isolation._CALLS[machine]) | isolation._numbers(isolation._CHECKED[machine])
    data = struct.pack("<iIQ", numbers.get(call, 400), isolation._ARCHITECTURES[machine], 0)
    data += b"".join(struct.pack("<Q", argument) for argument in (*arguments, *(0,) * 6)[:6])
    lines = list(struct.iter_unpack("HBBI", isolation._program(machine)))
    at = value = 0
    while True:
        what, if_true, if_false, operand = lines[at]
        at += 1
        if what == isolation._LOAD:
            (value,) = struct.unpack_from("<I", data, operand)
        elif what == isolation._RETURN:
            return {isolation._ALLOW: "allowed", isolation._KILL: "killed"}.get(operand, "unknown")
        else:
            tests = {
                isolation._EQUAL: value == operand,
                isolation._AT_LEAST: value >= operand,
                isolation._ANY_BIT: bool(value & operand),
            }
            at += if_true if tests[what] else if_false


@pytest.mark.parametrize("machine", isolation._ARCHITECTURES)
def test_each_machine_has_the_same_filter(machine: str) -> None:
    here = 2**64 - 100  # AT_FDCWD
    expected: dict[tuple[str | int, ...], str] = {
        ("read", 3): "allowed",
        ("futex",): "allowed",
        ("something else",): "killed",
        ("openat", here, 1, os.O_RDONLY | os.O_CLOEXEC): "allowed",
        ("openat", here, 1, os.O_WRONLY): "killed",
        ("openat", here, 1, os.O_RDONLY | os.O_CREAT): "killed",
        ("openat2",): "unknown",  # so the C library takes openat
        ("clone", 0x10000 | 0x100): "allowed",
        ("clone", 17): "killed",
        ("clone3",): "unknown",
        ("ioctl", 1, 0x5401): "allowed",
        ("ioctl", 1, 0x5412): "killed",  # TIOCSTI types into a terminal
        ("fcntl", 1, 1): "allowed",
        ("fcntl", 1, 4): "killed",  # F_SETFL is common to all processes that have the descriptor
        ("prctl", 15): "allowed",
        ("prctl", 4): "killed",
        ("prlimit64", 0, 7, 0): "allowed",
        ("prlimit64", 0, 7, 2**40): "killed",
    }
    assert {case: verdict(machine, *case) for case in expected} == expected  # type: ignore[arg-type]


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
