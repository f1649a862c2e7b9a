"""Transports: SSH over a program, over a bastion, and over the socket of an installed package works as over TCP."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from goldenami import extensions, ssh
from goldenami.errors import BuilderError, NotFound, UsageError
from goldenami.model import SshEndpoint
from goldenami.ssh import Bastion, BastionLogin, ConnectionClient, ConnectionServer, NotReachable, Refused, open_process
from goldenami.ssh.transport import open_transport
from tests.ssh.relay import Relay

MODULE = '''\
import socket
import threading

calls = []


def open_socket(endpoint, patience):
    """A relay in this process, with a socket pair."""
    calls.append((endpoint.instance_id, endpoint.region))
    if len(calls) == 1:
        raise ConnectionRefusedError("not yet")
    ours, theirs = socket.socketpair()
    host = socket.create_connection((endpoint.address, endpoint.port))
    for source, sink in ((theirs, host), (host, theirs)):
        threading.Thread(target=copy, args=(source, sink), daemon=True).start()
    return ours


def copy(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
'''

# A program as a transport's: it writes its process id and that of a child into a file, and forwards TCP.
FORWARD = """\
import os, select, socket, subprocess, sys
pids, port = sys.argv[1], int(sys.argv[2])
child = subprocess.Popen(["sleep", "600"])
open(pids + ".new", "w").write(f"{os.getpid()} {child.pid}")
os.rename(pids + ".new", pids)
with socket.create_connection(("127.0.0.1", port)) as host:
    while True:
        for ready in select.select([0, host], [], [])[0]:
            if ready == 0 and os.path.exists(pids + ".slow"):
                __import__("time").sleep(0.3)
            data = os.read(0, 65536) if ready == 0 else host.recv(65536)
            if not data and ready == 0:
                __import__("time").sleep(600)  # a program that does not end at the end of its input
            if not data:
                sys.exit()
            os.write(1, data) if ready is host else host.sendall(data)
"""


# --- a package --------------------------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with an installed package that adds the transport ``relay``."""
    (tmp_path / "relay_transport.py").write_text(MODULE)
    install(tmp_path, "relay", "relay = relay_transport:open_socket")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("relay_transport", None)


def install(site: Path, name: str, *entries: str) -> None:
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(["[goldenami.transports]", *entries, ""]))


def test_commands_run_over_the_transport_of_a_package(endpoint: SshEndpoint, site: Path) -> None:
    opener = extensions.load(extensions.TRANSPORTS, "relay")
    by_relay = replace(endpoint, transport=opener, instance_id="i-1", region="eu-central-1")
    with ssh.connect(by_relay, timeout=60) as connection:
        assert connection.run("cat", stdin=b"x" * 3_000_000).stdout == b"x" * 3_000_000
        connection.reconnect(timeout=60)
        assert connection.run("echo again").text == "again"
    import relay_transport  # type: ignore[import-not-found]

    # The first attempt was refused and repeated. Then there is one for each connection.
    assert relay_transport.calls == [("i-1", "eu-central-1")] * 3


def test_a_transport_that_is_not_installed_is_an_error() -> None:
    with pytest.raises(NotFound, match=r"no installed package adds 'relay' to goldenami\.transports"):
        extensions.load(extensions.TRANSPORTS, "relay")


def test_a_transport_of_a_package_in_a_zip_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "zipped", "zipped = zipped_transport:open_socket")
    archive = tmp_path / "zipped.zip"
    with zipfile.ZipFile(archive, "w") as files:
        for path in (tmp_path / "zipped-1.0.dist-info").iterdir():
            files.write(path, path.relative_to(tmp_path))
    monkeypatch.syspath_prepend(str(archive))
    assert "zipped" in extensions.installed(extensions.TRANSPORTS)


def test_a_transport_that_cannot_be_imported_is_an_error(site: Path) -> None:
    (site / "relay_transport.py").write_text("import nowhere")
    with pytest.raises(UsageError, match=r"relay 1\.0: .*ModuleNotFoundError: No module named 'nowhere'"):
        extensions.load(extensions.TRANSPORTS, "relay")


def test_two_packages_with_the_same_transport_name_are_an_error(site: Path) -> None:
    install(site, "other", "relay = other_transport:open_socket")
    with pytest.raises(UsageError, match=r"two packages add 'relay' to goldenami\.transports"):
        extensions.installed(extensions.TRANSPORTS)


# --- a program --------------------------------------------------------------------------------------------------------


def by_program(endpoint: SshEndpoint, folder: Path, *command: str) -> SshEndpoint:
    program = folder / "forward.py"
    program.write_text(FORWARD)
    forward = [sys.executable, str(program), str(folder / "pids"), str(endpoint.port)]
    return replace(endpoint, transport=lambda endpoint, patience: open_process(command or forward))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:  # also one that ends while this reads
        return False


