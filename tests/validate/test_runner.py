"""run_suite against a real sshd: it distinguishes failed tests, failed infrastructure and invalid files."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from goldenami.errors import BuilderError, ConnectionLost, Interrupted, InvalidInput, TestsFailed
from goldenami.hardening import SUITE, Batch
from goldenami.model import SshEndpoint
from goldenami.validate import TestPath, ending_prepared, require, runner

if TYPE_CHECKING:  # importing it would make a second copy of the conftest
    from tests.validate.conftest import Bench

pytestmark = pytest.mark.early
SLEEPER = """
import os, time
def test_one(variables):
    open(variables['pid'], 'w').write(str(os.getpid()))
    time.sleep(60)
"""


def test_outcomes_are_reported_with_their_places_and_reasons(bench: Bench) -> None:
    path = bench.write(
        """
import pytest

def test_file(host):
    assert host.file("/etc/passwd").contains("root")

def test_fails(host):
    wanted = "nothing"
    assert host.check_output("echo something") == wanted, "echo is wrong"

def test_skips(host, gate, architecture):
    pytest.skip(f"not at {gate} on {architecture}")

def test_knows_its_variables(variables, recipe_vars):
    assert variables["port"] == 80 and recipe_vars["port"] == 80

@pytest.mark.gate("image")
def test_of_another_gate(host):
    assert False

def test_missing_fixture(database):
    pass
"""
    )
    report = bench.run(TestPath(path, "tests/web_test.py"), variables={"port": 80})
    assert (report.passed, report.failed, report.skipped, report.flaky) == (2, 2, 1, 0)
    assert not report.ok
    fails, missing = report.failures
    assert fails.name == "tests/web_test.py::test_fails"
    assert fails.place == "tests/web_test.py:9"
    assert fails.message.startswith("echo is wrong\nassert 'something' == 'nothing'")
    assert fails.message.endswith('\n> assert host.check_output("echo something") == wanted, "echo is wrong"')
    assert missing.message.startswith("there is no fixture 'database'")
    assert missing.place == "tests/web_test.py:21"
    assert bench.fields("tests.started") == [{"gate": "builder", "architecture": "x86_64", "total": 5}]
    finished = bench.fields("test.finished")
    assert [event["outcome"] for event in finished] == ["passed", "failed", "skipped", "passed", "failed"]
    assert finished[2]["message"] == "not at builder on x86_64"
    assert bench.events[-1].kind == "tests.finished"
    with pytest.raises(TestsFailed, match="2 of 5 tests failed at gate builder") as raised:
        require(report)
    assert "tests/web_test.py:9" in str(raised.value)


def test_junit_and_log_use_the_same_names(bench: Bench) -> None:
    path = bench.write("def test_one(host):\n    assert host.run('true').succeeded\n")
    report = bench.run(TestPath(path, "tests/web_test.py"))
    require(report)
    assert report.junit is not None
    suite = ElementTree.parse(report.junit).getroot().find("testsuite")
    assert suite is not None
    assert suite.get("name") == "goldenami.builder.x86_64"
    assert [case.get("classname") for case in suite.iter("testcase")] == ["tests.web_test"]
    assert "1 passed" in bench.log


def test_no_file_is_written_into_the_folder_of_the_tests(bench: Bench) -> None:
    path = bench.write(
        "def test_one(tmp_path):\n    (tmp_path / 'x').write_text('y')\n    open('litter', 'w').close()\n"
    )
    bench.run(path)
    assert [p for p in path.parent.parent.rglob("*") if p != path.parent] == [path]


def test_the_project_s_pytest_configuration_is_ignored(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bench.write("def test_one(helper):\n    assert helper == 'beside the tests'\n")
    bench.write("import pytest\n@pytest.fixture\ndef helper():\n    return 'beside the tests'\n", "conftest.py")
    (path.parent.parent.parent / "conftest.py").write_text("raise RuntimeError('not for recipes')\n")
    (path.parent.parent / "pytest.ini").write_text("[pytest]\naddopts = --nonsense\n")
    monkeypatch.setenv("PYTEST_ADDOPTS", "--more-nonsense")
    require(bench.run(path))


def test_flaky_is_not_passed(bench: Bench) -> None:
    path = bench.write(
        """
