"""Component documents of EC2 Image Builder as agents."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from goldenami import recipe
from goldenami.cli.main import main
from goldenami.errors import InvalidInput
from goldenami.importing import draft_agent
from goldenami.provision.command import ScriptFile
from goldenami.recipe.scaffold import scaffold

DOCUMENT = Path(__file__).parent / "templates/component.yaml"


COMPONENT = """
name: Users
schemaVersion: 1.0
phases:
  - name: build
    steps:
      - name: Run
        action: ExecuteBash
        inputs:
          commands: """


def bash_component(directory: Path, *commands: str) -> Path:
    """A component with one step, in line 7, that runs commands in Bash."""
    path = directory / "component.yaml"
    path.write_text(COMPONENT + json.dumps(commands))  # JSON is YAML
    return path


def test_a_component_becomes_an_agent() -> None:
    draft = draft_agent(DOCUMENT, ["debian"])
    agent = draft.recipe
    assert draft.name == "install-acme-agent"
    assert agent["params"]["Version"] == {
        "type": "string",
        "default": "1.2.3",
        "description": "The version to install.",
        "choices": ["1.2.3", "1.3.0"],
    }
    folder, download, install, configuration, reboot = agent["operations"]["debian"]
    assert folder["directory"] == {"path": "/opt/acme", "mode": "0750"}
    assert download["retries"] == 2
    assert download["download"]["url"] == "https://downloads.acme.example/agent-{{ params.Version }}.tar.gz"
    assert download["download"]["sha256"] == "0123456789abcdef" * 4
    assert install["script"]["content"].splitlines() == [
        "#!/bin/bash",
        "tar -xzf /tmp/agent.tar.gz -C /opt/acme",
        "docker inspect --format '{{ '{{' }} .State }}' acme || true",
    ]
    assert configuration["file"]["mode"] == "0640", "YAML reads 0640 as an octal number"
    assert reboot == {"reboot": "always"}
    assert "echo" not in str(agent["operations"])


def test_what_is_lost_is_told_with_its_line() -> None:
    lines = DOCUMENT.read_text().splitlines()
    draft = draft_agent(DOCUMENT, ["debian"])
    told = [(lines[note.line - 1].strip(), note.text.split(": ")[0]) for note in draft.lost]
    assert told == [
        ("- name: Each", "step Each (ExecuteBash)"),
        ("- name: Result", "step Result (ExecuteBash)"),
        ("- name: Result", "step Result (ExecuteBash)"),
        ("- name: Windows", "step Windows (InstallMSI)"),
    ]
    assert [note.text.split(" (")[0] for note in draft.replaced] == ["step Install", "step Update"]


def test_the_agent_validates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scaffold(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["import", "image-builder", str(DOCUMENT), "--os", "debian", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "goldenami.import-agent/1"
    path = tmp_path / "recipes/first-image.yaml"
    path.write_text(path.read_text() + "agents: [{name: install-acme-agent, params: {Version: 1.3.0}}]\n")
    project = recipe.load_project(tmp_path)
    loaded = recipe.load(project, "first-image", recipe.environment(project))
    assert any("install_acme_agent_test.py" in str(one) for one in loaded.tests)
    tests = (tmp_path / "recipes/agents/install-acme-agent/install_acme_agent_test.py").read_text()
    compile(tests, "test", "exec")
    assert "test -x /opt/acme/agent" in tests
    assert "def test_test_runs(host)" in tests
    assert main(["import", "image-builder", str(DOCUMENT), "--os", "debian"]) == 0, "the same once more"
    assert main(["import", "image-builder", str(DOCUMENT), "--os", "ubuntu"]) == 2, "another agent of that name"


def test_a_script_that_asks_for_a_reboot_runs_again_after_it(tmp_path: Path) -> None:
    """ "If you execute a reboot and return exit code 194 [...], the build will resume at the same action module step"
    (action modules, EC2 Image Builder user guide)."""
    path = bash_component(tmp_path, "dnf -y update", "if needs-restarting -r; then exit 0; fi", "exit 194")
    draft = draft_agent(path, ["rocky"])
    before, reboot, after = draft.recipe["operations"]["rocky"]
    assert (before["script"]["statuses"], before["script"]["reboots"]) == ([0, 194], True)
    assert reboot["reboot"] == "if-needed"
    for one in (before, after):
        ScriptFile(**one["script"])
    assert [(note.line, "a second exit 194 ends the build" in note.text) for note in draft.replaced] == [(7, True)]


@pytest.mark.parametrize("asks", [True, False])
def test_only_a_script_that_asked_for_a_reboot_runs_again(tmp_path: Path, asks: bool) -> None:
    done, old = tmp_path / "done", tmp_path / "old"
    if asks:
        old.touch()
    path = bash_component(
        tmp_path, "set -e", f"if test -e {old}; then rm {old}; exit 194; fi", f"echo useradd app >>{done}"
    )
    first, reboot, second = draft_agent(path, ["debian"]).recipe["operations"]["debian"]
    assert reboot["reboot"] == "if-needed"
    # The same scripts, with the marker and the sign for a reboot in a directory of the test.
    again, due = tmp_path / "again", tmp_path / "due"

    def run(text: str) -> int:
        here = text.replace("/var/lib/goldenami-run-again", str(again)).replace("/run/reboot-required", str(due))
        return subprocess.run(["bash", "-c", here], check=False).returncode

    assert run(first["script"]["content"]) == (194 if asks else 0)
    assert due.exists() is asks
    assert (run(second["script"]["only_if"]) == 0) is asks
    if asks:
        assert run(second["script"]["content"]) == 0
    assert done.read_text() == "useradd app\n", "once in all"
    assert not again.exists()


def test_a_comment_asks_for_no_reboot(tmp_path: Path) -> None:
    path = bash_component(tmp_path, "# no exit 194 here: the kernel stays", "useradd app")
    draft = draft_agent(path, ["debian"])
    (only,) = draft.recipe["operations"]["debian"]
    assert only["script"]["content"].endswith("\nuseradd app\n")
    assert not draft.replaced


@pytest.mark.parametrize("text", ["a: [", "[]", "name: x", "- 1", ""])
def test_what_is_no_component_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput):
        draft_agent(path, ["debian"])
