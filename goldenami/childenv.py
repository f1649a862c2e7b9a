"""Programs of a user that run on this machine (tests, playbooks, receivers of notifications): where they are, and their
environment."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

# And those of the locale. All others may be credentials of the user or the pipeline.
_PASSED: Final = frozenset({"PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR"})


def clean_environment(names: Iterable[str] = ()) -> dict[str, str]:
    """Return the variables of this process that a program gets, without credentials. ``names``: more variables."""
    wanted = _PASSED | set(names)
    return {name: value for name, value in os.environ.items() if name in wanted or name.startswith("LC_")}


def find_program(name: str) -> str | None:
    """Return the path of a program: of the environment that goldenami is installed in, or of the PATH."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if os.access(beside, os.X_OK) else shutil.which(name)
