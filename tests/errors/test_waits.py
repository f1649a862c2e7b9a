"""No wait of the product is without a bound and a sign of life: all waits are listed here.

Five kinds are found in the source: loops of ``poll``, loops that sleep (``SLEEPS`` of test_one_rule.py), calls that
block until something else ends, loops around a call that waits for a short time only (``while not event.wait(1)``), and
commands on a host. A new wait fails a test here until its bound is named, and who tells that it goes
on.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import pytest

from tests.errors.test_one_rule import SLEEPS
from tests.worlds import source

LONGEST = 48 * 3600.0  # seconds: no bound is beyond it
SILENCE = 150.0  # seconds: a wait that tells nothing ends before
QUIET = "quiet"


class Bound(NamedTuple):
    """``constant``: "module:NAME" of the number of seconds (or numbers, which are added); or a number. ``life``: who
    tells that the wait goes on; QUIET for a wait that is over within ``SILENCE``."""

    constant: str | float
    life: str = QUIET


# Loops of ``poll`` without a sign of life of their own, by file and function.
POLLS = {
    "aws/parameters.py:await_values": Bound("aws.parameters:_EFFECTIVE_WITHIN"),
    "aws/room.py:await_change": Bound("aws.room:_TRIED_ANYWAY"),
    "aws/session.py:rounds": Bound("aws.recent:Patience.visible"),
    "aws/waiters.py:until_ready": Bound("aws.waiters:LONGEST", "on_progress, and the live view, which has the times"),
    "notify/senders.py:_webhook": Bound("notify.delivery:LONGEST"),
    "stages/hosts.py:pause": Bound("aws.waiters:LONGEST", "on_progress, and the live view, which has the times"),
    "ssh/connection.py:_open_session": Bound("ssh.connection:_SESSION_SECONDS", "the command that has the session"),
    "store/protocol.py:take": Bound(LONGEST, "waiting: the caller tells who holds the lock; --wait gives the time"),
}
# The bounds of loops that sleep, by file: beside the reasons in SLEEPS.
SLEEPERS = {
    "aws/room.py": Bound("aws.room:_STUCK", "the note of the launch that waits for vCPUs"),
    "aws/session.py": Bound("aws.recent:Patience.visible"),
    "release/index.py": Bound(13.0),
    "release/consumers.py": Bound("release.consumers:_PAUSES", "each"),
    "snapshots/copy.py": Bound(LONGEST, "the events of the copies"),
    "ssh/connection.py": Bound(0.15),
    "ssh/tunnel.py": Bound("ssh.tunnel:_TERM_SECONDS"),
    "validate/plugin.py": Bound(120.0, "the parent, which has the time limit of the suite"),
    "validate/runner.py": Bound("validate.runner:_GRACE"),
}
# Calls that block without a time limit, by file and function: what ends them. What they wait for has its own bound.
BLOCKING = {
    "agenda.py:_take_part self._changed.wait": "the next function that is added, or the end; a daemon thread waits",
    "agenda.py:close self._changed.wait": "the functions that run, whose calls have time limits",
    "aws/answers.py:get answer.result": "the answer is set already",
    "aws/answers.py:get known.result": "the call of the thread that asked first, with the client's time limits",
    "aws/lease.py:give_back self._thread.join": "the event is set; a renewal that is under way has S3's time limits",
    "aws/sharing.py:sharing thread.join": "the event is set; the thread looks at it every second",
    "background.py:run_work thread.join": "the work has put its last event",
    "cli/hosts.py:_run subprocess.run": "ssh of the user, at the terminal",
    "each.py:__exit__ self.wait": "the waits inside of each function",
    "each.py:beside future.result": "the waits inside of the function",
    "interrupts.py:main_woken waker.join": "the event is set, and the pipe that the thread reads has a byte",
    "journal/eventlog.py:stop self._thread.join": "the event is set; a write that is under way has S3's time limits",
    "many.py:all future.result": "the builds, whose stages have limits and events",
    "notify/senders.py:_program process.wait": "the process is killed",
    "pipeline.py:carry_out build.asides.wait": "the calls of the functions, which have time limits",
    "provision/ansible.py:_run process.wait": "the process is killed",
    "provision/follower.py:_input acknowledge.get": "the end of follow, which always puts an entry",
    "release/distribute.py:source_image self._distribution._available[self._source().label, architecture].result": (
        "a delivery begins when its source has ended, so the result is set already"
    ),
    "release/distribute.py:_read_back self._available[t.label, a].result": "it is there: the target has ended",
    "release/distribute.py:finish self._available[target.label, architecture].result": "the looks at copies",
    "release/distribute.py:finish self._ended[target.label].result": "the looks at copies",
    "release/distribute.py:home_image self._available[target.label, architecture].result": "the looks at copies",
    "report/terminal.py:close self._redrawing.join": "the event is set; the thread draws once more at most",
    "snapshots/freeze.py:word said.wait": "the end of the context, which always sets it; a daemon thread waits",
    "ssh/tunnel.py:_end_group self._process.wait": "the process is killed",
    "stages/before.py:tell_permissions build.is_launching.wait": "the launch of a builder, or the end of the work",
    "validate/runner.py:end self.popen.wait": "the process is killed",
}
# Loops around a call that waits for a short time, or for the next data, by file and function: what ends the loop, and
# who tells that it goes on. Most are threads of their own, which nobody waits for: what they serve has its own bound.
LOOPS = {
    "aws/lease.py:_keep self._end.wait": "give_back, in the finally of what holds the lease",
    "aws/room.py:_until_first self._changed.wait": "the launch in front, which ends after _STUCK, and tells",
    "aws/sharing.py:keep end.wait": "the end of the block, in its finally",
    "background.py:_next events.get": "the end of the work, which puts the last event",
    "cli/output.py:write select.select": "the reader of the pipe, or the end of the pipe",
    "each.py:_run told.get": "the waits inside of each item, which tell",
    "interrupts.py:_wake_main ended.wait": "the last waking after a signal, or the end of the block",
    "journal/eventlog.py:_run self._stopped.wait": "stop or abandon, at the end of the run",
    "provision/ansible.py:_follow poller.poll": "the time limit of the stage; on_silence",
    "report/terminal.py:_redraw self._closed.wait": "close, at the end of the live view; it is the sign of life",
    "ssh/bastion.py:own_address channel.recv": "the time limit of the channel, ATTEMPT_SECONDS, for a line of text",
    "ssh/connection.py:_drain channel.recv_stderr": "the close of the channel, when _execute ends",
    "ssh/connection.py:_end_unfinished self._unfinished[0].status_event.wait": "_LEFT_SECONDS for all of them",
    "ssh/connection.py:_output channel.recv": "the time limit of the command; on_silence",
    "ssh/connection.py:_status channel.status_event.wait": "the time limit of the command; on_silence",
    "ssh/handover.py:_serve self._socket.recv": "close, after the tests; or the end of the child",
    "ssh/relaying.py:relay connection.recv": "ssh of the user, at the terminal",
    "ssh/tunnel.py:_from_channel channel.recv": "the end of the channel, with its connection",
    "ssh/tunnel.py:_to_channel theirs.recv": "the end of the channel, with its connection",
    "ssh/tunnel.py:_watch poller.poll": "the end of the transport's program, or of the connection that it carries",
    "ssh/unixproxy.py:main connection.recv": "ssh of Ansible, whose playbook has the time limit of the stage",
    "stages/watch.py:run self._over.wait": "end, in the finally of the stage; a lost host and an interruption",
    "validate/child.py:main parent.recv": "the end of the parent, which closes the socket",
    "validate/runner.py:is_ready self._parent.recv": "_READY_SECONDS; the stop of the tests",
    "validate/runner.py:follow selector.select": "the time limit of the suite; each test that ends is an event",
}
# Commands on a host without a time limit, by file and function: what bounds them.
COMMANDS = {
    "hardening/suite.py:values": "the time limit of the suite, in the parent",
    "validate/backend.py:_run_now": "the time limit of the suite, in the parent",
}
SHORT = ("wait", "recv", "recv_stderr", "select", "poll", "acquire", "get", "accept", "readline")
OWN_WAITS = ("attempts.wait", "news.wait", "retry.wait", "snapshots.wait")  # they poll, or raise the error at the end
CONTEXT = ("_run", "_permit")  # variables of a context, whose get does not wait


def functions(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Every node with the name of the innermost function that has it."""
    for child in ast.iter_child_nodes(tree):
        name = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else inside
        yield name, child
        yield from functions(child, name)


