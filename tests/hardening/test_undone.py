"""What the recipe's own software set up is checked again after the hardening."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from goldenami.hardening import AFTER, BEFORE, rechecked
from goldenami.provision import Drift, Item, RunResult, Stage
from goldenami.provision.program import compile_program
from goldenami.provision.progress import Progress
from goldenami.provision.stream import Drifted
from tests.provision.examples import bind
from tests.provision.local import run_items_here


def stages(folder: Path) -> list[Stage]:
    kept, changed, twice = (str(folder / name) for name in ("kept", "changed", "twice"))
    software = (
        bind("file", dest=kept, content="kept\n"),
        bind("file", dest=changed, content="changed\n", mode="0644"),
        bind("file", dest=twice, content="first\n"),
        bind("line", path=twice, line="and more"),  # so the operation before it does not hold any more
        bind("command", argv=["true"]),  # no check can prove it
    )
    control = bind("permissions", path=changed, files="0600")
    return [Stage("software", software), Stage("hardening", (control,))]


def result(items: Sequence[Item], drift: list[Drifted]) -> RunResult:
    progress = Progress(
        compile_program(items), lambda event: None, lambda text: text, "host", nullcontext, lambda _: None
    )
    for message in drift:
        progress.on_message(message)
    return RunResult((), {}, 0.0, progress.drift)


def test_what_a_control_undoes_is_found_and_what_the_recipe_changes_itself_is_not(tmp_path: Path) -> None:
    items = rechecked(stages(tmp_path))
    here = run_items_here(items)
    assert here.statuses == ["changed"] * 6
    assert [(d.when, d.index) for d in here.drift] == [(BEFORE, 2), (AFTER, 1), (AFTER, 2)]
    [undone] = result(items, here.drift).undone(BEFORE, AFTER)
    assert (undone.title, undone.detail) == (f"file {tmp_path}/changed", "mode is 600")
    assert undone.place.startswith("recipe.yaml:")


def test_check_mode_checks_once(tmp_path: Path) -> None:
    items = rechecked(stages(tmp_path))
    run_items_here(items)
    assert run_items_here(items, mode="check").drift == []


def test_without_hardening_nothing_is_added(tmp_path: Path) -> None:
    software = stages(tmp_path)[:1]
    assert rechecked(software) == software


def test_the_order(tmp_path: Path) -> None:
    names = ("patches", "agents", "software", "hardening", "upgrades", "hardening-last")
    found = rechecked([Stage(name, ()) for name in names])
    shown = [item.name if isinstance(item, Stage) else item.when for item in found if not hasattr(item, "script")]
    assert shown == ["patches", "agents", "software", BEFORE, "hardening", "upgrades", "hardening-last", AFTER]


def test_a_drift_that_was_there_before_does_not_count() -> None:
    drift = Drift("a", "x:1:1", "")
    run = RunResult((), {}, 0.0, {BEFORE: {1: drift}, AFTER: {1: drift, 3: drift}})
    assert run.undone(BEFORE, AFTER) == (drift,)
