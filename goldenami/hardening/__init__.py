"""Hardening: controls, their checks on a host, and the result of each control.

A control is one hardening rule: its reason, the operations that apply it, and the checks that prove it on a host.
The package ``recipe`` reads controls from ``hardening/``. ``stages`` returns the operations of a set of controls.
``Batch`` runs all checks over one connection: at both gates (``SUITE``) and on running hosts (``harden check``).
"""

from pathlib import Path
from typing import TYPE_CHECKING

from goldenami.hardening.checks import Check, Expected
from goldenami.hardening.control import (
    AFTER,
    BEFORE,
    LAST,
    WAIVER_ENDS_SOON,
    Control,
    Excluded,
    Hardening,
    Waiver,
    rechecked,
    stages,
)
from goldenami.hardening.results import Collector, results
from goldenami.ondemand import load_names

if TYPE_CHECKING:
    from goldenami.hardening.batch import Batch, CheckResult, check_control

SUITE = Path(__file__).with_name("suite.py")
"""The file with one test for each control. The tests read the batch from the variable ``VARIABLE``."""
VARIABLE = "hardening"
"""Name of the test variable that holds the batch as JSON."""
UNDONE = "undone"
"""Name of the test variable that lists what the hardening undid; None where no hardening was applied."""

__all__ = [
    "AFTER",
    "BEFORE",
    "LAST",
    "SUITE",
    "UNDONE",
    "VARIABLE",
    "WAIVER_ENDS_SOON",
    "Batch",
    "Check",
    "CheckResult",
    "Collector",
    "Control",
    "Excluded",
    "Expected",
    "Hardening",
    "Waiver",
    "check_control",
    "rechecked",
    "results",
    "stages",
]

if not TYPE_CHECKING:  # a type checker reads the import above; what only reads recipes runs no checks
    __getattr__ = load_names(__name__, {"batch": ("Batch", "CheckResult", "check_control")})