def ended(*pids: int, seconds: float = 60.0) -> bool:
    until = time.monotonic() + seconds
    while any(map(is_running, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(is_running, pids))


def test_commands_run_over_a_program_whose_group_ends_with_the_connection(
    endpoint: SshEndpoint, tmp_path: Path
) -> None:
    with ssh.connect(by_program(endpoint, tmp_path), timeout=60) as connection:
        assert connection.run("cat", stdin=b"x" * 3_000_000).stdout == b"x" * 3_000_000
        pids = tuple(map(int, (tmp_path / "pids").read_text().split()))
        assert all(map(is_running, pids))
    assert ended(*pids), "the program, or the process that it started, still runs"


def test_the_end_of_a_connection_loses_nothing_that_its_program_still_has(
    endpoint: SshEndpoint, tmp_path: Path
) -> None:
    """The program is slow, and is ended with the connection."""
    seen: list[str] = []

    def word() -> Iterator[bytes]:
        while not seen:
            time.sleep(0.01)
        (tmp_path / "pids.slow").touch()
        yield b"read\n"

    with ssh.connect(by_program(endpoint, tmp_path), timeout=60) as connection:
        command = f"echo known; read -r word; echo $word >{tmp_path}/word"
        connection.stream(command, word(), seen.append, until=lambda: bool(seen))
    assert (tmp_path / "word").read_text() == "read\n"


def test_a_program_that_ends_loses_the_connection(endpoint: SshEndpoint, tmp_path: Path) -> None:
    with ssh.connect(by_program(endpoint, tmp_path), timeout=60) as connection:
        program, child = map(int, (tmp_path / "pids").read_text().split())
        os.kill(program, signal.SIGKILL)
        with pytest.raises(BuilderError):
            connection.run("sleep 30", timeout=60)
        assert ended(child)
        connection.reconnect(timeout=60)
        assert connection.run("echo again").text == "again"


def test_the_error_has_the_last_lines_of_the_programs_stderr(endpoint: SshEndpoint, tmp_path: Path) -> None:
    failing = by_program(endpoint, tmp_path, "sh", "-c", "echo first >&2; echo no such bastion >&2; exit 7")
    with pytest.raises(NotReachable) as raised:
        open_transport(failing, 5)
    assert "ended with status 7\n    first\n    no such bastion" in raised.value.message


def test_a_program_that_is_not_installed_is_an_error_at_once(endpoint: SshEndpoint, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(BuilderError, match="'no-such-program' cannot be started: No such file or directory"):
        ssh.connect(by_program(endpoint, tmp_path, "no-such-program"), timeout=600)
    assert time.monotonic() - began < 300


def test_programs_end_with_this_process(endpoint: SshEndpoint, tmp_path: Path) -> None:
    """A connection that nobody closes: its program would wait for ever."""
    by_program(endpoint, tmp_path)
    forward = [sys.executable, str(tmp_path / "forward.py"), str(tmp_path / "pids"), str(endpoint.port)]
    code = f"""
import pathlib, time
from goldenami.ssh import open_process
keep = open_process({forward!r})
while not pathlib.Path({str(tmp_path / "pids")!r}).exists(): time.sleep(0.05)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    assert ended(*map(int, (tmp_path / "pids").read_text().split()))


@pytest.mark.root
def test_a_program_of_another_user_ends_with_its_input() -> None:
    """As with sudo: this process may not end it."""
    code = """
import os, threading
from goldenami.ssh import open_process
over = threading.Event()
tunnel = open_process(["cat"], ended=over.set)
keep = open_process(["cat"])
os.setresuid(65534, 65534, 65534)
tunnel.close()
assert over.wait(60)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# --- a bastion --------------------------------------------------------------------------------------------------------


def login(endpoint: SshEndpoint, **change: object) -> BastionLogin:
    """The server of the tests as a bastion: a second connection to it goes through the first."""
    given = BastionLogin(
        endpoint.address, endpoint.port, endpoint.user, endpoint.host_key, private_key=endpoint.private_key
    )
    return replace(given, **change)  # type: ignore[arg-type]


@pytest.fixture
def bastion(endpoint: SshEndpoint) -> Iterator[Bastion]:
    made = Bastion(login(endpoint))
    yield made
    made.close()


def test_commands_run_over_one_connection_to_a_bastion(endpoint: SshEndpoint) -> None:
    with Relay(("127.0.0.1", endpoint.port)) as relay:
        bastion = Bastion(login(endpoint, port=relay.port))
        by_bastion = replace(endpoint, transport=bastion.open)
        with ssh.connect(by_bastion, timeout=60) as one, ssh.connect(by_bastion, timeout=60) as other:
            assert one.run("cat", stdin=b"x" * 3_000_000).stdout == b"x" * 3_000_000
            assert other.run("echo other").text == "other"
            assert relay.connections == 1
            sock = bastion.connect().sock
            assert isinstance(sock, socket.socket)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            relay.cut()
            with pytest.raises(BuilderError):
                one.run("echo lost")
            one.reconnect(timeout=60)
            assert one.run("echo again").text == "again"
            assert relay.connections == 2
        bastion.close()


def test_a_bastion_with_another_host_key_is_refused(endpoint: SshEndpoint) -> None:
    wrong = Bastion(login(endpoint, host_key=ssh.generate_keypair().public_key))
    with pytest.raises(Refused, match=r"bastion .* proved another host key than the expected one"):
        wrong.connect()


def test_a_login_that_the_bastion_does_not_accept_is_refused(endpoint: SshEndpoint) -> None:
    wrong = Bastion(login(endpoint, private_key=ssh.generate_keypair().private_key))
    with pytest.raises(Refused, match=r"bastion .* does not accept the key"):
        wrong.connect()


def test_a_key_of_the_agent_logs_in(endpoint: SshEndpoint, agent: Path, tmp_path: Path) -> None:
    bastion = Bastion(login(endpoint, private_key=None))
    with pytest.raises(Refused, match="the SSH agent has no key"):
        bastion.connect()
    for name, key in (("other", ssh.generate_keypair().private_key), ("key", endpoint.private_key)):
        (tmp_path / name).write_text(key)
        (tmp_path / name).chmod(0o600)
        subprocess.run(["ssh-add", "-q", str(tmp_path / name)], check=True)
    assert bastion.connect().is_authenticated()
    bastion.close()


def test_a_private_key_of_a_bastion_that_has_no_use(endpoint: SshEndpoint, tmp_path: Path) -> None:
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(path)], check=True)
    with pytest.raises(UsageError, match=r"the private key for bastion .* has a passphrase") as raised:
        Bastion(login(endpoint, private_key=path.read_text())).connect()
    assert "agent: true" in (raised.value.hint or "")
    with pytest.raises(UsageError, match=r"the private key for bastion .* is not a private key"):
        Bastion(login(endpoint, private_key="nonsense")).connect()


