"""What a person sees of a build on a terminal. ``test_endpoint`` has what is told off it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.worlds.terminal import Screen, Terminal

if TYPE_CHECKING:
    from tests.worlds.machines import Cloud, Workspace

pytestmark = pytest.mark.root

RECIPE = "software:\n  - file: {dest: /etc/greeting, content: hello, mode: '0644'}\n  - command: {shell: sleep 3}\n"


def on_a_terminal(workspace: Workspace, *arguments: str, **variables: str) -> tuple[int, Screen, str]:
    """Run the program with its stderr on a terminal; its exit status, the screen at the end, and its stdout."""
    output = workspace.root / "stdout"
    environment = workspace.variables(TERM="xterm-256color", LANG="C.UTF-8", **variables)
    with output.open("wb") as stdout:
        terminal = Terminal(
            lambda stderr: workspace.start(*arguments, variables=environment, stdout=stdout, stderr=stderr)
        )
    status, screen = terminal.end(timeout=600)
    return status, screen, output.read_text()


@pytest.fixture(scope="module")
def project(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    from tests.worlds.machines import SANDBOX, Workspace

    made = Workspace(tmp_path_factory.mktemp("project"), cloud)
    made.write("goldenami.yaml", SANDBOX)
    return made


def test_live_view(project: Workspace) -> None:
    project.recipe("live", RECIPE, targets="[home/eu-central-1, home/eu-west-1]")
    status, screen, output = on_a_terminal(project, "build", "live")
    assert status == 0, screen.text
    assert output == "", "stdout is data, and none was asked for"
    moved = [line for line in screen.seen if re.match("[⠀-⣿] ", line)]
    assert any(re.search(r"software \(x86_64\)  .*2/2 command", line) for line in moved), moved
    assert any(re.search(r"home/eu-west-1 \(x86_64\) +(copying|available)", line) for line in screen.seen)
    assert screen.cursor
    assert screen.colours
    assert not re.search("[⠀-⣿]", screen.text), "nothing that moved is left"
    lines = screen.text.splitlines()
    assert lines[0].strip() == "live has no release yet"
    assert lines[1].startswith("live 1.0.20")
    for stage in (
        "launch",
        "software",
        "test builder",
        "seal",
        "freeze",
        "capture",
        "boot image",
        "test image",
        "copy",
        "publish",
    ):
        assert sum(bool(re.match(rf"✓ {stage}( \(x86_64\))? · ", line)) for line in lines) == 1, (stage, screen.text)
    table = lines[next(n for n, line in enumerate(lines) if "IMAGE" in line) :]
    assert [line.split()[:2] for line in table[1:3]] == [["home", "eu-central-1"], ["home", "eu-west-1"]]
    assert all(re.search(r" ami-[0-9a-f]{17} +yes ", line) for line in table[1:3])


def test_no_colours(project: Workspace) -> None:
    """The same recipe once more: there is nothing to build, and the reason is said."""
    status, screen, output = on_a_terminal(project, "build", "live", "--json", NO_COLOR="1")
    assert status == 0, screen.text
    assert not screen.colours
    assert re.search(r"nothing to build · live 1\.0\.\d+\.1 was built from the same inputs", screen.text)
    assert json.loads(output)["builds"][-1]["recipe"] == "live"


def test_failure_on_a_terminal(project: Workspace) -> None:
    project.recipe("broken", "software:\n  - command: {shell: 'echo because >&2; exit 7'}\n")
    status, screen, _ = on_a_terminal(project, "build", "broken")
    assert status == 1
    text = screen.text
    assert screen.cursor
    assert not re.search("[⠀-⣿]", text)
    assert "recipes/broken.yaml:6:5" in text
    assert re.search(r"^ *6 \|   - command: \{shell: 'echo because", text, re.MULTILINE)
    assert "| because" in text
    assert "exit status 7" in text or "status 7" in text
    assert text.endswith("nothing is left behind")
