"""How hypothesis draws. The clouds to test against are fixtures of ``goldenami_sandbox.fixtures``."""

from __future__ import annotations

import os

from hypothesis import settings

# A busy machine is no failure; and in CI, one commit has one verdict.
settings.register_profile("goldenami", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("goldenami")
