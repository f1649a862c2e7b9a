"""The environment of programs of a user that run on this machine: tests, and receivers of notifications."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

# And those of the locale. All others may be credentials of the user or the pipeline.
_PASSED: Final = frozenset({"PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR"})


def clean_environment(names: Iterable[str] = ()) -> dict[str, str]:
    """Return the variables of this process that a program gets, without credentials. ``names``: more variables."""
    wanted = _PASSED | set(names)
    return {name: value for name, value in os.environ.items() if name in wanted or name.startswith("LC_")}
