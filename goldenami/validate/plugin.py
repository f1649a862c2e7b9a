"""The pytest plugin of the process that runs tests; ``runner.run_suite`` starts that process, nobody else loads this.

What tests may use:

- the fixture ``host``: testinfra's Host, over goldenami's own connection; and ``gate`` ("builder", "image"),
  ``architecture`` ("x86_64", "arm64"), ``variables`` (a read-only mapping; also under the name ``recipe_vars``);
- ``@pytest.mark.gate("image", …)``: the test belongs to these gates only, and does not run at others;
- ``@pytest.mark.retry(times, delay=1.0)``: how often the test may fail before it is believed, seconds apart. A failed
  test without the mark is repeated too, a little, because services settle after a boot. Only the body is run again,
  with the same fixtures. What passed only when repeated is reported as flaky, never as passed.

A test that takes longer than the limit fails. A host that goes away ends the run: that is no test failure.
"""

from __future__ import annotations

import inspect
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import pytest
from testinfra.host import Host

from goldenami import ssh
from goldenami.errors import ConnectionLost, GoldenAmiError
from goldenami.events import mask
from goldenami.validate import explain
from goldenami.validate.backend import ConnectionBackend
from goldenami.validate.settings import VARIABLE, Settings
from goldenami.validate.traces import Traces

_RUN = pytest.StashKey["Run"]()
_MESSAGE_CHARACTERS = 2000


@dataclass(slots=True)
class TestOutcome:
    """What is known of one test, over its set-up, body and tear-down."""

    outcome: str = "passed"
    seconds: float = 0.0
    message: str = ""
    place: str = ""
    first_failure: str = ""  # of a body that was run again


def pytest_configure(config: pytest.Config) -> None:
    descriptors = os.environ.pop(VARIABLE, "")
    if not descriptors:
        raise pytest.UsageError("goldenami.validate.plugin is loaded by goldenami itself, which says what to test")
    settings_fd, answers_fd, lifeline_fd = (int(n) for n in descriptors.split(","))
    threading.Thread(target=_die_with_parent, args=(lifeline_fd, str(Path.cwd())), daemon=True).start()
    config.addinivalue_line("markers", "gate(*names): run at these gates only")
    config.addinivalue_line("markers", "retry(times, delay=1.0): how often a failure is given another chance")
    run = Run(Settings.from_file(settings_fd), answers_fd)
    config.stash[_RUN] = run
    config.pluginmanager.register(run, "goldenami-run")


def _die_with_parent(lifeline: int, scratch: str) -> None:
    """End at once when the parent is gone, however it went: the kernel closes its end of the pipe."""
    os.read(lifeline, 1)
    shutil.rmtree(scratch, ignore_errors=True)  # the parent's to remove, had it lived
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="session")
def host(request: pytest.FixtureRequest) -> Host:
    """The host under test: https://testinfra.readthedocs.io/en/latest/modules.html"""
    return request.config.stash[_RUN].host


