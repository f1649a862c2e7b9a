"""A sample with real processes and real signals: SIGKILL, SIGTERM, SIGINT once and twice, and a closed terminal.

The rest of the matrices dies inside of the test's process; this shows that the two are the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call

from tests.worlds import inventory
from tests.worlds.builds import Label, World
from tests.worlds.cases import check

ROOT = Path(__file__).parents[2]
PATIENCE = 300.0  # seconds from a signal to the end of a clean-up, on a busy machine; what it interrupts takes hours


class Signals:
    """Sends signals to the process that makes a call of that action, before the call has its effect or after.
    ``then``: another action, at whose first call after that the signal is sent once more. ``since``: an action, and how
    many of its calls come before those that count."""

    def __init__(
        self,
        action: str,
        nth: int,
        number: int,
        *,
        when: str,
        times: int = 1,
        then: str | None = None,
        since: tuple[str, int] = ("", 0),
    ) -> None:
        self.action, self.nth, self.number, self.when, self.times = action, nth, number, when, times
        self.then = then
        self._since, self._before = since
        self.process: subprocess.Popen[bytes] | Terminal | None = None
        self.sent_at = 0.0
        self._seen = 0
        self._guard = threading.Lock()

    def __call__(self, label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        with self._guard:
            again = self.then is not None and self.sent_at > 0 and call.action == self.then
            if again:
                self.then = None
            counts = call.action == self.action and self._before <= 0
            self._seen += counts
            self._before -= call.action == self._since
            due = again or (counts and self._seen == self.nth)
        if not due:
            return serve()
        if self.when == "before":
            self._send()
            if self.number == signal.SIGKILL:
                return Response(0, drop=True)
            return serve()
        response = serve()
        self._send()
        return response

    def _send(self) -> None:
        assert self.process is not None
        self.sent_at = time.monotonic()
        for _ in range(self.times):
            self.process.send_signal(self.number)
            time.sleep(0.2)
        if self.number == signal.SIGKILL:
            self.process.wait(60)


class Terminal:
    """A terminal that is closed at the first signal. The kernel sends SIGHUP then, and the shell sends one as well."""

    def __init__(self, world: World, *arguments: str, before: Callable[[], object] = lambda: None) -> None:
        self._here, there = pty.openpty()

        def prepare() -> None:
            os.setsid()
            fcntl.ioctl(there, termios.TIOCSCTTY, 0)
            before()

        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.worlds.process", *arguments],
            cwd=world.path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"},
            stdin=there,
            stdout=there,
            stderr=there,
            preexec_fn=prepare,
        )
        os.close(there)
        self.shown = b""
        self._closed = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while (shows := self._has_more()) or not self._closed:  # all that was shown before is read
                if shows:
                    self.shown += os.read(self._here, 65536)
        os.close(self._here)

    def _has_more(self) -> bool:
        return bool(select.select([self._here], [], [], 0.0 if self._closed else 0.05)[0])

    def send_signal(self, number: int) -> None:
        self._closed = True
        time.sleep(0.3)
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def wait(self, timeout: float) -> int:
        try:
            return self._process.wait(timeout)
        finally:
            self._process.kill()
            self._process.wait()
            self._closed = True


def run(world: World, *arguments: str, signals: Signals | None = None) -> tuple[int, str]:
    """The exit code (negative: the signal that ended it) and stderr."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.worlds.process", *arguments],
        cwd=world.path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    if signals is not None:
        signals.process = process
        world.gate.start(signals)
    try:
        _, stderr = process.communicate(timeout=600)
    finally:
        process.kill()
        process.wait()
        world.gate.stop()
    return process.returncode, stderr.decode()


@pytest.mark.parametrize(
    ("action", "nth", "when", "then"),
    [
        ("RunInstances", 1, "after", "resume"),
        ("CopyImage", 2, "before", "clean"),
        ("PutParameter", 6, "after", "resume"),
        ("PutParameter", 6, "after", "clean"),
    ],
)
@pytest.mark.sample(3)
def test_killed(world: World, action: str, nth: int, when: str, then: str) -> None:
    world.fresh()
    decoys = inventory.place_decoys(world)
    code, stderr = run(world, "build", signals=Signals(action, nth, signal.SIGKILL, when=when))
    assert code == -signal.SIGKILL, stderr
    code, stderr = run(world, then)
    assert code == 0, stderr
    check(world, decoys, released=True if then == "resume" else None)


