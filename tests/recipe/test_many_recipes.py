"""Recipes that share agents and controls: a result is used again only where it would be the same."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from goldenami import recipe as recipes
from goldenami.errors import InvalidInput
from goldenami.hardening import Control
from goldenami.recipe import Recipe

Write = Callable[[dict[str, str]], Path]

RECIPE = """
name: {name}
version: "1.0"
base: {{filter: debian-12-amd64-*, owners: ["136693071363"]}}
{rest}
"""
AGENT = """
name: tool
description: a tool
params:
  word: {type: string, default: plain, description: a word}
operations:
  debian:
    - file: {dest: /etc/tool, content: "{{ params.word }} {{ recipe.version if params.word == 'own' else '' }}"}
    - file: {dest: /etc/fixed, src: fixed.txt}
"""
PROFILE = "{name: own, title: Own, os: debian, level: 1, files: [own]}"
CONTROLS = """
controls:
  - id: banner
    title: A banner
    why: It is wanted.
    variables: {text: hello}
    operations: [{file: {dest: /etc/issue, content: "{{ site.text }}{{ recipe.name }}"}}]
    check: {reads: cat /etc/issue, expected: x}
  - id: fixed
    title: A value
    why: It is wanted.
    operations: [{sysctl: {name: kernel.dmesg_restrict, value: "1"}}]
    check: {reads: sysctl -n kernel.dmesg_restrict, expected: "1"}
"""


def load(root: Path, *names: str) -> list[Recipe]:
    project = recipes.load_project(root)
    environment = recipes.environment(project, "sandbox")
    return [recipes.load(project, name, environment) for name in names]


def operations(recipe: Recipe, stage: str) -> list[Any]:
    [found] = [one for one in recipe.provisioning["x86_64"] if one.name == stage]
    return list(found.operations)


def contents(recipe: Recipe, stage: str) -> list[Any]:
    return [getattr(bound.operation, "content", None) for bound in operations(recipe, stage)]


def test_an_agent_is_rendered_for_the_values_of_each_recipe(write_project: Write) -> None:
    agents = {"one": "agents: [tool]", "two": "agents: [tool]", "own": "agents: [{name: tool, params: {word: own}}]"}
    files = {f"recipes/{name}.yaml": RECIPE.format(name=name, rest=rest) for name, rest in agents.items()}
    later = files["recipes/own.yaml"].replace("name: own\n", "name: later\n").replace('"1.0"', '"1.7"')
    root = write_project(
        {
            **files,
            "recipes/later.yaml": later,
            "recipes/agents/tool/agent.yaml": AGENT,
            "recipes/agents/tool/fixed.txt": "fixed",
        }
    )
    one, two, own, later_one = load(root, "one", "two", "own", "later")
    assert [contents(r, "agents")[0] for r in (one, two, own, later_one)] == ["plain ", "plain ", "own 1.0", "own 1.7"]


def test_a_changed_file_of_an_agent_is_read_again(write_project: Write) -> None:
    root = write_project(
        {
            "recipes/one.yaml": RECIPE.format(name="one", rest="agents: [tool]"),
            "recipes/agents/tool/agent.yaml": AGENT,
            "recipes/agents/tool/fixed.txt": "fixed",
        }
    )
    project = recipes.load_project(root)
    environment = recipes.environment(project, "sandbox")

    def digest() -> str:
        stage = recipes.load(project, "one", environment).provisioning["x86_64"][0]
        return stage.operations[1].payloads["src"].sha256

    before = digest()
    assert digest() == before
    file = root / "recipes/agents/tool/fixed.txt"
    file.write_text("other")
    os.utime(file, ns=(1, 1))
    assert digest() != before


def test_a_problem_of_an_agent_is_told_for_each_recipe(write_project: Write) -> None:
    use = "agents: [{name: tool, params: {word: 7}}]"
    root = write_project(
        {
            "recipes/one.yaml": RECIPE.format(name="one", rest=use),
            "recipes/two.yaml": RECIPE.format(name="two", rest=use),
            "recipes/agents/tool/agent.yaml": AGENT,
            "recipes/agents/tool/fixed.txt": "fixed",
        }
    )
    project = recipes.load_project(root)
    for name in ("one", "two"):
        with pytest.raises(InvalidInput) as raised:
            recipes.load(project, name, recipes.environment(project, "sandbox"))
        assert [problem.file for problem in raised.value.problems] == [f"recipes/{name}.yaml"]


def test_a_control_is_bound_for_the_recipe_and_its_variables(write_project: Write) -> None:
    hardening = {
        "one": "hardening: {profiles: [own]}",
        "two": "hardening: {profiles: [own]}",
        "three": "hardening: {profiles: [own], variables: {text: other}}",
    }
    root = write_project(
        {
            **{f"recipes/{name}.yaml": RECIPE.format(name=name, rest=rest) for name, rest in hardening.items()},
            "hardening/profiles/own.yaml": PROFILE,
            "hardening/controls/own.yaml": CONTROLS,
        }
    )
    loaded = load(root, "one", "two", "three")
    every = [list(one.hardening["x86_64"].controls) for one in loaded]
    assert [banner(controls) for controls in every] == ["helloone", "hellotwo", "otherthree"]
    assert every[2][0].site == {"text": "other"}
    assert every[0][1] is every[1][1]  # it has no expressions
    assert [[lookup.name for lookup in one.lookups] for one in loaded] == [["own", "own"]] * 3


def banner(controls: list[Control]) -> Any:
    return getattr(controls[0].operations[0].operation, "content", None)


def test_a_waiver_is_checked_on_each_day(write_project: Write) -> None:
    rest = "hardening: {profiles: [own], waivers: {banner: {reason: because, expires: 2027-01-01}}}"
    root = write_project(
        {
            "recipes/one.yaml": RECIPE.format(name="one", rest=rest),
            "hardening/profiles/own.yaml": PROFILE,
            "hardening/controls/own.yaml": CONTROLS,
        }
    )
    project = recipes.load_project(root)
    environment = recipes.environment(project, "sandbox")
    recipes.load(project, "one", environment, today=datetime.date(2027, 1, 1))
    with pytest.raises(InvalidInput) as raised:
        recipes.load(project, "one", environment, today=datetime.date(2027, 1, 2))
    assert "expired" in raised.value.problems[0].message
