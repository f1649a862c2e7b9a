"""Builds that fail and are kept, or asked about: the builder stays and can be logged in to, a retry goes on."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from typing import Literal

import pytest

from goldenami import pipeline, task
from goldenami import recipe as recipes
from goldenami.cli.main import main
from goldenami.errors import GoldenAmiError, NotFound, OperationFailed, TestsFailed, UsageError
from goldenami.journal import LOGINS
from goldenami.model import Architecture, TestReport
from goldenami.stages import fresh, logins
from goldenami.stages.build import BuildContext, Host, Prepared
from goldenami.stages.tools import Decide, OnFailure
from tests.worlds import inventory
from tests.worlds.builds import RECIPE, PaperHostWork, World


class FailingWork(PaperHostWork):
    """The first builders fail; ``failures``: how many."""

    failures = 1

    def prepare(self, build: BuildContext, architecture: Architecture, host: Host) -> Prepared:
        prepared = super().prepare(build, architecture, host)
        if len(self.prepared) <= self.failures:
            raise TestsFailed("1 of 3 tests failed")
        return prepared


def build(world: World, on_failure: OnFailure | Decide) -> pipeline.Outcome:
    request = pipeline.Request(world.project, world.environment, RECIPE)
    return pipeline.build(
        request, on_failure=on_failure, emit_to=world.events.append, host_work=world.host_work, cloud=world.cloud
    )


def notes(world: World) -> list[str]:
    return [str(e.fields["message"]) for e in world.events if e.kind == "note"]


@pytest.mark.parametrize("bucket", [False, True], ids=["directory", "bucket"])
def test_a_kept_builder_can_be_logged_in_to_until_it_is_cleaned(world: World, bucket: bool) -> None:
    world.fresh(bucket=bucket)
    world.host_work = FailingWork()
    with pytest.raises(TestsFailed):
        build(world, "keep")
    (build_id,) = world.builds
    (instance,) = world.host_work.prepared
    (note,) = [text for text in notes(world) if "is kept" in text]
    assert instance in note
    assert " UTC. Log in: goldenami ssh --host builder/x86_64 " in note
    assert "StrictHostKeyChecking=yes" in note
    journals = world.journals
    folder = journals.storage.directory(build_id) / LOGINS
    key = folder / "builder-x86_64"
    assert str(key) in note
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    secret = key.read_text().splitlines()[1]
    log = [str(recorded.event) for recorded in journals.storage.events(build_id).read()]
    assert any("is kept" in event for event in log)
    assert not any(secret in event for event in log)
    login = logins.find(world.environment, world.cloud, journals, build_id)
    assert (login.endpoint.instance_id, login.endpoint.user) == (instance, "admin")
    keys = [key, folder / "builder-x86_64-2"]
    assert login.endpoint.private_keys == tuple(one.read_text() for one in keys)
    known = (folder / "known_hosts").read_text()
    assert [line for line in login.endpoint.host_keys if line not in known] == []
    with pytest.raises(NotFound, match="no instance 'proof'"):
        logins.find(world.environment, world.cloud, journals, build_id, name="proof")
    world.change_recipe("another")
    with pytest.raises(UsageError) as refused:
        world.resume(build_id)
    assert f"goldenami test RECIPE --on {build_id}" in (refused.value.hint or "")
    world.clean(build_id)
    assert not folder.exists()
    with pytest.raises(NotFound):
        logins.find(world.environment, world.cloud, world.journals, build_id)


def test_a_retry_goes_on_with_a_new_builder_and_releases(world: World) -> None:
    world.fresh()
    world.host_work = FailingWork()
    asked: list[str] = []

    def decide(error: Exception) -> Literal["retry"]:
        asked.append(str(error))
        return "retry"

    outcome = build(world, decide)
    assert (outcome.status, asked) == ("released", ["1 of 3 tests failed"])
    first, second = world.host_work.prepared
    assert first != second
    (build_id,) = world.builds
    assert world.journals.read(build_id).ending == "released"


@pytest.mark.parametrize("choice", ["clean", "keep"])
def test_a_retry_with_a_changed_test_is_refused(world: World, choice: Literal["clean", "keep"]) -> None:
    world.fresh()
    test = world.path / "recipes" / "web_test.py"
    test.write_text("def test_one():\n    pass\n")
    recipe = world.path / "recipes" / "web.yaml"
    recipe.write_text(recipe.read_text().replace("tests: [base]", "tests: [base, web_test.py]"))
    world.host_work = FailingWork()
    choices: list[Literal["clean", "keep", "retry"]] = ["retry", choice]

    def decide(error: Exception) -> Literal["clean", "keep", "retry"]:
        test.write_text("def test_two():\n    pass\n")
        return choices.pop(0)

    with pytest.raises(TestsFailed):
        build(world, decide)
    assert any("web_test.py changed since the plan" in text for text in notes(world))
    (build_id,) = world.builds
    assert bool(world.journals.read(build_id).resources) == (choice == "keep")


def test_what_cannot_be_resumed_is_not_retried(world: World) -> None:
    world.fresh()
    error = OperationFailed("x", place="web.yaml:1:1", output="")
    error.can_resume = False

    class Hopeless(PaperHostWork):
        def prepare(self, build: BuildContext, architecture: Architecture, host: Host) -> Prepared:
            raise error

    world.host_work = Hopeless()
    choices: list[Literal["clean", "keep", "retry"]] = ["retry", "clean"]
    with pytest.raises(OperationFailed):
        build(world, lambda _: choices.pop(0))
    assert choices == []
    assert any("would fail in the same way" in text for text in notes(world))


def on_a_fresh_instance(world: World, image_id: str, on_instance: fresh.OnInstance) -> tuple[TestReport, ...]:
    """Test an image on a fresh instance."""
    recipe = recipes.load(world.project, RECIPE, world.environment)
    arguments = {"image": image_id}
    with task.run(world.environment, fresh.KIND, arguments, cloud=world.cloud, emit_to=world.events.append) as job:
        return fresh.run(job, recipe, "1.0", "x86_64", image_id, outputs={}, on_instance=on_instance)


def passed(build: BuildContext, arch: Architecture, host: Host, outputs: Mapping[str, str]) -> TestReport:
    return TestReport("image", arch, 1, 0, 0, 0, 0.1)


def image_at_home(world: World) -> str:
    """Build, and return the image of the home account and region."""
    outcome = build(world, "clean")
    (image,) = [one.image_id for one in outcome.images if one.place == world.environment.home_place]
    return image


@pytest.mark.parametrize("failing", [False, True], ids=["tested", "error"])
def test_an_image_is_tested_on_a_fresh_instance_that_is_deleted(world: World, failing: bool) -> None:
    world.fresh()
    image, home = image_at_home(world), world.environment.home_place
    before = inventory.take(world)
    launched: list[str] = []
    # Who gives up waits for it. Otherwise it ends long after all that anybody sleeps.
    world.paper.set(pending={"stop": 400 if failing else 1e7})

    def on_instance(build: BuildContext, arch: Architecture, host: Host, outputs: Mapping[str, str]) -> TestReport:
        launched.append(host.instance_id)
        if failing:
            raise OperationFailed("x", place="", output="")
        return TestReport("image", arch, 1, 1, 0, 0, 0.1)

    if failing:
        with pytest.raises(OperationFailed):
            on_a_fresh_instance(world, image, on_instance)
    else:
        assert on_a_fresh_instance(world, image, on_instance)[0].failed == 1
        found = world.client("ec2", home).describe_instances(InstanceIds=launched)["Reservations"]
        states = [instance["State"]["Name"] for reservation in found for instance in reservation["Instances"]]
        assert states == ["shutting-down"], "nothing waits for its end"
    assert len(launched) == 1
    assert inventory.take(world) == before, "the image stays, and nothing else"
    newest = next(world.journals.newest())
    assert (newest.header and newest.header.recipe, newest.ending) == ("test", "cleaned" if failing else "done")
    assert newest.resources == ()
    assert [r for r in world.journals.storage.events(newest.build_id).read() if r.event.kind == "stage.started"]


def test_volumes_that_would_outlive_the_fresh_instance_end_with_it(world: World) -> None:
    world.fresh()
    file = world.path / "recipes" / "web.yaml"
    volume = "{device: /dev/sdf, size_gib: 20, delete_on_termination: false}"
    text = "image: {root_volume: {size_gib: 8}, volumes: [VOLUME]}".replace("VOLUME", volume)
    file.write_text(file.read_text().replace("image: {root_volume: {size_gib: 8}}", text))
    world.project = recipes.load_project(world.path)
    image = image_at_home(world)
    assert on_a_fresh_instance(world, image, passed)[0].failed == 0
    assert world.client("ec2", world.environment.home_place).describe_volumes()["Volumes"] == []
    assert next(world.journals.newest()).resources == ()


@pytest.mark.parametrize("times", [1, 99], ids=["once", "always"])
def test_an_instance_that_may_not_be_terminated_ends_no_test(world: World, times: int) -> None:
    world.fresh()
    image = image_at_home(world)
    refused = {"action": "TerminateInstances", "times": times, "code": "UnauthorizedOperation", "status": 403}
    world.paper.set(faults=[refused])
    if times == 1:
        assert on_a_fresh_instance(world, image, passed)[0].failed == 0
        assert next(world.journals.newest()).resources == ()
        return
    with pytest.raises(GoldenAmiError, match="the tests ended, but not everything could be deleted: instance i-"):
        on_a_fresh_instance(world, image, passed)


def test_ask_needs_a_terminal(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.fresh()
    monkeypatch.chdir(world.path)
    for command in (["build", RECIPE], ["resume"]):
        assert main([*command, "-e", "test", "--on-failure", "ask"]) == 2
        assert "--on-failure ask needs a terminal" in capsys.readouterr().err
    assert world.builds == []
