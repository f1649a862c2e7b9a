"""Tests run ahead: many commands in few turns, and the results of a run without it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from goldenami.model import TestReport
from goldenami.validate import require
from tests.ssh.relay import Relay

if TYPE_CHECKING:
    from tests.validate.conftest import Bench

pytestmark = pytest.mark.early
CHECKS = """
import pytest

pytestmark = pytest.mark.reads

@pytest.fixture(scope="module")
def release(host):
    return host.check_output("cat /etc/os-release")

@pytest.mark.parametrize("number", range(40))
def test_file(host, number):
    assert host.file("/etc/passwd").exists
    assert not host.file(f"/etc/no-such-file-{number}").exists
    assert host.check_output("stat -c %U /etc/passwd") == "root"

@pytest.mark.parametrize("name", ["root", "daemon", "nobody"])
def test_user(host, name, release):
    assert release
    user = host.user(name)
    assert user.exists
    assert user.uid == int(host.check_output("id -u %s", user.name))
    assert user.shell.startswith("/")

def test_system(host):
    assert host.system_info.type == "linux"
    assert host.exists("sh")
    assert not host.exists("no-such-program")
"""


def turns(bench: Bench, path: Path) -> tuple[TestReport, int]:
    """Run a file of tests, and count how often one side waited for the other."""
    endpoint = bench.sshd.endpoint
    with Relay(("127.0.0.1", endpoint.port)) as relay:
        bench.sshd = replace(bench.sshd, endpoint=replace(endpoint, port=relay.port))
        report = bench.run(path)
        bench.sshd = replace(bench.sshd, endpoint=endpoint)
        return report, relay.turns


def test_many_checks_take_as_many_turns_as_the_longest_of_them(bench: Bench) -> None:
    one, to_compare = turns(bench, bench.write("def test_one(host):\n    assert host.file('/etc/passwd').exists\n"))
    require(one)
    report, found = turns(bench, bench.write(CHECKS))
    require(report)
    assert (report.passed, report.flaky) == (44, 0)
    # 180 commands, and at most five in one test. Each reply can arrive in several pieces; without batches it is 360.
    assert found - to_compare < 60, found
    path = bench.write(CHECKS.replace("pytestmark", "nothing"))  # tests that promise nothing
    report, without = turns(bench, path)
    require(report)
    assert (report.passed, report.flaky) == (44, 0)
    assert without - to_compare < 60, without


def test_the_host_is_asked_for_its_facts_while_the_tests_are_collected(bench: Bench) -> None:
    """The file of tests waits until the host has run one of the commands, and no test runs before."""
    asked = bench.folder / "asked"
    program = bench.sshd.programs / "uname"
    program.write_text(f'#!/bin/sh\necho "$@" >>{asked}\nexec /usr/bin/uname "$@"\n')
    program.chmod(0o755)
    path = bench.write(
        f"""
import time
from pathlib import Path

until = time.monotonic() + 120
while not Path("{asked}").exists() and time.monotonic() < until:
    time.sleep(0.01)
was_asked = Path("{asked}").exists()

def test_early(host):
    assert was_asked
    assert host.system_info.type == "linux"

def test_another(host):
    assert host.user("root").uid == 0
"""
    )
    require(bench.run(path))
    assert sorted(asked.read_text().split()) == ["-m", "-s"], "each fact is asked once"


def test_a_test_that_changes_the_host_runs_alone_and_in_its_order(bench: Bench) -> None:
    path = bench.write(
        """
import pytest

@pytest.fixture(scope="session")
def folder(variables):
    return variables["folder"]

def test_before(host, folder):
    assert not host.file(folder + "/made").exists

def test_makes(host, folder):
    assert not host.file(folder + "/made").exists
    host.run("echo first > %s", folder + "/made")
    assert host.file(folder + "/made").content_string == "first\\n"

def test_after(host, folder):
    assert host.file(folder + "/made").content_string == "first\\n"

def test_changes_again(host, folder):
    host.run("echo second > %s/made", folder)

@pytest.fixture
def removed(host, folder):
    yield
    host.run("rm %s/made", folder)

def test_sees_the_second(host, folder, removed):
    assert host.file(folder + "/made").content_string == "second\\n"

def test_sees_that_it_is_gone(host, folder):
    assert not host.file(folder + "/made").exists
"""
    )
    report = bench.run(path, variables={"folder": str(bench.folder)})
    require(report)
    assert (report.passed, report.flaky) == (6, 0)


def test_what_tests_do_on_this_computer_happens_once_and_in_their_order(bench: Bench) -> None:
    """The rehearsal runs every body once more, so it must not reach what is outside of its process."""
    path = bench.write(
        """
