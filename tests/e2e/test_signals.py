"""A whole build with real instances is interrupted: clean within 30 seconds, and nothing is left."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.worlds.machines import HOME, SANDBOX, until

if TYPE_CHECKING:
    from tests.worlds.machines import Cloud, Workspace

pytestmark = pytest.mark.root

PLACE = (HOME, "eu-central-1")
# The host sleeps in the midst of an operation, so that there is something to interrupt.
SLOW = "software:\n  - command: {shell: sleep 300, creates: /never}\n"


def running(cloud: Cloud) -> list[str]:
    answer = cloud.client("ec2", PLACE).describe_instances(
        Filters=[
            {"Name": "instance-state-name", "Values": ["running"]},
            {"Name": "tag:goldenami:recipe", "Values": ["interrupted"]},
        ]
    )
    return [i["InstanceId"] for r in answer["Reservations"] for i in r["Instances"]]


def provisioning(cloud: Cloud) -> bool:
    """The builder runs the operation: nothing short of its process list tells."""
    ids = running(cloud)
    return bool(ids) and "sleep 300" in cloud.inside(ids[0], "ps", "-eo", "args")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: str(n.name))
@pytest.mark.sample(2)
def test_a_signal_while_a_host_is_provisioned(
    workspace: Workspace, cloud: Cloud, unchanged: Callable[[], None], number: signal.Signals
) -> None:
    workspace.recipe("interrupted", SLOW)
    process = workspace.start("build", "interrupted")
    try:
        until(lambda: process.poll() is not None or provisioning(cloud), 300)
        assert process.poll() is None, process.stderr.read().decode()
        process.send_signal(number)
        sent = time.monotonic()
        _, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 130, errors.decode()
    assert time.monotonic() - sent < 200, "the operation takes 300 s"
    assert "everything it made is deleted" in errors.decode()
    unchanged()


def test_killed_while_a_host_is_provisioned(workspace: Workspace, cloud: Cloud, unchanged: Callable[[], None]) -> None:
    """SIGKILL leaves an instance that runs; the next process deletes it."""
    workspace.recipe("interrupted", SLOW)
    process = workspace.start("build", "interrupted")
    try:
        until(lambda: process.poll() is not None or provisioning(cloud), 300)
        assert process.poll() is None, process.stderr.read().decode()
        process.kill()
        process.communicate(timeout=300)
    finally:
        process.kill()
    assert running(cloud), "it is left running"
    cleaned = workspace.run("clean")
    assert cleaned.status == 0, cleaned.stderr
    unchanged()


@pytest.mark.nightly
def test_a_builder_whose_process_was_killed_ends_itself(workspace: Workspace, cloud: Cloud) -> None:
    """The deadline holds after a reboot. The volume goes with the instance."""
    workspace.write("goldenami.yaml", SANDBOX.replace("sandbox: true", "sandbox: true, lifetime: 1m"))
    workspace.recipe("interrupted", SLOW)
    process = workspace.start("build", "interrupted")
    try:
        until(lambda: process.poll() is not None or running(cloud), 300)
        assert process.poll() is None, process.stderr.read().decode()
        process.kill()
        process.communicate(timeout=300)
    finally:
        process.kill()
    ec2 = cloud.client("ec2", PLACE)
    [builder] = running(cloud)
    [volume] = ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [builder]}])["Volumes"]
    timers = ("sh", "-c", "systemctl list-units --plain --no-legend goldenami-builder-end.timer || :")
    until(lambda: " active " in cloud.inside(builder, *timers))
    ec2.reboot_instances(InstanceIds=[builder])

    def state() -> tuple[str, str]:
        found = ec2.describe_instances(InstanceIds=[builder])["Reservations"][0]["Instances"][0]
        return found["State"]["Name"], found.get("StateReason", {}).get("Code", "")

    until(lambda: state()[0] == "terminated", 300)
    assert state() == ("terminated", "Client.InstanceInitiatedShutdown")
    left = ec2.describe_volumes(Filters=[{"Name": "volume-id", "Values": [volume["VolumeId"]]}])["Volumes"]
    assert left == []
    cleaned = workspace.run("clean")
    assert cleaned.status == 0, cleaned.stderr
