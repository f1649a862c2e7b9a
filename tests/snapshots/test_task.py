"""Tasks: what they made stays when they are done, and goes when they are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from goldenami_sandbox.ec2.context import Ctx

from goldenami import pipeline, task
from goldenami.aws.ledger import Call
from goldenami.cli.main import main
from goldenami.errors import CloudError, GoldenAmiError, Interrupted, JournalError, UnjournaledMutation, UsageError
from goldenami.events import Event
from goldenami.interrupts import Interrupts
from goldenami.journal import Journals
from goldenami.work import Attempts
from tests.worlds.builds import Death, Label, World

HOME_CALL = {"AvailabilityZone": "eu-central-1a", "Size": 1}


@pytest.fixture
def world(build_world: World) -> World:
    build_world.fresh()
    return build_world


def make(job: task.Task, key: str, *, temporary: bool = False) -> str:
    place = job.environment.home_place
    return job.ledger.create(key, "volume", place, Call("ec2", "CreateVolume", dict(HOME_CALL)), temporary=temporary)


def run(world: World, work: Callable[[task.Task], Any], **options: Any) -> None:
    world.cloud.start_process()
    with task.run(world.environment, "volume make", {"size": 1}, cloud=world.cloud, **options) as job:
        work(job)


def volumes(world: World) -> dict[str, dict[str, str]]:
    """The tags of all volumes, read where they are kept: answers of the API may be of a moment ago."""
    world.behind.ec2.settle()
    place = world.environment.home_place
    context = Ctx(place.account, place.region, f"arn:aws:iam::{place.account}:root", "inventory")
    found = world.behind.ec2.call(context, "DescribeVolumes", {})["Volumes"]
    return {v["VolumeId"]: {t["Key"]: t["Value"] for t in v["Tags"]} for v in found if v["State"] != "deleting"}


def journal(world: World) -> Any:
    (summary,) = Journals(Path(world.environment.builds)).list()
    return summary


def test_done_what_was_made_is_nobodys_to_clean(world: World) -> None:
    made = []

    def work(job: task.Task) -> None:
        make(job, "temporary/one", temporary=True)
        made.append(make(job, "kept"))

    run(world, work)
    assert list(volumes(world)) == made
    tags = volumes(world)[made[0]]
    assert tags["goldenami:task"] == "volume make"
    assert tags["goldenami:build-id"] == journal(world).build_id
    assert tags["owner"] == "platform-team"
    assert journal(world).ending == "done"
    assert world.clean(journal(world).build_id).deleted == ()
    assert list(volumes(world)) == made
    assert journal(world).ending == "done"


def test_failed_everything_is_put_back_and_deleted_but_what_was_handed_over(world: World) -> None:
    order: list[str] = []

    def work(job: task.Task) -> None:
        job.own(make(job, "finished"))
        make(job, "half")
        raise CloudError("no")

    with pytest.raises(CloudError):
        run(world, work, undo=lambda job: order.append(f"{job.arguments['size']}: {len(volumes(world))} there"))
    assert order == ["1: 2 there"]
    assert [tags["goldenami:key"] for tags in volumes(world).values()] == ["finished"]
    assert journal(world).ending == "failed"
    world.clean(journal(world).build_id)
    assert [tags["goldenami:key"] for tags in volumes(world).values()] == ["finished"]


def test_kept_on_failure_to_look_at_then_cleaned(world: World) -> None:
    def work(job: task.Task) -> None:
        make(job, "half")
        raise CloudError("no")

    with pytest.raises(CloudError) as caught:
        run(world, work, on_failure="keep")
    assert "goldenami clean" in str(caught.value.hint)
    assert len(volumes(world)) == 1
    assert world.clean(journal(world).build_id).complete
    assert volumes(world) == {}


def test_interrupted(world: World) -> None:
    def work(job: task.Task) -> None:
        make(job, "half")
        raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="all of it was undone"):
        run(world, work)
    assert volumes(world) == {}
    assert journal(world).ending == "cleaned"


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_then_cleaned(world: World, when: str) -> None:
    run(world, lambda job: make(job, "first"))
    label = world.cloud.mutations[0]
    world.fresh()
    world.cloud.start_process(label, when)
    with pytest.raises(Death), task.run(world.environment, "volume make", {}, cloud=world.cloud) as job:
        make(job, "first")
    assert len(volumes(world)) == (when == "after")
    id = journal(world).build_id
    journals = Journals(Path(world.environment.builds))
    assert pipeline.choose_build(journals, None, world.environment).build_id == id
    world.cloud.start_process()
    with pytest.raises(UsageError, match="is a task") as caught:
        pipeline.resume(world.project, world.environment, id, cloud=world.cloud)
    assert f"goldenami clean {id}" in str(caught.value.hint)
    assert world.clean(id).complete
    assert volumes(world) == {}


def test_killed_while_its_temporary_things_are_deleted(world: World) -> None:
    def work(job: task.Task) -> None:
        make(job, "temporary/one")
        make(job, "kept")

    run(world, work)
    label = next(m for m in world.cloud.mutations if m.action == "DeleteVolume")
    world.fresh()
    world.cloud.start_process(label, "before")
    with pytest.raises(Death), task.run(world.environment, "volume make", {}, cloud=world.cloud) as job:
        work(job)
    world.clean(journal(world).build_id)
    assert [tags["goldenami:key"] for tags in volumes(world).values()] == ["kept"]
    assert journal(world).ending == "done"


def test_what_a_killed_undo_deleted_is_made_again(world: World) -> None:
    """The process was killed after it had sent the deletion, and before the answer."""

    def work(job: task.Task) -> None:
        made = make(job, "kept")
        assert list(volumes(world)) == [made]  # and it is ready, so that EC2 does not refuse to delete it
        job.ledger.delete_key("kept")

    place = world.environment.home_place
    world.cloud.start_process(Label("ec2", "DeleteVolume", place.account, place.region, 1), "after")
    with pytest.raises(Death), task.run(world.environment, "volume make", {}, cloud=world.cloud) as job:
        work(job)
    assert volumes(world) == {}
    world.cloud.start_process()
    with (
        Journals(Path(world.environment.builds)).open(journal(world).build_id) as opened,
        Interrupts() as interrupts,
        task.again(world.environment, opened, world.cloud, interrupts) as job,
    ):
        made = make(job, "kept")
    assert list(volumes(world)) == [made]


def test_a_volume_that_is_still_creating_is_deleted_when_it_can_be(world: World) -> None:
    world.behind.change({"pending": {"volume": 20}})  # seconds in which EC2 refuses to delete it

    def work(job: task.Task) -> None:
        make(job, "half")
        raise CloudError("no")

    with pytest.raises(CloudError, match="no"):
        run(world, work)
    assert volumes(world) == {}


def test_listed_with_the_builds(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(world, lambda job: make(job, "one"))
    monkeypatch.chdir(world.path)
    assert main(["builds", "list"]) == 0
    assert capsys.readouterr().out.split()[1:4] == ["done", "volume", "make"]
    assert main(["builds", "list", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["builds"]
    assert (one["task"], one["recipe"], one["status"]) == ("volume make", None, "done")


def test_an_attempt_that_fails_is_told_and_stops_no_other() -> None:
    told: list[Event] = []
    attempts = Attempts(told.append, prefix="not deleted: ")
    done = []
    for name in ("one", "two"):
        with attempts.attempt(name):
            if name == "one":
                raise CloudError("no")
            done.append(name)
    assert (attempts.failures, done) == ({"one": "no"}, ["two"])
    assert [dict(event.fields) for event in told] == [{"message": "not deleted: one: no", "level": "warning"}]


@pytest.mark.parametrize("end", [JournalError("torn"), UnjournaledMutation("a bug"), Interrupted("interrupted")])
def test_an_attempt_lets_through_what_ends_all_of_the_work(end: GoldenAmiError) -> None:
    attempts = Attempts()
    with pytest.raises(type(end)), attempts.attempt("one"):
        raise end
    assert attempts.failures == {}
