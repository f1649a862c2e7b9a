"""Tests on a host: pytest and testinfra over goldenami's own SSH connection, in a separate process.

``run_suite`` runs built-in suites and the test files of a recipe at a gate and returns a TestReport; ``prepare`` starts
the process of the next run early. ``require`` raises TestsFailed if the report has failures. ``read_traces`` reads the
identity of the builder, which must not be in the image (suite "sealed").
"""

from goldenami.validate.runner import SUITES, prepare, require, run_suite
from goldenami.validate.settings import TestPath
from goldenami.validate.traces import READ_TRACES, Traces, parse_traces, read_traces

__all__ = [
    "READ_TRACES",
    "SUITES",
    "TestPath",
    "Traces",
    "parse_traces",
    "prepare",
    "read_traces",
    "require",
    "run_suite",
]