import os, subprocess, time
from pathlib import Path
import pytest

pytestmark = pytest.mark.reads  # which is wrong
seen = []

def test_reads(host):
    seen.append(host.check_output("echo one"))

def test_remembers(host):
    assert seen == ["one"]
    assert host.check_output("echo two") == "two"

def test_writes_here(host, variables):
    assert host.check_output("echo three") == "three"
    with open(variables["folder"] + "/here", "a") as file:
        file.write("once\\n")

def test_sees_it_over_the_connection(host, variables):
    assert host.file(variables["folder"] + "/here").content_string == "once\\n"

def test_starts_a_program(host, variables):
    assert host.check_output("echo four") == "four"
    subprocess.run(["sh", "-c", "echo twice >>here"], cwd=variables["folder"], check=True)

def test_sees_that_too(host, variables):
    assert host.file(variables["folder"] + "/here").content_string == "once\\ntwice\\n"

def test_removes(host, variables):
    Path(variables["folder"], "here").unlink()

def test_sees_nothing(host, variables):
    assert not host.file(variables["folder"] + "/here").exists
"""
    )
    report = bench.run(path, variables={"folder": str(bench.folder)})
    require(report)
    assert (report.passed, report.flaky) == (8, 0)


def test_with_memory_that_is_shared_only_tests_run_ahead_that_promise_to_read(bench: Bench) -> None:
    """The tests note it in memory that a copy of their process has in common with them. Neither an audit hook reports
    that, nor does the kernel refuse it, so others do not run there."""
    path = bench.write(
        """
import mmap, os
import pytest

here = os.getpid()
ran_ahead = mmap.mmap(-1, 2)

def note(place):
    if os.getpid() != here:
        ran_ahead[place] = 1

@pytest.mark.reads
@pytest.mark.parametrize("number", range(2))
def test_reads(host, number):
    note(0)
    assert host.check_output("echo %s", str(number)) == str(number)

@pytest.fixture
def noted():
    note(1)

@pytest.mark.parametrize("number", range(2))
def test_does_more(host, number, noted):
    note(1)
    assert host.check_output("echo one") == "one"

@pytest.mark.reads
@pytest.mark.parametrize("number", range(2))
def test_reads_again(host, number):
    assert host.check_output("echo %s", str(number)) == str(number)

def test_all(host):
    note(1)
    assert host.check_output("echo two") == "two"
    assert list(ran_ahead[:]) == [1, 0]
"""
    )
    report = bench.run(path)
    require(report)
    assert (report.passed, report.flaky) == (7, 0)


def test_a_test_that_waits_for_a_change_sees_it(bench: Bench) -> None:
    path = bench.write(
        """
import time, threading
from pathlib import Path
import pytest

pytestmark = pytest.mark.reads

def test_waits(host, variables):
    made = variables["folder"] + "/made"
    asked = 0
    while not host.file(made).exists:
        asked += 1
        if asked == 30:
            Path(made).touch()
    assert asked == 30

def test_next(host, variables):
    assert host.file(variables["folder"] + "/made").exists
"""
    )
    report = bench.run(path, variables={"folder": str(bench.folder)})
    require(report)
    assert report.flaky == 0


def test_commands_of_later_tests_come_after_one_that_waits(bench: Bench) -> None:
    path = bench.write(
        """
import pytest

pytestmark = pytest.mark.reads

def test_waits(host, variables):
    host.run("set -- --wait; sleep 0.5; : >%s/made", variables["folder"])

def test_next(host, variables):
    assert host.file(variables["folder"] + "/made").exists
"""
    )
    report = bench.run(path, variables={"folder": str(bench.folder)})
    require(report)
    assert report.flaky == 0


def test_output_arrives_unchanged(bench: Bench) -> None:
    path = bench.write(
        r"""
import pytest

pytestmark = pytest.mark.reads

@pytest.mark.parametrize("number", range(3))
def test_bytes(host, number):
    done = host.run("awk 'BEGIN { for (i = 0; i < 256; i++) printf \"%%c\", i }'; printf 'a\nb' >&2; exit 7")
    expected = host.run("printf %%s %s", "x\ny'z\\n").stdout
    assert expected == "x\ny'z\\n"
    assert done.rc == 7 and done.stderr == "a\nb"
    assert host.run("printf '\\000\\377\\n\\n'").stdout_bytes == b"\x00\xff\n\n"
    assert host.run("head -c 300000 /dev/zero").stdout_bytes == bytes(300000)
    assert host.run("kill -9 $(sh -c 'echo $PPID')").rc == -1
    assert host.run("read x").rc == 1
    assert host.run("if").rc != 0

