"""Tests on a host: pytest and testinfra over goldenami's own SSH connection, in a separate process.

``run_suite`` runs built-in suites and the test files of a recipe at a gate and returns a TestReport; ``prepare`` starts
the process of the next run early, and ``ending_prepared`` ends it if no run needs it. ``require`` raises TestsFailed if
the report has failures. ``read_traces`` reads the identity of the builder, which must not be in the image (suite
"sealed").
"""

from goldenami.validate.runner import SUITES, ending_prepared, prepare, require, run_suite
from goldenami.validate.settings import TestPath
from goldenami.validate.traces import READ_TRACES, Traces, parse_traces, read_traces

__all__ = [
    "READ_TRACES",
    "SUITES",
    "TestPath",
    "Traces",
    "ending_prepared",
    "parse_traces",
    "prepare",
    "read_traces",
    "require",
    "run_suite",
]
