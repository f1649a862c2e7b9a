"""Connections to a real sshd."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import paramiko
import pytest

from goldenami import ssh
from goldenami.errors import BuilderError, ConnectionLost, Interrupted, TestsFailed
from goldenami.model import SshEndpoint
from goldenami.ssh.transport import NotReachable, Refused, open_transport, translated
from tests.ssh.relay import Relay

pytestmark = pytest.mark.early


class Time:
    """A clock that only ``sleep`` advances."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept = 0
        self.shortest = math.inf

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += 1
        self.shortest = min(self.shortest, seconds)

    def clock(self) -> float:
        return self.now


@pytest.fixture
def connection(endpoint: SshEndpoint) -> Iterator[ssh.Connection]:
    with ssh.connect(endpoint, timeout=60) as made:
        yield made


# --- commands ---------------------------------------------------------------------------------------------------------


def test_a_command_ends_with_its_status_output_and_errors(connection: ssh.Connection) -> None:
    done = connection.run("cat; echo oops >&2; exit 3", stdin=b"hello")
    assert (done.status, done.stdout, done.stderr) == (3, b"hello", b"oops\n")


def test_a_shell_with_a_slow_command_gets_fewer_of_the_next_ones(connection: ssh.Connection, tmp_path: Path) -> None:
    """The slow command waits for the last one of the next batch, so none of that may come after it."""
    shells = ssh.Shells(connection, count=2)
    answers: queue.SimpleQueue[tuple[str, str | None]] = queue.SimpleQueue()

    def take(text: str, answer: ssh.ShellAnswer | None) -> None:
        answers.put((text, None if answer is None else answer.done.text))

    shells.ask(["echo first", "echo second"], [], take)
    assert {answers.get(timeout=120) for _ in range(2)} == {("echo first", "first"), ("echo second", "second")}
    slow = f"until test -e {tmp_path}/end; do sleep 0.02; done"
    shells.ask([slow], [], take)
    last = f"touch {tmp_path}/end"
    shells.ask(["echo one", "echo two", last], [], take)
    found = [answers.get(timeout=30)[0] for _ in range(4)]
    assert set(found) == {slow, "echo one", "echo two", last}
    shells.close()


def test_a_shell_with_a_long_script_gets_none_of_the_next_ones(connection: ssh.Connection, tmp_path: Path) -> None:
    """One command is behind in each shell: a line, and a script of many lines. Both wait for the last one of the next
    batch, or for this test, so the shell with the line has all of that."""
    shells = ssh.Shells(connection, count=2)
    answers: queue.SimpleQueue[str] = queue.SimpleQueue()

    def take(text: str, answer: ssh.ShellAnswer | None) -> None:
        assert answer is not None
        answers.put(answer.done.text)

    shells.ask(["echo first", "echo second"], [], take)
    assert {answers.get(timeout=120) for _ in range(2)} == {"first", "second"}
    script = f"until test -e {tmp_path}/end; do sleep 0.02; done; " + "true\n" * 20 + "echo script"
    line = f"until test -e {tmp_path}/begin; do sleep 0.02; done; echo line"
    shells.ask([script, line], [], take)
    shells.ask(["echo one", "echo two", "echo three", f"touch {tmp_path}/end; echo four"], [], take)
    (tmp_path / "begin").touch()
    found = [answers.get(timeout=120) for _ in range(6)]
    assert found[:4] == ["line", "one", "two", "three"]
    assert set(found[4:]) == {"four", "script"}
    shells.close()


def test_without_input_a_command_reads_the_end_at_once(connection: ssh.Connection) -> None:
    assert connection.run("cat; echo end").text == "end"


def test_a_command_that_a_signal_ends_has_no_status(connection: ssh.Connection) -> None:
    assert connection.run("kill -9 $$").status == -1


def test_input_and_output_are_transferred_at_the_same_time(connection: ssh.Connection) -> None:
    """The data is larger than both windows together. Sending all of it before reading would block forever."""
    data = bytes(range(256)) * 80_000
    done = connection.run("cat | tee /dev/stderr", stdin=data)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()
    assert data.endswith(done.stderr)
    assert len(done.stderr) == 256 << 10


