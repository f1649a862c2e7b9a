"""Collects files of shell checks (``goldenami.shellchecks``) as tests, beside the ones in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from goldenami.shellchecks import SKIPPED, SUFFIX, InvalidCheckError, ShellCheck, parse

_SHOWN_LINES = 8  # of the output of a check that failed


def collect(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Return the collector of a file of shell checks; None for other files."""
    return ShellFile.from_parent(parent, path=path) if path.suffix == SUFFIX else None


class ShellFile(pytest.Module):
    """A file of shell checks. Each check is a test function with the fixture ``host``."""

    def _getobj(self) -> ModuleType:
        return ModuleType(self.path.stem)

    def collect(self) -> Iterator[pytest.Item]:
        try:
            checks = parse(self.path.read_text(encoding="utf-8"))
        except InvalidCheckError as error:
            place = ("shell check", (str(self.path), error.line, 1, None))
            raise SyntaxError(f"{error}. {error.hint}", place[1]) from None
        for check in checks:
            yield pytest.Function.from_parent(self, name=check.name, callobj=_function(self.path, check))


def _function(path: Path, check: ShellCheck) -> Callable[..., object]:
    """Return the test function of a check. Its code has the place of the check in the file, so that failures do."""
    names: dict[str, Any] = {"run": lambda host: _run(host, check)}
    code = "\n" * (check.line - 1) + "def check(host): __tracebackhide__ = False; run(host)"
    exec(compile(code, str(path), "exec"), names)
    function: Any = names["check"]
    marks = [pytest.mark.reads] if check.is_reading else []
    marks += [pytest.mark.alone] if check.is_alone else []
    marks += [pytest.mark.gate(check.gate)] if check.gate else []
    marks += [pytest.mark.retry(check.retries)] if check.retries is not None else []
    function.pytestmark = [mark.mark for mark in marks]
    return function  # type: ignore[no-any-return]


def _run(host: Any, check: ShellCheck) -> None:
    __tracebackhide__ = True
    if check.is_root:
        with host.sudo():
            done = host.run("sh -ec %s", check.script)
    else:
        done = host.run("sh -ec %s", check.script)
    if done.rc == SKIPPED:
        pytest.skip((done.stdout.strip().splitlines() or ["no reason"])[-1])
    if done.rc != 0:
        lines = [line for line in (*done.stdout.splitlines(), *done.stderr.splitlines()) if line.strip()]
        pytest.fail("\n".join([f"exit status {done.rc}", *lines[-_SHOWN_LINES:]]))
