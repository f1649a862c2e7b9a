"""The processes whose time is measured."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def variables(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment variables of a command that is measured: with the code of this checkout. Python may keep
    the compiled modules, as it does for users; a developer's setting would compile each module again in each run."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**own, **(more or {}), "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
