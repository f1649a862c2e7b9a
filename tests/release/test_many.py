"""Builds of several recipes: which ones, in which order, and how each ends."""

from __future__ import annotations

import json
import os
import signal
import threading
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from goldenami import many
from goldenami import recipe as recipes
from goldenami.cli import results
from goldenami.cli.main import main
from goldenami.errors import InvalidInput, NotFound, TestsFailed
from goldenami.events import Emit, Event
from goldenami.interrupts import Interrupts
from goldenami.many import Options, Result, Work
from goldenami.model import Architecture, Place
from goldenami.stages.build import BuildContext, Host, Prepared
from tests.worlds.builds import PaperHostWork, World
from tests.worlds.graph import GRAPH, write_graph


@pytest.fixture
def world(build_world: World) -> World:
    build_world.fresh()
    write_graph(build_world, GRAPH)
    return build_world


class _Watched(PaperHostWork):
    """Records which builds run at the same time, and fails those of some recipes."""

    def __init__(self, failing: Sequence[str] = ()) -> None:
        super().__init__()
        self.failing = failing
        self.running: set[str] = set()
        self.together: list[set[str]] = []
        self.order: list[str] = []
        self._lock = threading.Lock()
        self.met = threading.Barrier(2)

    def prepare(self, build: BuildContext, architecture: Architecture, host: Host) -> Prepared:
        name = build.recipe.name
        with self._lock:
            self.order.append(name)
            self.running.add(name)
            self.together.append(set(self.running))
        try:
            if name in self.failing:
                raise TestsFailed(f"a test of {name} failed")
            if name in ("app", "shop") and not self.failing:
                self.met.wait(120)  # both are there at the same time
            return super().prepare(build, architecture, host)
        finally:
            with self._lock:
                self.running.discard(name)


def chosen(world: World, *names: str, children: bool = False) -> Work:
    return many.choose(world.project, world.environment, names, {}, children=children)


def build(world: World, work: Work, hosts: PaperHostWork, **how: Any) -> dict[str, Result]:
    options = Options(host_work=hosts, cloud=world.cloud)
    done = many.build(world.project, world.environment, work, options, **how)
    return {result.recipe: result for result in done}


def names(work: Work) -> list[str]:
    return [step.name for step in work.steps]


# --- which recipes ----------------------------------------------------------------------------------------------------


def test_all_recipes_are_in_the_order_of_their_graph(world: World) -> None:
    order = names(chosen(world))
    assert sorted(order) == sorted(GRAPH)
    assert all(order.index(parent) < order.index(child) for child, parent in GRAPH.items() if parent)


def test_children_are_added_with_the_reason(world: World) -> None:
    work = chosen(world, "shop", children=True)
    assert [(step.name, step.why) for step in work.steps] == [("shop", ""), ("cart", "it is built on shop")]


def test_a_base_without_a_release_is_added_once(world: World) -> None:
    work = many.with_missing_bases(chosen(world, "cart", "app"), world.project, world.environment, world.catalog)
    assert names(work) == ["web", "shop", "cart", "app"]
    assert work.steps[0].why == "cart is built on it, and it has no release"


def test_the_problems_of_all_recipes_are_reported_at_once(world: World) -> None:
    for name in ("app", "other"):
        file = world.path / f"recipes/{name}.yaml"
        file.write_text(file.read_text() + "retentoin: {}\n")
    world.project = recipes.load_project(world.path)
    with pytest.raises(InvalidInput) as caught:
        chosen(world)
    assert {Path(problem.file).name for problem in caught.value.problems} == {"app.yaml", "other.yaml"}
    with pytest.raises(NotFound):
        chosen(world, "wbe")


def test_recipes_of_other_environments_are_left_out_unless_they_are_named(world: World) -> None:
    file = world.path / "recipes/other.yaml"
    file.write_text(file.read_text() + "environments: [elsewhere]\n")
    config = world.path / "goldenami.yaml"
    config.write_text(config.read_text() + "  elsewhere: {sandbox: true}\n")
    world.project = recipes.load_project(world.path)
    work = chosen(world)
    assert "other" not in names(work)
    assert work.notes == ("skipped other: it is not for the environment test, only for elsewhere",)
    with pytest.raises(InvalidInput):
        chosen(world, "other")


