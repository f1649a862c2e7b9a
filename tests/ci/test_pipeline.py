"""The pipeline that `init` writes, from a commit to a promoted image: in shells, and with builds on paper.

tests/ci/test_gitlab.py runs it with gitlab-ci-local.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from goldenami import many
from goldenami.aws.session import Cloud
from goldenami.ci import note, scaffold
from goldenami.cli.main import main
from tests.ci.gitlab_api import GitLab, serving
from tests.ci.runner import Repository, own_variables, write_images
from tests.ci.schema import jobs_of, parse
from tests.ci.shells import Answering, JobFailed, Shells, in_order, wanted
from tests.worlds.builds import HOME, Death, Label, World
from tests.worlds.paper import PaperHostWork

WEB, APP = "web", "app"
GRAPH = {WEB: None, APP: WEB}
PUSH = {"CI_PIPELINE_SOURCE": "push", "CI_COMMIT_BRANCH": "main", "CI_DEFAULT_BRANCH": "main"}


@pytest.fixture
def gitlab() -> Iterator[GitLab]:
    with serving() as fake:
        yield fake


@pytest.fixture
def world(build_world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    build_world.fresh(bucket=True)
    monkeypatch.setattr(Cloud, "of", lambda environment, **_: build_world.cloud)
    monkeypatch.setattr(many, "Options", partial(many.Options, host_work=PaperHostWork()))
    return build_world


@pytest.fixture
def clone(world: World, tmp_path: Path) -> Repository:
    return write_images(world, GRAPH).clone(tmp_path / "clone")


@pytest.fixture
def shells(world: World, clone: Repository, tmp_path: Path) -> Iterator[Shells]:
    def call(arguments: list[str]) -> int:
        if world.cloud.dead:
            return 137
        try:
            return main(arguments)
        except Death:
            return 137

    (tmp_path / "bin").mkdir()
    with Answering(tmp_path / "bin/goldenami", call).listening() as answering:
        yield Shells(clone.path, answering, own_variables(os.environ))


def merge_request(gitlab: GitLab, base: str) -> dict[str, str]:
    return {
        **gitlab.variables,
        "CI_PIPELINE_SOURCE": "merge_request_event",
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": base,
        "CI_COMMIT_BEFORE_SHA": "0" * 40,
    }


def test_from_a_commit_to_a_promoted_image(world: World, clone: Repository, shells: Shells, gitlab: GitLab) -> None:
    clone.git("switch", "-q", "-c", "feature")
    base = clone.change(WEB, "changed")["CI_COMMIT_BEFORE_SHA"]
    assert shells.pipeline(merge_request(gitlab, base)) == ["validate", "changes", "plan", "generate"]
    changes, plan = [one["body"] for one in gitlab.notes]
    assert changes.startswith("<!-- goldenami:changes:test -->\n### Changes in the environment test since")
    assert "1 changed, 1 follows; 2 to build" in changes
    assert "recipes/web.yaml" in changes
    assert plan.startswith("<!-- goldenami:plan:test -->\n### Plan of the environment test\n")
    assert "2 to build" in plan
    generated = shells.artifacts["generate"] / "goldenami-pipeline.yml"
    assert [name for name in jobs_of(parse(generated.read_text())) if name.startswith("build")] == [
        f"build {name}" for name in GRAPH
    ]
    assert world.builds == []

    clone.change(APP, "changed")
    shells.pipeline(merge_request(gitlab, base))
    assert len(gitlab.notes) == 2, "the notes are updated"
    assert "2 changed; 2 to build" in gitlab.notes[0]["body"]

    clone.git("switch", "-q", "main")
    clone.git("merge", "-q", "--no-ff", "feature", "-m", "Merge")
    push = {k: v for k, v in gitlab.variables.items() if k != "CI_MERGE_REQUEST_IID"} | PUSH
    push["CI_COMMIT_BEFORE_SHA"] = base
    # The runner is lost when the copy of the base's image has begun.
    world.cloud.start_process(Label("ec2", "CopyImage", HOME, "eu-central-1", 1), "after")
    with pytest.raises(JobFailed, match="build web ended with 137"):
        shells.pipeline(push)
    (lost,) = world.builds
    world.leases_run_out()
    world.cloud.start_process()

    ran = shells.pipeline(push)
    assert ran == ["validate", "plan", "generate", "images", *(f"build {name}" for name in GRAPH)]
    assert f"continues build {lost}" in shells.shown
    assert len(world.builds) == 2
    assert world.journals.unfinished() == ()
    for name in GRAPH:
        (version,) = world.catalog.versions(name)
        assert world.catalog.existing_channel(name, "candidate").current == version
        assert world.catalog.channel(name, "stable") is None
    assert world.catalog.get(WEB, world.catalog.versions(WEB)[0]).build_id == lost

    shells.play("promote web", {"CI_PIPELINE_URL": "https://gitlab.example.com/1", "GITLAB_USER_LOGIN": "author"})
    assert world.catalog.existing_channel(WEB, "stable").current == world.catalog.versions(WEB)[0]
    assert len(gitlab.notes) == 2, "only merge requests have notes"


@pytest.mark.parametrize(
    ("variables", "jobs"),
    [
        ({"CI_PIPELINE_SOURCE": "merge_request_event"}, ["validate", "changes", "plan", "generate"]),
        (PUSH, ["validate", "plan", "generate", "images"]),
        (PUSH | {"CI_PIPELINE_SOURCE": "web"}, ["validate", "plan", "generate", "images"]),
        (
            PUSH | {"CI_PIPELINE_SOURCE": "schedule", "GOLDENAMI_SCHEDULE": "nightly"},
            ["generate", "clean", "drift", "images"],
        ),
        (
            PUSH | {"CI_PIPELINE_SOURCE": "schedule", "GOLDENAMI_SCHEDULE": "nightly", "GOLDENAMI_PAGES": "yes"},
            ["generate", "clean", "drift", "images", "pages"],
        ),
        (PUSH | {"CI_PIPELINE_SOURCE": "schedule", "GOLDENAMI_SCHEDULE": "weekly"}, ["retire"]),
        (PUSH | {"CI_COMMIT_BRANCH": "feature"}, None),
    ],
    ids=["merge request", "push", "web", "nightly", "nightly with pages", "weekly", "branch"],
)
def test_which_jobs_a_pipeline_has(variables: dict[str, str], jobs: list[str] | None) -> None:
    pipeline = parse(scaffold.files("test")[scaffold.PIPELINE])
    assert wanted(pipeline["workflow"]["rules"], variables) == (jobs is not None)
    if jobs is not None:
        chosen = {name: job for name, job in jobs_of(pipeline).items() if wanted(job["rules"], variables)}
        assert list(in_order(chosen, pipeline["stages"])) == jobs


def test_jobs_get_nothing_of_the_pipeline_that_runs_the_tests() -> None:
    outer = {
        "CI": "true",
        "CI_MERGE_REQUEST_IID": "12",
        "GITLAB_USER_LOGIN": "author",
        "GOLDENAMI_BUILD_ROLE": "arn:aws:iam::111111111111:role/builder",
        note.TOKEN: "glpat-of-the-outer-pipeline",
    }
    kept = {"PATH": "/bin", "AWS_ENDPOINT_URL": "http://127.0.0.1:1", "GOLDENAMI_SANDBOX_HOME": "/tmp/sandboxes"}
    assert own_variables(outer | kept) == kept
