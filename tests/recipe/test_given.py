"""Values for variables from environments, files and the command line, and recipes that are for some environments."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from goldenami import recipe
from goldenami.cli.options import variable_options
from goldenami.cli.recipes import validate
from goldenami.errors import InvalidInput
from goldenami.planning import variables

Write = Callable[[dict[str, str]], Path]

WEB = """\
name: web
version: "1.0"
base: {id: ami-0123456789abcdef0}
os: debian
vars:
  title: Hello
  release: "1.9"
  workers: 4
  debug: false
  hosts: [a]
  token: {secret: {env: TOKEN}}
  greeting: "{{ vars.title }} {{ vars.token }}"
"""
TWO = """\
environments:
  sandbox:
    sandbox: true
    vars: {workers: 8, hosts: [b, c], title: Sandbox, token: {secret: {ssm: /sandbox/token}}, elsewhere: 1}
  other: {sandbox: true, parameter_prefix: /other}
"""
LIMITED = 'name: limited\nversion: "1.0"\nbase: {id: ami-0123456789abcdef0}\nos: debian\nenvironments: [other]\n'


def load(root: Path, environment: str | None = None, given: dict[str, str] | None = None) -> recipe.Recipe:
    project = recipe.load_project(root)
    return recipe.load(project, "web", recipe.environment(project, environment), given)


def test_an_environment_gives_values_and_another_source_of_a_secret(write_project: Write) -> None:
    root = write_project({"goldenami.yaml": TWO, "recipes/web.yaml": WEB})
    here, there = load(root), load(root, "other")
    assert [variables(one) for one in (here, there)] == [
        {"title": "Sandbox", "release": "1.9", "workers": 8, "debug": False, "hosts": ["b", "c"]},
        {"title": "Hello", "release": "1.9", "workers": 4, "debug": False, "hosts": ["a"]},
    ]
    assert [[(ref.source, ref.key) for ref in one.secrets] for one in (here, there)] == [
        [("ssm", "/sandbox/token")],
        [("env", "TOKEN")],
    ]


def test_a_later_file_wins_and_the_command_line_wins_over_files(write_project: Write) -> None:
    root = write_project(
        {
            "goldenami.yaml": TWO,
            "recipes/web.yaml": WEB,
            "one.yaml": "release: 1.10\nworkers: 12\ntitle: no\n",
            "two.json": '{\n\t"workers": 16,\n\t"debug": true,\n\t"hosts": ["d"]\n}\n',
        }
    )
    received: list[dict[str, str]] = []

    @click.command()
    @variable_options
    def command(variables: dict[str, str]) -> None:
        received.append(variables)

    arguments = ["--var-file", "one.yaml", "--var", "hosts=[]", "--var-file", "two.json"]
    CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert variables(load(root, given=received[0])) == {
        "title": "no",  # as written: YAML reads false
        "release": "1.10",
        "workers": 16,
        "debug": True,
        "hosts": [],
    }


def test_mistakes_in_files_have_their_places(write_project: Write) -> None:
    root = write_project(
        {"recipes/web.yaml": WEB, "a.yaml": "wrkers: 1\nworkers: many\ntoken: hunter2\n", "b.json": '{"debug": [1]}'}
    )
    with pytest.raises(InvalidInput) as caught:
        load(root, given=recipe.read_files([root / "a.yaml", root / "b.json"]))
    assert [str(problem) for problem in caught.value.problems] == [
        "a.yaml:1:1: wrkers is not a variable of this recipe",
        "a.yaml:2:10: workers: expected a whole number, not 'many'",
        "a.yaml:3:8: token is a secret, and cannot be set in a file of variables",
        "b.json:1:11: debug: expected true or false, not a list",
    ]
    assert caught.value.problems[0].hint == "Did you mean workers?"
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("a: 1\na: 2\n", ["v.yaml:2:1: the key 'a' is given twice"]),
        ("a:\nb:\n", ["v.yaml:1:1: a has no value", "v.yaml:2:1: b has no value"]),
        ("- a\n", ["v.yaml:1:1: expected a mapping of keys at the top of the file"]),
        (None, ["v.yaml: the file: No such file or directory"]),
    ],
    ids=["duplicate", "no value", "list", "missing"],
)
def test_a_file_of_variables_has_a_form(write_project: Write, text: str | None, problems: list[str]) -> None:
    root = write_project({} if text is None else {"v.yaml": text})
    with pytest.raises(InvalidInput) as caught:
        recipe.read_files([root / "v.yaml"])
    assert [str(problem) for problem in caught.value.problems] == problems


def check(*arguments: str) -> tuple[int, Any, list[str]]:
    done = CliRunner().invoke(validate, ["--json", *arguments], standalone_mode=False)
    value = json.loads(done.stdout)
    return done.return_value, [p["message"] for p in value["problems"]], value["notes"]


def test_a_variable_of_an_environment_that_no_recipe_declares(write_project: Write) -> None:
    write_project({"goldenami.yaml": TWO, "recipes/web.yaml": WEB})
    assert check() == (2, ["vars: no recipe of the project declares the variable elsewhere"], [])
    assert check("web") == (0, [], [])  # a recipe alone does not know the others


def test_a_recipe_is_checked_for_its_environments_only(write_project: Write) -> None:
    write_project(
        {"goldenami.yaml": TWO.replace(", elsewhere: 1", ""), "recipes/web.yaml": WEB, "recipes/limited.yaml": LIMITED}
    )
    elsewhere = ["limited was checked for other, the environments that it is for"]
    refused = "the recipe is not for the environment sandbox, only for other"
    assert check() == check("limited", "web") == (0, [], elsewhere)
    assert check("-e", "other") == (0, [], [])
    assert check("-e", "sandbox") == (
        0,
        [],
        ["skipped limited: it is not for the environment sandbox, only for other"],
    )
    assert check("limited", "-e", "sandbox") == (2, [refused], [])


def test_commands_for_all_recipes_leave_out_those_for_other_environments(write_project: Write) -> None:
    limited = LIMITED + "schedules: {hourly: {when: 1h, retention: {hourly: 24}}}\n"
    root = write_project({"goldenami.yaml": TWO, "recipes/web.yaml": WEB, "recipes/limited.yaml": limited})
    project = recipe.load_project(root)
    for name, recipes in {"sandbox": ["web"], "other": ["limited", "web"]}.items():
        environment = recipe.environment(project, name)
        assert sorted(recipe.retention_rules(project, environment)) == recipes
        assert [schedule.name for schedule in recipe.schedules(project, environment)] == (
            ["limited.hourly"] if name == "other" else []
        )


def test_the_key_environment_is_the_default(write_project: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_project({"goldenami.yaml": f"environment: other\n{TWO}", "recipes/limited.yaml": LIMITED})
    project = recipe.load_project(root)
    assert recipe.environment(project).name == "other"
    assert recipe.environment(project, "sandbox").name == "sandbox"
    assert check("limited") == (0, [], [])
    monkeypatch.setenv("GOLDENAMI_ENVIRONMENT", "sandbox")
    code, messages, _ = check("limited")
    assert (code, len(messages)) == (2, 1)