# --- builds -----------------------------------------------------------------------------------------------------------


def test_children_follow_their_base_and_run_side_by_side(world: World) -> None:
    hosts = _Watched()
    done = build(world, chosen(world), hosts)
    assert {name: result.status for name, result in done.items()} == dict.fromkeys(GRAPH, "built")
    assert all(hosts.order.index(parent) < hosts.order.index(child) for child, parent in GRAPH.items() if parent)
    assert {"app", "shop"} in [both & {"app", "shop"} for both in hosts.together]
    cart = done["cart"]
    assert cart.outcome is not None
    shop = done["shop"].outcome
    assert shop is not None
    assert cart.outcome.manifest.base["x86_64"].image_id in {image.image_id for image in shop.images}
    assert (cart.before, cart.after) == (None, cart.outcome.manifest.version)

    again = build(world, chosen(world), _Watched(failing=["none"]))
    assert {result.status for result in again.values()} == {"unchanged"}
    assert all(result.before == result.after for result in again.values())


@pytest.mark.parametrize("keep_going", [False, True])
def test_what_is_built_on_a_failed_recipe_is_skipped(world: World, keep_going: bool) -> None:
    hosts = _Watched(failing=["shop"])
    done = build(world, chosen(world, "web", "shop", "cart", "other"), hosts, at_once=1, keep_going=keep_going)
    statuses = {name: result.status for name, result in done.items()}
    assert statuses == {
        "web": "built",
        "shop": "failed",
        "cart": "skipped",
        "other": "built" if keep_going else "skipped",
    }
    assert done["cart"].reason == "its base shop failed"
    if not keep_going:
        assert done["other"].reason == "not started after shop failed"
    assert many.exit_code(done.values()) == 5
    assert [s.build_id for s in world.journals.unfinished() if s.resources] == []


def test_at_most_so_many_run_at_once(world: World) -> None:
    hosts = _Watched(failing=["nothing"])
    build(world, chosen(world), hosts, at_once=1)
    assert max(len(running) for running in hosts.together) == 1


def test_a_stop_ends_all_builds_and_deletes_what_they_made(world: World) -> None:
    build(world, chosen(world, "web"), _Watched())
    interrupts = Interrupts(signals=False)

    class Stopping(_Watched):
        def prepare(self, build: BuildContext, architecture: Architecture, host: Host) -> Prepared:
            self.met.wait(120)
            interrupts.stop.set()
            return super().prepare(build, architecture, host)

    done = build(world, chosen(world, "app", "shop", "cart"), Stopping(failing=["none"]), interrupts=interrupts)
    assert {name: result.status for name, result in done.items()} == {
        "app": "failed",
        "shop": "failed",
        "cart": "skipped",
    }
    assert many.exit_code(done.values()) == 130
    here = Place(world.environment.home_place.account, world.environment.home_place.region)
    instances = world.witness.call(here, "ec2", "DescribeInstances", {})["Reservations"]
    assert {i["State"]["Name"] for r in instances for i in r["Instances"]} <= {"terminated", "shutting-down"}


def test_builds_wait_for_the_vcpus_of_each_other(world: World) -> None:
    """The quotas are enough for one builder and one copy. Nothing fails that could wait, few launches are refused."""
    world.paper.set(vcpu_quotas={"L-1216C47A": 2}, concurrent_image_copies=1)
    waits = threading.Event()

    def listen(_: str) -> Emit:
        def note(event: Event) -> None:
            if "the launch waits for vCPUs" in str(event.fields.get("message")):
                waits.set()

        return note

    class Slow(PaperHostWork):
        def prepare(self, build: BuildContext, architecture: Architecture, host: Host) -> Prepared:
            assert waits.wait(120), "the other recipe without a base waits meanwhile"
            return super().prepare(build, architecture, host)

    done = build(world, chosen(world), Slow(), at_once=4, emit_for=listen)
    assert {name: result.status for name, result in done.items()} == dict.fromkeys(GRAPH, "built")
    launches = Counter(c["result"] for c in world.paper.calls if c["action"] == "RunInstances")
    assert launches["ok"] == 2 * len(GRAPH)
    assert 0 < launches["VcpuLimitExceeded"] < 6 * len(GRAPH)

    world.paper.set(vcpu_quotas={"L-1216C47A": 1})
    file = world.path / "recipes/other.yaml"
    file.write_text(file.read_text().replace("content: hello", "content: bye"))
    world.project = recipes.load_project(world.path)
    failed = build(world, chosen(world, "other"), PaperHostWork())["other"]
    assert failed.status == "failed"
    assert failed.error is not None
    assert "vCPU" in failed.error.message, "no build gives back what it needs"