@pytest.fixture(scope="session")
def variables(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """The recipe's variables, as they were rendered."""
    return MappingProxyType(dict(request.config.stash[_RUN].settings.variables))


@pytest.fixture(scope="session")
def recipe_vars(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    """Another name of ``variables``."""
    return variables


@pytest.fixture(scope="session")
def builder_traces(request: pytest.FixtureRequest) -> Traces | None:
    """What was read from the builder that the image was captured from; None before there is an image."""
    return request.config.stash[_RUN].settings.traces


@pytest.fixture(scope="session")
def gate(request: pytest.FixtureRequest) -> str:
    """Where the tests run: "builder" (the provisioned builder) or "image" (a fresh instance of the image)."""
    return request.config.stash[_RUN].settings.gate


@pytest.fixture(scope="session")
def architecture(request: pytest.FixtureRequest) -> str:
    """The architecture of the image, in EC2's words."""
    return request.config.stash[_RUN].settings.architecture


class Run:
    """The hooks of one run, and what they share."""

    def __init__(self, settings: Settings, answers: int) -> None:
        self.settings = settings
        self._answers = answers
        self._verdicts: dict[str, TestOutcome] = {}
        self._budget = settings.retry_budget
        self._gone: GoldenAmiError | None = None
        endpoint = settings.endpoint
        self.backend = ConnectionBackend(endpoint.address, endpoint.user, self._connect)
        self.host = Host(self.backend)
        self.backend.set_host(self.host)
        signal.signal(signal.SIGALRM, self._too_long)

    def _connect(self) -> ssh.Connection:
        return ssh.connect(
            self.settings.endpoint, timeout=self.settings.connect_timeout, sleep=time.sleep, clock=time.monotonic
        )

    def answer(self, event: str, **fields: Any) -> None:
        """One line to the parent."""
        safe = {name: self._masked(value) if isinstance(value, str) else value for name, value in fields.items()}
        data = json.dumps({"event": event, **safe}).encode() + b"\n"
        while data:
            data = data[os.write(self._answers, data) :]

    # --- collection ---------------------------------------------------------------------------------------------------

    def pytest_exception_interact(
        self, node: pytest.Item | pytest.Collector, call: pytest.CallInfo[Any], report: object
    ) -> None:
        if isinstance(report, pytest.CollectReport) and call.excinfo is not None:
            file, line, column, message = explain.collection_error(call.excinfo.value, node.path)
            self.answer("problem", file=file, line=line, column=column, message=message)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        empty = [test.label for test in self.settings.tests if not any(i.path.is_relative_to(test.path) for i in items)]
        if empty:
            self.answer("empty", labels=empty)
            items.clear()
            return
        chosen = [item for item in items if self._belongs_here(item)]
        if len(chosen) < len(items):
            config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
            items[:] = chosen
        self.answer("collected", total=len(items))

    def _belongs_here(self, item: pytest.Item) -> bool:
        marks = list(item.iter_markers("gate"))
        return all(self.settings.gate in mark.args for mark in marks)

    # --- one test -----------------------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        name = self._name(item)
        verdict = self._verdicts[item.nodeid] = TestOutcome()
        self.answer("started", name=name)
        outcome = yield
        self.answer(
            "finished",
            name=name,
            outcome=verdict.outcome,
            seconds=round(verdict.seconds, 3),
            message=verdict.message[:_MESSAGE_CHARACTERS],
            place=verdict.place,
        )
        return outcome

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self) -> Generator[None, None, None]:
        with self._phase():
            yield

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, None, None]:
        with self._phase():
            yield

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self) -> Generator[None, None, None]:
        with self._phase():
            yield

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> object | None:
        """Run the body, again where that is due."""
        __tracebackhide__ = True
        body = pyfuncitem.obj
        if inspect.iscoroutinefunction(body) or inspect.isasyncgenfunction(body):
            return None  # pytest itself says what is wrong with that
        arguments = {n: pyfuncitem.funcargs[n] for n in inspect.signature(body).parameters if n in pyfuncitem.funcargs}
        verdict = self._verdicts[pyfuncitem.nodeid]
        left, delay = self._repetitions(pyfuncitem)
        reconnected = False
        while True:
            try:
                body(**arguments)
                return True
            except ConnectionLost as error:
                if reconnected:
                    raise
                reconnected = True
                verdict.first_failure = verdict.first_failure or f"the connection was lost: {error}"
                delay_now = 0.0
            except GoldenAmiError:
                raise  # the end of the run, see _phase
            except (Exception, pytest.fail.Exception) as error:
                if isinstance(error, pytest.xfail.Exception):
                    raise
                granted = self._granted(pyfuncitem, delay) if left > 0 else None
                if granted is None:
                    raise
                left, delay_now = left - 1, granted
                verdict.first_failure = verdict.first_failure or explain.short(error)
            time.sleep(delay_now)

    def _repetitions(self, item: pytest.Item) -> tuple[int, float]:
        mark = item.get_closest_marker("retry")
        if item.get_closest_marker("xfail") is not None:
            return 0, 0.0
        if mark is None:
            return self.settings.retries, self.settings.retry_delay

        def retry(times: int, delay: float = 1.0) -> tuple[int, float]:
            return times, delay

        return retry(*mark.args, **mark.kwargs)

    def _granted(self, item: pytest.Item, delay: float) -> float | None:
        """The pause before another try, or None once the run's budget for tests that did not ask is spent."""
        if item.get_closest_marker("retry") is not None:
            return delay
        if self._budget < delay:
            return None
        self._budget -= delay
        return delay

    @contextmanager
    def _phase(self) -> Generator[None, None, None]:
        """Interrupts the main thread when the time of a test's phase is over, wherever it waits; and ends the run when
        the host is lost or cannot be reached."""
        signal.setitimer(signal.ITIMER_REAL, self.settings.test_timeout)
        try:
            yield
        except explain.TooLong:
            self.backend.close()  # it was interrupted in the middle of something; the next test gets a fresh one
            raise
        except GoldenAmiError as error:
            self._give_up(error)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _too_long(self, *_: object) -> NoReturn:
        __tracebackhide__ = True
        raise explain.TooLong(f"took longer than {self.settings.test_timeout:g} s")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        verdict = self._verdicts[item.nodeid]
        verdict.seconds += call.duration
        if report.failed and verdict.outcome != "failed":
            assert call.excinfo is not None
            verdict.outcome = "failed"
            verdict.message, verdict.place = explain.failure(call.excinfo, item, self._label(item))
            if call.when == "teardown":
                verdict.message = f"while tearing down: {verdict.message}"
        elif report.skipped and verdict.outcome == "passed":
            verdict.outcome = "skipped"
            verdict.message = explain.skip_reason(report)
        elif call.when == "call" and report.passed and verdict.first_failure:
            verdict.outcome = "flaky"
            verdict.message = f"passed when it was run again; at first: {verdict.first_failure}"
            item.user_properties.append(("flaky", self._masked(verdict.first_failure)))
            report.user_properties = list(item.user_properties)
        # The log and the JUnit file are written from the report: they get the same names, and no secret.
        report.nodeid = self._name(item)
        text = str(report.longrepr or "")
        if text != self._masked(text) and not isinstance(report.longrepr, tuple):
            report.longrepr = self._masked(text)
        report.sections = [(title, self._masked(content)) for title, content in report.sections]
        return report

    def _masked(self, text: str) -> str:
        return mask(text, self.settings.secrets)

    def _label(self, item: pytest.Item) -> str:
        """The name that people gave the item's file: its own label, or that of the folder it was found in."""
        for test in self.settings.tests:
            if item.path == test.path:
                return test.label
            if item.path.is_relative_to(test.path):
                return f"{test.label}/{item.path.relative_to(test.path)}"
        return str(item.path)

    def _name(self, item: pytest.Item) -> str:
        _, separator, inside = item.nodeid.partition("::")
        return f"{self._label(item)}{separator}{inside}"

    # --- the end ------------------------------------------------------------------------------------------------------

    def _give_up(self, error: GoldenAmiError) -> NoReturn:
        """End the run: nothing that follows could be told apart from a failing test."""
        if self._gone is None:
            self._gone = error
            self.answer(
                "infrastructure", message=error.message, hint=error.hint, lost=isinstance(error, ConnectionLost)
            )
        raise pytest.exit.Exception(f"the host cannot be tested: {error}", returncode=3)

    def pytest_internalerror(self, excrepr: object) -> None:
        self.answer("infrastructure", message=f"pytest itself failed: {explain.last_line(str(excrepr))}", hint=None)

    def pytest_unconfigure(self) -> None:
        self.backend.close()
        self.answer("end")
