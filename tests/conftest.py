"""Fixtures that several rooms use: clouds to test against.

``paper_cloud``    a factory of clouds without contents: the API, states, accounts and errors, in this process, at once.
``real_sandbox``   one sandbox with real instances, shared by the tests of a worker; needs root.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # at run time the sandbox is imported by the tests that use it: it takes a third of a second
    from goldenami.sandbox.testing import PaperCloud


@pytest.fixture
def paper_cloud() -> Iterator[Callable[..., PaperCloud]]:
    """Call it for a cloud; arguments as for ``goldenami.sandbox.testing.paper_cloud``. They end with the test."""
    from goldenami.sandbox.testing import paper_cloud as make_paper_cloud

    with contextlib.ExitStack() as clouds:

        def make(**options: Any) -> PaperCloud:
            return clouds.enter_context(make_paper_cloud(**options))

        yield make
