"""The built-in suite ``performance``: the image boots in time and needs no more than its last release.

It is a smoke test, no benchmark. The limits and the tolerance are in the section ``expect`` of the recipe. The measured
values are kept in the manifest of the release, for the next one. Times are not compared in a container, because it
boots at the speed of its host.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from goldenami.validate.reading import BOOT_SECONDS, BOOT_TIMES, CONTAINER, UNIT, WAIT_FOR_BOOT, Measured, grown, read
from goldenami.validate.settings import NOT_EXECUTED

Host = Any  # testinfra's Host; its modules (host.sudo, host.file) are created at run time

pytestmark = [pytest.mark.reads, pytest.mark.retry(0)]  # the facts are read once, after the boot

# Targets are left out: they need no time of their own.
_GATHER = f"""echo ===
systemctl show --property={UNIT} '*.service' '*.mount' '*.socket'
echo ===
cat /proc/[0-9]*/status | awk '/^RssAnon:/ {{ sum += $2 }} END {{ print int(sum / 1024) }}'
echo ===
df -Pk /
"""


@pytest.fixture(scope="module")
def declared(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    """What goldenami knows about the image: ``expect`` of the recipe, and the facts of the last release."""
    return dict(variables.get("goldenami") or {"expect": {}})


@pytest.fixture(scope="module")
def measured(host: Host, record_fact: Callable[[str, Any], None]) -> Measured:
    host.run(WAIT_FOR_BOOT)
    with host.sudo():
        gathered = host.run("sh -c %s", f"exec 2>/dev/null\n{_GATHER}").stdout
    found = read(gathered, host.run(BOOT_TIMES).stdout, container=host.run(CONTAINER).rc == 0)
    record_fact("performance", dict(found.values))
    return found


@pytest.mark.gate("image")
def test_boot_is_fast_enough(host: Host, measured: Measured, declared: Mapping[str, Any]) -> None:
    """The boot ends within ``expect.boot``, counted from the start of the kernel, with the firmware."""
    if host.backend.in_user_namespace:
        pytest.skip(f"{NOT_EXECUTED}: this instance has no systemd, which measures its boot")
    limit = declared["expect"].get("boot", 300)
    assert "boot_seconds" in measured.values, f"the boot has not ended after {BOOT_SECONDS} s"
    seconds = measured.values["boot_seconds"]
    assert seconds <= limit, f"the boot took {seconds:g} s, expected at most {limit} s (expect.boot)"


@pytest.mark.gate("image", "reboot")
def test_no_unit_is_slow(measured: Measured, declared: Mapping[str, Any]) -> None:
    """Each unit of the boot starts within ``expect.unit``."""
    expect = declared["expect"]
    limit, known = expect.get("unit", 60), expect.get("slow_units", ())
    slow = {name: seconds for name, seconds in measured.units.items() if seconds > limit and name not in known}
    listed = ", ".join(f"{name} ({slow[name]:g} s)" for name in sorted(slow, key=lambda name: -slow[name]))
    assert not slow, f"slow units: {listed}; expected at most {limit} s (expect.unit, expect.slow_units)"


@pytest.mark.gate("image")
def test_needs_no_more_than_the_last_release(measured: Measured, declared: Mapping[str, Any]) -> None:
    """Time of the boot, memory and disk space are at most ``expect.tolerance`` percent above the last release."""
    before = declared.get("earlier", {}).get("performance")
    if not before:
        pytest.skip("there is no measured release to compare with")
    more = grown(measured.values, before, declared["expect"].get("tolerance", 50), times=not measured.container)
    assert not more, "; ".join(more)


@pytest.mark.gate("image", "reboot")
def test_no_unit_failed(host: Host, measured: Measured) -> None:
    """No unit failed since the boot; the suite base shows their journals."""
    del measured  # the boot has ended
    failed = host.run("systemctl list-units --failed --plain --no-legend --no-pager").stdout
    names = re.findall(r"^(\S+)", failed, re.MULTILINE)
    assert not names, f"failed units: {', '.join(names)}"