import pytest
tries = []

def test_settles(host):
    tries.append(1)
    assert len(tries) == 2, "not yet"

more = []
@pytest.mark.retry(4, delay=0.05)
def test_settles_late(host):
    more.append(1)
    assert len(more) == 5

def test_never(host):
    assert False
"""
    )
    report = bench.run(path)
    assert (report.passed, report.flaky, report.failed) == (0, 2, 1)
    finished = bench.fields("test.finished")
    assert [event["outcome"] for event in finished] == ["flaky", "flaky", "failed"]
    assert finished[0]["message"] == "passed when it was run again; at first: not yet"
    assert report.junit is not None
    properties = ElementTree.parse(report.junit).getroot().iter("property")
    assert next(p.get("value") for p in properties) == "not yet"


def test_repetitions_have_a_budget(bench: Bench) -> None:
    path = bench.write("".join(f"def test_{n}(host):\n    assert False\n" for n in range(30)))
    started = time.monotonic()
    report = bench.run(path, retry_delay=4.0, retry_budget=4.0)
    assert report.failed == 30
    assert time.monotonic() - started < 110, "30 repetitions would wait for 120 s"


def test_a_hanging_test_fails_and_the_next_one_runs(bench: Bench) -> None:
    path = bench.write(
        """
def test_hangs(host):
    host.run("sleep 60")

def test_next(host):
    assert host.run("true").succeeded
"""
    )
    report = bench.run(path, test_timeout=10.0)  # the next test connects again, on a busy machine
    assert (report.passed, report.failed) == (1, 1)
    assert report.failures[0].message.startswith("took longer than 10 s\n> host.run(")


def test_the_whole_run_has_a_limit(bench: Bench) -> None:
    path = bench.write("import time\ndef test_hangs():\n    time.sleep(60)\n")
    with pytest.raises(TestsFailed, match=r"longer than 2 s, during .*web_test.py::test_hangs"):
        bench.run(path, time_limit=2.0, clock=lambda: 3.0 if bench.fields("test.started") else 0.0)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("", "No tests were collected from"),
        ("import pytest\n@pytest.mark.gate('image')\ndef test_a(): pass\n", "for gate"),
    ],
)
def test_a_gate_without_tests_fails(bench: Bench, code: str, message: str) -> None:
    with pytest.raises(TestsFailed, match=message):
        bench.run(bench.write(code))


def test_an_empty_file_is_not_hidden_by_a_full_one(bench: Bench) -> None:
    full = bench.write("def test_one():\n    pass\n", "full_test.py")
    empty = bench.write("def tst_one():\n    pass\n", "empty_test.py")
    with pytest.raises(TestsFailed, match=r"No tests were collected from \S*empty_test.py\."):
        bench.run(full, empty)


def test_all_skipped_is_not_ok(bench: Bench) -> None:
    report = bench.run(bench.write("import pytest\ndef test_one():\n    pytest.skip('no')\n"))
    with pytest.raises(TestsFailed, match="all 1 were skipped"):
        require(report)


def test_files_that_cannot_be_imported_are_invalid_input_all_at_once(bench: Bench) -> None:
    syntax = bench.write("def test_one(:\n    pass\n", "syntax_test.py")
    name = bench.write("import os\nos.nothing\ndef test_one():\n    pass\n", "name_test.py")
    missing = bench.write("\nimport no_such_module\n", "import_test.py")
    with pytest.raises(InvalidInput) as raised:
        bench.run(syntax, name, missing)
    problems = {Path(p.file).name: (p.line, p.message) for p in raised.value.problems}
    assert problems["syntax_test.py"] == (1, "invalid syntax: invalid syntax")
    assert problems["name_test.py"][0] == 2
    assert "AttributeError" in problems["name_test.py"][1]
    assert problems["import_test.py"][0] == 2
    assert "no_such_module" in problems["import_test.py"][1]


def test_a_broken_conftest_is_invalid_input(bench: Bench) -> None:
    path = bench.write("def test_one():\n    pass\n")
    conftest = bench.write("import no_such_module\n", "conftest.py")
    with pytest.raises(InvalidInput) as raised:
        bench.run(path)
    (problem,) = raised.value.problems
    assert (problem.file, problem.line) == (str(conftest), 1)
    assert "no_such_module" in problem.message


def test_a_missing_file_is_invalid_input(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        bench.run(tmp_path / "no_test.py")


def test_a_dropped_connection_makes_a_test_flaky(bench: Bench) -> None:
    path = bench.write(
        """
