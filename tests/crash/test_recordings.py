"""The matrices disturb the calls that runs make today."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from tests.worlds.builds import Label, World
from tests.worlds.recordings import RECORDINGS, calls

WRITE = "run `python -m tests.worlds.recordings`, and look at the difference"
# A matrix that lost its cases would pass as well.
AT_LEAST = {
    "build": 40,
    "every-call": 95,
    "second-release": 12,
    "clean-up": 10,
    "build-in-a-bucket": 150,
    "encrypt": 15,
    "restore": 15,
    "encrypt-changes": 10,
    "restore-changes": 10,
    "copy-changes": 10,
}


def lasting(labels: Collection[Label]) -> set[str]:
    """Without what threads race for: how often something is asked."""
    return {str(label) for label in labels if not (label.action[:8] in ("Describe", "GetParam") and label.ordinal > 1)}


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_has_the_calls_of_today(world: World, name: str) -> None:
    made, kept = lasting(list(RECORDINGS[name](world))), lasting(calls(name))
    assert made - kept == set(), f"calls that are new: {WRITE}"
    assert kept - made == set(), f"calls that are made no more: {WRITE}"


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_is_not_empty(name: str) -> None:
    assert len(calls(name)) >= AT_LEAST[name]
