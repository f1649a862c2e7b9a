"""Releases on a cloud of paper, with the gate that can disturb any call."""

from __future__ import annotations

from tests.crash.conftest import whole as whole
from tests.crash.conftest import world as crash_world  # noqa: F401
