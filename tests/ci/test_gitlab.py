"""The real pipelines, run by gitlab-ci-local against the sandbox's control plane."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call

from goldenami.cli.main import main
from tests.ci.runner import Runner, kill
from tests.worlds.builds import Label, World, a_world
from tests.worlds.graph import write_graph

WEB, APP, SHOP = "web", "app", "shop"
GRAPH = {WEB: None, APP: WEB, SHOP: WEB}


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch, a_world(tmp_path_factory.mktemp("w"), patch, wire=True) as world:
        yield world


@pytest.fixture
def runner(wire: World, tmp_path: Path) -> Runner:
    """A repository with a base, its two children, and the pipeline of `init`."""
    wire.fresh(bucket=True)
    write_graph(wire, GRAPH)
    for file in (wire.path / "recipes").glob("*.yaml"):
        file.write_text(file.read_text().replace("channel: stable", "channel: candidate"))
    assert main(["init", "--ci", "gitlab", "-e", "test", str(wire.path)]) == 0
    (wire.path / ".gitignore").write_text(".goldenami/\n.gitlab-ci-local/\n")
    made = Runner(wire.path, tmp_path / "home", "tests.worlds.program")
    made.commit("First")
    return made


def change(runner: Runner, name: str, text: str) -> dict[str, str]:
    """Change a recipe and commit it. Returns the variables of the pipeline of the push."""
    file = runner.repository / f"recipes/{name}.yaml"
    file.write_text(file.read_text().replace("content: hello", f"content: {text}"))
    return {"CI_COMMIT_BEFORE_SHA": runner.commit(f"Change {name}")}


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
def test_a_lost_runner_leaves_a_build_that_the_next_run_continues(wire: World, runner: Runner) -> None:
    push = change(runner, WEB, "changed")
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
