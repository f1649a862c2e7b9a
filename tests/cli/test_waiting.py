"""The option ``--wait[=DURATION]`` of the commands that have it."""

from __future__ import annotations

import math
from pathlib import Path

import click
import pytest

from goldenami.cli.build import build, clean, resume
from goldenami.cli.main import main

COMMANDS = pytest.mark.parametrize("command", [build, resume, clean], ids=lambda c: str(c.name))


def read(command: click.Command, *words: str) -> tuple[object, object]:
    """Return the name and the waiting time that a command line gives."""
    with command.make_context(str(command.name), list(words)) as ctx:
        (name,) = ctx.params.get("references") or (ctx.params.get("build_id"),)
        return name, ctx.params["wait"]


@COMMANDS
@pytest.mark.parametrize(
    ("words", "wait"),
    [
        ("web", 0),
        ("--wait web", math.inf),
        ("web --wait", math.inf),
        ("--wait --environment x web", math.inf),
        ("--wait -- web", math.inf),
        ("--wait=30s web", 30),
        ("web --wait=10m", 600),
        ("--wait=2h web", 7200),
        ("--wait=30s --wait web", math.inf),
    ],
)
def test_wait_does_not_read_the_next_argument(command: click.Command, words: str, wait: float) -> None:
    assert read(command, *words.split()) == ("web", wait)


@COMMANDS
def test_an_argument_after_two_dashes_is_not_an_option(command: click.Command) -> None:
    assert read(command, "--", "--wait") == ("--wait", 0)


@COMMANDS
@pytest.mark.parametrize("value", ["", "web", "30", "-1s", "1.5h", "٣s", "30s\n"])
def test_a_value_that_is_not_a_duration_is_refused(command: click.Command, value: str) -> None:
    with pytest.raises(click.BadParameter, match="expected a duration: --wait=30s"):
        read(command, f"--wait={value}", "web")


@COMMANDS
def test_a_duration_after_a_space_is_refused_with_the_correct_form(command: click.Command) -> None:
    """Without the refusal it would be read as the name of a recipe."""
    with pytest.raises(
        click.UsageError, match="--wait 30m: write --wait=30m for a duration, or put --wait after '30m'"
    ):
        read(command, "--wait", "30m", "web")
    assert read(command, "30m", "--wait") == ("30m", math.inf)


@COMMANDS
def test_the_help_shows_the_form_of_the_option(command: click.Command) -> None:
    with click.Context(command) as ctx:
        assert "--wait[=DURATION] " in command.get_help(ctx)


def test_a_build_that_is_not_there_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "goldenami.yaml").write_text("environments: {sandbox: {sandbox: true}}\n")
    monkeypatch.chdir(tmp_path)
    assert main(["clean", "--wait", "web-20260101-abcdef"]) == 3
    assert "web-20260101-abcdef" in capsys.readouterr().err
