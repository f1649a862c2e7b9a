"""Runs tests against a host in a child process, and distinguishes failed tests from failed infrastructure.

pytest runs in a child for several reasons. Tests cannot disturb a build by their modules, signals, working directory or
exits. Two hosts can be tested at the same time. The project's own pytest configuration and plugins do not change the
tests. Tests do not get the caller's credentials from the environment. The child ends with its parent, and writes no
file into the folder of the recipes.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import re
import selectors
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldenami import events, shipped
from goldenami.childenv import clean_environment
from goldenami.errors import (
    BuilderError,
    ConnectionLost,
    GoldenAmiError,
    Interrupted,
    InvalidInput,
    Problem,
    TestsFailed,
)
from goldenami.events import Emit, ignore_events, mask
from goldenami.model import Architecture, SshEndpoint, TestFailure, TestReport
from goldenami.shellchecks import SUFFIX
from goldenami.validate.settings import NOT_EXECUTED, SIZE_BYTES, TestPath, TestSettings
from goldenami.validate.traces import Traces

if TYPE_CHECKING:
    from goldenami.ssh import ConnectionServer

_PACKAGE = Path(__file__).parents[1]  # the program's own suites do not count as tests of the project
_SUITES = Path(__file__).with_name("suites")
SUITES: Mapping[str, TestPath] = {
    name: TestPath(_SUITES / f"{name}.py", name) for name in ("base", "hygiene", "performance", "reboot", "sealed")
}  # the built-in suites

_MODULES = ("PYTHONPATH", "PYTHONUSERBASE")  # where the modules of this program are, as HOME says
_MEASURED = "COVERAGE_PROCESS_CONFIG"  # the settings of `make coverage`

# The processes that ``prepare`` started. Each has a gate's tests, or none yet.
_waiting: list[_Process] = []
_waiting_lock = threading.Lock()

# Plugins of pytest that tests of a host do not need. Each costs time for every test.
_UNUSED = (
    *("cacheprovider", "logging", "doctest", "pastebin", "setuponly", "setupplan", "stepwise"),
    *("threadexception", "unraisableexception"),  # they only warn
)
_POLL = 0.2  # seconds between two checks of the time limit, of ``stop`` and of the child
_MOST_WAITING = 4  # processes; more would only need memory
_LARGEST_DIGESTED = 4 << 20  # bytes of a file of tests; of a larger one the time of its last change counts
_READY_SECONDS = 60.0  # for a process that was prepared to collect its tests
_GRACE = 3.0  # seconds that the child has to exit after its last answer
_PROBE_BYTES = 64 << 10  # of a file that shows whether reports can be written
_OUTPUT_BYTES = 4 << 20  # of pytest's own output; only the end of longer output is kept


def run_suite(
    endpoint: SshEndpoint,
    tests: Sequence[TestPath | str | os.PathLike[str]],
    *,
    gate: str,
    architecture: Architecture,
    report_dir: Path,
    emit: Emit = ignore_events,
    variables: Mapping[str, Any] | None = None,
    traces: Traces | None = None,
    secrets: Sequence[str] = (),
    environment: Sequence[str] = (),
    time_limit: float = 1800.0,
    test_timeout: float = 120.0,
    connect_timeout: float = 120.0,
    retries: int = 2,
    retry_delay: float = 1.0,
    retry_budget: float = 10.0,
    stop: threading.Event | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> TestReport:
    """Run tests on one host and return their report. ``report.ok`` is true if the gate is passed.

    ``tests``: names of built-in suites ("base", "sealed"), files or folders. ``variables`` must be JSON; tests get them
    by the fixture of that name. ``traces``: the traces of the builder; the suite "sealed" fails without them.
    ``secrets`` are masked in events, report, log and JUnit file. ``environment``: names of variables of this process
    that the tests get, in addition to ``_PASSED``; their values are masked as secrets are. Times are seconds;
    ``time_limit`` is for the whole run, the other times are explained in TestSettings. Writes
    ``tests-GATE-ARCHITECTURE.xml`` (JUnit) and ``.log`` (pytest's own output) into ``report_dir``, and replaces the
    files of an earlier run. Emits tests.started, test.started, test.finished and tests.finished.

    Raises TestsFailed if there is no test, if a named file contains no test, or if the time limit is over; InvalidInput
    if a file does not exist or cannot be imported; BuilderError if the host is unreachable or pytest crashed;
    ConnectionLost, a BuilderError, if the host was lost; Interrupted soon after ``stop`` is set. A failed test raises
    no error. The child has ended before any error is raised. May be called from several threads.
    """
    chosen = _resolve(tests)
    report_dir = _writable(report_dir, emit)
    junit = _junit(report_dir, gate, architecture)
    log = junit.with_suffix(".log")
    for old in (junit, log):
        old.unlink(missing_ok=True)
    settings = TestSettings(
        endpoint=endpoint,
        tests=chosen,
        gate=gate,
        architecture=architecture,
        variables=dict(variables or {}),
        traces=traces,
        secrets=(*secrets, *endpoint.private_keys, *(os.environ[name] for name in environment if name in os.environ)),
        connect_timeout=connect_timeout,
        test_timeout=test_timeout,
        retries=retries,
        retry_delay=retry_delay,
        retry_budget=retry_budget,
    )
    results = _Results(gate, architecture, emit)
    started = clock()
    with _pytest(settings, junit, environment, stop) as child:
        try:
            child.follow(results.add_answer, deadline=started + time_limit, stop=stop, clock=clock)
        except TimeoutError:
            during = f", during {results.running}" if results.running else ""
            raise TestsFailed(
                f"The tests at gate {gate} took longer than {time_limit:g} s{during}.",
                hint=f"The log of the tests is {log}.",
            ) from None
        finally:
            with suppress(OSError):  # the disk is full; the log is for people only
                log.write_text(mask(child.output.decode(errors="replace"), settings.secrets), encoding="utf-8")
    results.raise_unless_complete(child.status, child.output.decode(errors="replace"), log)
    return results.report(clock() - started, junit)


def _writable(wanted: Path, say: Emit) -> Path:
    """Return the directory for reports, or a temporary one if it cannot be written: that is no reason to fail."""
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        probe = wanted / ".probe"
        probe.write_bytes(bytes(_PROBE_BYTES))
        probe.unlink()
    except OSError as error:
        other = Path(tempfile.mkdtemp(prefix="goldenami-reports-"))
        message = f"the reports of the tests are in {other}: {wanted} cannot be written: {error.strerror}"
        events.emit(say, "note", message=message, level="warning")
        return other
    return wanted


def require(report: TestReport) -> None:
    """Raise TestsFailed with every failure if the report is not ok. A report without a passed test is not ok."""
    if report.ok:
        return
    if not report.failed:
        raise TestsFailed(
            f"No test passed at gate {report.gate} ({report.architecture}): all {report.skipped} were skipped.",
            hint="A gate needs at least one test that passes.",
        )
    total = report.failed + report.passed + report.flaky + report.skipped
    headline = f"{report.failed} of {total} tests failed at gate {report.gate} ({report.architecture})"
    lines: list[str] = []
    for failure in report.failures:
        lines.append(f"  {failure.name} ({failure.place})" if failure.place else f"  {failure.name}")
        lines += [f"      {line}" for line in failure.message.splitlines()]
    hint = f"The JUnit report is {report.junit}." if report.junit else None
    raise TestsFailed(headline, details=lines, hint=hint)


def _resolve(tests: Sequence[TestPath | str | os.PathLike[str]]) -> tuple[TestPath, ...]:
    """Return names and paths as absolute TestPaths, without duplicates. Raises InvalidInput, TestsFailed."""
    found: dict[Path, TestPath] = {}
    for test in tests:
        if isinstance(test, str) and test in SUITES:
            entry = SUITES[test]
        elif isinstance(test, TestPath):
            entry = replace(test, path=test.path.resolve())
        else:
            entry = TestPath(Path(test).resolve(), os.fspath(test))
        found.setdefault(entry.path, entry)
    missing = [Problem(t.label, 0, 0, "this test file does not exist") for t in found.values() if not t.path.exists()]
    if missing:
        raise InvalidInput(missing)
    if not found:
        raise TestsFailed("There are no tests to run.", hint="Add `tests: [base]` to the recipe.")
    return tuple(found.values())


def _last_line(output: str) -> str:
    lines = output.strip().splitlines()
    return lines[-1] if lines else "(no output)"


@dataclass(slots=True)
class _Results:
    """Collects the child's answers into a report, and emits them as events."""

    gate: str
    architecture: Architecture
    emit: Emit
    running: str = ""
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("passed", "failed", "skipped", "flaky"), 0))
    failures: list[TestFailure] = field(default_factory=list)
    not_executed: int = 0  # of those that were skipped
    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    infrastructure: Mapping[str, Any] | None = None
    ended: bool = False

    def add_answer(self, answer: Mapping[str, Any]) -> None:
        """Add one answer. Its types are listed in settings.py."""
        match answer["event"]:
            case "collected":
                self._emit("tests.started", total=answer["total"])
            case "started":
                self.running = answer["name"]
                self._emit("test.started", name=self.running)
            case "finished":
                self._finished(answer)
            case "fact":
                self.facts[answer["name"]] = answer["value"]
            case "problem":
                fields = (answer["file"], answer["line"], answer["column"], answer["message"])
                self.problems.append(Problem(*fields))
            case "empty":
                self.empty = answer["labels"]
            case "infrastructure":
                self.infrastructure = self.infrastructure or answer
            case "end":
                self.ended = True

    def _finished(self, answer: Mapping[str, Any]) -> None:
        name, outcome, message, place = (answer[key] for key in ("name", "outcome", "message", "place"))
        self.counts[outcome] += 1
        self.not_executed += outcome == "skipped" and str(message).startswith(NOT_EXECUTED)
        if outcome == "failed":
            self.failures.append(TestFailure(name, message, place))
        self._emit(
            "test.finished",
            name=name,
            outcome=outcome,
            seconds=answer["seconds"],
            message=message or None,
            place=place or None,
        )

    def _emit(self, kind: str, **fields: Any) -> None:
        events.emit(self.emit, kind, gate=self.gate, architecture=self.architecture, **fields)

    def raise_unless_complete(self, status: int, output: str, log: Path) -> None:
        """Raise an error if the run is not complete: pytest crashed, or a test could not be imported or executed."""
        if self.infrastructure is not None:
            kind = ConnectionLost if self.infrastructure.get("lost") else BuilderError
            message = self.infrastructure["message"]
            if self.running:
                message += f" (during {self.running})"
            raise kind(message, hint=self.infrastructure["hint"] or f"The log of pytest is {log}.")
        if self.problems:
            raise InvalidInput(self.problems)
        conftest = re.search(r"while loading conftest '(?P<file>.+)'", output)
        if status == 4 and conftest:
            reasons = re.findall(r"^E +(.+)$", output, re.MULTILINE)
            reason = reasons[-1] if reasons else _last_line(output)
            line = re.search(r"^\S*conftest\.py:(\d+): in ", output, re.MULTILINE)
            problem = Problem(conftest["file"], int(line[1]) if line else 0, 0, f"cannot be imported: {reason}")
            raise InvalidInput([problem])
        if self.empty:
            raise TestsFailed(
                f"No tests were collected from {', '.join(self.empty)}.",
                hint="A test is a function whose name begins with test_.",
            )
        if status == 5:
            raise TestsFailed(
                f"No tests were collected for gate {self.gate}.",
                hint=f"The marks of all tests name other gates. Remove a mark, or add {self.gate!r} to it.",
            )
        if status not in (0, 1) or not self.ended:
            raise BuilderError(
                f"pytest ended unexpectedly (status {status}): {_last_line(output)}",
                hint=f"The log of pytest is {log}.",
            )

    def report(self, seconds: float, junit: Path) -> TestReport:
        counts = {**self.counts, "not_executed": self.not_executed}
        self._emit("tests.finished", seconds=round(seconds, 3), **counts)
        if self.not_executed:
            text = f"{self.not_executed} of the tests at gate {self.gate}"
            message = f"not executed, because this instance runs in a user namespace: {text}"
            events.emit(self.emit, "note", message=message, level="warning")
        return TestReport(
            gate=self.gate,
            architecture=self.architecture,
            seconds=round(seconds, 3),
            failures=tuple(self.failures),
            junit=str(junit) if junit.exists() else None,
            passed=self.counts["passed"],
            failed=self.counts["failed"],
            skipped=self.counts["skipped"],
            flaky=self.counts["flaky"],
            facts=dict(self.facts),
            not_executed=self.not_executed,
        )


