"""The commands where nothing has to run: options, hints and exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest
from goldenami_sandbox import cli, settings
from goldenami_sandbox.cli import sandbox


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GOLDENAMI_SANDBOX_HOME", str(tmp_path))
    return tmp_path


def main(arguments: list[str], program: str = "goldenami-sandbox") -> int:
    """Run one command as a console script of that name does; its exit status."""
    with pytest.raises(SystemExit) as ended:
        sandbox.main(arguments, prog_name=program)
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["status"], 3, "`goldenami-sandbox up`"),
        (["env", "--name", "other"], 3, "`goldenami-sandbox up --name other`"),
        (["console", "i-1"], 3, "not running"),
        (["settings", "set", "{"], 2, "not JSON"),
        (["settings", "get"], 3, "not running"),
        (["reset"], 2, "--yes"),
        (["up", "--pending-time", "soon"], 2, "not a number of seconds"),
        (["up", "--pending-time", "imag=1"], 2, "unknown kind 'imag'"),
        (["up", "--account", "ci=12"], 2, "12 digits"),
        (["up", "--name", "Not a name"], 2, "cannot be a sandbox's name"),
        (["nonsense"], 2, "No such command"),
    ],
)
def test_refusals(
    arguments: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: PTH123, SIM115
    assert main(arguments) == status
    captured = capsys.readouterr()
    assert message in " ".join(captured.err.split())
    assert captured.out == ""


def test_export_does_not_overwrite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.tar").touch()
    assert main(["export", "ami-1", "--output", str(tmp_path / "x.tar")]) == 2
    assert "exists already" in capsys.readouterr().err


def test_stopping_a_stopped_sandbox_succeeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["down"]) == 0
    assert main(["reset", "--yes"]) == 0
    assert "was not running" in capsys.readouterr().err


def test_messages_name_the_program_that_was_called(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"], "goldenami sandbox") == 3
    assert "`goldenami sandbox up`" in capsys.readouterr().err


def test_the_kinds_of_pending_times_are_those_of_the_settings() -> None:
    assert cli.PENDING_KINDS == settings.PENDING_KINDS


def test_the_help_of_up_names_each_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "instances run in user namespaces (the way `namespace`)" in shown
    assert "in user namespaces without systemd, or not at all" in shown