def test_lines_arrive_while_input_is_still_being_sent(connection: ssh.Connection) -> None:
    answers: list[str] = []
    answered = threading.Event()

    def questions() -> Iterator[bytes]:
        for number in range(3):
            yield b"question %d\n" % number
            assert answered.wait(30), "no answer while the input was open"
            answered.clear()

    def answer(line: str) -> None:
        answers.append(line)
        answered.set()

    done = connection.stream('while read -r line; do echo "got $line"; done; printf end', questions(), answer)
    assert done.status == 0
    assert answers == ["got question 0", "got question 1", "got question 2", "end"]


def test_long_lines_come_in_pieces_that_do_not_depend_on_the_network(connection: ssh.Connection) -> None:
    found: list[list[str]] = []
    for pause in ("", "sleep 0.1;"):
        lines: list[str] = []
        command = (
            f"head -c 100000 /dev/zero | tr '\\0' x; {pause} head -c 100000 /dev/zero | tr '\\0' y; echo; echo end"
        )
        connection.stream(command, b"", lines.append)
        found.append(lines)
    assert found[0] == found[1]
    assert "".join(found[0]) == "x" * 100_000 + "y" * 100_000 + "end"


def test_input_that_is_not_read_is_no_error(connection: ssh.Connection) -> None:
    assert connection.run("exit 0", stdin=b"x" * 10_000_000).status == 0


def test_a_background_child_does_not_delay_the_end_of_a_command(connection: ssh.Connection) -> None:
    start = time.monotonic()
    assert connection.run("sleep 100 & echo started").text == "started"
    assert time.monotonic() - start < 60


@pytest.mark.parametrize("command", ["sleep 20", "while :; do echo still here; done"])
def test_a_command_can_have_a_time_limit(connection: ssh.Connection, command: str) -> None:
    with pytest.raises(BuilderError, match="did not end in time"):
        connection.stream(command, b"", lambda line: None, timeout=0.5)


