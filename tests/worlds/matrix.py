"""Matrices: what may be disturbed, times how. Each case is a test of its own, with a name that says the case.

A run has a sample of the cases, the same ones each time. Every case is there with ``GOLDENAMI_WHOLE_MATRIX=1`` (``make
test-all``), and where tests are picked: with ``-k``, or by a test's full name. ``GOLDENAMI_MATRIX_DENSITY=20`` (``make
test-crash``) gives about 20 times as many as a sample.

``@pytest.mark.sample(every)`` does the same for the cases of ``@pytest.mark.parametrize``: one of ``every`` is run.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from tests.worlds.accounts import NAMES


def matrix(names: str, cases: Iterable[Sequence[Any]], *, every: int, each_kind: bool = False) -> pytest.MarkDecorator:
    """A test for each case. ``names``: of the test's arguments. ``every``: a sample has one case of that many; it has
    to have no common factor with the number of variations of a call, so that all variations come up.

    ``each_kind``: the sample also has the first case of each kind of call (such as CopyImage) that it would not have.

    An argument ``number``, if the test has one, is the case's position: what alternates goes by it.
    """
    return pytest.mark.matrix(names, list(cases), every, each_kind)


def whole(config: pytest.Config) -> bool:
    """Whether every case is to run."""
    picked = bool(config.option.keyword) or any("::" in str(argument) for argument in config.args)
    return picked or os.environ.get("GOLDENAMI_WHOLE_MATRIX", "") not in ("", "0")


def density() -> int:
    """How many times as many cases as a sample the run has."""
    return int(os.environ.get("GOLDENAMI_MATRIX_DENSITY") or 1)


def stride(every: int, times: int) -> int:
    """One case of how many is run where a sample has one of ``every``, for about ``times`` as many cases: a prime of at
    least 3, so that all variations of a call come up here, too."""
    if times == 1:
        return every
    least = max(3, -(-every // times))
    return next(n for n in range(least, 2 * least + 2) if all(n % d for d in range(2, n)))


def left_out(items: Iterable[pytest.Item]) -> set[pytest.Item]:
    """The cases of tests with the mark ``sample`` that a sample does not have."""
    seen: Counter[tuple[object, str]] = Counter()
    found: set[pytest.Item] = set()
    for item in items:
        mark = item.get_closest_marker("sample")
        if mark is not None and isinstance(item, pytest.Function):
            test = (item.path, item.originalname)
            if seen[test] % mark.args[0]:
                found.add(item)
            seen[test] += 1
    return found


def generate(metafunc: pytest.Metafunc) -> None:
    """The cases of a test that has the mark; ``pytest_generate_tests`` of tests/conftest.py calls this."""
    mark = metafunc.definition.get_closest_marker("matrix")
    if mark is None:
        return
    names, cases, every, each_kind = mark.args
    arguments = [name.strip() for name in names.split(",")]
    numbered = [(*case, number) for number, case in enumerate(cases)]
    chosen = numbered if whole(metafunc.config) else numbered[:: stride(every, density())]
    if each_kind:
        seen = {_kind(case) for case in chosen}
        firsts = {_kind(case): case for case in reversed(numbered)}
        chosen += [case for kind, case in firsts.items() if kind not in seen]
    ids = ["-".join(_part(value) for value in case[:-1]) for case in chosen]
    if "number" in metafunc.fixturenames:
        arguments.append("number")
    else:
        chosen = [case[:-1] for case in chosen]
    metafunc.parametrize(arguments, chosen, ids=ids)


def _kind(case: Sequence[Any]) -> tuple[str, str] | None:
    return next(((value.service, value.action) for value in case if hasattr(value, "ordinal")), None)


def _part(value: Any) -> str:
    """A part of a case's name. A call is its action, how many of its kind came before in that place, and the place."""
    if hasattr(value, "ordinal"):
        service = "" if value.service in ("ec2", "kms", "ssm", "sts") else f"{value.service}."
        return f"{service}{value.action}-{value.ordinal}-{NAMES.get(value.account, value.account)}-{value.region}"
    return str(getattr(value, "__name__", value)).replace(" ", "_")
