"""The options for a login are the same in all commands that connect to a host."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from goldenami.cli.main import main, program
from goldenami.cli.options import ssh_options

CONNECTING = {"apply", "harden check", "snapshot create", "snapshot restore", "test"}
OF_A_BUILD = {"ssh"}  # has the keys, and needs the name of the user at most


@click.command()
@ssh_options
def reference(access: object) -> None:
    pass


def commands(group: click.Group, *above: str) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from commands(command, *above, name)
        elif command is not None:
            yield " ".join((*above, name)), command


def described(command: click.Command) -> dict[str, tuple[object, ...]]:
    return {
        str(o.name): (sorted(o.opts), o.help, o.default, o.metavar, str(o.type))
        for o in command.params
        if isinstance(o, click.Option)
    }


def test_every_command_that_logs_in_has_them_all() -> None:
    wanted = described(reference)
    assert set(wanted) == {"ssh_user", "ssh_port", "ssh_key", "ssh_host_key", "ssh_known_hosts", "ssh_timeout"}
    flags = {flag for opts, *_ in wanted.values() for flag in opts}  # type: ignore[attr-defined]
    found = set()
    for name, command in commands(program):
        own = described(command)
        given = {key: own[key] for key in wanted if key in own}
        if given:
            found.add(name)
            assert given == (wanted if name in CONNECTING else {"ssh_user": wanted["ssh_user"]}), name
        if name not in {*CONNECTING, *OF_A_BUILD}:  # no other option has one of these names for something else
            others = {flag for opts, *_ in own.values() for flag in opts}  # type: ignore[attr-defined]
            assert not {flag for flag in flags & others if flag.startswith("--ssh-")}, name
    assert found == CONNECTING | OF_A_BUILD


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["apply", "web", "--on", "20261128-205708-239239b5", "--ssh-port", "2222"], "with a host only"),
        (["test", "web", "--ssh-key", "id"], "with --on only"),
        (["harden", "check", "admin@h", "--user", "root", "--profile", "debian-12-level-1"], "expected one of them"),
    ],
)
def test_a_login_that_is_not_used_is_an_error(
    command: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goldenami.cli.hosts._load", lambda *_: (None, type("Recipe", (), {"name": "web"})))
    assert main(command) == 2
    assert told in capsys.readouterr().err