def prepare(
    tests: Sequence[TestPath | str | os.PathLike[str]] = (),
    *,
    gate: str = "",
    architecture: Architecture = "x86_64",
    report_dir: Path | None = None,
    environment: Sequence[str] = (),
) -> None:
    """Start the process of a later ``run_suite`` now, so that its start takes no time then.

    It loads pytest and waits, and ends with this process. Does nothing if such a process waits already, or if many
    wait. With ``tests``, it also collects them: the code of their modules runs now, and a ``run_suite`` with the same
    arguments uses it, unless the files have changed. A file that cannot be collected is no error here; ``run_suite``
    reports it. Call this inside ``ending_prepared``, which ends what is not used."""
    work = None
    if tests and report_dir is not None:
        with suppress(GoldenAmiError):
            work = _Work.of(_resolve(tests), gate, architecture, _junit(report_dir, gate, architecture), environment)
    with _waiting_lock:
        if any(process.work == work for process in _waiting):
            return
        process = next((one for one in _waiting if one.work is None), None)
        if process is None:
            if len(_waiting) >= _MOST_WAITING:  # those that wait are nearer to their gates
                return
            process = _Process()
            _waiting.append(process)
        elif work is None:
            return
        if work is not None:
            try:
                process.give_work(work, at_once=False)
            except OSError:  # it ended while it waited
                _waiting.remove(process)
                process.end()


