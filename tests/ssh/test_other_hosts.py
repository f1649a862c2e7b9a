"""Hosts that are not like ours: login shells that print or have another syntax, few sessions, sudo that asks for a
terminal, keys of other types, commands that never run. Each works, or one sentence tells what was found."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from goldenami import ssh
from goldenami.errors import ConnectionLost
from goldenami.model import Mark
from goldenami.provision import BoundOperation, Stage, run_stage, traces_of
from goldenami.ssh.transport import Refused
from goldenami.stages.logins import Login, ssh_command
from goldenami.validate import run_suite
from goldenami.validate.backend import ConnectionBackend
from tests.provision.container import container
from tests.provision.examples import bind
from tests.ssh.test_relay import environment

pytestmark = pytest.mark.root

BANNER = "echo '*** ACME: all sessions are recorded ***'; echo 'recorded too' >&2; "
SUDO = "echo 'admin ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/admin; "
ODD = "printf '%s|%s\\n' 'a\\b!c' \"it's\"\necho \"$HOME\" | tr a-z A-Z; echo oops >&2; exit 3"


@contextlib.contextmanager
def connected(folder: Path, *, user: str = "root", **options: object) -> Iterator[ssh.Connection]:
    with (
        container(folder, user=user, **options) as endpoint,  # type: ignore[arg-type]
        ssh.connect(endpoint, timeout=60) as connection,
    ):
        yield connection


def installed(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"NOT PROVEN: {name} is not installed")
    return path


@pytest.mark.parametrize(
    ("shell", "start_up"),
    [
        ("bash", ".bashrc"),
        ("dash", ".profile"),
        ("zsh", ".zshenv"),
        ("tcsh", ".cshrc"),
        ("fish", ".config/fish/config.fish"),
    ],
)
def test_every_login_shell_runs_the_same_commands_and_its_banner_is_not_output(
    tmp_path: Path, shell: str, start_up: str
) -> None:
    program = installed(shell)
    # csh has no redirection of stderr alone.
    banner = "echo '*** ACME: all sessions are recorded ***'\n" if shell == "tcsh" else BANNER
    setup = (
        f"{SUDO}chsh -s {program} admin 2>/dev/null || usermod -s {program} admin; cd ~admin; "
        f"mkdir -p $(dirname {start_up}); touch {start_up}; "
        f"{{ printf %s {shlex.quote(banner)}; cat {start_up}; }} >new; mv new {start_up}; chown -R admin ."
    )
    with connected(tmp_path, user="admin", setup=setup) as connection:
        done = connection.run(ODD)
        assert (done.status, done.text, done.stderr) == (3, "a\\b!c|it's\n/HOME/ADMIN", b"oops\n")
        assert connection.run("cat", stdin=b"x" * 100_000).stdout == b"x" * 100_000
        long = "x'!\\ y" * 700
        assert connection.run(f"printf %s {shlex.quote(long)}").text == long
        assert connection.run("kill -9 $$").status == -1
        lines: list[str] = []
        connection.stream("echo one; echo two", b"", lines.append)
        assert lines == ["one", "two"]
        if shutil.which("sudo") is not None:
            result = run_stage(connection, Stage("s", (bind("file", dest="/srv/made", content="x"),)))
            assert result.changed == 1


def test_the_syntax_of_bash_stays_where_it_is_the_login_shell(tmp_path: Path) -> None:
    with connected(tmp_path) as connection:
        assert connection.run("[[ a == a* ]] && echo yes").text == "yes"


@pytest.mark.parametrize(
    ("setup", "found"),
    [
        ("usermod -s /usr/sbin/nologin admin", "it prints: This account is currently not available."),
        ("printf 'echo choose a server:\\nexit 0\\n' >~admin/.bashrc", "it prints: choose a server:"),
        (
            "sed -i 's/^/command=\"echo Please login as the user core rather than root.\" /' /etc/ssh/keys.admin",
            "Please login as the user core",
        ),
    ],
    ids=["nologin", "a start-up file that exits", "a forced command"],
)
def test_a_host_that_does_not_run_commands_is_told_with_what_it_prints(tmp_path: Path, setup: str, found: str) -> None:
    start = time.monotonic()
    with connected(tmp_path, user="admin", setup=setup) as connection:
        for _ in range(2):  # it is the same for every command
            with pytest.raises(Refused, match=r"does not run commands; .*" + found) as caught:
                connection.run("true")
    assert caught.value.hint is not None
    assert "\n" not in caught.value.message
    assert time.monotonic() - start < 60, "the host is not waited for, as one that does not answer is"


def test_a_terminal_that_nobody_requested_is_told(tmp_path: Path) -> None:
    """As of a program that records sessions."""
    installed("script")
    recorded = 'exec script -qefc "$SSH_ORIGINAL_COMMAND" /dev/null'
    with (
        connected(tmp_path, sshd={"ForceCommand": recorded}) as connection,
        pytest.raises(Refused, match="runs commands on a terminal that was not requested"),
    ):
        connection.run("touch /srv/made")


# --- few sessions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 2])
def test_few_sessions_are_enough(tmp_path: Path, most: int) -> None:
    with connected(tmp_path, sshd={"MaxSessions": str(most)}) as connection:
        seen: list[str] = []
        connection.stream("echo known; read -r _; sleep 0.5", b"go\n", seen.append, until=lambda: bool(seen))
        with ThreadPoolExecutor(4) as threads:
            done = list(threads.map(connection.run, [f"sleep 0.2; echo {n}" for n in range(4)]))
        assert [d.text for d in done] == ["0", "1", "2", "3"]


def test_a_host_without_sessions_is_not_a_lost_host(tmp_path: Path) -> None:
    with connected(tmp_path, sshd={"MaxSessions": "0"}) as connection:
        start = time.monotonic()
        with pytest.raises(Refused, match="accepts the login, and refuses a session") as caught:
            connection.run("true")
        assert not isinstance(caught.value, ConnectionLost)
        assert time.monotonic() - start < 60, "other sessions are waited for 300 s"


# --- sudo that asks for a terminal ------------------------------------------------------------------------------------


def test_sudo_may_ask_for_a_terminal(tmp_path: Path) -> None:
    installed("sudo")
    # use_pty: sudo runs the command on a terminal of its own, which must not change the ends of lines.
    setup = f"{SUDO}echo 'Defaults requiretty, use_pty' >/etc/sudoers.d/00-tty"
    with connected(tmp_path, user="admin", setup=setup) as connection:
        data = bytes(range(256)) * 300
        seen = bind("command", shell="id -u; tty || :; [ -t 0 ] || echo none")
        made = bind("file", dest="/srv/data", content=data.decode("latin-1"))
        result = run_stage(connection, Stage("s", (seen, made)))
        assert result.changed == 2
        backend = ConnectionBackend("127.0.0.1", "admin", lambda: connection)
        for _ in range(2):
            done = backend.run(backend.get_sudo_command("echo out; echo err >&2; id -u; exit 4", None))
            assert (done.rc, done.stdout, done.stderr) == (4, "out\n0\n", "err\n")


# --- tests that run ahead ---------------------------------------------------------------------------------------------

CHECKS = """
import pytest

