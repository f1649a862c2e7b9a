"""What a job of a pipeline needs of `build` and `clean`: to continue what a lost runner began, and to pass ids on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from goldenami import pipeline
from goldenami.aws.session import Cloud
from goldenami.cli import results
from goldenami.cli.main import main
from goldenami.errors import OutputFailed
from goldenami.many import Result
from goldenami.model import Place
from goldenami.pipeline import Outcome, Request
from tests.ci.schema import check
from tests.docs.examples import examples
from tests.worlds.builds import HOME, RECIPE, World
from tests.worlds.recordings import calls


@pytest.fixture
def world(build_world: World) -> World:
    build_world.fresh()
    return build_world


def build(world: World, *, adopt: bool = True) -> Outcome:
    world.cloud.start_process()
    return pipeline.build(
        Request(world.project, world.environment, RECIPE),
        adopt=adopt,
        emit_to=world.events.append,
        host_work=world.host_work,
        cloud=world.cloud,
    )


def killed(world: World, action: str, *, last: bool = False) -> str:
    """Build until the process is killed at a call. Returns the id of the build."""
    found = [label for label in calls("build") if label.action == action]
    world.build_until(found[-1 if last else 0], "after")
    return world.builds[-1]


def test_an_unfinished_build_of_the_same_inputs_is_continued(world: World) -> None:
    build_id = killed(world, "CopyImage")
    outcome = build(world)
    assert (outcome.status, outcome.manifest.build_id) == ("released", build_id)
    assert world.builds == [build_id]
    assert world.journals.unfinished() == ()
    assert build(world).status == "unchanged"


def test_a_build_that_was_killed_after_its_release_is_completed(world: World) -> None:
    build_id = killed(world, "TerminateInstances", last=True)
    outcome = build(world)
    assert outcome.manifest.build_id == build_id
    assert world.builds == [build_id]
    assert world.journals.unfinished() == ()


def test_a_build_of_other_inputs_is_not_continued(world: World) -> None:
    earlier = killed(world, "CopyImage")
    world.change_recipe("other")
    outcome = build(world)
    assert outcome.manifest.build_id != earlier
    assert [summary.build_id for summary in world.journals.unfinished()] == [earlier]


def test_a_build_is_not_continued_after_another_one_made_the_release(world: World) -> None:
    earlier = killed(world, "CopyImage")
    later = build(world, adopt=False).manifest
    outcome = build(world)
    assert (outcome.status, outcome.manifest.version) == ("unchanged", later.version)
    assert [summary.build_id for summary in world.journals.unfinished()] == [earlier]


def test_clean_deletes_what_builds_of_one_recipe_left(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = killed(world, "CopyImage")
    monkeypatch.chdir(world.path)
    monkeypatch.setattr(Cloud, "of", lambda *_, **__: world.cloud)  # it looks for an unanswered call for 2 s, not 60
    world.cloud.start_process()
    assert main(["clean", "--recipe", "other", "-e", "test"]) == 0
    assert "no build is unfinished" in capsys.readouterr().err
    assert [summary.build_id for summary in world.journals.unfinished()] == [earlier]
    assert main(["clean", "--recipe", RECIPE, "--all", "-e", "test"]) == 2
    assert main(["clean", "--recipe", "other", "--recipe", RECIPE, "-e", "test"]) == 0
    assert world.journals.unfinished() == ()


def test_the_variables_of_releases(world: World, tmp_path: Path) -> None:
    outcome = build(world)
    file = tmp_path / "new/web.env"
    done = [Result(RECIPE, "built", "stable", outcome=outcome), Result("other", "failed", "stable")]
    results.write_dotenv(file, done, world.environment.home_place)
    (image,) = [one for one in outcome.images if one.place == Place(HOME, "eu-central-1")]
    assert file.read_text() == f"AMI_WEB_VERSION={outcome.manifest.version}\nAMI_WEB_X86_64={image.image_id}\n"
    results.write_dotenv(file, [replace(done[0], outcome=None)], world.environment.home_place)
    assert file.read_text() == ""
    with pytest.raises(OutputFailed, match="cannot be written"):
        results.write_dotenv(tmp_path, done, world.environment.home_place)


def test_the_workflow_of_github_in_the_documentation() -> None:
    (workflow,) = [one for one in examples("pipelines.md", "yaml") if one.title == ".github/workflows/images.yml"]
    # YAML 1.1 reads the key `on` as true.
    check(workflow.text.replace("\non:\n", '\n"on":\n'), "github-workflows")
