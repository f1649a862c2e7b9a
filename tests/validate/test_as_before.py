"""Tests that promise nothing run ahead, and nothing is different from a run in which none of them does.

Each file of tests runs twice: as it is, and so that no body runs ahead. The host is this computer, so whatever a test
does here, a later one sees over the connection. Bodies are chosen to be as unlike a check as possible."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from goldenami.validate import require

if TYPE_CHECKING:
    from pathlib import Path

    from tests.validate.conftest import Bench

HEAD = """
import builtins, contextlib, ctypes, io, os, queue, random, select, shutil, socket, subprocess, sys, tempfile, threading
import time
from pathlib import Path
import pytest

LIBC = ctypes.CDLL(None)
SYSTEM = LIBC.system  # found before, so that no hook reports it
seen = []
made = {"count": 0}

@pytest.fixture(scope="session")
def here(variables):
    return Path(variables["folder"])

@pytest.fixture(scope="session")
def open_file(here):
    with open(here / "written", "ab", buffering=0) as file:
        yield file

def content(host, here, name):
    found = host.run("cat %s", str(here / name))
    return found.stdout if found.rc == 0 else None
"""

# Each is the body of one test, "NUMBER" is its number. "log" is a file to which tests add, and that tests read.
BODIES = {
    "reads": """
    assert host.file("/etc/passwd").is_file
    assert host.file("/etc/passwd").user == "root"
    assert host.user("root").uid == 0
""",
    "reads_log": """
    assert content(host, here, "log") == "wrong"
""",
    "reads_more": """
    assert host.file(str(here / "log")).exists, "no log"
    assert host.file(str(here / "log")).size == -1
""",
    "changes_the_host": """
    host.run("echo NUMBER >>%s", str(here / "log"))
    assert content(host, here, "log").endswith("NUMBER\\n")
""",
    "changes_the_host_behind_a_read": """
    assert host.file("/etc/passwd").exists
    host.run("echo NUMBER >>%s", str(here / "log"))
""",
    "writes_here": """
    assert host.file("/etc/group").exists
    with open(here / "log", "a") as file:
        file.write("NUMBER\\n")
""",
    "writes_without_a_name": """
    assert host.file("/etc/group").exists
    os.write(open_file.fileno(), b"NUMBER")
    assert host.file(str(here / "written")).size == 0
""",
    "starts_a_program": """
    assert host.file("/etc/hostname").exists or True
    subprocess.run(["sh", "-c", "echo NUMBER >>log"], cwd=here, check=True)
""",
    "calls_c": """
    assert host.file("/etc/passwd").exists
    SYSTEM(f"echo NUMBER >>{here}/log".encode())
    assert content(host, here, "log").endswith("NUMBER\\n")
""",
    "makes_a_pipe": """
    assert host.file("/etc/passwd").exists
    with contextlib.suppress(FileExistsError):
        os.mkfifo(here / "pipe")
    assert host.file(str(here / "pipe")).is_pipe
""",
    "renames": """
    assert host.file("/etc/passwd").exists
    if (here / "log").exists():
        os.rename(here / "log", here / "log.old")
    assert not host.file(str(here / "log")).exists
""",
    "catches_everything": """
    assert host.file("/etc/passwd").exists
    try:
        (here / "log").write_text("caught NUMBER\\n")
    except BaseException:
        pass
    assert content(host, here, "log") == "caught NUMBER\\n"
""",
    "cleans_up": """
    try:
        assert content(host, here, "log") is None
    finally:
        (here / "log").write_text("cleaned NUMBER\\n")
""",
    "remembers": """
    made["count"] += 1
    seen.append(host.check_output("echo NUMBER"))
    assert seen[-1] == "NUMBER"
    assert len(seen) == made["count"]
""",
    "depends_on_memory": """
    made["last"] = made.get("last", 0) + 1
    found = host.file(f"/etc/number-{made['last']}").exists
    if made["last"] % 2:
        (here / "log").write_text(f"odd {made['last']}\\n")
    assert not found
""",
    "waits_for_another_thread": """
    (here / "later").unlink(missing_ok=True)
    thread = threading.Timer(0.15, (here / "later").touch)
    thread.start()
    while not host.file(str(here / "later")).exists:
        pass
    thread.join()
""",
    "waits_with_pauses": """
    (here / "later").unlink(missing_ok=True)
    process = subprocess.Popen(["sh", "-c", "sleep 0.1; : >later"], cwd=here)
    for _ in range(100):
        if host.file(str(here / "later")).exists:
            break
        time.sleep(0.02)
    process.wait()
    assert host.file(str(here / "later")).exists
""",
    "begins_something": """
    (here / "begun").unlink(missing_ok=True)
    made["process"] = subprocess.Popen(["sh", "-c", "sleep 0.2; : >begun"], cwd=here)
    assert not host.file(str(here / "nothing")).exists
""",
    "waits_for_its_end": """
    assert host.file("/etc/passwd").exists
    process = made.get("process")
    if process is not None:
        process.wait()
        assert host.file(str(here / "begun")).exists
""",
    "compares_clocks": """
    assert host.file("/etc/passwd").exists
    assert abs(int(host.check_output("date +%%s")) - time.time()) < 30
    time.sleep(1.1)
    assert abs(int(host.check_output("date +%%s")) - time.time()) < 30
