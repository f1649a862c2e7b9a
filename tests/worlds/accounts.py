"""The accounts of all worlds. The sandbox has them from its start (``goldenami_sandbox.seed``)."""

from __future__ import annotations

HOME, APPS = "111111111111", "222222222222"
NAMES = {HOME: "home", APPS: "apps"}
