"""Checks before a build: what would make it fail is found by reads, within seconds, and all at once.

``goldenami doctor`` prints the findings; ``build`` makes the same checks before it creates anything. A plan has
findings and makes no checks, so the names that need the modules of the checks load them when they are first used.
"""

from typing import TYPE_CHECKING

from goldenami.ondemand import load_names
from goldenami.preflight.finding import SCHEMA, Finding, PreflightFailed, from_error

if TYPE_CHECKING:
    from goldenami.preflight.checks import CODES, find, find_keys, find_permissions, ordered, require
    from goldenami.preflight.context import Context

__all__ = [
    "CODES",
    "SCHEMA",
    "Context",
    "Finding",
    "PreflightFailed",
    "find",
    "find_keys",
    "find_permissions",
    "from_error",
    "ordered",
    "require",
]

if not TYPE_CHECKING:  # a type checker reads the imports above
    __getattr__ = load_names(
        __name__,
        {"checks": ("CODES", "find", "find_keys", "find_permissions", "ordered", "require"), "context": ("Context",)},
    )
