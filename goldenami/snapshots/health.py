"""Checks the health of an instance after an exchange of volumes: EC2's status checks, and a command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from goldenami import ssh
from goldenami.aws.session import Cloud
from goldenami.errors import TestsFailed
from goldenami.model import Place
from goldenami.polling import Interval, poll


def wait_ok(
    cloud: Cloud,
    place: Place,
    instance_id: str,
    *,
    timeout: float = 600.0,
    sign_of_life: Callable[[float], None] | None = None,
) -> None:
    """Wait until both status checks of an instance pass, at most ``timeout`` seconds. ``sign_of_life``: as in ``poll``.

    Raises TestsFailed if a check failed, or did not pass in time.
    """
    checks: dict[str, str] = {}
    interval = Interval(first=0.5)
    for _ in poll(cloud.clock, cloud.sleep, timeout=timeout, interval=interval, sign_of_life=sign_of_life):
        checks = _checks(cloud, place, instance_id)
        if checks and set(checks.values()) == {"ok"}:
            return
        if "impaired" in checks.values():
            break
    statuses = ", ".join(f"{name} {status}" for name, status in checks.items()) or "it is not running"
    raise TestsFailed(f"instance {instance_id} is unhealthy: {statuses}")


def _checks(cloud: Cloud, place: Place, instance_id: str) -> dict[str, str]:
    request = {"InstanceIds": [instance_id]}
    found = list(cloud.pages(place, "ec2", "DescribeInstanceStatus", "InstanceStatuses", request))
    status: Mapping[str, Any] = found[0] if found else {}
    return {name: str(status[key]["Status"]) for name, key in _NAMES.items() if key in status}


_NAMES = {"system": "SystemStatus", "instance": "InstanceStatus"}


def command_ok(connection: ssh.Connection, command: str, *, timeout: float = 300.0) -> None:
    """Run a command on the instance. Raises TestsFailed with the last 10 lines of its output if it fails."""
    done = connection.run(command, timeout=timeout)
    if done.status != 0:
        output = (done.stdout + done.stderr).decode(errors="replace").strip().splitlines()[-10:]
        raise TestsFailed("\n".join([f"`{command}` exited with {done.status}, expected 0", *output]))