def test_events_are_told_apart(world: World) -> None:
    seen: dict[str, list[Event]] = {}
    build(
        world,
        chosen(world, "web", "other"),
        _Watched(failing=["none"]),
        emit_for=lambda name: seen.setdefault(name, []).append,
    )
    for name in ("web", "other"):
        started = [event.fields["recipe"] for event in seen[name] if event.kind == "build.started"]
        assert started == [name]


# --- results ----------------------------------------------------------------------------------------------------------


def test_the_document_tells_built_from_unchanged_from_failed(world: World) -> None:
    hosts = _Watched(failing=["shop"])
    done = tuple(build(world, chosen(world, "web", "shop", "cart"), hosts, keep_going=True).values())
    found = json.loads(json.dumps(results.document("test", done)))
    assert found["schema"] == "goldenami.build/1"
    web, shop, cart = found["builds"]
    assert web["status"] == "built"
    assert web["channel"] == {"name": "stable", "before": None, "after": web["manifest"]["version"]}
    assert web["release"] == f"web {web['manifest']['version']}"
    assert (shop["status"], shop["error"]["kind"], shop["error"]["exit_code"]) == ("failed", "TestsFailed", 5)
    assert (cart["status"], cart["error"], cart["manifest"]) == ("skipped", None, None)
    assert [one["unsent"] for one in found["builds"]] == [{}, {}, {}]
    assert done[0].outcome is not None
    untold = replace(done[0], outcome=replace(done[0].outcome, unsent={"bus": "no such bus"}))
    assert results.document("test", [untold])["builds"][0]["unsent"] == {"bus": "no such bus"}

    path = world.path / "results.xml"
    results.write_junit(path, done)
    suite = ET.fromstring(path.read_text()).find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    failure = suite.find("testcase[@name='shop']/failure")
    assert failure is not None
    assert failure.get("message") == "a test of shop failed"


def test_exit_codes_of_several_results() -> None:
    ok = Result("a", "built", "stable")
    failed = replace(ok, status="failed", error=TestsFailed("no"))
    missing = replace(ok, status="failed", error=NotFound("no"))
    assert many.exit_code([ok]) == 0
    assert many.exit_code([ok, failed]) == 5
    assert many.exit_code([failed, missing]) == 1


def test_errors_before_a_build_are_json_too(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world.path)
    file = Path("recipes/app.yaml")
    file.write_text(file.read_text() + "retentoin: {}\n")
    assert main(["build", "--all", "-e", "test", "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert found["builds"] == []
    (problem,) = found["error"]["problems"]
    assert (problem["file"], problem["column"]) == ("recipes/app.yaml", 1)
    assert main(["build", "-e", "test"]) == 2
    assert main(["build", "web", "--all", "-e", "test"]) == 2


def test_a_signal_reaches_the_builds_of_other_threads(world: World) -> None:
    """The first signal is a KeyboardInterrupt in the main thread, which waits for the builds."""

    class Signalling(_Watched):
        def prepare(self, build: BuildContext, architecture: Architecture, host: Host) -> Prepared:
            if build.recipe.name == "web":  # once: a second signal ends the process
                os.kill(os.getpid(), signal.SIGINT)
            build.stop.wait(120)
            return super().prepare(build, architecture, host)

    done = build(world, chosen(world, "web", "other"), Signalling(failing=["none"]))
    assert {result.status for result in done.values()} == {"failed"}
    assert many.exit_code(done.values()) == 130