def test_a_host_that_the_bastion_cannot_reach_yet_is_tried_again(endpoint: SshEndpoint, bastion: Bastion) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # it does not listen, and nobody else can
        closed = replace(endpoint, port=int(probe.getsockname()[1]), transport=bastion.open)
        attempts: list[float] = []  # they alone move the clock, however long the first connection takes
        with pytest.raises(NotReachable, match=r"bastion .* cannot connect to 127\.0\.0\.1:\d+"):
            ssh.connect(closed, timeout=60, sleep=attempts.append, clock=lambda: 20.0 * len(attempts))
        assert len(attempts) > 1


def test_the_bastion_reports_its_own_address(bastion: Bastion) -> None:
    assert bastion.own_address() == "127.0.0.1"


# --- another process --------------------------------------------------------------------------------------------------


def test_another_process_gets_connections_without_the_transport(endpoint: SshEndpoint, tmp_path: Path) -> None:
    server = ConnectionServer(by_program(endpoint, tmp_path))
    try:
        client = ConnectionClient(server.client)
        with ssh.connect(replace(endpoint, transport=client.open), timeout=60) as connection:
            assert connection.run("echo over").text == "over"
            pids = tuple(map(int, (tmp_path / "pids").read_text().split()))
            time.sleep(0.6)  # the parent's copy of the socket is closed, and the program still runs
            assert all(map(is_running, pids))
        assert ended(*pids)
    finally:
        server.close()


def test_the_other_process_gets_the_error_of_the_transport(endpoint: SshEndpoint, tmp_path: Path) -> None:
    def broken(endpoint: SshEndpoint, patience: float) -> socket.socket:
        raise ValueError("a mistake in a package")

    for transport, kind, text in (
        (by_program(endpoint, tmp_path, "no-such-program").transport, BuilderError, "cannot be started"),
        (broken, BuilderError, "the transport failed: ValueError: a mistake in a package"),
    ):
        server = ConnectionServer(replace(endpoint, transport=transport))
        with pytest.raises(kind, match=text):
            ConnectionClient(server.client).open(endpoint, 5)
        server.close()


def test_a_command_is_shown_quoted(endpoint: SshEndpoint, tmp_path: Path) -> None:
    failing = by_program(endpoint, tmp_path, "sh", "-c", "exit 3")
    with pytest.raises(NotReachable, match=shlex.join(["sh", "-c", "exit 3"])):
        open_transport(failing, 5)
