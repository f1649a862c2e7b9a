"""How hypothesis draws. The clouds to test against are fixtures of ``goldenami_sandbox.fixtures``."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# A busy machine is no failure; and in CI, one commit has one verdict.
settings.register_profile("goldenami", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("goldenami")


@pytest.fixture(scope="session", autouse=True)
def cleaned_up_if_killed(guarded: None) -> None:
    """A killed run leaves nothing behind."""
