"""Fixtures for pytest: clouds for tests. Use them with ``-p goldenami_sandbox.fixtures``.

``paper_cloud``: a factory of clouds without contents, in this process: the API, states, accounts and errors.
``real_sandbox``: a sandbox with real instances, shared by the tests of a worker. It needs root.
``guarded``: if this process is killed, its processes and mounts are cleaned up.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # Only the tests that need the sandbox import it, because the import takes 0.3 seconds.
    from goldenami_sandbox.control import SandboxInfo
    from goldenami_sandbox.testing import PaperCloud


@pytest.fixture
def paper_cloud() -> Iterator[Callable[..., PaperCloud]]:
    """Return a function that makes a cloud. It takes the arguments of ``goldenami_sandbox.testing.paper_cloud``.

    All clouds end with the test.
    """
    from goldenami_sandbox.testing import paper_cloud as make_paper_cloud

    with contextlib.ExitStack() as clouds:

        def make(**options: Any) -> PaperCloud:
            return clouds.enter_context(make_paper_cloud(**options))

        yield make


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Clean up the processes and mounts of this process if it is killed (see ``goldenami_sandbox.guard``)."""
    from goldenami_sandbox import guard

    with guard.guarded(tmp_path_factory.getbasetemp()):
        yield


@pytest.fixture(scope="session")
def real_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxInfo]:
    """A running sandbox with Debian 12 prepared, one for each worker of a test run.

    The tests of a worker share it. Each test uses unique names, terminates its instances, and restores the settings
    that it changes. The kernel ends the sandbox with the worker, also if the worker is killed.
    """
    if os.geteuid() != 0:
        pytest.skip("real instances need root")
    from goldenami_sandbox import control

    home = tmp_path_factory.mktemp("sandbox")
    info = control.up("tests", home=home, die_with_parent=True, instances="systemd")
    try:
        yield info
    finally:
        control.reset("tests", home=home)