@contextmanager
def ending_prepared(report_dir: Path) -> Iterator[None]:
    """End what was prepared with this ``report_dir`` at the end of the block, if no run has used it: tests that a build
    did not reach. What they started when they were collected, and the values in their environment, end with it."""
    try:
        yield
    finally:
        folder = report_dir.absolute()
        _end_waiting(lambda one: one.work is not None and one.work.junit.parent == folder)


@atexit.register
def _end_at_exit() -> None:
    _end_waiting(lambda one: one.parent_id == os.getpid())  # a copy of this process has the same list


def _end_waiting(is_over: Callable[[_Process], bool]) -> None:
    with _waiting_lock:
        over = [one for one in _waiting if is_over(one)]
        for one in over:
            _waiting.remove(one)
    for one in over:
        one.end()


@dataclass(frozen=True, slots=True)
class _Work:
    """What a process needs to collect tests. It gets the settings later, or at once."""

    tests: tuple[TestPath, ...]
    gate: str
    architecture: Architecture
    junit: Path
    environment: Mapping[str, str]
    digest: str  # of the files

    @classmethod
    def of(
        cls,
        tests: tuple[TestPath, ...],
        gate: str,
        architecture: Architecture,
        junit: Path,
        environment: Sequence[str],
    ) -> _Work:
        return cls(tests, gate, architecture, junit, _environment(environment), _digest(tests))


