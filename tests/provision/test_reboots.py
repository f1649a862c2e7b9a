"""Reboots: as an operation, and by what a recipe runs. A new boot id is a reboot, not a lost host."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from goldenami import provision, ssh
from goldenami.errors import OperationFailed
from goldenami.events import Event
from goldenami.model import SshEndpoint
from goldenami.provision import Handler, Stage, run_program
from goldenami.provision.program import compile_program
from goldenami.provision.stream import Ended, GoingDown, Reader
from tests.provision.examples import bind
from tests.provision.hosts import Host
from tests.provision.local import run_here

LEFT = "ls -A /run /var/tmp | grep goldenami || :"
STOPPING = '#!/bin/sh\n[ "$1" != is-system-running ] || cat {0} 2>/dev/null || echo running\n'


def test_nothing_is_done_on_a_host_that_goes_down(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (tmp_path / "systemctl").write_text(STOPPING.format(state))
    (tmp_path / "systemctl").chmod(0o755)
    before = bind("file", dest=str(tmp_path / "before"), content="x")
    asks = bind("command", shell=f"echo stopping >{state}")
    after = bind("file", dest=str(tmp_path / "after"), content="x")
    ran = run_here(before, asks, after, path=str(tmp_path))
    assert ran.statuses == ["changed", "changed"]
    assert not (tmp_path / "after").exists()
    state.unlink()
    assert run_here(before, bind("command", argv=["true"]), after, path=str(tmp_path)).statuses[-1] == "changed"


def test_the_program_tells_that_the_host_goes_down() -> None:
    seen: list[object] = []
    reader = Reader("mark", seen.append, lambda line: None)
    for line in ("mark going 3", "mark end ok"):
        reader.feed(line)
    assert seen == [GoingDown(3), Ended(True)]


def test_a_reboot_cannot_be_in_a_handler() -> None:
    handler = Handler("again", (bind("reboot", at=7),))
    changed = bind("file", notify=("again",), dest="/srv/x", content="x")
    with pytest.raises(ValueError, match=r"recipe.yaml:7:5: a reboot cannot be in a handler"):
        compile_program([Stage("s", (changed,), (handler,))])


# --- real hosts -------------------------------------------------------------------------------------------------------


real = [pytest.mark.root, pytest.mark.nightly]


@pytest.fixture(scope="module")
def rebooting(launch: Callable[[str], SshEndpoint]) -> SshEndpoint:
    return launch("debian-12")


def boots(host: Host) -> str:
    return host.connection.boot_id()


def run(host: Host, *operations: provision.BoundOperation, handlers: tuple[Handler, ...] = ()) -> provision.RunResult:
    host.events.clear()
    return run_program(host.connection, [Stage("s", operations, handlers)], host.events.append)


def notes(events: list[Event]) -> str:
    return "\n".join(str(event.fields["message"]) for event in events if event.kind == "note")


class TestReal:
    pytestmark = real

    @pytest.fixture
    def host(self, rebooting: SshEndpoint) -> object:
        with ssh.connect(rebooting, timeout=120) as connection:
            host = Host(connection)
            host.sh("rm -rf /srv/*")
            yield host

    def test_a_reboot_in_the_middle(self, host: Host) -> None:
        before = boots(host)
        tell = Handler("tell", (bind("command", shell="cat /proc/sys/kernel/random/boot_id >>/srv/told"),))
        result = run(
            host,
            bind("file", dest="/srv/one", content="x", notify=("tell",)),
            bind("reboot"),
            bind("command", shell="cat /proc/sys/kernel/random/boot_id >>/srv/after"),
            handlers=(tell,),
        )
        assert result.stages[0].rebooted == 1
        assert host.sh("cat /srv/told") == before, "handlers that are due run before the reboot"
        assert host.sh("cat /srv/after") == boots(host) != before

    @pytest.mark.parametrize("waits", ["", "; sleep 60"], ids=["and goes on", "and waits"])
    def test_a_script_that_reboots(self, host: Host, waits: str) -> None:
        before = boots(host)
        tell = Handler("tell", (bind("command", shell="echo told >>/srv/told"),))
        result = run(
            host,
            bind("file", dest="/srv/one", content="x", notify=("tell",)),
            bind("script", content=f"echo installing\nsystemctl reboot{waits}\n", reboots=True),
            bind("command", shell="cat /proc/sys/kernel/random/boot_id >>/srv/after"),
            handlers=(tell,),
        )
        assert host.sh("cat /srv/after") == boots(host) != before
        assert host.sh("cat /srv/told") == "told"
        assert result.stages[0].rebooted == 1
        assert "reboots by itself" in notes(host.events)
        assert [o.status for o in result.stages[0].operations] == ["changed"] * 4
        assert host.sh(LEFT) == "", "what the reboot ended could remove nothing"

    def test_a_script_whose_end_is_unknown_is_no_lost_host(self, host: Host) -> None:
        with pytest.raises(OperationFailed, match="the host rebooted while this ran") as caught:
            run(host, bind("script", content="systemctl reboot; sleep 60\n"))
        assert type(caught.value) is OperationFailed, "not OperationDoubtful, for which the builder is replaced"
        assert "reboots: true" in (caught.value.hint or "")
        assert host.sh(LEFT) == "", "no further run removes it"

    def test_the_last_operation_may_reboot(self, host: Host) -> None:
        before = boots(host)
        run(host, bind("command", argv=["systemctl", "reboot"]))
        assert boots(host) != before
        assert not provision.is_going_down(host.connection)

    def test_work_begins_after_a_reboot_that_is_under_way(self, host: Host) -> None:
        before = boots(host)
        assert provision.settle(host.connection) == before
        asked = host.connection.run("sudo -n systemctl reboot", timeout=120)
        assert asked.status in (0, -1), asked.stderr
        deadline = time.monotonic() + 60
        while not provision.is_going_down(host.connection):  # systemd takes a moment; then the connection is lost
            assert time.monotonic() < deadline, "the reboot does not begin"
            time.sleep(0.05)
        after = provision.settle(host.connection, since=before)
        assert before != after == boots(host)
        assert provision.settle(host.connection, since=before) == after, "it has rebooted since"
