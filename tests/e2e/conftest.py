"""Whole builds, from the command line to running instances, in a real sandbox."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from goldenami_sandbox.control import SandboxInfo

    from tests.worlds.machines import Cloud, Workspace


@pytest.fixture(scope="session")
def cloud(real_sandbox: SandboxInfo) -> Cloud:
    """One sandbox for all; what a test publishes bears a name of its own."""
    from tests.worlds.machines import Cloud

    return Cloud(real_sandbox)


@pytest.fixture
def workspace(cloud: Cloud, tmp_path: Path) -> Workspace:
    """An empty project with the default environment."""
    from tests.worlds.machines import SANDBOX, Workspace

    made = Workspace(tmp_path, cloud)
    made.write("goldenami.yaml", SANDBOX)
    return made


@pytest.fixture
def unchanged(cloud: Cloud) -> Callable[[], None]:
    """Call it at the end: the cloud holds what it held before the test, in every account and region."""
    before = cloud.inventory()

    def check() -> None:
        after = cloud.inventory()
        assert after - before == set()
        assert before - after == set()

    return check