class _Process:
    """A process for tests, with the socket for its work and its settings."""

    def __init__(self) -> None:
        self.parent_id = os.getpid()
        self.work: _Work | None = None
        self._scratch: Path | None = None
        self._lifeline = -1
        self.answers = -1  # the pipe of its answers
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)  # a message of packets has a limit
        self._parent = ours
        with theirs:
            self.popen = subprocess.Popen(
                [sys.executable, "-B", "-P", "-m", "goldenami.validate.child", str(theirs.fileno())],
                env=_environment(()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C at the terminal reaches only the parent, which then ends the child
            )

    def give_work(self, work: _Work, *, at_once: bool) -> None:
        """Let it collect tests. ``at_once``: the settings follow at once, so that it connects before it collects.
        Raises OSError if it has ended."""
        self.work = work
        self._scratch = Path(tempfile.mkdtemp(prefix="goldenami-tests-"))
        self.answers, answers_write = os.pipe()
        lifeline_read, self._lifeline = os.pipe()
        order = {
            "arguments": _arguments(work, self._scratch),
            "environment": dict(work.environment),
            "folder": str(self._scratch),
            "at_once": at_once,
        }
        try:
            data = json.dumps(order).encode()
            data = len(data).to_bytes(SIZE_BYTES, "big") + data
            sent = socket.send_fds(self._parent, [data], [answers_write, lifeline_read])
            self._parent.sendall(data[sent:])
        finally:
            os.close(answers_write)
            os.close(lifeline_read)

    def is_ready(self, stop: threading.Event | None) -> bool:
        """Wait until it has collected its tests. Return false if it could not, or takes too long. Raises Interrupted if
        ``stop`` is set."""
        self._parent.settimeout(_POLL)
        until = time.monotonic() + _READY_SECONDS
        while time.monotonic() < until:
            try:
                return bool(self._parent.recv(1))
            except TimeoutError:
                if stop is not None and stop.is_set():
                    raise Interrupted("The tests were interrupted.") from None
            except OSError:
                return False
        return False

    def give_settings(self, descriptors: Sequence[int]) -> None:
        """Let it run its tests. Raises OSError if it has ended."""
        socket.send_fds(self._parent, [b"settings"], descriptors)

    def end(self) -> None:
        """Kill the process and its group, and delete its scratch folder. The kernel cannot have reused its id, because
        it is not reaped."""
        if self.popen.returncode is None:
            os.killpg(self.popen.pid, signal.SIGKILL)
            self.popen.wait()
        if self.popen.stdout is not None:
            self.popen.stdout.close()
        self._parent.close()
        for descriptor in (self.answers, self._lifeline):
            if descriptor >= 0:
                os.close(descriptor)
        self.answers = self._lifeline = -1
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)


