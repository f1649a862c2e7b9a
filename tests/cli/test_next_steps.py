"""Commands in messages come from one helper, are accepted by the argument parser, and name the environment."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from goldenami.cli.main import COMMANDS, main, program
from goldenami.nextstep import command, needs_environment, step, use_environment
from tests.worlds.source import tree, trees

NAMED = re.compile(rf"goldenami (?:{'|'.join(map(re.escape, COMMANDS))})\b")
# Texts that are no messages, with the reason.
TEXTS = {
    "ci/gitlab.py": "the scripts of jobs, and the first lines of a pipeline",
    "ci/scaffold.py": "the scripts of jobs",
    "cli/recipes.py": "the list of three lists after `init`",
    "recipe/reference.py": "the first lines of a page of the documentation",
    "recipe/scaffold.py": "comments of the files that `init` writes",
}
# Values of expressions that only some words fit.
VALUES = {"kind": "builder"}


@dataclass(frozen=True)
class Printed:
    """A call of the helper in the source, with an example word for each expression."""

    place: str
    paths: tuple[str, ...]
    arguments: tuple[str, ...]


def is_helper(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("command", "step")


def words(node: ast.expr) -> str:
    """An example of an argument."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(words(v.value if isinstance(v, ast.FormattedValue) else v) for v in node.values)
    return VALUES.get(ast.unparse(node), "example")


def printed() -> Iterator[Printed]:
    for name, module in trees("from goldenami.nextstep import"):
        for node in ast.walk(module):
            if is_helper(node):
                assert isinstance(node, ast.Call)
                path, *rest = node.args
                paths = (path.value,) if isinstance(path, ast.Constant) else ("revoke", "restore")
                given = tuple(words(one) for one in rest if not isinstance(one, ast.Starred))
                yield Printed(f"{name}:{node.lineno}", tuple(map(str, paths)), given)


def leaf(path: str) -> click.Command:
    found: click.Command = program
    for word in path.split():
        assert isinstance(found, click.Group), path
        inner = found.get_command(click.Context(found), word)
        assert inner is not None, f"there is no command {path}"
        found = inner
    return found


def leaves() -> list[tuple[str, click.Command]]:
    def below(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
        for name in group.list_commands(click.Context(group)):
            found = group.get_command(click.Context(group), name)
            if isinstance(found, click.Group):
                yield from below(found, f"{path} {name}")
            elif found is not None:
                yield f"{path} {name}".strip(), found

    return list(below(program, ""))


@pytest.fixture(autouse=True)
def default_environment() -> Iterator[None]:
    yield
    use_environment(None)


def test_the_argument_parser_accepts_every_command() -> None:
    """One test for all: to find the cases takes a second, and every worker would do that when it collects tests."""
    use_environment("second place")
    refused, seen = [], 0
    for one in printed():
        for path in one.paths:
            more = ("--reason", "bad") if path == "revoke" else ()
            given = shlex.split(command(path, *one.arguments, *more))[1 + len(path.split()) :]
            seen += 1
            try:
                leaf(path).make_context(path, given)
            except click.ClickException as error:
                refused.append(f"{one.place}: {path}: {error.format_message()}")
    assert refused == []
    assert seen > 140


def test_messages_have_commands_of_the_helper_only() -> None:
    found = [
        f"goldenami/{name}:{line}: {text}"
        for name, module in trees("goldenami ")
        if name not in TEXTS
        for line, text in by_hand(module)
    ]
    assert found == [], "use goldenami.nextstep.step or command"
    assert [name for name in TEXTS if not list(by_hand(tree(name)))] == [], "these exceptions are not needed"


def by_hand(source: ast.AST) -> Iterator[tuple[int, str]]:
    """The texts with a command, without docstrings and the descriptions of options and fields."""
    left_out: set[int] = set()
    for node in ast.walk(source):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            left_out.add(id(node.body[0].value))  # type: ignore[attr-defined]
        elif isinstance(node, ast.keyword) and node.arg in ("description", "help"):
            left_out |= {id(inner) for inner in ast.walk(node.value)}
    for node in ast.walk(source):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in left_out:
            yield from ((node.lineno, found) for found in NAMED.findall(node.value))


def test_the_rule_sees_a_command() -> None:
    assert list(by_hand(ast.parse('x = f"Run `goldenami resume {id}`."'))) == [(1, "goldenami resume")]
    assert not list(by_hand(ast.parse('def f():\n    """Run `goldenami resume`."""')))


@pytest.mark.parametrize(("path", "found"), leaves(), ids=lambda one: one if isinstance(one, str) else "")
def test_the_helper_knows_which_commands_have_an_environment(path: str, found: click.Command) -> None:
    assert needs_environment(path) == any(one.name == "environment_name" for one in found.params)


def test_words_are_quoted_for_a_shell() -> None:
    assert (
        command("revoke", "web@1.0", "--reason", "it's bad; rm")
        == "goldenami revoke web@1.0 --reason 'it'\"'\"'s bad; rm'"
    )
    use_environment("production")
    assert step("builds list") == "`goldenami builds list -e production`"
    assert command("harden list", "x") == "goldenami harden list x"


PROJECT = "environments:\n  sandbox: {sandbox: true}\n  second: {sandbox: true, builds: here, catalog: there, parameter_prefix: /second}\n"  # noqa: E501


@pytest.mark.parametrize(
    ("given", "shown"),
    [(["-e", "second"], "goldenami builds list -e second`"), (["-e", "sandbox"], "list`"), ([], "list`")],
)
def test_a_hint_names_the_environment_unless_it_is_the_default(
    given: list[str], shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "goldenami.yaml").write_text(PROJECT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GOLDENAMI_ENVIRONMENT", raising=False)
    assert main(["builds", "show", "no-such-build", *given]) == 3
    assert shown in capsys.readouterr().err