@pytest.mark.parametrize("number", range(4))
def test_reads(host, number):
    assert host.file("/etc/passwd").exists
    assert host.check_output("echo %s", str(number)) == str(number)

def test_reads_as_root(host):
    with host.sudo():
        assert host.check_output("id -u") == "0"
        assert host.file("/etc/shadow").content_string.startswith("root:")

def test_changes(host):
    assert not host.file("/srv/made").exists
    with host.sudo():
        assert host.run("echo made >/srv/made; id -u").stdout == "0\\n"

def test_sees_the_change(host):
    assert host.file("/srv/made").content_string == "made\\n"
"""


@pytest.mark.parametrize(
    ("sshd", "setup"),
    [
        ({"MaxSessions": "1"}, ""),
        ({"MaxSessions": "3"}, ""),
        ({}, "echo 'Defaults requiretty' >/etc/sudoers.d/00-tty"),
        ({}, f"printf %s {shlex.quote(BANNER)} >~admin/.bashrc; chown admin ~admin/.bashrc"),
    ],
    ids=["one session", "three sessions", "sudo asks for a terminal", "a start-up file that prints"],
)
def test_tests_run_ahead_on_any_host(tmp_path: Path, sshd: dict[str, str], setup: str) -> None:
    installed("sudo")
    checks = tmp_path / "any_test.py"
    checks.write_text(CHECKS)
    with container(tmp_path, user="admin", sshd=sshd, setup=f"{SUDO}{setup or ':'}") as endpoint:
        report = run_suite(endpoint, [checks], gate="builder", architecture="x86_64", report_dir=tmp_path / "reports")
    assert (report.passed, report.failed, report.flaky) == (7, 0, 0), report.failures


# --- other keys -------------------------------------------------------------------------------------------------------


FIPS = "rsa-sha2-512,rsa-sha2-256,ecdsa-sha2-nistp256"


@pytest.mark.parametrize("types", [FIPS, "ssh-ed25519"], ids=["fips", "only ed25519"])
def test_a_host_may_lack_a_type_of_keys(tmp_path: Path, types: str) -> None:
    with connected(tmp_path, sshd={"HostKeyAlgorithms": types, "PubkeyAcceptedAlgorithms": types}) as connection:
        assert connection.run("echo hello").text == "hello"


def test_the_keys_of_a_builder_are_of_both_types_and_sealing_removes_both(tmp_path: Path) -> None:
    with container(tmp_path) as endpoint, ssh.connect(endpoint, timeout=60) as connection:
        public = [ssh.KeyPair.from_private(text).public_key for text in endpoint.private_keys]
        assert [key.split()[0] for key in public] == ["ssh-ed25519", "ecdsa-sha2-nistp256"]
        login_key = traces_of("\n".join(public))[0]
        run_stage(connection, Stage("seal", (BoundOperation(login_key, Mark("", 0, 0)),)))
        assert connection.run("cat /root/.ssh/authorized_keys || echo none").text == "none"


def test_openssh_logs_in_with_the_files_of_a_build(tmp_path: Path) -> None:
    """``goldenami ssh`` on a host in FIPS mode."""
    settings = {"HostKeyAlgorithms": FIPS, "PubkeyAcceptedAlgorithms": FIPS}
    with container(tmp_path / "host", sshd=settings) as endpoint:
        login = Login("20261128-205708-239239b5", "builder/x86_64", endpoint, None)
        command = [*ssh_command(login, tmp_path, environment(), tmp_path), "echo", "hello"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert done.stdout.endswith("hello\n"), done.stderr