tries = []
def test_one(host):
    tries.append(1)
    if len(tries) == 1:
        host.run("kill -9 $PPID")
    assert host.run("true").succeeded

def test_two(host):
    assert host.run("true").succeeded
"""
    )
    report = bench.run(path)
    assert (report.passed, report.flaky) == (1, 1)
    assert "connection was lost" in bench.fields("test.finished")[0]["message"]


def test_a_lost_host_is_an_error_and_no_failed_test(bench: Bench) -> None:
    path = bench.write(
        """
def test_one(host, variables):
    host.run(f"kill -9 {variables['sshd']} $PPID")

def test_two(host):
    assert False, "never reached"
"""
    )
    with pytest.raises(BuilderError, match=r"during .*test_one"):
        bench.run(path, variables={"sshd": bench.sshd.pid}, connect_timeout=1.0)
    assert "never reached" not in bench.log


def test_a_connection_that_is_lost_twice_is_an_error(bench: Bench) -> None:
    path = bench.write("def test_one(host):\n    host.run('kill -9 $PPID')\n")
    with pytest.raises(ConnectionLost):
        bench.run(path)


def test_another_host_key_is_refused(bench: Bench, other_host_key: str) -> None:
    path = bench.write("def test_one(host):\n    host.run('true')\n")
    bench.sshd = replace(bench.sshd, endpoint=replace(bench.sshd.endpoint, host_key=other_host_key))
    with pytest.raises(BuilderError, match=r"(?i)host key"):
        bench.run(path, connect_timeout=8.0)


def test_an_unreachable_host_is_an_error(bench: Bench) -> None:
    path = bench.write(
        "import pytest\n@pytest.fixture\ndef name(host):\n    return host.run('hostname')\ndef test_a(name): pass\n"
    )
    bench.sshd = replace(bench.sshd, endpoint=replace(bench.sshd.endpoint, port=1))
    with pytest.raises(BuilderError):
        bench.run(path, connect_timeout=0.5)


def test_a_killed_pytest_is_an_error_and_no_failed_test(bench: Bench) -> None:
    path = bench.write("import os\ndef test_one():\n    os._exit(0)\n")
    with pytest.raises(BuilderError, match="ended unexpectedly"):
        bench.run(path)


def test_secrets_are_masked_everywhere(bench: Bench) -> None:
    path = bench.write(
        """
def test_one(host, variables):
    print("printed", variables["password"])
    assert host.check_output("echo %s", variables["password"]) == "x"
"""
    )
    report = bench.run(path, variables={"password": 'open"sesame'}, secrets=['open"sesame'])
    assert report.junit is not None
    everything = bench.log + Path(report.junit).read_text() + repr(report) + repr(bench.events)
    assert "sesame" not in everything
    assert "********" in report.failures[0].message


def test_the_callers_credentials_are_not_in_the_environment(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bench.write(
        """
import os
import shutil
def test_one(host):
    assert host.run("true").rc == 0
    print("license", os.environ["LICENSE_SERVER"])
    print("names", *os.environ)
    raise RuntimeError  # pytest writes the output of a failed test
