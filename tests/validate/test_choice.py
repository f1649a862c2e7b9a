"""Which tests run, and what the performance of a host says."""

from __future__ import annotations

from pathlib import Path

import pytest

from goldenami.cli.hosts import _SUITES as OFFERED
from goldenami.errors import UsageError
from goldenami.model import Mark
from goldenami.os import SYSTEMS
from goldenami.recipe.expectspec import AgentExpectSpec, Expected, ExpectSpec
from goldenami.recipe.recipe import TestRef
from goldenami.recipe.stranger import recipe_for_image
from goldenami.recipe.testfiles import SUITES as NAMED
from goldenami.stages.host_work import SUITES, _chosen
from goldenami.validate import SUITES as BUILT_IN
from goldenami.validate import TestPath, reading


def names(*suites: str) -> list[str]:
    recipe = recipe_for_image("ami-1", next(iter(SYSTEMS)), "x86_64")
    mark = Mark("", 0, 0)
    agent = TestRef("agents/chrony/chrony_test.py", Path("/r/agents/chrony/chrony_test.py"), "", mark, "chrony")
    own = TestRef("web_test.py", Path("/r/web_test.py"), "", mark)
    object.__setattr__(recipe, "tests", (*recipe.tests, agent, own))
    chosen = _chosen(recipe, "x86_64", suites or None, sealed=False)
    return [test.path.name if isinstance(test, TestPath) else test for test in chosen]


def test_suites_select_tests() -> None:
    assert names() == ["base", "hygiene", "sealed", "performance", "chrony_test.py", "web_test.py"]
    assert names("agents") == ["chrony_test.py"]
    assert names("recipe", "hygiene") == ["hygiene", "web_test.py"]
    assert names("reboot") == ["reboot"], "a built-in suite that the recipe does not name"
    with pytest.raises(UsageError, match="has no tests of hardening") as raised:
        names("hardening")
    assert raised.value.hint == "It has base, hygiene, performance, reboot, sealed, agents, recipe."


def test_the_command_offers_every_suite() -> None:
    assert set(OFFERED) == set(SUITES)
    assert {*NAMED, "sealed"} == set(BUILT_IN)


@pytest.mark.parametrize(("written", "port"), [(80, "80/tcp"), ("53/udp", "53/udp"), ("8000-8010", "8000-8010/tcp")])
def test_ports_have_one_form(written: object, port: str) -> None:
    assert AgentExpectSpec.model_validate({"ports": [written]}).ports == (port,)


@pytest.mark.parametrize("written", [0, 65536, "http", "90-80", "80/sctp"])
def test_other_ports_are_refused(written: object) -> None:
    with pytest.raises(ValueError, match="is not a port"):
        AgentExpectSpec.model_validate({"ports": [written]})


def test_agents_add_to_what_a_recipe_expects() -> None:
    recipe = ExpectSpec.model_validate({"ports": [80], "unit": "5s"})
    agent = AgentExpectSpec.model_validate({"ports": [9100, 80], "set_id": ["/opt/x"]})
    expected = Expected.of(recipe, [agent])
    assert (expected.ports, expected.set_id, expected.unit) == (("80/tcp", "9100/tcp"), ("/opt/x",), 5)


LISTENING = """\
udp UNCONN 0 0 127.0.0.53%lo:53 0.0.0.0:* users:(("systemd-resolve",pid=1,fd=1))
udp UNCONN 0 0 10.0.0.5%host0:68 0.0.0.0:* users:(("systemd-network",pid=1,fd=1))
udp UNCONN 0 0 0.0.0.0:40123 0.0.0.0:*
tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=1,fd=3))
tcp LISTEN 0 128 [::1]:9100 [::]:*
tcp LISTEN 0 128 *:4711 *:* users:(("planted",pid=1,fd=3))
tcp LISTEN 0 128 [fe80::1]%host0:8080 [::]:*
"""


def test_sockets_that_other_machines_reach() -> None:
    found = dict(reading.listeners(LISTENING.splitlines()))
    assert found["4711/tcp"] == "planted"
    assert set(found) == {"68/udp", "22/tcp", "4711/tcp", "8080/tcp"}
    assert reading.in_range("8005/tcp", "8000-8010/tcp")
    assert not reading.in_range("8005/udp", "8000-8010/tcp")


BOOT = """\
FirmwareTimestampMonotonic=2000000
LoaderTimestampMonotonic=1000000
UserspaceTimestamp=@1796053556
UserspaceTimestampMonotonic=3000000
FinishTimestampMonotonic=11500000
"""
OUTPUT = """\
===
Id=slow.service
TriggeredBy=
InactiveExitTimestampMonotonic=4000000
ActiveEnterTimestampMonotonic=9500000
ActiveExitTimestampMonotonic=0
InactiveEnterTimestampMonotonic=0

Id=oneshot.service
TriggeredBy=
InactiveExitTimestampMonotonic=5000000
ActiveEnterTimestampMonotonic=0
ActiveExitTimestampMonotonic=0
InactiveEnterTimestampMonotonic=7000000

Id=daily.service
TriggeredBy=daily.timer
InactiveExitTimestampMonotonic=5000000
ActiveEnterTimestampMonotonic=99000000
===
120
===
Filesystem 1024-blocks Used Available Capacity Mounted on
/dev/vda1 8000000 2097152 5902848 27% /
"""


def test_one_boot_is_measured() -> None:
    measured = reading.read(OUTPUT, BOOT, container=False)
    assert measured.values == {"boot_seconds": 13.5, "memory_mib": 120.0, "disk_mib": 2048}
    assert measured.units == {"slow.service": 5.5, "oneshot.service": 2.0}
    container = reading.read(OUTPUT, BOOT, container=True)
    assert container.values == {"boot_seconds": 8.5, "memory_mib": 120.0}


def test_only_what_grows_beyond_the_tolerance_is_told() -> None:
    before = {"boot_seconds": 20.0, "memory_mib": 1000.0, "disk_mib": 2000.0}
    now = {"boot_seconds": 31.0, "memory_mib": 1499.0, "disk_mib": 2500.0}
    assert reading.grown(now, before, 50) == ["the boot takes 31 s, in the last release 20 (tolerance 50 %)"]
    assert reading.grown(now, before, 50, times=False) == []
    assert reading.grown(now, before, 60) == []
    assert len(reading.grown(now, before, 0)) == 2, "512 MiB of disk space do not count"
