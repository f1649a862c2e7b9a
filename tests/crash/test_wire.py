"""A sample of the matrices over HTTP: the others hand their calls to the cloud directly, and this shows that it makes
no difference to the program.

What HTTP adds is botocore's signature, urllib3's connections and their real errors, and EC2's XML.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash.test_crashes import killed, mutations
from tests.crash.test_faults import Tell, calls, disturbed
from tests.worlds.builds import Label, World, a_world
from tests.worlds.cases import Verdicts
from tests.worlds.faults import FAULTS, Once, Storm


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch, a_world(tmp_path_factory.mktemp("wire"), patch, wire=True) as world:
        yield world


def kinds(labels: list[Label]) -> set[tuple[Any, ...]]:
    """Of those that ask again and again, the first: how often depends on whose turn it is."""
    return {tuple(label) for label in labels if label.action[:8] not in ("Describe", "GetParam") or label.ordinal == 1}


def test_a_build_makes_the_same_calls(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directly = kinds(calls(world)), kinds(mutations(world))
    with a_world(tmp_path / "wire", monkeypatch, wire=True) as other:
        assert (kinds(calls(other)), kinds(mutations(other))) == directly


def test_faults(wire: World, whole: bool, record_property: Tell) -> None:
    verdicts = Verdicts("fault matrix, over HTTP")
    every = calls(wire)
    for number, fault in enumerate(FAULTS * (4 if whole else 1)):
        label = every[number * 29 % len(every)]
        verdicts.run(
            f"{fault.__name__} at {label}",
            lambda: disturbed(wire, Once(label, fault), then=("clean", "resume")[number % 2]),  # noqa: B023
        )
    for number in range(3, 33 if whole else 6):
        storm = Storm(number, (0.03, 0.1, 0.3)[number % 3])
        verdicts.run(f"storm {number}", lambda: disturbed(wire, storm, then=("clean", "resume")[number % 2]))  # noqa: B023
    verdicts.tell(record_property)


def test_crashes(wire: World, whole: bool, record_property: Tell) -> None:
    verdicts = Verdicts("crash matrix, over HTTP")
    every = mutations(wire)
    for number in range(24 if whole else 6):
        label, when = every[number * 13 % len(every)], ("after", "before")[number % 2]
        then = ("resume", "clean", "clean")[number % 3]
        verdicts.run(f"killed {when} {label}, {then}", lambda: killed(wire, label, when, then, 0.0))  # noqa: B023
    verdicts.tell(record_property)
