"""Recipes that reboot their builder by themselves: one builder, and no test on a host that goes down."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.worlds.machines import Workspace

pytestmark = [pytest.mark.root, pytest.mark.nightly]

RECIPE = """\
name: {name}
version: "1.0"
base: {{filter: debian-12-amd64-*, owners: ["136693071363"]}}
patches: {{level: none}}
software:
  - command: [touch, /root/before]
  - name: an installer that reboots when it is done
    script: {{content: {script}, reboots: true}}
  - command: [touch, /root/after]
tests: [tests/slow_test.py]
"""
WHEN_THE_TESTS_RUN = "until [ -e /root/waited ]; do sleep 0.1; done"
SLOW = """\
import time


def test_slow(host):
    with host.sudo():
        assert host.file("/root/after").exists
        waits = host.file("/root/waits").exists and not host.file("/root/waited").exists
        if waits:
            host.check_output("touch /root/waited")
    for _ in range(1200 if waits else 1):  # until the host is away
        assert host.run("true").rc == 0
        time.sleep(0.1)
"""


@pytest.mark.parametrize(
    ("name", "script", "said"),
    [
        ("reboots-at-once", '"systemctl reboot; sleep 60"', "reboots by itself"),
        (
            "reboots-later",
            f"\"touch /root/waits; setsid sh -c '{WHEN_THE_TESTS_RUN}; systemctl reboot' >/dev/null 2>&1 &\"",
            "rebooted by itself during gate 1",
        ),
    ],
    ids=["at once", "while the tests run"],
)
def test_a_recipe_that_reboots_needs_one_builder(workspace: Workspace, name: str, script: str, said: str) -> None:
    from tests.worlds.machines import events_of

    workspace.write(f"recipes/{name}.yaml", RECIPE.format(name=name, script=script))
    workspace.write("recipes/tests/slow_test.py", SLOW)
    events = workspace.root / "events"
    done = workspace.run("build", name, "--json", "--events", str(events))
    assert done.status == 0, done.stderr
    launched = [e["purpose"] for e in events_of(events) if e["kind"] == "host.launched"]
    assert launched == ["builder", "proof"]
    assert said in done.stderr
