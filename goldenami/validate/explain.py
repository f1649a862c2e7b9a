"""Explains in a few lines why a test failed. Pure functions of pytest's reports and Python's exceptions."""

from __future__ import annotations

import linecache
import traceback
from pathlib import Path

import pytest

_LINES = 12  # of an assertion's explanation; the log contains the whole text


class TooLong(BaseException):
    """A phase of a test took longer than its limit. A BaseException, so that ``except Exception`` does not catch it."""


_PLAIN = (AssertionError, pytest.fail.Exception, TooLong)  # their text is complete without the name of the class


def describe_error(error: BaseException) -> str:
    """Describe an exception in one line. The class name is left out where the text is complete without it."""
    text = str(error).strip() or type(error).__name__
    if not isinstance(error, _PLAIN):
        text = f"{type(error).__name__}: {text}"
    return text.splitlines()[0]


def describe_failure(info: pytest.ExceptionInfo[BaseException], item: pytest.Item, label: str) -> tuple[str, str]:
    """Return the message and the place (file:line) of a failed test.

    The message is the text of the assertion, then the line that failed, marked ``>``. The place is the last frame of
    the traceback in the test's own file; deeper frames belong to testinfra or to a helper.
    """
    entries = [entry for entry in info.traceback if Path(str(entry.path)) == item.path]
    message = _limited(_explanation(info.value))
    if not entries:  # a missing fixture, or one that failed elsewhere
        line = item.location[1]
        return message, f"{label}:{line + 1}" if line is not None else label
    entry = entries[-1]
    try:
        statement = str(entry.statement).strip().splitlines()
    except SyntaxError:  # a file of shell checks
        statement = [linecache.getline(str(entry.path), entry.lineno + 1).strip()]
    if statement:
        message += f"\n> {statement[0]}"
    return message, f"{label}:{entry.lineno + 1}"


def _explanation(error: BaseException) -> str:
    text = str(error).strip()
    if isinstance(error, _PLAIN):
        return text or "assertion failed"
    if type(error).__name__ == "FixtureLookupError":
        return f"there is no fixture {getattr(error, 'argname', None)!r}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _limited(text: str) -> str:
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    if len(lines) > _LINES:
        lines = [*lines[:_LINES], f"… {len(lines) - _LINES} more lines"]
    return "\n".join(line if len(line) <= 300 else line[:300] + "…" for line in lines)


def skip_reason(report: pytest.TestReport) -> str:
    """Return the reason why a test was skipped, or why its failure was expected."""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    return str(getattr(report, "wasxfail", "")) or "expected to fail"


def describe_collection_error(error: BaseException, path: Path) -> tuple[str, int, int, str]:
    """Return file, line, column and message of the error because of which a test file cannot be imported."""
    if isinstance(error, pytest.Collector.CollectError) and error.__cause__ is not None:
        error = error.__cause__  # pytest wraps syntax and import errors
    if isinstance(error, SyntaxError):
        return error.filename or str(path), error.lineno or 0, error.offset or 0, f"invalid syntax: {error.msg}"
    line = 0
    for frame in traceback.extract_tb(error.__traceback__):
        if Path(frame.filename) == path:
            line = frame.lineno or 0
    return str(path), line, 0, f"cannot be imported: {describe_error(error)}"


def last_line(text: str) -> str:
    """Return the last line of a text, or a placeholder if the text is empty."""
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else "(no output)"
