"""What all tests share: how hypothesis draws, and a world to build in.

The worlds are in ``tests/worlds``; the clouds are fixtures of ``goldenami_sandbox.fixtures``. The fixtures that open a
world import it: loading the cloud takes a third of a second, which most tests do not need.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from goldenami_sandbox.testing import PaperCloud

    from tests.worlds.builds import World

# A busy machine is no failure; and in CI, one commit has one verdict.
settings.register_profile("goldenami", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("goldenami")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.get_closest_marker("matrix") is not None:
        from tests.worlds import matrix

        matrix.generate(metafunc)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long files first, so that no worker is left with one at the end: those with instances, then those with matrices
    and those that mostly wait. xdist keeps this order with ``--no-loadscope-reorder``. A run that is no run of every
    test skips nightly tests, and has a sample of cases."""
    from tests.worlds import matrix

    if not matrix.whole(config):
        for item in items:
            if item.get_closest_marker("nightly") is not None:
                item.add_marker(pytest.mark.skip(reason="`make test-all` and the nightly pipeline run it"))
        left_out = matrix.left_out(items)
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]
    ranks: dict[Path, int] = {}
    for item in items:
        long = any(item.get_closest_marker(name) for name in ("matrix", "early"))
        rank = 0 if item.get_closest_marker("root") else 1 if long else 2
        ranks[item.path] = min(rank, ranks.get(item.path, 2))
    items.sort(key=lambda item: ranks[item.path])


# The collector looks seldom at what the tests make: with Python's own thresholds it takes a sixth of the processor time
# of the tests that call the cloud, and of the collection of tests.
gc.set_threshold(50_000, 20, 50)


def pytest_collection_finish() -> None:
    """The collector looks at the loaded modules and tests no more."""
    gc.freeze()
    if "botocore.session" in sys.modules:
        from tests.worlds import descriptions

        descriptions.share()


def pytest_sessionfinish() -> None:
    """At its end, pytest looks for garbage, and Python does once more: both need not look at what the tests left."""
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, object, object]:
    """A failure of several places tells each of them."""
    try:
        return (yield)
    except BaseException as error:
        for place, why in getattr(error, "failures", {}).items():
            error.add_note(f"{place}: {why}")
        raise


@pytest.fixture(scope="session", autouse=True)
def cleaned_up_if_killed(guarded: None) -> None:
    """A killed run leaves nothing behind."""


@pytest.fixture(scope="session", autouse=True)
def no_sandbox_of_this_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The catalog of a sandbox environment is a file of the sandbox. No test reads or changes the sandbox of the person
    who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOLDENAMI_SANDBOX_HOME", str(tmp_path_factory.mktemp("sandboxes")))
        yield


@pytest.fixture(scope="session")
def whole() -> bool:
    """Whether every case runs (``make test-all``), or a sample of them. The matrices have ``tests.worlds.matrix``."""
    return os.environ.get("GOLDENAMI_WHOLE_MATRIX", "") not in ("", "0")


@pytest.fixture
def paper_cloud(paper_cloud: Callable[..., PaperCloud]) -> Iterator[Callable[..., PaperCloud]]:
    """The sandbox's own fixture, with clouds that the clients of this process call directly."""
    from tests.worlds.inprocess import called_directly

    with ExitStack() as stack:

        def make(**options: Any) -> PaperCloud:
            paper = paper_cloud(**options)
            stack.enter_context(called_directly(paper.endpoint, paper.cloud.serve))
            return paper

        yield make


@pytest.fixture(scope="module")
def build_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Whole builds without hosts. Each case begins with ``fresh``; the tests of a module share the logins, which take
    longer than a build."""
    from tests.worlds.builds import a_world

    with pytest.MonkeyPatch.context() as patch, a_world(tmp_path_factory.mktemp("world"), patch) as world:
        yield world
