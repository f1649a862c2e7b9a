"""A sample of the matrices over HTTP: the others hand their calls to the cloud directly, and this shows that it makes
no difference to the program.

What HTTP adds is botocore's signature, urllib3's connections and their real errors, and EC2's XML.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from tests.crash.test_crashes import killed
from tests.crash.test_faults import disturbed
from tests.worlds.builds import Label, World, a_world
from tests.worlds.faults import FAULTS, Fault, Once, Storm
from tests.worlds.matrix import matrix
from tests.worlds.recordings import RECORDINGS, calls


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch, a_world(tmp_path_factory.mktemp("wire"), patch, wire=True) as world:
        yield world


def kinds(labels: Iterable[Label]) -> set[tuple[Any, ...]]:
    """Of those that ask again and again, the first: how often depends on whose turn it is."""
    return {tuple(label) for label in labels if label.action[:8] not in ("Describe", "GetParam") or label.ordinal == 1}


@pytest.mark.parametrize("name", ["build", "every-call"])
def test_a_build_makes_the_same_calls(wire: World, name: str) -> None:
    assert kinds(RECORDINGS[name](wire)) == kinds(calls(name))


def faulty() -> Iterator[tuple[Label, Fault, str]]:
    every = calls("every-call")
    for number, fault in enumerate(FAULTS * 4):
        yield every[number * 29 % len(every)], fault, ("clean", "resume")[number % 2]


@matrix("label, fault, then", faulty(), every=17)
def test_faults(wire: World, label: Label, fault: Fault, then: str) -> None:
    disturbed(wire, Once(label, fault), then=then)


@matrix("seed", ((seed,) for seed in range(3, 33)), every=31)
def test_storms(wire: World, seed: int) -> None:
    disturbed(wire, Storm(seed, (0.03, 0.1, 0.3)[seed % 3]), then=("clean", "resume")[seed % 2])


def crashing() -> Iterator[tuple[Label, str, str]]:
    every = calls("build")
    for number in range(26):
        yield every[number * 13 % len(every)], ("after", "before")[number % 2], ("resume", "clean", "clean")[number % 3]


@matrix("label, when, then", crashing(), every=19)
def test_crashes(wire: World, label: Label, when: str, then: str) -> None:
    killed(wire, label, when, then, 0.0)
