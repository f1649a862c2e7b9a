"""Tests on a host: pytest and testinfra over goldenami's own SSH connection, in a process of their own.

``run_suite`` runs built-in suites and a recipe's files at a gate and returns a TestReport; ``require`` turns a bad one
into TestsFailed. ``read_traces`` reads from the builder what must not be found again in the image (suite "sealed").
"""

from goldenami.validate.runner import SUITES, require, run_suite
from goldenami.validate.settings import TestPath
from goldenami.validate.traces import READ_TRACES, Traces, parse_traces, read_traces

__all__ = [
    "READ_TRACES",
    "SUITES",
    "TestPath",
    "Traces",
    "parse_traces",
    "read_traces",
    "require",
    "run_suite",
]
