"""What the command line says of builds that died, for people and for programs; over a directory and over a bucket."""

from __future__ import annotations

import json
from typing import Any

import pytest

from goldenami.aws.session import Cloud
from goldenami.cli.main import main
from tests.worlds import inventory
from tests.worlds.builds import World, logged_in
from tests.worlds.cases import check
from tests.worlds.recordings import calls


@pytest.mark.parametrize("bucket", [False, True], ids=["directory", "bucket"])
def test_what_is_said_of_a_build_that_died(
    world: World, bucket: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    label = next(x for x in calls("build") if x.action == "CopyImage")
    world.fresh(bucket=bucket)
    decoys = inventory.place_decoys(world)
    world.build_until(label, "after")
    (build_id,) = world.builds

    def say(*arguments: str, code: int = 0) -> tuple[str, str]:
        monkeypatch.chdir(world.path)
        monkeypatch.setattr(Cloud, "of", logged_in)
        assert main([*arguments, "--environment", "test"]) == code
        said = capsys.readouterr()
        return said.out, said.err

    def document(*arguments: str, code: int = 0) -> Any:
        return json.loads(say(*arguments, "--json", code=code)[0])

    if bucket:
        (row,) = document("builds", "list")["builds"]
        assert row["holder"]["pid"] > 0, "its lease has not run out"
        assert "running" in say("builds", "list")[0]
        _, error = say("clean", build_id, code=1)
        assert "is locked by process" in error
        world.other_machine()
    (row,) = document("builds", "list", "--unfinished")["builds"]
    assert (row["build_id"], row["status"], row["holder"]) == (build_id, "unfinished", None)
    shown = document("builds", "show", build_id)
    assert shown["schema"] == "goldenami.build-record/1"
    unresolved = [c for c in shown["calls"] if c["status"] == "unresolved" and c["action"] == "create"]
    assert shown["unresolved"] == len(unresolved) >= 1, "of which it is not known whether they made something"
    operations = [c["operation"] for c in shown["calls"]]
    assert (
        operations.index("ec2:RunInstances") < operations.index("ec2:CreateImage") < operations.index("ec2:CopyImage")
    )
    out, error = say("builds", "show", build_id)
    assert "unresolved: the reply was never read" in out
    assert "ami-" in out
    assert f"goldenami resume {build_id}" in error
    assert f"goldenami clean {build_id}" in error
    stages = {stage["stage"]: stage["status"] for stage in shown["stages"]}
    log, _ = say("builds", "log", build_id, "-f")
    if bucket:
        assert (stages, log) == ({}, ""), "the machine that was killed has the log"
    else:
        assert stages["launch"] == "ok"
        assert "launch (x86_64)" in out
        assert f"{'build':<8} web 1.0." in log
        assert f"{'call':<8} RunInstances" in log
        drawing = world.path / "timeline.svg"
        say("builds", "show", build_id, "--svg", str(drawing))
        assert drawing.read_text().startswith("<svg")
    before = inventory.take(world)
    assert document("clean", "--expired")["builds"][0]["deleted"] == [], "its time has not passed"
    planned = document("clean", build_id, "--dry-run")
    assert planned["builds"][0]["deleted"]
    assert inventory.take(world) == before
    assert document("clean", "--all")["builds"][0]["left"] == {}
    check(world, decoys, released=False)
    assert "Nothing to clean" in say("clean", "--all")[1]
    assert "cleaned" in say("builds", "list")[0]
    assert document("builds", "list", "--state", "released")["builds"] == []
    assert document("builds", "list", "--recipe", "another")["builds"] == []
    (row,) = document("builds", "list", "--state", "cleaned", "--recipe", "web", "--since", "1d", "--limit", "3")[
        "builds"
    ]
    assert (row["build_id"], row["state"]) == (build_id, "cleaned")
    assert document("builds", "list", "--since", "2100-01-01")["builds"] == []
    assert "expected an age" in say("builds", "list", "--since", "soon", code=2)[1]
    assert document("clean", "--logs", "1d")["builds"] == []
    assert document("clean", "--logs", "2100-01-01T00:00:00Z")["builds"] == ([] if bucket else [build_id])
    assert "has no log here" in say("builds", "log", build_id)[1]
    _, error = say("clean", build_id, "--all", code=2)
    assert "cannot be combined" in error