def test_after(host):
    assert host.check_output("echo well") == "well"
"""
    )
    require(bench.run(path))


def test_a_command_that_never_ends_fails_only_its_own_test(bench: Bench) -> None:
    path = bench.write(
        """
import pytest

pytestmark = pytest.mark.reads

def test_before(host):
    assert host.check_output("echo a") == "a"

def test_hangs(host):
    host.run("sleep 60")

@pytest.mark.parametrize("number", range(5))
def test_next(host, number):
    assert host.check_output("echo %s", str(number)) == str(number)
"""
    )
    report = bench.run(path, test_timeout=10.0)  # the next test connects again, on a busy machine
    assert (report.passed, report.flaky, report.failed) == (6, 0, 1)
    assert report.failures[0].message.startswith("took longer than 10 s\n> host.run(")


def test_a_fixture_that_nobody_can_rehearse_ends_the_rehearsal_only(bench: Bench) -> None:
    path = bench.write(
        """
import pytest

pytestmark = pytest.mark.reads

@pytest.fixture
def odd(request, tmp_path):
    request.addfinalizer(lambda: None)
    return request.node.name

@pytest.fixture(params=["x", "y"])
def given(request):
    return request.param

class TestClass:
    @pytest.fixture
    def own(self, host):
        return host.check_output("echo own")

    def test_method(self, host, own):
        assert own == host.check_output("echo own")

    def test_given(self, host, given):
        assert host.check_output("echo %s", given) in ("x", "y")

def test_odd(host, odd):
    assert host.check_output("echo %s", odd) == "test_odd"

@pytest.mark.skipif("True")
def test_skipped(host):
    host.run("false")

@pytest.mark.alone
def test_alone(host):
    assert host.check_output("echo alone") == "alone"

def test_last(host):
    assert host.check_output("echo last") == "last"
"""
    )
    report = bench.run(path)
    require(report)
    assert (report.passed, report.skipped, report.flaky) == (6, 1, 0)


def test_clean_up_never_runs_in_the_copy(bench: Bench) -> None:
    """Shared memory shows it: no audit hook reports that. The bodies of both tests are given up at the last command."""
    path = bench.write(
        """
import mmap, os
import pytest

pytestmark = pytest.mark.reads
here = os.getpid()
shared = mmap.mmap(-1, 2)

def note(place):
    if os.getpid() != here:
        shared[place] = 1

@pytest.fixture
def cleaned():
    note(0)
    yield
    note(1)

@pytest.fixture
def finalized(request):
    request.addfinalizer(lambda: note(1))

@pytest.mark.parametrize("number", range(3))
def test_one(host, number, cleaned):
    assert host.check_output("echo %s", str(number)) == str(number)
    os.mkdir("here")
    os.rmdir("here")

def test_two(host, finalized):
    assert host.check_output("echo two") == "two"

def test_all(host):
    assert list(shared[:]) == [1, 0]
"""
    )
    report = bench.run(path)
    require(report)
    assert (report.passed, report.flaky) == (5, 0)


def test_a_body_that_catches_the_end_of_its_rehearsal_stays_stopped(bench: Bench) -> None:
    """Otherwise later tests would see, in the copy, what this one has not done."""
    path = bench.write(
        """
import os
import pytest

pytestmark = pytest.mark.reads

def test_creates(host, variables):
    assert host.check_output("echo one") == "one"
    try:
        os.mkdir(variables["folder"] + "/made")
    except BaseException:
        pass

@pytest.mark.parametrize("number", range(3))
def test_sees_it(host, variables, number):
    assert host.file(variables["folder"] + "/made").exists
"""
    )
    report = bench.run(path, variables={"folder": str(bench.folder)})
    require(report)
    assert (report.passed, report.flaky) == (4, 0)


def test_a_copy_that_hangs_is_given_up(bench: Bench) -> None:
    """The first body keeps the interpreter of the copy for itself, so only the process of the tests can end it. The
    third one computes without end in another copy, which ends itself."""
    path = bench.write(
        """
import os
import pytest

pytestmark = pytest.mark.reads
here = os.getpid()

def test_keeps_the_interpreter(host):
    if os.getpid() != here:
        sum(iter(int, 1))
    assert host.check_output("echo one") == "one"

def test_between(host):
    assert host.check_output("echo two") == "two"

def test_computes(host):
    while os.getpid() != here:
        pass
    assert host.check_output("echo three") == "three"

def test_last(host):
    assert host.check_output("echo four") == "four"
"""
    )
    report = bench.run(path, test_timeout=60.0)
    require(report)
    assert (report.passed, report.flaky) == (4, 0)
