"""Operations and tests on an instance that is known to run without systemd: told as not executed, never as done."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from goldenami.model import Mark
from goldenami.provision import BoundOperation
from goldenami.provision.sealing import Trace
from goldenami.provision.shell import Script
from goldenami.ssh import Completed, Connection
from goldenami.validate.backend import ConnectionBackend
from tests.provision.examples import bind
from tests.provision.local import run_here

_SYSTEMCTL = """\
#!/bin/sh
echo "System has not been booted with systemd as init system (PID 1). Can't operate." >&2
exit 1
"""


@pytest.fixture
def programs(tmp_path: Path) -> str:
    (tmp_path / "systemctl").write_text(_SYSTEMCTL)
    (tmp_path / "systemctl").chmod(0o755)
    return str(tmp_path)


@pytest.mark.parametrize("mode", ["apply", "check"])
def test_an_operation_that_needs_systemd_is_not_executed(programs: str, tmp_path: Path, mode: str) -> None:
    operations = [
        bind("service", name="nginx", enabled=True, state="started"),
        bind("file", dest=str(tmp_path / "file"), content="x"),
    ]
    done = run_here(*operations, mode=mode, path=programs, in_user_namespace=True)  # type: ignore[arg-type]
    assert done.statuses == ["skipped", "changed"]
    assert done.details[0] == "not executed: this instance has no systemd"


def test_what_is_done_all_the_same_counts_and_so_does_the_next_operation(programs: str, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.touch()
    find = Script(f"[ ! -e {there} ] || echo {there}")
    stop = Trace(name="seed", what="the seed", find=find, remove=Script(f"systemctl stop seed || :\nrm -f {there}"))
    operations = [BoundOperation(stop, Mark("", 0, 0)), bind("file", dest=str(tmp_path / "file"), content="x")]
    assert run_here(*operations, path=programs, in_user_namespace=True).statuses == ["changed", "changed"]
    assert not there.exists()


def test_elsewhere_it_fails(programs: str) -> None:
    done = run_here(bind("service", name="nginx", state="started"), path=programs)
    assert done.statuses == ["failed"]


class _Connected:
    sudo_needs_terminal = False

    def __init__(self, stdout: str, stderr: str) -> None:
        self._done = Completed(1, stdout.encode(), stderr.encode())

    def run(self, _: str) -> Completed:
        return self._done

    def asks_for_terminal(self, _: Completed) -> bool:
        return False


@pytest.mark.parametrize("command", ["systemctl list-units", "test -d /run/systemd/system/"])
def test_a_test_that_needs_systemd_is_skipped(command: str) -> None:
    said = "" if command.startswith("test") else _SYSTEMCTL
    connection = cast(Connection, _Connected("", said))
    known = ConnectionBackend("host", "root", lambda: connection, in_user_namespace=True)
    with pytest.raises(pytest.skip.Exception, match="NOT EXECUTED: this instance has no systemd"):
        known.run(command)
    other = ConnectionBackend("host", "root", lambda: connection)
    assert other.run(command).rc == 1, "the same answer of any other host is a failure"
