"""The pytest plugin of the process that runs tests. Only ``runner.run_suite`` starts that process.

Tests may use:

- the fixture ``record_fact(name, value)``: keeps a JSON value in the report;
- the fixture ``host``: testinfra's Host, over goldenami's own connection; and ``gate`` ("builder", "image"),
  ``architecture`` ("x86_64", "arm64"), ``variables`` (a read-only mapping; also under the name ``recipe_vars``);
- ``@pytest.mark.gate("image", …)``: run the test at these gates only;
- ``@pytest.mark.retry(times, delay=1.0)``: repeat a failed test up to ``times`` times, with ``delay`` seconds before
  each repetition. A test without the mark is repeated ``retries`` times (TestSettings), because services may still
  start after a boot, but not if its failure is definite: its body read only what does not change by itself, such as
  packages, accounts and configuration, or asked nothing. Only the body is repeated, with the same fixtures. A test that
  passed only when it was repeated is reported as flaky, never as passed;
- ``@pytest.mark.reads``: the test promises that it only reads, with its fixtures. See ``ahead``;
- ``@pytest.mark.alone``: this test gets no answer that was read ahead. See ``ahead``.

A test that takes longer than the limit fails. If the host is lost, the run ends with an error of the infrastructure;
the test does not count as failed.
"""

from __future__ import annotations

import inspect
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import pytest
from testinfra.host import Host

from goldenami import ssh
from goldenami.errors import ConnectionLost, GoldenAmiError
from goldenami.events import mask
from goldenami.validate import explain, shellfiles
from goldenami.validate.ahead import Ahead
from goldenami.validate.backend import ConnectionBackend
from goldenami.validate.settings import TestSettings
from goldenami.validate.traces import Traces

_RUN = pytest.StashKey["TestRun"]()
_begun: list[TestRun] = []  # at most one, until pytest takes it
_STARTS = ("suite_start", "_session_start")  # of pytest's JUnit file and log: times from which they count
_MESSAGE_CHARACTERS = 2000


@dataclass(slots=True)
class TestOutcome:
    """The outcome of one test, over its set-up, body and tear-down."""

    outcome: str = "passed"
    seconds: float = 0.0
    message: str = ""
    place: str = ""
    first_failure: str = ""  # the first failure of a body that was repeated


def begin(receive_settings: Callable[[], Sequence[int]], answers: int, lifeline: int, *, at_once: bool) -> None:
    """Begin a run, before pytest starts. ``receive_settings`` waits for the descriptors of the settings. ``at_once``:
    they are there, so that this process connects to the host while pytest starts and collects the tests."""

    def follow_parent(scratch: str | None = None) -> None:
        threading.Thread(target=_follow, args=(lifeline, scratch), daemon=True).start()

    def receive() -> TestSettings:
        settings, *connections = receive_settings()
        return replace(TestSettings.from_file(settings), connections=connections[0] if connections else None)

    follow_parent(str(Path.cwd()))
    run = TestRun(receive, answers, follow_parent, (lifeline,))
    if at_once:
        run.start()
    _begun.append(run)


def pytest_configure(config: pytest.Config) -> None:
    if not _begun:
        raise pytest.UsageError(
            "goldenami.validate.plugin: there are no settings. Only the process that goldenami starts has them."
        )
    config.addinivalue_line("markers", "gate(*names): run at these gates only")
    config.addinivalue_line("markers", "reads: the test only reads, with its fixtures")
    config.addinivalue_line("markers", "alone: no command of this test or of a later one is sent ahead of it")
    config.addinivalue_line("markers", "retry(times, delay=1.0): repeat a failed test so many times")
    run = _begun.pop()
    # Now, also without settings: the order of hooks is that of registration, and folders below have conftest.py files.
    config.stash[_RUN] = run
    config.pluginmanager.register(run, "goldenami-run")
    run.config = config


def _follow(lifeline: int, scratch: str | None) -> None:
    """Wait for the end of the parent, and then end this process. The kernel closes the parent's end of the pipe.
    ``scratch``: as in :func:`end_with_parent`; None in copies of this process, which may have another one."""
    os.read(lifeline, 1)
    if scratch is None:
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        end_with_parent(scratch)