"""
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "CI_JOB_TOKEN", "SSH_AUTH_SOCK", "PYTEST_ADDOPTS"):
        monkeypatch.setenv(name, "--caller's-own")
    monkeypatch.setenv("LICENSE_SERVER", "license.example:4711")
    monkeypatch.setenv("LC_TIME", "C.UTF-8")
    report = bench.run(path, environment=["LICENSE_SERVER", "NOT_SET"], retries=0)
    assert report.junit is not None
    everything = bench.log + Path(report.junit).read_text() + repr(report)
    assert "license.example" not in everything
    [names] = re.findall(r"^names (.*)$", bench.log, re.MULTILINE)
    given = set(names.split())
    assert {"LICENSE_SERVER", "PATH", "LC_TIME"} <= given
    assert not [
        name for name in given if name.startswith(("AWS", "CI", "SSH")) or name in ("PYTEST_ADDOPTS", "NOT_SET")
    ]


def test_the_private_key_is_in_no_file_argument_or_variable(bench: Bench) -> None:
    path = bench.write(
        """
import os, pathlib
def test_one(host, variables):
    host.run("true")
    secret = variables["line"]
    for file in ("cmdline", "environ"):
        assert secret.encode() not in pathlib.Path(f"/proc/self/{file}").read_bytes()
    for descriptor in os.listdir("/proc/self/fd"):
        assert "memfd" not in os.path.realpath(f"/proc/self/fd/{descriptor}")
"""
    )
    line = bench.sshd.endpoint.private_key.splitlines()[1]
    # split in two, because the child receives the variables in the same way as the key
    require(bench.run(path, variables={"line": line[:20]}))


def test_sudo(bench: Bench) -> None:
    path = bench.write(
        """
def test_root(host):
    with host.sudo():
        assert host.check_output("id -un") == "root"
        with host.sudo("nobody"):
            assert host.check_output("echo % $(id -un)") == "% nobody"
    assert host.check_output("printf '\\\\303\\\\244\\\\377'") == "ä\\\\xff"
"""
    )
    if os.getuid() != 0:
        pytest.skip("needs root")
    require(bench.run(path))


def test_stop_ends_the_child(bench: Bench) -> None:
    path = bench.write(SLEEPER)
    pid_file = bench.folder / "pid"
    stop = threading.Event()

    def when_started() -> None:
        while not pid_file.exists() or not pid_file.read_text():
            time.sleep(0.05)
        stop.set()

    threading.Thread(target=when_started).start()
    with pytest.raises(Interrupted):
        bench.run(path, variables={"pid": str(pid_file)}, stop=stop)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_the_child_ends_with_its_parent(bench: Bench, tmp_path: Path) -> None:
    path = bench.write(SLEEPER)
    pid_file = tmp_path / "pid"
    program = f"""
from pathlib import Path
from goldenami.model import SshEndpoint
from goldenami.validate import run_suite
run_suite(SshEndpoint("127.0.0.1", "nobody", "", ""), [{str(path)!r}], gate="builder", architecture="x86_64",
          report_dir=Path({str(tmp_path)!r}), variables={{"pid": {str(pid_file)!r}}})
"""
    parent = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    try:
        until = time.monotonic() + 120
        while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < until:
            time.sleep(0.05)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    child = int(pid_file.read_text())
    until = time.monotonic() + 45  # the child would sleep for 60 s
    while time.monotonic() < until:
        try:
            if "State:\tZ" in Path(f"/proc/{child}/status").read_text():
                return
        except OSError:  # it is gone
            return
        time.sleep(0.05)
    pytest.fail("the child outlived its parent")


def test_an_expected_failure_is_not_repeated_and_an_explicit_one_is(bench: Bench) -> None:
    path = bench.write(
        """
import pytest
tries = []

@pytest.mark.xfail(reason="known")
def test_known(host):
    tries.append(1)
    assert False

def test_known_was_not_repeated():
    assert len(tries) == 1

more = []
def test_fail_is_repeated():
    more.append(1)
    if len(more) == 1:
        pytest.fail("not yet")

def test_xfail_is_not():
    pytest.xfail("given up")
"""
    )
    report = bench.run(path)
    assert (report.passed, report.flaky, report.skipped, report.failed) == (1, 1, 2, 0)
    assert [event.get("message") for event in bench.fields("test.finished")] == [
        "known",
        None,
        "passed when it was run again; at first: not yet",
        "given up",
    ]


def test_a_failing_teardown_is_a_failure(bench: Bench) -> None:
    path = bench.write(
        """
