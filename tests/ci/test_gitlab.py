"""The real pipelines, run by gitlab-ci-local against the sandbox's control plane.

gitlab-ci-local 4.75.1 runs child pipelines of artifacts in its own process ("experimental"). Nobody can start a manual
job later: it is an invocation of its own, with the file of the child pipeline, and the dotenv reports of the first one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call

from tests.ci.gitlab_api import serving
from tests.ci.runner import Repository, Runner, kill, write_images
from tests.worlds.builds import Label, World, a_world

WEB, APP, SHOP = "web", "app", "shop"
GRAPH = {WEB: None, APP: WEB, SHOP: WEB}
CHILD = ".gitlab-ci-local/includes/triggers/images.yml"  # where gitlab-ci-local keeps the child pipeline


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch, a_world(tmp_path_factory.mktemp("w"), patch, wire=True) as world:
        yield world


@pytest.fixture
def clone(wire: World, tmp_path: Path) -> Repository:
    """A clean clone of a repository with a base, its two children, and the pipeline of `init`."""
    wire.fresh(bucket=True)
    return write_images(wire, GRAPH).clone(tmp_path / "clone")


@pytest.fixture
def runner(clone: Repository, tmp_path: Path) -> Runner:
    return Runner(clone.path, tmp_path / "home", "tests.worlds.program")


def releases(world: World) -> dict[str, int]:
    return {name: len(world.catalog.versions(name)) for name in GRAPH}


def images(world: World) -> set[str]:
    """All images that are in the home region, of which each must belong to a release."""
    ec2 = world.client("ec2", world.environment.home_place)
    return {image["ImageId"] for image in ec2.describe_images(Owners=["self"])["Images"]}


def released(world: World) -> set[str]:
    every = [world.catalog.get(name, version) for name in GRAPH for version in world.catalog.versions(name)]
    return {image.image_id for manifest in every for image in manifest.images}


@pytest.mark.nightly
def test_from_a_commit_to_a_promoted_image(wire: World, clone: Repository, runner: Runner) -> None:
    clone.git("switch", "-q", "-c", "feature")
    base = clone.change(WEB, "changed")["CI_COMMIT_BEFORE_SHA"]
    with serving() as gitlab:
        merge_request = {
            **gitlab.variables,
            "CI_PIPELINE_SOURCE": "merge_request_event",
            "CI_MERGE_REQUEST_DIFF_BASE_SHA": base,
        }
        shown = runner.run(merge_request)
        assert "3 recipes to build: web, app, shop" in shown
        assert [one["body"].partition("\n")[0] for one in gitlab.notes] == [
            "<!-- goldenami:changes:test -->",
            "<!-- goldenami:plan:test -->",
        ]
        assert "1 changed, 2 follows; 3 to build" in gitlab.notes[0]["body"]
        assert "3 to build" in gitlab.notes[1]["body"]
        assert wire.builds == []
        clone.change(APP, "changed")
        runner.run(merge_request)
        assert len(gitlab.notes) == 2
        assert "2 changed, 1 follows; 3 to build" in gitlab.notes[0]["body"]

    clone.git("switch", "-q", "main")
    clone.git("merge", "-q", "--no-ff", "feature", "-m", "Merge")
    together = Together(wire)
    wire.gate.start(together)
    try:
        runner.run({"CI_COMMIT_BEFORE_SHA": base})
    finally:
        wire.gate.stop()
    assert together.launched[0] == WEB
    assert together.released_before == 1, "the children start when their base has a release"
    assert set(together.launched[1:]) == {APP, SHOP}
    assert not together.barrier.broken, "the children are built side by side"
    assert releases(wire) == {WEB: 1, APP: 1, SHOP: 1}
    assert images(wire) == released(wire)
    (web,) = wire.catalog.versions(WEB)
    for name in GRAPH:
        assert [channel.channel for channel in wire.catalog.channels(name)] == ["candidate"]
    base_image = wire.catalog.get(WEB, web).images[0].image_id
    for name in (APP, SHOP):
        (version,) = wire.catalog.versions(name)
        assert wire.catalog.get(name, version).base["x86_64"].image_id == base_image

    runner.run({}, "--file", CHILD, "promote web")
    stable = wire.catalog.existing_channel(WEB, "stable")
    assert stable.current == web
    assert wire.catalog.channel(APP, "stable") is None


class Together:
    """Lets the builders of both children start only when both are about to."""

    def __init__(self, world: World) -> None:
        self.barrier = threading.Barrier(2, timeout=120)
        self.launched: list[str] = []  # the first builder of each recipe
        self.released_before = -1
        self._world = world
        self._guard = threading.Lock()

    def __call__(self, label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        if call.action == "RunInstances":
            recipe = _tags(call)["goldenami:recipe"]
            with self._guard:
                first = recipe not in self.launched
                self.launched += [recipe] if first else []
            if first and recipe != WEB:
                self.released_before = len(self._world.catalog.versions(WEB))
                self.barrier.wait()
        return serve()


def _tags(call: Call) -> dict[str, str]:
    """Return the tags that a call gives what it creates."""
    form = call.form
    keys = {name: value for name, value in form.items() if name.endswith(".Key")}
    return {value: form[f"{name.removesuffix('.Key')}.Value"] for name, value in keys.items()}


@pytest.mark.nightly
def test_a_lost_runner_leaves_a_build_that_the_next_run_continues(
    wire: World, clone: Repository, runner: Runner
) -> None:
    push = clone.change(WEB, "changed")
    process = runner.start(push)
    lost = threading.Event()

    def lose(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        """The machine is lost when the copy of the base's image has begun."""
        response = serve()
        if call.action == "CopyImage" and not lost.is_set():
            lost.set()
            kill(process.pid)
        return response

    wire.gate.start(lose)
    try:
        process.communicate(timeout=300)
    finally:
        wire.gate.stop()
    assert lost.is_set()
    (build_id,) = wire.builds
    assert wire.journals.read(build_id).ending is None
    assert releases(wire) == {WEB: 0, APP: 0, SHOP: 0}

    wire.leases_run_out()
    shown = runner.run(push)
    assert f"continues build {build_id}" in shown
    assert releases(wire) == {WEB: 1, APP: 1, SHOP: 1}
    assert wire.catalog.get(WEB, wire.catalog.versions(WEB)[0]).build_id == build_id
    assert len(wire.builds) == 3
    assert wire.journals.unfinished() == ()
    assert images(wire) == released(wire)
