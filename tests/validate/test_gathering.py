"""One command in place of many: each answer that follows from it is the one of the command itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from goldenami.validate.commands import Kind, kind_of
from goldenami.validate.gathering import Output, gather

FAILED: Output = (1, b"", b"")


def run(command: str) -> Output:
    done = subprocess.run(["sh", "-c", command], capture_output=True, stdin=subprocess.DEVNULL, env={**os.environ})
    return done.returncode, done.stdout, done.stderr


def answers(commands: list[str], outputs: Mapping[str, Output] | None = None) -> dict[str, Output]:
    found: dict[str, Output] = {}
    for gathering in gather(commands):
        found |= gathering.split(run(gathering.command) if outputs is None else outputs.get(gathering.command, FAILED))
    return found


STATUS, VERSION = "dpkg-query -f '${Status}' -W ", "dpkg-query -f '${Status} ${Version}' -W "
FORMATS = ["%U", "%u", "%G", "%g", "%a", "%s", "%Y"]


def test_answers_are_those_of_the_commands_on_this_computer(tmp_path: Path) -> None:
    """With what exists, and with what does not. What has no answer costs time only, so it is listed apart."""
    (tmp_path / "file").write_text("x\n")
    (tmp_path / "file").chmod(0o4750)
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "nowhere").symlink_to(tmp_path / "nothing")
    os.utime(tmp_path, (0, 1))
    paths = [str(tmp_path), *(f"{tmp_path}/{name}" for name in ("file", "link", "nowhere", "none")), "/", "/dev/null"]
    users = ["root", "daemon", "nobody", "no-such-user"]
    commands = [f"{what} {path}" for path in paths for what in ("test -e", *(f"stat -Lc {f}" for f in FORMATS))]
    commands += [f"{what} {user}" for user in users for what in ("id", "id -u", "getent passwd", "getent shadow")]
    commands += [f"getent group {group}{cut}" for group in ("root", "adm", "none") for cut in ("", " | cut -d':' -f3")]
    commands += [f"{what}{name}" for name in ("dpkg", "bash", "no-such-package") for what in (STATUS, VERSION)]
    found = answers(commands)
    if os.getuid() != 0:  # nobody else reads it
        commands = [command for command in commands if not command.startswith("getent shadow")]
    for command, answer in found.items():
        assert answer == run(command), command
    without = {c for c in commands if c not in found and not c.startswith("test ")}
    unsure = ("none", "nowhere", "no-such-user", "no-such-package")
    assert not [c for c in without if not c.startswith(("id", "dpkg")) and not any(n in c for n in unsure)]
    assert "getent passwd root" not in answers(["getent passwd root", "getent passwd 0"])  # two lines of root
    # id answers for all users or for none: its lines do not say whose they are.
    both = answers(["id root", "id daemon", "id -u root", "id -u daemon"])
    assert both["id root"] == run("id root")
    assert both["id -u daemon"] == run("id -u daemon")


PACKAGES = "dpkg-query -f '${Package}\\t${Status}\\t${Version}\\n' -W "


@pytest.mark.parametrize(
    ("commands", "gathered", "output", "expected"),
    [
        pytest.param(
            [STATUS + "a", STATUS + "b", VERSION + "c"],
            PACKAGES + "a b c",
            (
                1,
                b"a\tinstall ok installed\t1\nc\tunknown ok not-installed\t\n",
                b"dpkg-query: no packages found matching b\n",
            ),
            {
                STATUS + "a": (0, b"install ok installed", b""),
                VERSION + "a": (0, b"install ok installed 1", b""),
                STATUS + "b": (1, b"", b"dpkg-query: no packages found matching b\n"),
                VERSION + "b": (1, b"", b"dpkg-query: no packages found matching b\n"),
                STATUS + "c": (0, b"unknown ok not-installed", b""),
                VERSION + "c": (0, b"unknown ok not-installed ", b""),
            },
            id="packages",
        ),
        pytest.param(
            [STATUS + "a"],
            PACKAGES + "a",
            (0, b"a\tinstall ok installed\t1\na\tinstall ok installed\t1\n", b""),
            {},
            id="a package of two architectures",
        ),
        pytest.param(
            [STATUS + "a"], PACKAGES + "a", (2, b"", b"dpkg-query: error: the database is locked\n"), {}, id="an error"
        ),
        pytest.param(
            ["systemctl is-active a", "systemctl is-active b"],
            "systemctl is-active a b",
            (0, b"active\ninactive\n", b""),
            {"systemctl is-active a": (0, b"active\n", b"")},
            id="the status is that of one of them",
        ),
        pytest.param(
            ["systemctl is-enabled a", "systemctl is-enabled b"],
            "systemctl is-enabled a b",
            (0, b"enabled\n", b"Failed to get unit file state for b: No such file or directory\n"),
            {},
            id="a unit that does not exist",
        ),
        pytest.param(
            ["/sbin/sysctl -n a.b", "/sbin/sysctl -n c"],
            "/sbin/sysctl -n a.b c",
            (0, b"1\t2\n\n", b""),
            {"/sbin/sysctl -n a.b": (0, b"1\t2\n", b""), "/sbin/sysctl -n c": (0, b"\n", b"")},
            id="parameters of the kernel",
        ),
        pytest.param(
            ["/sbin/sysctl -n a.b", "/sbin/sysctl -n c"],
            "/sbin/sysctl -n a.b c",
            (0, b"1\n2\n3\n", b""),
            {},
            id="a value of two lines",
        ),
        pytest.param(
            ["id a", "id b"], "id a b", (1, b"", b"id: extra operand 'b'\n"), {}, id="an id that takes one name"
        ),
        pytest.param(
            ["getent passwd a", "getent passwd b"],
            "getent passwd a b",
            (2, b"a:x:1:1::/:/bin/sh\n", b""),
            {"getent passwd a": (0, b"a:x:1:1::/:/bin/sh\n", b"")},
            id="an entry that does not exist",
        ),
        pytest.param(
            ["getent group a | cut -d':' -f3", "getent group b"],
            "getent group a b",
            (0, b"a:x:7:u,v\nb:x:8:\n", b""),
            {
                "getent group a": (0, b"a:x:7:u,v\n", b""),
                "getent group a | cut -d':' -f3": (0, b"7\n", b""),
                "getent group a | cut -d':' -f4": (0, b"u,v\n", b""),
                "getent group b": (0, b"b:x:8:\n", b""),
                "getent group b | cut -d':' -f3": (0, b"8\n", b""),
                "getent group b | cut -d':' -f4": (0, b"\n", b""),
            },
            id="groups",
        ),
        pytest.param(
            ["test -f /a", "stat -Lc %U /b"],
            "stat -Lc %U:%u:%G:%g:%a:%s:%Y:%n /a /b",
            (1, b"root:0:adm:4:640:12:99:/b\n", b"stat: cannot statx '/a': No such file or directory\n"),
            {
                f"stat -Lc {field} /b": (0, value + b"\n", b"")
                for field, value in zip(FORMATS, (b"root", b"0", b"adm", b"4", b"640", b"12", b"99"), strict=True)
            },
            id="files",
        ),
    ],
)
def test_only_what_follows_without_doubt_is_an_answer(
    commands: list[str], gathered: str, output: Output, expected: dict[str, Output]
) -> None:
    assert answers(commands, {gathered: output}) == expected


@pytest.mark.parametrize(
    "command",
    [
        "stat -Lc %U '/a b'",
        "stat -Lc %U /a*",
        "stat -Lc %U -f",
        "stat -c %U /a",
        "id -a",
        "id a; reboot",
        "id $(reboot)",
        "getent passwd",
        "dpkg-query -f '${Status}' -W 'linux-image-*'",
        "dpkg-query -f '${Status}' -W libc6:amd64",
        "systemctl is-active --quiet a",
        "/sbin/sysctl -n -w",
        "sudo -n /bin/sh -c 'id a'",
    ],
)
def test_what_is_not_a_plain_name_runs_as_it_is(command: str) -> None:
    assert gather([command, command.replace("a", "b")]) == []


def test_what_runs_in_place_of_others_only_reads() -> None:
    commands = [
        "stat -Lc %U /a",
        "stat -Lc %U /b",
        STATUS + "a",
        "id a",
        "id b",
        "/sbin/sysctl -n a",
        "/sbin/sysctl -n b",
    ]
    commands += [f"{c} {n}" for n in "ab" for c in ("getent shadow", "getent group", "systemctl is-active")]
    gathered = gather(commands)
    assert len(gathered) == 9
    assert {kind_of(gathering.command) for gathering in gathered} == {Kind.READS}


def test_names_of_any_number_fit_into_commands() -> None:
    commands = [f"id user{number}" for number in range(5000)]
    gathered = gather(commands)
    assert [name for g in gathered if g.command.startswith("id user") for name in g.wanted] == commands
    assert max(len(gathering.command) for gathering in gathered) < 32 << 10
