"""The built-in suite ``reboot``: after a reboot, everything is back that ran before.

At gate "image" it notes what runs. Then goldenami reboots the instance, and all tests without a gate of their own run
again at gate "reboot", with these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

Host = Any  # testinfra's Host; its modules (host.sudo, host.file) are created at run time

_BOOT_SECONDS = 90  # limit for the end of the boot

_GATHER = f"""timeout {_BOOT_SECONDS} systemctl is-system-running --wait
echo ===
cat /proc/sys/kernel/random/boot_id
echo ===
systemctl show --property=Id,SubState,UnitFileState '*.service' '*.socket' '*.timer'
echo ===
awk '$1 ~ "^/dev/" {{ print $2 }}' /proc/mounts | sort -u
"""


@pytest.fixture(scope="module")
def state(host: Host) -> dict[str, Any]:
    """What runs: the boot id, the units, and the mount points of disks."""
    with host.sudo():
        _, boot, units, mounts = host.run("sh -c %s", f"exec 2>/dev/null\n{_GATHER}").stdout.split("===\n")
    shown = (dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in units.split("\n\n"))
    # A unit that is not enabled (static) starts when something asks for it; one that ran and ended needs not come back.
    running = [
        unit["Id"]
        for unit in shown
        if unit.get("SubState") in ("running", "listening", "waiting")
        and unit.get("UnitFileState") in ("enabled", "enabled-runtime", "generated", "alias")
    ]
    return {"boot": boot.strip(), "units": sorted(running), "mounts": mounts.split()}


@pytest.fixture(scope="module")
def before(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    """What ran before the reboot."""
    found = dict(variables.get("goldenami") or {}).get("before")
    assert found, "what ran before the reboot is not known, so this test can prove nothing"
    return dict(found)


@pytest.mark.gate("image")
def test_state_before_the_reboot_is_known(state: dict[str, Any], record_fact: Callable[[str, Any], None]) -> None:
    assert state["units"], "no service runs"
    record_fact("running", state)


@pytest.mark.gate("reboot")
def test_the_host_rebooted(state: dict[str, Any], before: Mapping[str, Any]) -> None:
    assert state["boot"] != before["boot"], "the boot id is the same, so the host did not reboot"


@pytest.mark.gate("reboot")
@pytest.mark.retry(10, delay=1.0)
def test_everything_runs_again(host: Host, state: dict[str, Any], before: Mapping[str, Any]) -> None:
    """Each service, socket and timer that ran before the reboot runs again."""
    missing = sorted(set(before["units"]) - set(state["units"]))
    if missing:  # perhaps not yet
        shown = host.run("systemctl is-active --" + " %s" * len(missing), *missing).stdout.split()
        missing = [name for name, now in zip(missing, shown, strict=True) if now != "active"]
    assert not missing, f"not running after the reboot: {', '.join(missing)}"


@pytest.mark.gate("reboot")
def test_everything_is_mounted_again(state: dict[str, Any], before: Mapping[str, Any]) -> None:
    missing = sorted(set(before["mounts"]) - set(state["mounts"]))
    assert not missing, f"not mounted after the reboot: {', '.join(missing)}"