import pytest

@pytest.fixture
def thing():
    yield 1
    assert False, "left open"

def test_one(thing):
    pass
"""
    )
    report = bench.run(path)
    assert (report.passed, report.failed) == (0, 1)
    assert report.failures[0].message.startswith("while tearing down: left open")


def test_connections_come_from_the_parents_transport(bench: Bench) -> None:
    """The child runs code of the project. It gets open sockets, and not what opens them."""
    opened: list[int] = []
    port = bench.sshd.endpoint.port

    def transport(endpoint: SshEndpoint, patience: float) -> socket.socket:
        opened.append(os.getpid())
        return socket.create_connection((endpoint.address, port), patience)

    # No server listens on this port: only the transport has the other one.
    endpoint = replace(bench.sshd.endpoint, port=1, transport=transport)
    bench.sshd = replace(bench.sshd, endpoint=endpoint)
    report = bench.run(bench.write("def test_one(host):\n    assert host.check_output('echo over') == 'over'\n"))
    require(report)
    assert set(opened) == {os.getpid()}


def test_reports_that_cannot_be_written_do_not_fail_the_tests(bench: Bench, tmp_path: Path) -> None:
    path = bench.write("def test_passes(host):\n    assert host.file('/etc/passwd').exists\n")
    (tmp_path / "reports").write_text("a file in the way")
    report = bench.run(path)
    assert report.passed == 1
    assert report.junit is not None
    (note,) = bench.fields("note")
    assert note["level"] == "warning"
    assert str(Path(report.junit).parent) in note["message"]
    shutil.rmtree(Path(report.junit).parent)


def test_shell_checks_are_tests(bench: Bench) -> None:
    path = bench.write(
        """\
where=/etc/passwd
@test "there is a file" {
  test -e "$where"
}
# goldenami: reads
@test "root is somebody else" {
  run grep -c '^root:x:1:' "$where"
  echo "found $output"
  test "$status" -eq 0
}
@test "skips" {
  skip "no cloud"
}
# goldenami: gate=image
@test "only of the image" {
  false
}
""",
        "web.checks",
    )
    report = bench.run(TestPath(path, "tests/web.checks"), retries=0)
    assert (report.passed, report.failed, report.skipped) == (1, 1, 1)
    (failure,) = report.failures
    assert failure.name == "tests/web.checks::root is somebody else"
    assert failure.place == "tests/web.checks:6"
    assert failure.message == 'exit status 1\nfound 0\n> @test "root is somebody else" {'
    assert bench.fields("test.finished")[2]["message"] == "no cloud"


def test_invalid_shell_checks_are_invalid_input(bench: Bench) -> None:
    path = bench.write('@test "open" {\n', "web.checks")
    with pytest.raises(InvalidInput) as raised:
        bench.run(path)
    (problem,) = raised.value.problems
    assert (problem.file, problem.line) == (str(path), 1)
    assert "the check 'open' has no end" in problem.message


DEFINITE = """
import ctypes
import pytest
from goldenami.validate import ahead, rehearsal

# A rehearsal that a busy machine holds up proves nothing. Here, none is given up for the time it takes.
ahead._FRESH_SECONDS = ahead._START_SECONDS = ahead._IDLE_SECONDS = ahead._SILENT_SECONDS = 600.0
rehearsal._STUCK_SECONDS = rehearsal._WAIT_SECONDS = 600.0

reads = pytest.mark.reads
tried = {}

def count(name):
    tried[name] = tried.get(name, 0) + 1
    return tried[name]

@pytest.fixture(scope="module")
def listed(host):
    return host.run("ps -A").stdout

@reads
def test_account(host):
    count("1: reads an account")
    assert host.check_output("id -un nobody") == "somebody"

@reads
def test_fixture(listed):
    count("1: looks at what a fixture read")
    assert listed == ""

@reads
def test_port(host):
    count("3: reads processes")
    assert host.run("ps -A").stdout == ""

def test_another_account(host):
    count("2: asks for an account")
    assert host.user("nobody").exists
    assert host.check_output("id -un nobody") == "somebody"