def called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


Trees = Iterable[tuple[str, ast.AST]]


def polls(trees: Trees | None = None) -> Iterator[tuple[str, set[str | None], ast.Call]]:
    for file, tree in trees or source.trees("poll("):
        for function, node in functions(tree):
            if isinstance(node, ast.Call) and called(node) == "poll" and len(node.keywords) > 1:
                yield f"{file}:{function}", {k.arg for k in node.keywords}, node


def blocking(trees: Trees | None = None) -> Iterator[str]:
    """Calls that wait without a time limit: for a thread, a queue, a future, an event, a process."""
    words = ("wait()", "communicate()", "join()", "get()", "result()", "subprocess.")
    for file, tree in trees or source.trees(*words):
        for function, node in functions(tree):
            if not isinstance(node, ast.Call):
                continue
            name, given = called(node), {k.arg for k in node.keywords}
            on = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
            bare = not node.args and not given
            if (bare and name in ("wait", "communicate")) or (
                bare and name in ("join", "get") and on and on not in CONTEXT
            ):
                yield f"{file}:{function} {on}.{name}"
            if bare and name == "result" and on not in ("stage", "results"):
                yield f"{file}:{function} {on}.{name}"
            if on == "subprocess" and name in ("run", "check_output", "check_call") and "timeout" not in given:
                yield f"{file}:{function} subprocess.{name}"


