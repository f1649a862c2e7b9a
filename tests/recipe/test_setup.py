"""The section setup: operations before the patches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from goldenami import recipe
from goldenami.errors import InvalidInput
from goldenami.stages.host_work import stage_names, stages_of

SETTINGS = """\
environments:
  test: {sandbox: true}
"""
RECIPE = """\
name: web
version: "1.0"
base: {filter: debian-12-amd64-*, owners: ["136693071363"]}
vars: {proxy: proxy.acme.example}
setup:
  - file: {dest: /etc/apt/apt.conf.d/90proxy, content: "{{ vars.proxy }}"}
    notify: [tell]
patches: {level: all}
software:
  - package: nginx-light
handlers:
  tell: {command: [echo, told]}
"""


def load(folder: Path, text: str = RECIPE) -> recipe.Recipe:
    (folder / "recipes").mkdir(exist_ok=True)
    (folder / "goldenami.yaml").write_text(SETTINGS)
    (folder / "recipes" / "web.yaml").write_text(text)
    project = recipe.load_project(folder)
    return recipe.load(project, "web", recipe.environment(project))


def test_setup_runs_before_the_patches_and_after_the_boot(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    assert stage_names(loaded, "x86_64") == ("setup", "patches", "software")
    nobody: Any = None  # the recipe asks for no facts, so the host is not asked
    setup = stages_of(loaded, "x86_64", {}, nobody)[0]
    assert [bound.label for bound in setup.operations] == [
        "wait for the end of the boot",
        "file /etc/apt/apt.conf.d/90proxy",
    ]
    assert [handler.name for handler in setup.handlers] == ["tell"]


def test_without_setup_the_patches_are_first(tmp_path: Path) -> None:
    text = RECIPE[: RECIPE.index("setup:")] + RECIPE[RECIPE.index("patches:") :]
    assert stage_names(load(tmp_path, text), "x86_64") == ("patches", "software")


def test_mistakes_in_setup_have_their_place(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        load(tmp_path, RECIPE.replace("dest: /etc/apt", "dst: /etc/apt"))
    assert any(problem.line == 6 and "dst" in problem.message for problem in caught.value.problems)