def test_file(host):
    count("2: asks for a file")
    assert host.file("/etc/passwd").user == "nobody"

def test_own_memory(host):
    assert host.file("/etc/passwd").exists
    assert count("2: passes when it is computed again") > 1

def test_two_steps(host):
    assert host.file("/etc/passwd").exists
    step = count("3: passes when it is repeated")
    assert step > 2, f"step {step}"

def test_service(host):
    count("3: asks for processes")
    assert host.run("ps -A").stdout == ""

@pytest.mark.alone
def test_between():
    pass  # nothing after it is in one copy with the tests above, which the kernel ends at the next one

def test_library(host):
    count("3: waits in a library")
    assert host.file("/etc/passwd").exists
    ctypes.CDLL(None).usleep(1)
    assert host.file("/etc/passwd").user == "nobody"

def test_after(host):
    assert host.file("/etc/passwd").exists  # one test alone would have no rehearsal

def test_last(host, record_fact):
    record_fact("tried", tried)
"""


def test_a_definite_failure_is_not_repeated(bench: Bench) -> None:
    """One of a test that promises nothing is computed again from the same answers: it may depend on its own memory."""
    add_program(bench, "systemctl", "echo running")  # a host without systemd never says that its boot has ended
    report = bench.run(bench.write(DEFINITE), retries=2, test_timeout=600.0)
    assert (report.failed, report.flaky, report.passed) == (7, 2, 3)
    tried = report.facts["tried"]
    assert tried == {name: int(name[0]) for name in tried}


def add_program(bench: Bench, name: str, script: str) -> None:
    program = bench.sshd.programs / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


LATE = """
import pytest

tried = []

@MARK
def test_account(host):
    tried.append(1)
    assert host.check_output("id -un 'app'") == "NAME"

def test_last(host, record_fact):
    assert host.check_output("echo last") == "last"
    record_fact("tried", len(tried))
"""


def test_what_was_read_before_the_end_of_the_boot_is_read_again(bench: Bench) -> None:
    """The boot ends, and makes an account, after a test has asked for it and before its failure is looked at."""
    asked, made = bench.folder / "asked", bench.folder / "made"
    add_program(bench, "id", f": >{asked}; [ -e {made} ] && echo app || echo nobody")
    add_program(bench, "systemctl", f"[ -e {asked} ] || {{ echo starting; exit 1; }}; : >{made}; echo running")
    report = bench.run(bench.write(LATE.replace("@MARK\n", "").replace("NAME", "app")), retries=2)
    assert (report.failed, report.flaky, report.passed) == (0, 1, 1)
    asked.unlink()
    made.unlink()
    # Once is enough with the mark "reads": the second failure is definite.
    report = bench.run(bench.write(LATE.replace("MARK", "pytest.mark.reads").replace("NAME", "other")), retries=2)
    assert (report.failed, report.flaky, report.passed, report.facts["tried"]) == (1, 0, 1, 2)


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The processes that wait: none at first, whatever other tests have left. Each has any time to become ready."""
    processes: list[Any] = []
    monkeypatch.setattr(runner, "_waiting", processes)
    monkeypatch.setattr(runner, "_READY_SECONDS", 600.0)
    yield processes
    for process in processes:
        process.end()


def test_a_process_that_was_prepared_is_used_once(bench: Bench, waiting: list[Any]) -> None:
    path = bench.write(
        """
import os
def test_one(host, variables):
    assert host.run("true").succeeded
    with open(variables["pids"], "a") as file:
        file.write(f"{os.getpid()}\\n")
"""
    )
    pids = bench.folder / "pids"
    runner.prepare()
    runner.prepare()
    (process,) = [one.popen for one in waiting]
    for _ in range(2):
        require(bench.run(path, variables={"pids": str(pids)}))
    first, second = map(int, pids.read_text().split())
    assert first == process.pid != second
    runner.prepare()
    (process,) = [one.popen for one in waiting]
    process.kill()  # while it waits
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    require(bench.run(path, variables={"pids": str(pids)}))
    assert not waiting