def _run(work: _Work, descriptors: Sequence[int], stop: threading.Event | None) -> _Process:
    """Give work and settings to a process that waits, or to a new one, and return it. Raises Interrupted."""
    with _waiting_lock:
        prepared = next((one for one in _waiting if one.work == work), None)
        if prepared is not None:
            _waiting.remove(prepared)
    # It has collected files that were changed since, or has another environment.
    _end_waiting(lambda one: one.work is not None and one.work.junit == work.junit)
    if prepared is not None:
        try:
            if prepared.is_ready(stop):
                prepared.give_settings(descriptors)
                return prepared
        except OSError:
            pass
        except BaseException:
            prepared.end()
            raise
        prepared.end()  # it ended while it waited, so another one is started
    while True:
        with _waiting_lock:
            process = next((one for one in _waiting if one.work is None), None)
            has_waited = process is not None
            if process is not None:
                _waiting.remove(process)
        process = process or _Process()
        try:
            process.give_work(work, at_once=True)
            process.give_settings(descriptors)
            return process
        except OSError as error:
            process.end()
            if not has_waited:
                raise BuilderError(f"The process of the tests did not start: {error}") from error


@contextmanager
def _pytest(
    settings: TestSettings, junit: Path, environment: Sequence[str], stop: threading.Event | None
) -> Iterator[_Child]:
    """Start the child. At the end, kill the child and its process group, and delete its scratch folder."""
    work = _Work.of(settings.tests, settings.gate, settings.architecture, junit, environment)
    descriptors: list[int] = []
    connections: ConnectionServer | None = None
    try:
        descriptors.append(settings.to_file())
        given = list(descriptors)
        if settings.endpoint.transport is not None:
            from goldenami.ssh import ConnectionServer  # here, because paramiko loads slowly

            connections = ConnectionServer(settings.endpoint)
            given.append(connections.client)
        process = _run(work, given, stop)
        while descriptors:
            os.close(descriptors.pop())
        child = _Child(process)
        try:
            yield child
        finally:
            child.end()
    finally:
        if connections is not None:
            connections.close()
        for descriptor in descriptors:
            os.close(descriptor)


def _junit(report_dir: Path, gate: str, architecture: Architecture) -> Path:
    return report_dir.absolute() / f"tests-{gate}-{architecture}.xml"