def end_with_parent(scratch: str) -> NoReturn:
    """End this process after its parent, with the programs that tests or conftest.py files started. ``scratch``: a
    directory to remove. The parent does all this, unless it was killed."""
    shutil.rmtree(scratch, ignore_errors=True)
    os.killpg(os.getpid(), signal.SIGKILL)  # its own group, as the parent started it
    os._exit(1)


@pytest.fixture(scope="session")
def host(request: pytest.FixtureRequest) -> Host:
    """The host under test: https://testinfra.readthedocs.io/en/latest/modules.html"""
    return request.config.stash[_RUN].host


@pytest.fixture(scope="session")
def variables(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """The rendered variables of the recipe."""
    return MappingProxyType(dict(request.config.stash[_RUN].settings.variables))


@pytest.fixture(scope="session")
def recipe_vars(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same mapping as ``variables``, under a second name."""
    return variables


@pytest.fixture(scope="session")
def builder_traces(request: pytest.FixtureRequest) -> Traces | None:
    """The keys and machine-id of the builder that the image was captured from. None at gate "builder"."""
    return request.config.stash[_RUN].settings.traces


@pytest.fixture(scope="session")
def record_fact(request: pytest.FixtureRequest) -> Callable[[str, Any], None]:
    """A function ``record_fact(name, value)``: the report of the tests keeps a JSON value under this name. The manifest
    of the release has it, so a later build can compare with it."""
    run = request.config.stash[_RUN]
    return run.record


@pytest.fixture(scope="session")
def gate(request: pytest.FixtureRequest) -> str:
    """The gate: "builder" (the provisioned builder) or "image" (a new instance of the image)."""
    return request.config.stash[_RUN].settings.gate


@pytest.fixture(scope="session")
def architecture(request: pytest.FixtureRequest) -> str:
    """The architecture of the image, as EC2 names it: "x86_64" or "arm64"."""
    return request.config.stash[_RUN].settings.architecture


class TestRun:
    """The hooks of one run of tests, and their common state.

    A prepared process collects its tests before it has settings. It waits for them when all are collected, or when a
    test needs them to be collected. If it cannot collect its tests, it ends: the run that needs them then starts
    another process, which has settings, and reports the reason."""

    backend: ConnectionBackend  # since ``start``, as those that follow
    host: Host
    _ahead: Ahead
    _budget: float

    def __init__(
        self,
        receive: Callable[[], TestSettings],
        answers: int,
        on_copy: Callable[[], object],
        kept_open: tuple[int, ...],
    ) -> None:
        self.config: pytest.Config | None = None
        self._receive = receive
        self._given: TestSettings | None = None
        self._on_copy, self._kept_open = on_copy, kept_open
        self._answers = answers
        self._unsent = b""
        self._outcomes: dict[str, TestOutcome] = {}
        self._labels: dict[Path, str] = {}
        self._fatal: GoldenAmiError | None = None
        signal.signal(signal.SIGALRM, self._raise_too_long)

    @property
    def settings(self) -> TestSettings:
        """The settings of the run. Waits for them in a prepared process."""
        return self._given or self.start()

    def start(self) -> TestSettings:
        """Wait for the settings, return them, and connect to the host."""
        settings = self._given = self._receive()
        if self.config is not None:  # the wait does not count for pytest
            for plugin in self.config.pluginmanager.get_plugins():
                for name in _STARTS:
                    if (start := getattr(plugin, name, None)) is not None:
                        setattr(plugin, name, type(start)())
        self._budget = settings.retry_budget
        endpoint = settings.endpoint
        self.backend = ConnectionBackend(
            endpoint.address, endpoint.user, self._connect, in_user_namespace=endpoint.in_user_namespace
        )
        self.backend.ahead = self._ahead = Ahead(self.backend, self._on_copy, self._kept_open)
        sys.addaudithook(self._ahead.watch)
        self.backend.connect_early()
        self.host = Host(self.backend)
        self.backend.set_host(self.host)
        return settings

    def _end_unless_started(self) -> None:
        if self._given is None:
            os._exit(1)

    def _connect(self) -> ssh.Connection:
        endpoint = self.settings.endpoint
        if self.settings.connections is not None:  # the parent has the transport, and what it needs: keys, credentials
            endpoint = replace(endpoint, transport=ssh.ConnectionClient(self.settings.connections).open)
        return ssh.connect(endpoint, timeout=self.settings.connect_timeout, sleep=time.sleep, clock=time.monotonic)

    def answer(self, event: str, **fields: Any) -> None:
        """Send one answer to the parent, with secrets masked."""
        safe = {name: self._masked(value) if isinstance(value, str) else value for name, value in fields.items()}
        self._unsent += json.dumps({"event": event, **safe}).encode() + b"\n"
        if event == "finished":  # goes with the start of the next test, which follows at once
            return
        data, self._unsent = self._unsent, b""
        while data:
            data = data[os.write(self._answers, data) :]

    def record(self, name: str, value: Any) -> None:
        """Keep what a test recorded, with secrets masked."""
        self.answer("fact", name=name, value=json.loads(self._masked(json.dumps(value))))

    # --- collection ---------------------------------------------------------------------------------------------------

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        return shellfiles.collect(file_path, parent)

    def pytest_exception_interact(
        self, node: pytest.Item | pytest.Collector, call: pytest.CallInfo[Any], report: object
    ) -> None:
        if isinstance(report, pytest.CollectReport) and call.excinfo is not None:
            self._end_unless_started()
            file, line, column, message = explain.describe_collection_error(call.excinfo.value, node.path)
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
        self._ahead.collected(items)
        self.answer("collected", total=len(items))

    def _belongs_here(self, item: pytest.Item) -> bool:
        marks = list(item.iter_markers("gate"))
        return all(self.settings.gate in mark.args for mark in marks)

    # --- one test -----------------------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        name = self._name(item)
        test = self._outcomes[item.nodeid] = TestOutcome()
        self.answer("started", name=name)
        self._ahead.begin(item)
        result = yield
        self._ahead.end(item, nextitem)
        self.answer(
            "finished",
            name=name,
            outcome=test.outcome,
            seconds=round(test.seconds, 3),
            message=test.message[:_MESSAGE_CHARACTERS],
            place=test.place,
        )
        return result

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
        """Run the body of a test, and repeat it after a failure that may be repeated."""
        __tracebackhide__ = True
        body = pyfuncitem.obj
        if inspect.iscoroutinefunction(body) or inspect.isasyncgenfunction(body):
            return None  # pytest reports that it cannot run such a test
        arguments = {n: pyfuncitem.funcargs[n] for n in inspect.signature(body).parameters if n in pyfuncitem.funcargs}
        test = self._outcomes[pyfuncitem.nodeid]
        left, delay = self._get_repetitions(pyfuncitem)
        reconnected = False
        replayed: str | None = None  # the failure after which the body ran again with the same answers
        self._ahead.begin_body()
        while True:
            try:
                body(**arguments)
                return True
            except ConnectionLost as error:
                if reconnected:
                    raise
                reconnected = True
                test.first_failure = test.first_failure or f"the connection was lost: {error}"
                delay_now = 0.0
            except GoldenAmiError:
                raise  # ends the run, see _phase
            except (Exception, pytest.fail.Exception) as error:
                if isinstance(error, pytest.xfail.Exception):
                    raise
                if left <= 0:
                    raise
                failure = explain.describe_error(error)
                if self._is_definite(pyfuncitem):
                    if self._ahead.is_reading or failure == replayed:
                        raise
                    if replayed is None:  # perhaps it depends on the test's own memory
                        replayed = test.first_failure = failure
                        self._ahead.begin_to_replay()
                        continue
                pause = self._pause_before_repetition(pyfuncitem, delay)
                if pause is None:
                    raise
                left, delay_now = left - 1, pause
                test.first_failure = test.first_failure or failure
            with self._ahead.unwatched():
                time.sleep(delay_now)
                self._ahead.begin_again()

    def _get_repetitions(self, item: pytest.Item) -> tuple[int, float]:
        mark = item.get_closest_marker("retry")
        if item.get_closest_marker("xfail") is not None:
            return 0, 0.0
        if mark is None:
            return self.settings.retries, self.settings.retry_delay

        def retry(times: int, delay: float = 1.0) -> tuple[int, float]:
            return times, delay

        return retry(*mark.args, **mark.kwargs)

    def _pause_before_repetition(self, item: pytest.Item, delay: float) -> float | None:
        """Return the pause in seconds before the next repetition, or None if the test must not be repeated.

        Repetitions of tests without the mark "retry" share the budget of the run."""
        if item.get_closest_marker("retry") is not None:
            return delay
        if self._budget < delay:
            return None
        self._budget -= delay
        return delay

    def _is_definite(self, item: pytest.Item) -> bool:
        """Return whether a failure needs no repetition, since the host would answer the same. With the mark "retry", a
        test says itself how often it is repeated."""
        if item.get_closest_marker("retry") is not None:
            return False
        with self._ahead.unwatched():
            return self._ahead.is_definite()

    @contextmanager
    def _phase(self) -> Generator[None, None, None]:
        """Limit the time of one phase of a test. End the run if the host is lost or unreachable.

        SIGALRM interrupts the main thread in any call that waits."""
        signal.setitimer(signal.ITIMER_REAL, self.settings.test_timeout)
        try:
            yield
        except explain.TooLong:
            self.backend.close()  # a command was interrupted, so the next test needs a new connection
            raise
        except GoldenAmiError as error:
            self._give_up(error)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _raise_too_long(self, *_: object) -> NoReturn:
        __tracebackhide__ = True
        raise explain.TooLong(f"took longer than {self.settings.test_timeout:g} s")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        test = self._outcomes[item.nodeid]
        # What the host needed for answers that were there before the test asked belongs to the test, too.
        call.duration = report.duration = call.duration + self._ahead.take_seconds()
        test.seconds += call.duration
        if report.failed and test.outcome != "failed":
            assert call.excinfo is not None
            test.outcome = "failed"
            test.message, test.place = explain.describe_failure(call.excinfo, item, self._label(item))
            if call.when == "teardown":
                test.message = f"while tearing down: {test.message}"
        elif report.skipped and test.outcome == "passed":
            test.outcome = "skipped"
            test.message = explain.skip_reason(report)
        elif call.when == "call" and report.passed and test.first_failure:
            test.outcome = "flaky"
            test.message = f"passed when it was run again; at first: {test.first_failure}"
            item.user_properties.append(("flaky", self._masked(test.first_failure)))
            report.user_properties = list(item.user_properties)
        # pytest writes the log and the JUnit file from the report. They need the same names, with secrets masked.
        report.nodeid = self._name(item)
        text = str(report.longrepr or "")
        if text != self._masked(text) and not isinstance(report.longrepr, tuple):
            report.longrepr = self._masked(text)
        report.sections = [(title, self._masked(content)) for title, content in report.sections]
        return report

    def _masked(self, text: str) -> str:
        return mask(text, self.settings.secrets)

    def _label(self, item: pytest.Item) -> str:
        """Return the label of the item's file. For a file in a named folder: the folder's label and the path in it."""
        if item.path not in self._labels:  # each test needs it several times
            self._labels[item.path] = self._find_label(item.path)
        return self._labels[item.path]

    def _find_label(self, path: Path) -> str:
        for test in self.settings.tests:
            if path == test.path:
                return test.label
            if path.is_relative_to(test.path):
                return f"{test.label}/{path.relative_to(test.path)}"
        return str(path)

    def _name(self, item: pytest.Item) -> str:
        _, separator, inside = item.nodeid.partition("::")
        return f"{self._label(item)}{separator}{inside}"

    # --- the end ------------------------------------------------------------------------------------------------------

    def _give_up(self, error: GoldenAmiError) -> NoReturn:
        """End the run. Without the host, every later test would fail for the same reason."""
        if self._fatal is None:
            self._fatal = error
            self.answer(
                "infrastructure", message=error.message, hint=error.hint, lost=isinstance(error, ConnectionLost)
            )
        raise pytest.exit.Exception(f"the host cannot be tested: {error}", returncode=3)

    def pytest_internalerror(self, excrepr: object) -> None:
        self._end_unless_started()
        self.answer(
            "infrastructure",
            message=f"pytest failed with an internal error: {explain.last_line(str(excrepr))}",
            hint=None,
        )

    def pytest_unconfigure(self) -> None:
        self._end_unless_started()
        self.backend.close()
        self.answer("end")