def test_tests_that_were_prepared_are_collected_once(bench: Bench, waiting: list[Any]) -> None:
    """Their file is read while the host is not known yet, and the run uses what was read."""
    made = bench.folder / "made"
    code = f"""
import os
with open({str(made)!r}, "a") as file:
    file.write(f"{{os.getpid()}}\\n")
def test_one(host):
    assert host.run("true").succeeded
    assert "X" not in os.environ
"""
    path = bench.write(code)
    wanted: Any = {"gate": "builder", "architecture": "x86_64", "report_dir": bench.folder / "reports"}
    runner.prepare([path], **wanted)
    runner.prepare([path], **wanted)
    (process,) = waiting
    report = bench.run(path)
    require(report)
    assert made.read_text().split() == [str(process.popen.pid)]
    assert report.junit is not None
    assert 'tests="1"' in Path(report.junit).read_text()
    # Other arguments are another run, which does not use it.
    runner.prepare([path], **wanted | {"gate": "image"})
    require(bench.run(path))
    (process,) = waiting
    require(bench.run(path, gate="image"))
    assert made.read_text().split()[1:].count(str(process.popen.pid)) == 1
    assert len(made.read_text().split()) == 3


@pytest.mark.parametrize("code", ["import nothing_of_that_name\n", "def no_test():\n    pass\n"])
def test_what_cannot_be_collected_ahead_is_reported_by_the_run(bench: Bench, code: str, waiting: list[Any]) -> None:
    path = bench.write(code)
    runner.prepare([path], gate="builder", architecture="x86_64", report_dir=bench.folder / "reports")
    with pytest.raises((InvalidInput, TestsFailed)) as raised:
        bench.run(path)
    told = [p.message for p in raised.value.problems] if isinstance(raised.value, InvalidInput) else [str(raised.value)]
    assert any(text in told[0] for text in ("nothing_of_that_name", "No tests were collected from"))
    runner.prepare([bench.folder / "missing.py"], gate="x", architecture="x86_64", report_dir=bench.folder)
    assert [one.work for one in waiting] == [None], "it waits without tests"
    bench.write("def test_one():\n    pass\n")
    require(bench.run(path))


SKIPS = """
import pytest

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport():
    report = yield
    if report.failed:
        report.outcome, report.longrepr = "skipped", ("conftest.py", 1, "skipped by a hook")
    return report
"""


def test_a_prepared_run_has_the_outcomes_of_one_that_is_not(bench: Bench, waiting: list[Any]) -> None:
    """A conftest.py below the folder of the tests has its hooks around those of the run, in both."""
    folder = bench.write("def test_top():\n    assert False, 'top'\n").parent
    bench.write(SKIPS, "sub/conftest.py")
    bench.write("def test_below():\n    assert False, 'below'\n", "sub/below_test.py")
    reports = [bench.run(folder)]
    runner.prepare([folder], gate="builder", architecture="x86_64", report_dir=bench.folder / "reports")
    (process,) = waiting
    reports.append(bench.run(folder))
    assert process.popen.returncode == 1, "it ran the tests, of which some failed"
    assert [[failure.message.splitlines()[0] for failure in report.failures] for report in reports] == [
        ["below", "top"],
        ["below", "top"],
    ]


def test_the_controls_are_collected_by_a_process_that_was_prepared(bench: Bench, waiting: list[Any]) -> None:
    """Its own tests are known with the settings only."""
    made = bench.folder / "made"
    own = bench.write(f"open({str(made)!r}, 'a').write('x')\ndef test_one():\n    pass\n")
    tests: list[Any] = [own, TestPath(SUITE, "hardening")]
    runner.prepare(tests, gate="builder", architecture="x86_64", report_dir=bench.folder / "reports")
    (process,) = waiting
    report = bench.run(*tests, variables={"hardening": Batch.of([]).to_json(), "undone": []})
    require(report)
    assert (process.popen.returncode, made.read_text()) == (0, "x"), "the run used it, and no second one"
    assert report.passed == 2


