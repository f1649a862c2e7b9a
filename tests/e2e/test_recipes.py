"""Recipes that take more than the others: a reboot in the middle, and outputs of scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.worlds.machines import Workspace

pytestmark = pytest.mark.root

REBOOTS = """\
name: reboots
version: "1.0"
base: {filter: debian-12-amd64-*, owners: ["136693071363"]}
patches: {level: none, reboot: always}
software:
  - file: {dest: /etc/written-after, content: "the reboot\\n", mode: "0644"}
  - service: {name: ssh, state: restarted}
  - script: {content: "wc -l </etc/written-after >/etc/lines", creates: /etc/lines, outputs: {lines: cat /etc/lines}}
tests: [base, tests/after_test.py]
distribution: {targets: [home/eu-central-1], channel: stable}
"""
AFTER = """\
import pytest


def test_written_after_the_reboot(host):
    assert host.file("/etc/written-after").content_string == "the reboot\\n"


def test_outputs_of_scripts(variables):
    assert dict(variables["outputs"]) == {"lines": "1"}


@pytest.mark.gate("builder")
def test_booted_twice(host):
    with host.sudo():
        assert int(host.check_output("journalctl --quiet --list-boots | wc -l")) == 2
"""


def test_reboot_in_the_middle(workspace: Workspace) -> None:
    from tests.worlds.machines import events_of

    workspace.write("recipes/reboots.yaml", REBOOTS)
    workspace.write("recipes/tests/after_test.py", AFTER)
    events = workspace.root / "events"
    done = workspace.run("build", "reboots", "--json", "--events", str(events))
    assert done.status == 0, done.stderr
    finished = [e for e in events_of(events) if e["kind"] == "operation.finished" and "reboots.yaml" in e["place"]]
    assert [(e["title"], e["status"], e["place"]) for e in finished] == [
        ("wait for the end of the boot", "ok", "recipes/reboots.yaml:4:10"),
        ("reboot", "changed", "recipes/reboots.yaml:4:10"),
        ("file /etc/written-after", "changed", "recipes/reboots.yaml:6:5"),
        ("service ssh restarted", "changed", "recipes/reboots.yaml:7:5"),
        ("script wc -l </etc/written-after >/etc/lines", "changed", "recipes/reboots.yaml:8:5"),
    ]
    assert done.manifest["outputs"] == {"x86_64": {"lines": "1"}}
    assert "output lines: 1" in {e["message"] for e in events_of(events) if e["kind"] == "note"}
