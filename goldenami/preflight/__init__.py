"""Checks before a build: what would make it fail is found by reads, within seconds, and all at once.

``goldenami doctor`` prints the findings; ``build`` makes the same checks before it creates anything.
"""

from goldenami.preflight.checks import CODES, find, require
from goldenami.preflight.context import Context
from goldenami.preflight.finding import SCHEMA, Finding, PreflightFailed, from_error

__all__ = ["CODES", "SCHEMA", "Context", "Finding", "PreflightFailed", "find", "from_error", "require"]