def _digest(tests: Sequence[TestPath]) -> str:
    """Return a digest of the files from which the project's tests are collected."""
    files: set[Path] = set()
    for path in _own(tests):
        if path.is_dir():
            files.update(file for file in path.rglob("*") if file.suffix in (".py", SUFFIX))
        else:
            files.add(path)
        files.update(folder / "conftest.py" for folder in path.parents)
    digest = hashlib.sha256()
    for file in sorted(files):
        with suppress(OSError):  # pytest reports it, or needs no such file
            state = file.stat()
            if not stat.S_ISREG(state.st_mode):  # a device or a pipe may have no end
                continue
            is_small = state.st_size <= _LARGEST_DIGESTED
            content = hashlib.sha256(file.read_bytes()).hexdigest() if is_small else state.st_mtime_ns
            digest.update(f"{content} {file}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _own(tests: Sequence[TestPath]) -> list[Path]:
    return [t.path for t in tests if not t.installed and not t.path.is_relative_to(_PACKAGE)]


def _arguments(work: _Work, scratch: Path) -> list[str]:
    own = _own(work.tests)
    # Tests of shipped agents are in another folder than those of the project. They do not change the folder from which
    # the project's conftest.py files are loaded.
    own = [path for path in own if not path.is_relative_to(shipped.ROOT)] or own
    folders = [path if path.is_dir() else path.parent for path in own]
    # conftest.py files are loaded from the folders of the tests and between them, not from above. A file above may
    # belong to a larger repository that contains the recipes.
    root = Path(os.path.commonpath(folders)) if folders else _SUITES
    options = {
        "junit_suite_name": f"goldenami.{work.gate}.{work.architecture}",
        "console_output_style": "classic",
    }
    return [
        *("-c", os.devnull, f"--rootdir={root}", f"--confcutdir={root}", "--import-mode=importlib"),
        *("-p", "goldenami.validate.plugin"),
        *(f"-pno:{name}" for name in _UNUSED),
        "-Wignore::pytest.PytestAssertRewriteWarning",  # the plugin is loaded before pytest is
        *("-v", "--tb=short", "--color=no", f"--basetemp={scratch / 'tmp'}", f"--junit-xml={work.junit}"),
        *(f"--override-ini={name}={value}" for name, value in options.items()),
        *(str(test.path) for test in work.tests),
    ]


def _environment(names: Sequence[str]) -> dict[str, str]:
    return clean_environment((*_MODULES, _MEASURED, *names)) | {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "1",  # for programs that the tests start; -B is for pytest itself
    }


class _Child:
    """A running pytest process, with its answers and its output."""

    def __init__(self, process: _Process) -> None:
        self._owner = process
        self._process = process.popen
        self._answers = process.answers
        self.output = bytearray()
        self.status = -1

    def follow(
        self,
        take: Callable[[Mapping[str, Any]], None],
        *,
        deadline: float,
        stop: threading.Event | None,
        clock: Callable[[], float],
    ) -> None:
        """Call ``take`` with every answer until the child ends. Raises TimeoutError at the deadline; Interrupted if
        ``stop`` is set."""
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        pending = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            selector.register(output, selectors.EVENT_READ)
            quiet_since: float | None = None
            while selector.get_map():
                ready = selector.select(_POLL)
                for key, _ in ready:
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        selector.unregister(key.fd)
                    elif key.fd == output:
                        self._keep(data)
                    else:
                        *lines, pending = (pending + data).split(b"\n")
                        for line in lines:
                            take(json.loads(line))
                if stop is not None and stop.is_set():
                    raise Interrupted("The tests were interrupted.")
                if clock() > deadline:
                    raise TimeoutError
                # A background process that a test started may keep the pipes open after pytest has ended.
                if not ready and self._has_ended():
                    quiet_since = quiet_since or clock()
                    if clock() - quiet_since > _POLL:
                        break
        self._wait_briefly(clock)

    def _keep(self, data: bytes) -> None:
        self.output += data
        if len(self.output) > _OUTPUT_BYTES:
            del self.output[: _OUTPUT_BYTES // 2]

    def _has_ended(self) -> bool:
        """Return whether pytest has ended. WNOWAIT keeps its process id reserved, which ``end`` needs."""
        found = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        return found is not None

    def _wait_briefly(self, clock: Callable[[], float]) -> None:
        until = clock() + _GRACE
        while not self._has_ended() and clock() < until:
            time.sleep(0.01)

    def end(self) -> None:
        """Kill the child's process group, and keep its status."""
        self._owner.end()
        self.status = self._process.returncode