def test_a_command_that_closed_its_output_has_the_same_time_limit_and_signs_of_life(
    connection: ssh.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goldenami.ssh.connection._SILENCE_SECONDS", 0.3)
    told: list[float] = []
    with pytest.raises(BuilderError, match="did not end in time: exec"):
        connection.run("exec >&- 2>&-; sleep 20", timeout=3, on_silence=told.append)
    assert told, "the wait for the exit status was silent"


def test_a_command_can_return_before_its_end(connection: ssh.Connection) -> None:
    seen: list[str] = []
    start = time.monotonic()
    done = connection.stream("echo known; sleep 100", b"", seen.append, until=lambda: bool(seen))
    assert (done.status, seen) == (0, ["known"])
    assert time.monotonic() - start < 60
    connection.drop()


def test_the_next_command_waits_for_the_end_of_an_unfinished_one(connection: ssh.Connection, tmp_path: Path) -> None:
    """This holds for any number of next commands, because sshd counts the unfinished one against MaxSessions."""
    seen: list[str] = []
    mark = tmp_path / "ended"
    connection.stream(f"echo known; read -r _; sleep 1; : >{mark}", b"go\n", seen.append, until=lambda: bool(seen))
    assert not mark.exists(), "it was not left"
    with ThreadPoolExecutor(4) as threads:
        assert [d.status for d in threads.map(connection.run, [f"test -e {mark}"] * 4)] == [0] * 4


def leave(connection: ssh.Connection, then: str) -> None:
    """Run a command that reads what it is sent and then does ``then``, and do not wait for its end."""
    seen: list[str] = []
    connection.stream(f"echo known; read -r _ && {then}", b"read\n", seen.append, until=lambda: bool(seen))


@pytest.mark.parametrize("how", ["close", "reconnect", "end of the block", "error"])
def test_the_end_of_a_connection_waits_for_unfinished_commands(endpoint: SshEndpoint, tmp_path: Path, how: str) -> None:
    """The host would lose what was sent to them last, if it answers meanwhile."""
    mark = tmp_path / "ended"
    with contextlib.suppress(TestsFailed), ssh.connect(endpoint, timeout=60) as connection:
        leave(connection, f"{{ echo more; sleep 0.2; : >{mark}; }}")
        assert not mark.exists(), "it was not left"
        if how == "error":
            raise TestsFailed("the host is kept")
        if how == "close":
            connection.close()
            assert mark.exists()
        if how == "reconnect":
            connection.reconnect(timeout=60)
            assert mark.exists()
            assert connection.run("echo again").text == "again"
    assert mark.exists()


@pytest.mark.parametrize("how", ["drop", "signal", "interruption", "lost", "loss"])
def test_nothing_waits_for_a_host_that_is_lost_or_about_to_end(
    endpoint: SshEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """``loss``: it is noticed while the end of the connection is waited for."""
    monkeypatch.setattr("goldenami.ssh.connection._LEFT_SECONDS", 600.0)
    ended, start = tmp_path / "ended", time.monotonic()
    with (
        Relay((endpoint.address, endpoint.port)) as relay,
        contextlib.suppress(KeyboardInterrupt, Interrupted),
        ssh.connect(replace(endpoint, port=relay.port), timeout=60) as connection,
    ):
        leave(connection, f"until test -e {ended}; do sleep 0.05; done")
        if how == "drop":
            connection.drop()
        elif how == "lost":
            relay.cut()
        elif how == "loss":
            threading.Timer(0.1, connection.drop).start()
        else:
            raise KeyboardInterrupt if how == "signal" else Interrupted("interrupted")
    ended.touch()
    assert time.monotonic() - start < 300
    assert not connection.is_open


def test_commands_run_side_by_side(connection: ssh.Connection, tmp_path: Path) -> None:
    """Each waits for all others."""
    meet = f"until [ $(ls {tmp_path} | wc -l) = 4 ]; do sleep 0.1; done"
    with ThreadPoolExecutor(4) as threads:
        commands = [f": >{tmp_path}/{n}; {meet}; echo {n}" for n in range(4)]
        done = list(threads.map(lambda command: connection.run(command, timeout=120), commands))
    assert [d.text for d in done] == ["0", "1", "2", "3"]


# --- connecting -------------------------------------------------------------------------------------------------------


def test_small_packets_are_sent_without_delay(endpoint: SshEndpoint) -> None:
    transport = open_transport(endpoint)
    assert isinstance(transport.sock, socket.socket)
    assert transport.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    transport.close()


def test_a_host_that_boots_fast_is_found_soon(endpoint: SshEndpoint) -> None:
    """It is tried more often in the first second than later."""
    time_, times = Time(), []
    with socket.socket() as closed:  # it has the port, and does not listen
        closed.bind(("127.0.0.1", 0))
        nowhere = replace(endpoint, address="127.0.0.1", port=closed.getsockname()[1])
        with pytest.raises(NotReachable):
            ssh.connect(
                nowhere, timeout=10, sleep=time_.sleep, clock=time_.clock, check=lambda: times.append(time_.now)
            )
    pauses = [(before, after - before) for before, after in pairwise(times)]
    assert max(pause for at, pause in pauses if at < 1) < 0.11
    assert 0.2 < max(pause for _, pause in pauses) <= 0.25 + 1e-9
    assert len(times) < 80


def test_another_host_key_is_refused_and_nothing_is_sent(endpoint: SshEndpoint) -> None:
    wrong, time_ = replace(endpoint, host_key=ssh.generate_keypair().public_key), Time()
    with pytest.raises(BuilderError, match="another host key") as caught:
        ssh.connect(wrong, timeout=3600, sleep=time_.sleep, clock=time_.clock)
    assert caught.value.hint
    assert time_.now < 60, "what lasts is told at once, not at the end of the time limit"


def test_a_host_without_a_key_of_the_expected_type_is_refused(endpoint: SshEndpoint) -> None:
    key = paramiko.ECDSAKey.generate()
    wrong = replace(endpoint, host_key=f"{key.get_name()} {key.get_base64()}")
    with pytest.raises(Refused, match="no host key of the expected type"):
        open_transport(wrong)


def test_another_login_key_is_refused(endpoint: SshEndpoint) -> None:
    wrong, time_ = replace(endpoint, private_key=ssh.generate_keypair().private_key), Time()
    with pytest.raises(BuilderError, match="does not accept the key") as caught:
        ssh.connect(wrong, timeout=3600, sleep=time_.sleep, clock=time_.clock)
    assert "ssh_user" in (caught.value.hint or "")
    assert time_.shortest >= 0.25, "sshd may refuse an address with many such logins in a second"


def test_one_login_either_succeeds_or_says_not_yet(endpoint: SshEndpoint) -> None:
    logged_in = ssh.log_in_once(endpoint)
    assert logged_in is not None
    checks: list[str] = []
    with logged_in.under(lambda: checks.append("")) as connection:
        assert connection.is_open
        assert connection.run("echo ready").text == "ready"
        assert checks
    assert not logged_in.is_open
    other = ssh.generate_keypair()
    assert ssh.log_in_once(replace(endpoint, host_key=other.public_key)) is None
    assert ssh.log_in_once(replace(endpoint, private_key=other.private_key)) is None
    with socket.socket() as closed:  # it has the port, and does not listen
        closed.bind(("127.0.0.1", 0))
        assert ssh.log_in_once(replace(endpoint, address="127.0.0.1", port=closed.getsockname()[1])) is None


def test_a_tunnel_is_opened_less_often_than_a_connection(endpoint: SshEndpoint) -> None:
    """Each is a session of a bastion or of Session Manager."""
    time_ = Time()

    def opener(endpoint: SshEndpoint, patience: float) -> socket.socket:
        raise ConnectionRefusedError(f"{endpoint.address}, not within {patience} s")

    with pytest.raises(NotReachable):
        ssh.connect(replace(endpoint, transport=opener), timeout=2.5, sleep=time_.sleep, clock=time_.clock)
    assert time_.shortest >= 0.25
    assert time_.slept == 10


def test_connect_waits_until_the_host_key_is_the_expected_one(endpoint: SshEndpoint) -> None:
    """cloud-init replaces the host keys of the image by those of the instance during the boot."""
    impostor = paramiko.Ed25519Key.from_private_key(io.StringIO(ssh.generate_keypair().private_key))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        relay = Relay((endpoint.address, endpoint.port), listener=listener)  # it takes the connections after the first

        def serve() -> None:
            client, _ = listener.accept()
            server = paramiko.Transport(client)
            server.add_server_key(impostor)
            server.start_server(event=threading.Event(), server=paramiko.ServerInterface())

        threading.Thread(target=serve, daemon=True).start()
        attempts = 0

        def sleep(seconds: float) -> None:
            nonlocal attempts
            attempts += 1
            relay.__enter__()

        made = ssh.connect(replace(endpoint, port=relay.port), timeout=30, sleep=sleep)
        assert made.run("echo hello").text == "hello"
        assert attempts == 1
        made.close()
        relay.__exit__(None, None, None)


def test_connect_fails_after_its_timeout_if_no_program_listens(endpoint: SshEndpoint) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # it does not listen, and nobody else can
        time_, closed = Time(), replace(endpoint, port=probe.getsockname()[1])
        with pytest.raises(BuilderError, match="no SSH connection within 30 s") as caught:
            ssh.connect(closed, timeout=30, sleep=time_.sleep, clock=time_.clock)
    assert "refused" in caught.value.message
    assert time_.slept > 50


def test_a_server_that_closes_the_connection_is_tried_again(endpoint: SshEndpoint) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(3):
                client, _ = server.accept()
                client.close()

        threading.Thread(target=serve, daemon=True).start()
        time_ = Time()
        with pytest.raises(BuilderError, match="no SSH connection"):
            ssh.connect(
                replace(endpoint, port=server.getsockname()[1]), timeout=0.11, sleep=time_.sleep, clock=time_.clock
            )
        assert time_.slept == 2


def test_an_invalid_key_is_a_value_error(endpoint: SshEndpoint) -> None:
    with pytest.raises(ValueError, match="not an OpenSSH public key"):
        ssh.connect(replace(endpoint, host_key="ssh-ed25519 nonsense"), timeout=1)


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH_9.2\r\n"], ids=["silent", "banner only"])
def test_a_server_that_accepts_and_sends_nothing_is_not_reachable(endpoint: SshEndpoint, greeting: bytes) -> None:
    """A host without free memory, or with a failed disk, behaves like this."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted: list[socket.socket] = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    near, _ = listener.accept()
                    near.sendall(greeting)
                    accepted.append(near)

        threading.Thread(target=serve, daemon=True).start()
        silent = replace(endpoint, address="127.0.0.1", port=listener.getsockname()[1])
        start = time.monotonic()
        with pytest.raises(ssh.NotReachable, match="no SSH connection within 1 s"):
            ssh.connect(silent, timeout=1)
        assert time.monotonic() - start < 25, "the time of one attempt is 30 s"
        assert accepted
        for near in accepted:
            near.close()


# --- lost -------------------------------------------------------------------------------------------------------------


def test_a_connection_that_ends_during_a_command_is_lost_and_can_reconnect(endpoint: SshEndpoint) -> None:
    with Relay((endpoint.address, endpoint.port)) as relay:
        connection = ssh.connect(replace(endpoint, port=relay.port), timeout=60)
        seen: list[str] = []

        def cut(line: str) -> None:
            seen.append(line)
            relay.cut()

        with pytest.raises(ConnectionLost):
            connection.stream("echo begun; sleep 20", b"", cut)
        assert seen == ["begun"]
        with pytest.raises(ConnectionLost):
            connection.run("true")
        connection.reconnect(timeout=60)
        assert connection.run("echo again").text == "again"
        connection.close()


def test_a_reboot_is_complete_when_the_boot_id_has_changed(endpoint: SshEndpoint) -> None:
    with ssh.connect(endpoint, timeout=60) as connection:
        connection.wait_for_reboot("the boot before", timeout=60)
        assert connection.run("true").status == 0
        time_ = Time()
    with ssh.connect(endpoint, timeout=60, sleep=time_.sleep, clock=time_.clock) as connection:
        before = connection.boot_id()
        with pytest.raises(BuilderError, match="did not come back from its reboot within 2 s: it did not shut down"):
            connection.wait_for_reboot(before, timeout=2)


def test_the_wait_for_a_reboot_does_not_wait_for_commands_before_it(
    endpoint: SshEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goldenami.ssh.connection._LEFT_SECONDS", 600.0)
    with ssh.connect(endpoint, timeout=60) as connection:
        seen: list[str] = []
        connection.stream("while echo known; do sleep 0.1; done", b"", seen.append, until=lambda: bool(seen))
        start = time.monotonic()
        connection.wait_for_reboot("the boot before", timeout=60)
        assert time.monotonic() - start < 300
        assert connection.run("true").status == 0


@pytest.mark.parametrize(
    "error",
    [
        paramiko.SSHException("x"),
        paramiko.ssh_exception.ChannelException(1, "x"),
        paramiko.ssh_exception.ProxyCommandFailure("x", "y"),
        paramiko.ssh_exception.NoValidConnectionsError({("127.0.0.1", 22): OSError("x")}),
        paramiko.PasswordRequiredException("x"),
        paramiko.BadAuthenticationType("x", ["password"]),
        paramiko.ssh_exception.PartialAuthentication(["password"]),
        paramiko.ssh_exception.IncompatiblePeer("x"),
        paramiko.ssh_exception.MessageOrderError("x"),
        EOFError(),
        TimeoutError("x"),
        ConnectionResetError("x"),
        socket.gaierror("x"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_foreign_errors_are_translated(error: Exception) -> None:
    with pytest.raises(BuilderError) as caught, translated("admin@host:22", NotReachable):
        raise error
    assert caught.value.__cause__ is error
    assert "admin@host:22" in caught.value.message


def test_every_error_of_paramiko_is_translated() -> None:
    """Errors of later versions are translated too, because they have one of the known base classes."""
    known = (paramiko.SSHException, OSError, EOFError)
    for value in vars(paramiko.ssh_exception).values():
        if isinstance(value, type) and issubclass(value, Exception):
            assert issubclass(value, known), value


# --- round trips ------------------------------------------------------------------------------------------------------


def test_round_trips(endpoint: SshEndpoint) -> None:
    """Measures the time that a network delay adds, in units of the delay. The fastest of several attempts counts."""
    with Relay((endpoint.address, endpoint.port)) as relay:
        slow = replace(endpoint, port=relay.port)

        def seconds(act: Callable[[], object]) -> float:
            start = time.monotonic()
            act()
            return time.monotonic() - start

        def round_trips(act: Callable[[], object], most: int) -> int:
            """A busy computer only makes attempts slower. So one attempt with at most ``most`` is a proof. The longer
            the delay, the less do others disturb it."""
            relay.delay = 0.0
            fast = min(seconds(act) for _ in range(3))
            found = most + 1
            for attempt in range(40):
                relay.delay = 0.08 * (1 + attempt // 10)
                found = min(found, round((seconds(act) - fast) / (2 * relay.delay)))
                if found <= most:
                    break
            return found

        assert round_trips(lambda: ssh.connect(slow, timeout=60), 6) <= 6
        with ssh.connect(slow, timeout=60) as connection:
            assert round_trips(lambda: connection.run("true"), 2) <= 2

            def leave_one_and_run_another() -> None:
                seen: list[str] = []
                connection.stream("echo known; read -r _", b"", seen.append, until=lambda: bool(seen))
                connection.run("true")

            assert round_trips(leave_one_and_run_another, 4) <= 4
            # sshd opens its window when the command starts. The input waits until then.
            assert round_trips(lambda: connection.run("cat", stdin=b"x" * 100_000), 3) <= 3
