"""The commands of the documentation that need a server: each block with the mark ``nightly``, as it stands there.

On paper, tests/docs/test_commands.py runs the others.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.docs.examples import Example
from tests.docs.test_commands import ALL, typed

if TYPE_CHECKING:
    from tests.worlds.machines import Workspace

pytestmark = [pytest.mark.root, pytest.mark.nightly]

NAME = "debian-12-web"
BLOCKS = [one for one in ALL if one.mark == "nightly"]
TARGETS = "[home/eu-central-1, apps/eu-west-1]"
CHECK = "def test_title(host):\n    assert host.file('/opt/title').content_string == '{title}'\n"
# What a builder does not have that gate 1 kept. tests/e2e/test_lost_hosts.py logs in to the instance of gate 2.
NOT_THERE = ("--host proof",)


def run(workspace: Workspace, example: Example, names: dict[str, str]) -> None:
    """Run the commands of a block one after the other. ``names``: what the page writes -> what it is here."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    variables = workspace.variables(PATH=path, HOME=str(workspace.root / "home"))
    for one in typed(example):
        script = one.script
        if any(words in script for words in NOT_THERE):
            continue
        for name, value in names.items():
            script = script.replace(name, value)
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=workspace.root,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"{example}: {script}\n{done.stdout}{done.stderr}"


def test_the_page_about_builds(workspace: Workspace) -> None:
    """A builder is kept because a test fails, and the recipe is corrected on it and built."""
    assert {one.page for one in BLOCKS} == {"builds.md"}, "each block with the mark is run here"
    recipe = "software:\n  - file: {dest: /opt/title, content: old}\ntests: [base, tests/title_test.py]\n"
    workspace.recipe(NAME, recipe, targets=TARGETS)
    workspace.write("recipes/tests/title_test.py", CHECK.format(title="new"))
    failed = workspace.run("build", NAME, "--on-failure", "keep")
    assert failed.status == 5, failed.stderr
    kept = re.search(r"Log in: goldenami ssh --host builder/x86_64 (\S+);", failed.stderr)
    assert kept is not None, failed.stderr
    names = {"20261128-205708-239239b5": kept[1]}
    log_in, try_a_change = BLOCKS
    run(workspace, log_in, names)
    workspace.recipe(NAME, recipe.replace("old", "new"), targets=TARGETS)
    run(workspace, try_a_change, names)
    (release,) = workspace.releases()
    assert release["name"] == NAME