def test_tests_that_changed_after_they_were_collected_are_collected_anew(bench: Bench, waiting: list[Any]) -> None:
    path = bench.write("import fixed\n")
    runner.prepare([path], gate="builder", architecture="x86_64", report_dir=bench.folder / "reports")
    before = runner._digest([TestPath(path, "")])
    bench.write("def test_one(helper):\n    assert helper\n")
    changed = runner._digest([TestPath(path, "")])
    bench.write("import pytest\n@pytest.fixture\ndef helper():\n    return True\n", "conftest.py")
    assert len({before, changed, runner._digest([TestPath(path, "")])}) == 3
    require(bench.run(path))
    assert not waiting, "the process with the old file has ended"


STARTS = """
import subprocess
program = subprocess.Popen(["sleep", "600"])
with open({!r}, "w") as file:
    file.write(str(program.pid))
"""


@pytest.mark.parametrize("way", ["the end of its build", "the end of its parent"])
def test_what_was_prepared_and_not_used_leaves_nothing(
    bench: Bench, waiting: list[Any], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Neither its folder, nor a program that a conftest.py started."""
    started = bench.folder / "started"
    path = bench.write("def test_one():\n    pass\n")
    bench.write(STARTS.format(str(started)), "conftest.py")
    monkeypatch.setattr(runner, "_MOST_WAITING", 1)
    wanted: Any = {"gate": "builder", "architecture": "x86_64"}
    with ending_prepared(bench.folder / "reports"):
        runner.prepare([path], report_dir=bench.folder / "reports", **wanted)
        (process,) = waiting
        runner.prepare([path], report_dir=bench.folder / "others", **wanted)
        assert waiting == [process], "no more wait than the limit, and the first one stays"
        assert process.is_ready(None)
        told = Path(f"/proc/{process.popen.pid}/fdinfo/{process.popen.args[-1]}").read_text()
        flags = int(told.partition("flags:")[2].split()[0], 8)
        assert not flags & os.O_NONBLOCK, "it waits for its settings without a time limit"
        program = os.pidfd_open(int(started.read_text()))
        with ending_prepared(bench.folder / "others"):
            pass
        assert waiting == [process], "it is not of that build"
        if way == "the end of its parent":
            process._parent.close()
            os.waitid(os.P_PID, process.popen.pid, os.WEXITED | os.WNOWAIT)
            assert not process._scratch.exists()
            assert select.select([program], [], [], 60)[0]
    assert not waiting
    assert select.select([program], [], [], 60)[0]
    os.close(program)
    assert not process._scratch.exists()


def test_what_still_waits_ends_with_its_process(waiting: list[Any]) -> None:
    runner.prepare()
    (process,) = waiting
    process.parent_id = -1  # as in a copy of the process that started it
    runner._end_at_exit()
    assert waiting == [process]
    process.parent_id = os.getpid()
    runner._end_at_exit()
    assert not waiting
    assert process.popen.returncode == -signal.SIGKILL


def test_an_order_has_any_size(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment goes with it. It may have a megabyte, more than a message of packets."""
    for number in range(16):
        monkeypatch.setenv(f"LARGE_{number}", "x" * 65536)
    path = bench.write("import os\ndef test_one():\n    assert os.environ['LARGE_15'] == 'x' * 65536\n")
    require(bench.run(path, environment=[f"LARGE_{number}" for number in range(16)]))


def test_the_rehearsal_cannot_use_the_connection(bench: Bench) -> None:
    """It has a copy of the socket. What it wrote would be in the stream of the process of the tests."""
    path = bench.write(
        """
import pytest

pytestmark = pytest.mark.reads

@pytest.fixture(scope="module")
def directly(host):
    return host.backend.connection.run("echo directly").text

@pytest.mark.parametrize("number", range(3))
def test_one(host, number):
    assert host.check_output("echo %s", str(number)) == str(number)

@pytest.mark.parametrize("number", range(3))
def test_direct(host, directly, number):
    assert directly == "directly"
    assert host.check_output("echo %s", str(number)) == str(number)
"""
    )
    report = bench.run(path)
    require(report)
    assert (report.passed, report.flaky) == (6, 0)