""",
    "skips": """
    if content(host, here, "log") is None:
        pytest.skip("no log")
    (here / "log").unlink()
    pytest.skip("had a log")
""",
    "fails_in_python": """
    assert host.file("/etc/passwd").exists
    {}["NUMBER"]
""",
    "random": """
    name = random.choice("abc")
    assert host.check_output("echo %s", name) == name
    assert random.random() < 2
""",
    "opens_a_connection": """
    assert host.file("/etc/passwd").exists
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        assert host.run("true").rc == 0
""",
    "uses_a_folder": """
    (tmp_path / "x").write_text("NUMBER")
    assert host.file(str(tmp_path / "x")).content_string == "NUMBER"
""",
    "has_a_fixture_that_changes": """
    assert content(host, here, "log").endswith("set up\\n")
""",
    "asks_twice": """
    one = host.file("/etc/passwd").size
    two = host.file("/etc/passwd").size
    assert one == two
""",
    "ends_the_run_of_its_thread": """
    result = queue.Queue()
    threading.Thread(target=lambda: result.put(host.run("echo NUMBER >>%s", str(here / "log")).rc)).start()
    assert result.get() == 0
    assert content(host, here, "log").endswith("NUMBER\\n")
""",
}
FIXTURES = {
    "uses_a_folder": "tmp_path",
    "writes_without_a_name": "open_file",
    "has_a_fixture_that_changes": "changing",
}
CHANGING = """
@pytest.fixture
def changing(here):
    with open(here / "log", "a") as file:
        file.write("set up\\n")
    yield
    (here / "log").write_text("torn down\\n")

@pytest.fixture(scope="module")
def noted(host, here):
    host.run("echo module >>%s", str(here / "log"))
    yield
    host.run("echo end >>%s", str(here / "log"))
"""


def program(seed: int, count: int) -> str:
    """Return a file of tests: bodies in a random order, with plain checks between them."""
    chosen = random.Random(seed)
    names = [*BODIES, *chosen.choices(list(BODIES), k=max(0, count - len(BODIES)))]
    names = chosen.sample(names, k=len(names))[:count]
    names = [name for other in names for name in (*["reads", "reads_log", "reads_more"][: chosen.randrange(4)], other)]
    parts = [HEAD, CHANGING]
    for number, name in enumerate(names):
        wanted = ["host", "here", *([FIXTURES[name]] if name in FIXTURES else [])]
        if chosen.randrange(8) == 0:
            wanted.append("noted")
        body = BODIES[name].replace("NUMBER", str(number))
        parts.append(f"def test_{number}_{name}({', '.join(wanted)}):{body}")
    return "\n".join(parts)


def outcome(bench: Bench, code: str, folder: Path, name: str) -> tuple[list[tuple[str, str, str]], dict[str, bytes]]:
    """Return what each test reported, and what is then in the folder of their files."""
    folder.mkdir()
    bench.events.clear()
    bench.run(bench.write(code, name), variables={"folder": str(folder)}, retries=1, retry_delay=0.01)
    found = [
        (str(f["name"]), str(f["outcome"]), str(f.get("message")).replace(str(folder), "FOLDER"))
        for f in bench.fields("test.finished")
    ]
    files = {path.name: path.read_bytes() if path.is_file() else b"" for path in folder.iterdir()}
    return found, files


# A body does not run in a copy of the process that shares memory with it, unless it promises to read.
SHARED = "\nimport mmap\nshared = mmap.mmap(-1, 1)\n"
ALONE = "\npytestmark = pytest.mark.alone\n"


def compare(bench: Bench, seed: int, count: int, tail: str) -> None:
    code = program(seed, count)
    ahead = outcome(bench, code, bench.folder / "as-it-is", "one_test.py")
    before = outcome(bench, code + tail, bench.folder / "before", "one_test.py")
    assert len(before[0]) >= count
    for one, other in zip(ahead[0], before[0], strict=True):
        assert one == other, f"seed {seed}"
    assert ahead[1] == before[1], f"seed {seed}"


def test_any_bodies_have_the_outcomes_and_effects_of_a_run_without_rehearsal(bench: Bench) -> None:
    compare(bench, 0, len(BODIES), SHARED)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(1, 7))
def test_many_of_them_do(bench: Bench, seed: int) -> None:
    compare(bench, seed, len(BODIES), ALONE)


def test_a_service_that_starts_is_seen_by_the_tests_after_the_one_that_waits(bench: Bench) -> None:
    """The process of another user starts it, without any test. What was read before is not used any more."""
    path = bench.write(
        """
import threading
import time

def start(folder):
    time.sleep(0.4)
    open(folder + "/running", "w").close()

def test_begins(variables):
    threading.Thread(target=start, args=(variables["folder"],)).start()

def test_waits(host, variables):
    while not host.file(variables["folder"] + "/running").exists:
        pass

def test_runs(host, variables):
    assert host.file(variables["folder"] + "/running").exists

def test_runs_also_for_the_next(host, variables):
    assert host.file(variables["folder"] + "/running").exists
"""
    )
    report = bench.run(path, variables={"folder": str(bench.folder)})
    require(report)
    assert (report.passed, report.flaky) == (4, 0)