# A call of each stage: what it is about, and how many of it come before. The whole of them with the whole matrices.
STAGES = [
    ("facts", "DescribeImages", 1),
    ("identity", "GetCallerIdentity", 1),
    ("the way in", "ImportKeyPair", 1),
    ("the firewall", "AuthorizeSecurityGroupIngress", 1),
    ("launch", "RunInstances", 1),
    ("capture", "CreateImage", 1),
    ("lending", "ModifyImageAttribute", 1),
    ("copies begin", "CopyImage", 1),
    ("copies", "CopyImage", 3),
    ("gate 2", "RunInstances", 2),
    ("sharing", "CreateGrant", 1),
    ("read-back", "DescribeImageAttribute", 2),
    ("parameters", "PutParameter", 1),
    ("channel", "PutParameter", 7),
    ("clean-up of a release", "TerminateInstances", 1),
    ("end of it", "DeregisterImage", 1),
]
WHOLE = os.environ.get("GOLDENAMI_WHOLE_MATRIX", "") not in ("", "0")
SAMPLE = ("launch", "copies", "channel", "clean-up of a release")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: str(n.name))
@pytest.mark.parametrize(
    ("action", "nth"),
    [pytest.param(action, nth, id=stage) for stage, action, nth in STAGES if WHOLE or stage in SAMPLE],
)
@pytest.mark.sample(3)
def test_a_signal_stops_and_cleans_up(world: World, number: signal.Signals, action: str, nth: int) -> None:
    """At any stage: what was made is deleted, unless it is a release by then. That takes seconds."""
    world.fresh()
    decoys = inventory.place_decoys(world)
    signals = Signals(action, nth, number, when="after")
    code, stderr = run(world, "build", signals=signals)
    assert signals.sent_at, f"the build made no {nth} calls of {action}"
    assert code == 130, stderr
    assert time.monotonic() - signals.sent_at < PATIENCE
    check(world, decoys, released=None)


def test_a_signal_while_threads_wait_for_copies(world: World) -> None:
    """Copies take hours; a thread for each target waits for its own."""
    world.fresh()
    decoys = inventory.place_decoys(world)
    world.paper.set(pending={"copy": 3600})
    signals = Signals("DescribeSnapshots", 2, signal.SIGTERM, when="after", since=("CopyImage", 3))
    code, stderr = run(world, "build", signals=signals)
    assert code == 130, stderr
    assert time.monotonic() - signals.sent_at < PATIENCE
    check(world, decoys, released=False)


@pytest.mark.parametrize("then", ["resume", "clean"])
@pytest.mark.sample(2)
def test_a_signal_during_the_clean_up_stops_at_once(world: World, then: str) -> None:
    world.fresh()
    decoys = inventory.place_decoys(world)
    signals = Signals("CopyImage", 2, signal.SIGINT, when="after", then="DeregisterImage")
    code, stderr = run(world, "build", signals=signals)
    assert signals.then is None, "there was no clean-up to disturb"
    assert code == 130, stderr
    assert time.monotonic() - signals.sent_at < PATIENCE
    assert len(world.journals.unfinished()) == 1, "the clean-up went on to its end"
    code, stderr = run(world, then)
    assert code == 0, stderr
    check(world, decoys, released=then == "resume")


@pytest.mark.nightly
def test_a_second_signal_stops_at_once_and_resume_works(world: World) -> None:
    world.fresh()
    decoys = inventory.place_decoys(world)
    signals = Signals("CopyImage", 2, signal.SIGINT, when="after", times=2)
    code, stderr = run(world, "build", signals=signals)
    assert code == 130, stderr
    assert time.monotonic() - signals.sent_at < PATIENCE
    assert "goldenami resume" in stderr
    code, stderr = run(world, "resume")
    assert code == 0, stderr
    check(world, decoys, released=True)


def closed(world: World, number: int, *, before: Callable[[], object] = lambda: None) -> tuple[int, Signals, Terminal]:
    """Build on a terminal that is closed after a launch; the exit code."""
    terminal = Terminal(world, "build", before=before)
    signals = Signals("RunInstances", 1, number, when="after")
    signals.process = terminal
    world.gate.start(signals)
    try:
        return terminal.wait(600), signals, terminal
    finally:
        world.gate.stop()


def test_a_closed_terminal_stops_and_cleans_up(world: World) -> None:
    """The cursor was never away, and what is printed after the end of the terminal breaks nothing."""
    world.fresh()
    decoys = inventory.place_decoys(world)
    code, signals, terminal = closed(world, signal.SIGHUP)
    assert code == 130
    assert time.monotonic() - signals.sent_at < PATIENCE
    assert terminal.shown.count(b"\x1b[?25h") >= terminal.shown.count(b"\x1b[?25l") == 1
    check(world, decoys, released=False)


def test_a_build_that_ignores_hangups_continues_without_its_terminal(world: World) -> None:
    world.fresh()
    decoys = inventory.place_decoys(world)
    code, _, _ = closed(world, signal.SIGHUP, before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert code == 0
    check(world, decoys, released=True)
