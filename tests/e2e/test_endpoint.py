"""The same program against any endpoint: an environment that spells everything out, and AWS_* variables.

Of the same build: what a person sees of it off a terminal, and what a machine gets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.worlds.machines import Cloud, Done, Workspace

pytestmark = pytest.mark.root

PRODUCTION = """\
environments:
  production:
    home:
      account: "111111111111"
      region: eu-west-1
      role: arn:aws:iam::111111111111:role/goldenami-builder
    accounts:
      apps: {id: "222222222222", role: "arn:aws:iam::222222222222:role/goldenami-publisher"}
    targets:
      - {account: home, regions: [eu-west-1], kms_key: alias/golden-ami}
      - {account: apps, regions: [eu-central-1], kms_key: alias/golden-ami}
      - {account: apps, regions: [eu-west-1], mode: share}
    catalog: releases
    parameter_prefix: /images/golden
    tags: {owner: platform-team}
"""
RECIPE = """\
software:
  - file: {dest: /etc/greeting, content: hello, mode: '0644'}
  - command: {shell: sleep 3}
image: {tags: {team: web}}
"""
KINDS = {
    "build.started",
    "build.finished",
    "host.launched",
    "stage.started",
    "stage.finished",
    "operation.started",
    "operation.finished",
    "operation.output",
    "target.progress",
    "tests.started",
    "test.started",
    "test.finished",
    "tests.finished",
    "cloud.call",
    "note",
}


@dataclass
class Elsewhere:
    """The build in an environment that is no sandbox."""

    workspace: Workspace
    done: Done
    nowhere: Path  # where a sandbox would be started
    events: list[dict[str, object]]

    @property
    def manifest(self) -> dict[str, Any]:
        return dict(self.done.manifest)


@pytest.fixture(scope="module")
def elsewhere(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Elsewhere:
    from tests.worlds.machines import Workspace, events_of

    workspace = Workspace(tmp_path_factory.mktemp("project"), cloud)
    workspace.write("goldenami.yaml", PRODUCTION)
    workspace.recipe("elsewhere", RECIPE, targets="all")
    # A machine on which no sandbox was ever started: were one looked for, it would be started there.
    nowhere, events = workspace.root / "no-sandboxes", workspace.root / "events.jsonl"
    variables = workspace.variables(GOLDENAMI_SANDBOX_HOME=str(nowhere))
    done = workspace.run("build", "elsewhere", "--json", "--events", str(events), variables=variables)
    assert done.status == 0, done.stderr
    return Elsewhere(workspace, done, nowhere, events_of(events))


def test_environment_that_is_no_sandbox(elsewhere: Elsewhere, cloud: Cloud) -> None:
    from tests.worlds.machines import APPS, HOME

    assert not elsewhere.nowhere.exists()
    manifest = elsewhere.manifest
    rows = {(r["account"], r["region"]): r for r in manifest["images"]}
    assert sorted(rows) == [(HOME, "eu-west-1"), (APPS, "eu-central-1"), (APPS, "eu-west-1")]
    assert manifest["environment"] == "production"
    assert rows[HOME, "eu-west-1"]["image_id"] == rows[APPS, "eu-west-1"]["image_id"]
    for place, row in rows.items():
        image = cloud.image(place, row["image_id"])
        assert image["State"] == "available"
        if place != (APPS, "eu-west-1"):  # tags are seen by the owner only
            tags = {t["Key"]: t["Value"] for t in image["Tags"]}
            assert (tags["owner"], tags["team"]) == ("platform-team", "web")
        name = "/images/golden/elsewhere/x86_64/stable/image-id"
        assert cloud.client("ssm", place).get_parameter(Name=name)["Parameter"]["Value"] == row["image_id"]
    assert (elsewhere.workspace.root / "releases").is_dir()
    callers = {c["principal"] for c in cloud.info.calls() if c["action"] in ("RunInstances", "CopyImage")}
    assert any("goldenami-builder" in str(caller) for caller in callers)


def test_lines(elsewhere: Elsewhere) -> None:
    said = elsewhere.done.stderr
    assert "\x1b" not in said
    assert "\r" not in said
    progress = [line for line in said.splitlines() if line]
    assert all(re.match(r"\d\d:\d\d  \w+ ", line) for line in progress), progress
    assert progress[0].endswith("note     elsewhere has no release yet")
    assert progress[1].split()[1:4] == ["build", "elsewhere", elsewhere.manifest["version"]]
    assert progress[-1].split()[1] == "released"


def test_events(elsewhere: Elsewhere) -> None:
    events, manifest = elsewhere.events, elsewhere.manifest
    assert {e["schema"] for e in events} == {"goldenami.events/1"}
    assert {e["kind"] for e in events} <= KINDS
    assert [e["time"] for e in events] == sorted(str(e["time"]) for e in events)
    first, last = next(e for e in events if e["kind"] != "note"), events[-1]
    assert (first["kind"], first["recipe"], first["version"]) == ("build.started", "elsewhere", manifest["version"])
    assert (last["kind"], last["status"]) == ("build.finished", "released")

    def of(kind: str) -> list[dict[str, object]]:
        return [e for e in events if e["kind"] == kind]

    started = [(e["stage"], e.get("architecture")) for e in of("stage.started")]
    assert sorted(map(str, started)) == sorted(str((e["stage"], e.get("architecture"))) for e in of("stage.finished"))
    assert {e["status"] for e in of("stage.finished")} == {"ok"}
    operations = [(e["index"], e["total"], e["status"], e["place"]) for e in of("operation.finished") if e["place"]]
    assert operations == [
        (1, 1, "ok", "recipes/elsewhere.yaml:4:10"),  # the patches: that the host has booted
        (1, 2, "changed", "recipes/elsewhere.yaml:6:5"),
        (2, 2, "changed", "recipes/elsewhere.yaml:7:5"),
    ]
    assert {e["gate"] for e in of("tests.finished")} == {"builder", "image"}
    assert {e["target"] for e in of("target.progress")} == {"home/eu-west-1", "apps/eu-central-1", "apps/eu-west-1"}
    assert {"RunInstances", "CreateImage", "CopyImage", "DeregisterImage"} <= {e["action"] for e in of("cloud.call")}


def test_endpoint_that_does_not_answer(workspace: Workspace) -> None:
    workspace.write("goldenami.yaml", PRODUCTION)
    workspace.recipe("elsewhere", targets="all")
    variables = workspace.variables(AWS_ENDPOINT_URL="http://127.0.0.1:9")
    done = workspace.run("plan", "elsewhere", variables=variables)
    assert done.status == 1
    assert "http://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr
