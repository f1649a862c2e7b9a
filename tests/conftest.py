"""Fixtures that several rooms use: clouds to test against.

``paper_cloud``    a factory of clouds without contents: the API, states, accounts and errors, in this process, at once.
``real_sandbox``   one sandbox with real instances, shared by the tests of a worker; needs root.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:  # at run time the sandbox is imported by the tests that use it: it takes a third of a second
    from goldenami.sandbox.control import SandboxInfo
    from goldenami.sandbox.testing import PaperCloud

# A busy machine is no failure; and in CI, one commit has one verdict.
settings.register_profile("goldenami", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("goldenami")


@pytest.fixture
def paper_cloud() -> Iterator[Callable[..., PaperCloud]]:
    """Call it for a cloud; arguments as for ``goldenami.sandbox.testing.paper_cloud``. They end with the test."""
    from goldenami.sandbox.testing import paper_cloud as make_paper_cloud

    with contextlib.ExitStack() as clouds:

        def make(**options: Any) -> PaperCloud:
            return clouds.enter_context(make_paper_cloud(**options))

        yield make


@pytest.fixture(scope="session")
def real_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxInfo]:
    """A running sandbox with Debian 12 prepared, one for each worker of a run. Mark the tests ``root``.

    They share it: each uses names of its own, terminates its instances, and sets back the settings that it changes.
    It ends with the worker, however that ends: the kernel sees to it.
    """
    if os.geteuid() != 0:
        pytest.skip("real instances need root")
    from goldenami.sandbox import control

    home = tmp_path_factory.mktemp("sandbox")
    info = control.up("tests", home=home, die_with_parent=True)
    try:
        yield info
    finally:
        control.reset("tests", home=home)
