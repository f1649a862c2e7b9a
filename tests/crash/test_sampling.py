"""How many cases of a matrix a run has."""

from __future__ import annotations

import math

import pytest

from tests.worlds.matrix import stride


@pytest.mark.parametrize("every", [3, 5, 7, 13, 29, 47, 167, 211, 401, 997])
def test_a_denser_sample_has_all_variations_of_a_call(every: int) -> None:
    assert stride(every, 1) == every
    for times in (2, 20, 1000):
        step = stride(every, times)
        assert step >= max(3, every / times)
        assert step < 2 * max(3, every / times) + 2
        assert math.gcd(step, 2 * 2 * 2) == 1  # the moments, what follows, and the delays
