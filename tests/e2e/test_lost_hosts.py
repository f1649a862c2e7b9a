"""Instances that are lost in the middle of a build are replaced, and the release says so."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.worlds.machines import Cloud, Workspace

pytestmark = pytest.mark.root

SLOW = """\
builder: {spot: true}
software:
  - command: {shell: "echo begun; sleep 4", idempotent: true}
tests: [base, tests/slow_test.py]
"""
SLOW_TEST = """\
import time

import pytest


@pytest.mark.gate("image")
def test_slow(host):
    time.sleep(4)
    assert host.file("/etc/os-release").exists
"""


def running(cloud: Cloud, purpose: str) -> str:
    """The id of the temporary instance of a purpose that runs."""
    from tests.worlds.machines import HOME

    filters = [
        {"Name": "tag:Name", "Values": [f"goldenami {purpose} *"]},
        {"Name": "instance-state-name", "Values": ["running"]},
    ]
    found = cloud.client("ec2", (HOME, "eu-central-1")).describe_instances(Filters=filters)["Reservations"]
    [instance] = [i for r in found for i in r["Instances"]]
    return str(instance["InstanceId"])


@pytest.mark.nightly
def test_a_reclaimed_builder_and_a_proof_that_dies_are_replaced(workspace: Workspace, cloud: Cloud) -> None:
    """Spot capacity goes in the middle of a stage; later the instance of the image loses its power during its tests."""
    from tests.worlds.machines import events_of, until

    workspace.recipe("lost", SLOW)
    workspace.write("recipes/tests/slow_test.py", SLOW_TEST)
    path = workspace.root / "events"

    def seen(kind: str, **fields: Any) -> list[dict[str, Any]]:
        found = [e.get("fields", e) for e in events_of(path) if e["kind"] == kind]
        return [f for f in found if all(f.get(k) == v for k, v in fields.items())]

    build = workspace.start("build", "lost", "--json", "--events", str(path))
    try:
        until(lambda: seen("operation.output", line="begun"))
        builder = running(cloud, "builder")
        cloud.info.reclaim(builder, notice=0)
        until(lambda: seen("host.replaced", purpose="builder"))
        until(lambda: [f for f in seen("test.started", gate="image") if "slow" in f["name"]], 300)
        proof = running(cloud, "proof")
        subprocess.run(shutdown(cloud, proof), capture_output=True, timeout=120)
        output, errors = build.communicate(timeout=300)
    finally:
        build.kill()
    said = errors.decode()
    assert build.returncode == 0, said
    manifest = json.loads(output)["builds"][-1]["manifest"]
    assert [(r["purpose"], r["instance_id"], r["reclaimed"]) for r in manifest["replacements"]] == [
        ("builder", builder, True),
        ("proof", proof, False),
    ]
    assert manifest["replacements"][0]["reason"] == "EC2 reclaimed the spot instance"
    assert all(not t["failed"] for t in manifest["tests"])
    assert re.search(r"the builder is replaced \(1 of 2\): instance i-\w+ was lost: EC2 reclaimed", said), said
    assert re.search(r"the proof is replaced \(1 of 2\)", said), said


def shutdown(cloud: Cloud, instance: str) -> list[str]:
    """The command that takes an instance's power away."""
    from goldenami_sandbox import control

    return control.shell_argv(cloud.info, instance, ["systemctl", "poweroff", "--force", "--force"])