def loops(trees: Trees | None = None) -> Iterator[str]:
    """Loops around a call that waits for a short time, or for data."""
    for file, tree in trees or source.trees("while "):
        for function, loop in functions(tree):
            if not isinstance(loop, ast.While):
                continue
            for node in ast.walk(loop):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                    continue
                on, name = ast.unparse(node.func), node.func.attr
                timed = bool(node.args) if name != "get" else any(k.arg == "timeout" for k in node.keywords)
                if name in SHORT and timed and on not in OWN_WAITS:
                    yield f"{file}:{function} {on}"


def commands(trees: Trees | None = None) -> Iterator[str]:
    """Commands on a host without a time limit."""
    for file, tree in trees or source.trees("connection"):
        for function, node in functions(tree):
            if not isinstance(node, ast.Call) or called(node) not in ("run", "stream"):
                continue
            on = ast.unparse(node.func)
            limited = any(k.arg == "timeout" for k in node.keywords) or len(node.args) > (2 if ".run" in on else 3)
            if on.rpartition(".")[0].endswith("connection") and not limited:
                yield f"{file}:{function}"


def seconds(bound: Bound) -> float:
    if isinstance(bound.constant, int | float):
        return bound.constant
    module, _, path = bound.constant.partition(":")
    found: Any = importlib.import_module(f"goldenami.{module}")
    for name in path.split("."):
        found = (
            found.__dataclass_fields__[name].default if hasattr(found, "__dataclass_fields__") else getattr(found, name)
        )
    return float(sum(found)) if isinstance(found, tuple) else float(found)


def unbounded(trees: Trees | None = None) -> Iterator[str]:
    """Loops of ``poll`` without a time limit."""
    for place, _, node in polls(trees):
        limit = next((k.value for k in node.keywords if k.arg == "timeout"), None)
        if limit is None or (isinstance(limit, ast.Constant) and limit.value is None):
            yield place


def test_every_poll_has_a_bound() -> None:
    assert list(unbounded()) == []


def test_every_poll_has_a_sign_of_life() -> None:
    silent = {place for place, given, _ in polls() if "sign_of_life" not in given}
    assert silent - set(POLLS) == set(), "give `sign_of_life`, or list the bound here"
    assert set(POLLS) - silent == set(), "these are no longer needed"


def test_every_sleeping_loop_has_a_bound() -> None:
    assert set(SLEEPS) == set(SLEEPERS)


def test_every_blocking_call_has_an_end() -> None:
    found = set(blocking())
    assert found - set(BLOCKING) == set(), "give a time limit, or list what ends it"
    assert set(BLOCKING) - found == set(), "these are no longer needed"


def test_every_loop_of_short_waits_has_an_end() -> None:
    found = set(loops())
    assert found - set(LOOPS) == set(), "list what ends the loop, and who tells that it goes on"
    assert set(LOOPS) - found == set(), "these are no longer needed"


def test_every_command_on_a_host_has_a_time_limit() -> None:
    found = set(commands())
    assert found - set(COMMANDS) == set(), "give `timeout`"
    assert set(COMMANDS) - found == set(), "these are no longer needed"


@pytest.mark.parametrize("place", [*POLLS, *SLEEPERS])
def test_bounds_are_what_they_are_said_to_be(place: str) -> None:
    bound = POLLS.get(place) or SLEEPERS[place]
    assert 0 < seconds(bound) <= LONGEST
    assert bound.life != QUIET or seconds(bound) <= SILENCE, f"{place} is silent for {seconds(bound):.0f} s"


@pytest.mark.parametrize(
    "code",
    [
        "poll(clock, sleep, timeout=None, interval=x)",
        "thread.join()",
        "queue.get()",
        "subprocess.run(['x'])",
        "while not event.wait(1): pass",
        "while data := channel.recv(1024): use(data)",
        "while True: queue.get(timeout=1)",
        "self._connection.run('sleep 20')",
        "connection.stream('sleep 20', b'', print)",
    ],
)
def test_the_rules_see_what_they_are_for(code: str) -> None:
    trees = [("new.py", ast.parse(f"def wait():\n    {code}\n"))]
    assert [*unbounded(trees), *blocking(trees), *loops(trees), *commands(trees)]
