"""The stages of a build are told at its start, with the times of past builds; copies are a stage beside the others."""

from __future__ import annotations

from typing import Any

import pytest

from goldenami import recipe as recipes
from goldenami.events import Event
from goldenami.report.state import BuildState
from tests.worlds.builds import PaperHostWork, World

# What a host would do is not done on paper.
ON_HOSTS = {"patches", "software", "test builder", "seal", "freeze", "test image"}


def begun(events: list[Event]) -> Event:
    return next(event for event in events if event.kind == "build.started")


def ran(events: list[Event]) -> list[str]:
    return [event.fields["stage"] for event in events if event.kind == "stage.started"]


def assert_same(expected: list[str], began: list[str]) -> None:
    """The verification runs beside the test of the image: which of them begins first is not said."""
    for names in (expected, began):
        assert names.index("copy") < names.index("verify") < names.index("publish")
    assert [n for n in expected if n != "verify"] == [n for n in began if n != "verify"]


@pytest.fixture
def world(build_world: World) -> World:
    build_world.fresh()
    return build_world


@pytest.mark.parametrize("bucket", [False, True])
def test_the_stages_of_a_build_are_told_with_the_times_of_the_last_ones(build_world: World, bucket: bool) -> None:
    world = build_world
    world.fresh(bucket=bucket)
    world.build()
    first: list[dict[str, Any]] = begun(world.events).fields["expected"]
    names = [stage["stage"] for stage in first]
    assert_same([name for name in names if name not in ON_HOSTS], ran(world.events))
    assert set(names) >= ON_HOSTS
    assert not any("seconds" in stage for stage in first)

    world.change_recipe("again")
    world.events.clear()
    world.build()
    again: list[dict[str, Any]] = begun(world.events).fields["expected"]
    timed = [stage for stage in again if "seconds" in stage]
    assert_same([stage["stage"] for stage in timed], ran(world.events))
    assert all(stage["left"] >= stage["seconds"] >= 0 for stage in timed)


def test_copies_are_told_while_the_image_is_tested(world: World) -> None:
    class Watching(PaperHostWork):
        def prove(self, *given: Any) -> Any:
            world.events.append(Event("proved"))
            return super().prove(*given)

    world.host_work = Watching()
    world.build()
    kinds = [(event.kind, event.fields.get("stage")) for event in world.events]
    start, end = kinds.index(("stage.started", "copy")), kinds.index(("stage.finished", "copy"))
    assert start < kinds.index(("stage.started", "boot image")) < kinds.index(("proved", None))
    assert world.events[start].fields["beside"] is True
    assert world.events[end].fields["status"] == "ok"
    moves = [number for number, event in enumerate(world.events) if event.kind == "target.progress"]
    assert start < moves[0]
    assert max(n for n in moves if world.events[n].fields["state"] == "available") < end


def test_the_ids_of_instances_and_the_exit_code_are_told(world: World) -> None:
    world.build()
    launched = {e.fields["purpose"]: e.fields["instance_id"] for e in world.events if e.kind == "host.launched"}
    assert launched == {"builder": world.host_work.prepared[0], "proof": world.host_work.proved[0]}
    assert world.events[-1].fields["exit_code"] == 0
    state = BuildState()
    for number, event in enumerate(world.events):
        state.apply(event, float(number))
    assert state.upcoming == []
    assert set(state.instances) == {("proof", "x86_64")}  # on paper the stage that uses it last does not run


def test_a_secret_that_cannot_be_looked_for_is_told(build_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    build_world.fresh()
    values = {"PIN": "hunter2", "TOKEN": "long-enough", "KEYS": "ab\ncd\nlong-enough", "OPEN": "1234"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    file = build_world.path / "recipes/web.yaml"
    declared = "".join(f"  {name.lower()}: {{secret: {{env: {name}}}}}\n" for name in ("PIN", "TOKEN", "KEYS"))
    file.write_text(f"{file.read_text()}vars:\n{declared}  open: {{secret: {{env: OPEN}}, in_image: true}}\n")
    build_world.project = recipes.load_project(build_world.path)
    assert build_world.build().status == "released"
    told = [str(e.fields["message"]) for e in build_world.events if e.fields.get("level") == "warning"]
    (text,) = [text for text in told if "disk" in text]
    assert text.startswith("the disk of the image cannot be searched for the secret pin: ")
