"""Hardening: controls, the checks that prove them on a host, and what became of each.

A control is one rule: why it is there, the operations that bring it about, and the checks that prove it. It is read
from ``hardening/`` by ``recipe``; here is what it means. ``stages`` gives the operations of a set of controls;
``Batch`` proves all of them over one connection, at both gates (``SUITE``) and on running hosts (``harden check``).
"""

from pathlib import Path

from goldenami.hardening.batch import Batch, CheckResult, judge
from goldenami.hardening.checks import Check, Expected
from goldenami.hardening.control import LAST, Control, Hardening, Waiver, stages
from goldenami.hardening.results import Collector, results

SUITE = Path(__file__).with_name("suite.py")
"""Tests of the controls, one a control; they need the batch as the variable ``VARIABLE``."""
VARIABLE = "hardening"

__all__ = [
    "LAST",
    "SUITE",
    "VARIABLE",
    "Batch",
    "Check",
    "CheckResult",
    "Collector",
    "Control",
    "Expected",
    "Hardening",
    "Waiver",
    "judge",
    "results",
    "stages",
]
