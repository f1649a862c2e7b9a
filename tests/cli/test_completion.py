"""Completion: which words, in bash as it splits lines, in a broken project, without the cloud, and fast."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from goldenami.cli.main import COMMANDS, program
from tests.cli.test_next_steps import leaves

CONFIG = """
environment: prod
environments:
  prod:
    home: {account: "111111111111", region: eu-central-1}
    catalog: catalog
    builds: builds
    channels: {beta: {from: [candidate]}}
    schedules: {nightly: {}}
    notify: {chat: {}}
  shared: {catalog: "s3://golden/catalog", builds: "s3://golden/builds"}
"""
VERSION, BUILD = "1.0.20261124.1", "20261124-030000-abcd"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in (
        "recipes/web.yaml",
        "recipes/base.yaml",
        "recipes/agents/own/agent.yaml",
        "hardening/profiles/ours.yaml",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in (f"releases/web/{VERSION}.json", "channels/web/candidate.json", "channels/web/stable.json"):
        (tmp_path / "catalog" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "catalog" / name).touch()
    (tmp_path / "builds" / BUILD).mkdir(parents=True)
    (tmp_path / "builds" / "locks").mkdir()
    (tmp_path / ".goldenami/shared/builds" / BUILD.replace("abcd", "ffff")).mkdir(parents=True)
    (tmp_path / "goldenami.yaml").write_text(CONFIG)
    return tmp_path


def ask(project: Path, line: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What bash asks for a line; a word is what follows the kind and a comma."""
    environment = {**os.environ, "_GOLDENAMI_COMPLETE": "bash_complete", "COMP_LINE": f"goldenami {line}", **variables}
    command = [sys.executable, "-c", "import sys; from goldenami.cli.main import main; sys.exit(main())"]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=60)


def words(project: Path, line: str) -> list[str]:
    done = ask(project, line)
    assert (done.returncode, done.stderr) == (0, "")
    return [answer.partition(",")[2] for answer in done.stdout.splitlines() if answer]


LINES = {
    "build ": ["base", "web"],
    "build recipes/w": ["recipes/web.yaml"],
    "plan base w": ["web"],
    "build -e ": ["prod", "shared"],
    "promote web@candidate --to ": ["beta", "candidate", "stable"],
    "resolve w": ["web@candidate", "web@stable"],
    "resolve web@1": [f"web@{VERSION}"],
    "resolve ": ["base@", "web@"],
    "images show web@s": ["web@stable"],
    "builds show ": [BUILD],
    "builds show -e shared ": [BUILD.replace("abcd", "ffff")],
    "agents show ow": ["own"],
    "agents show chr": ["chrony"],
    "harden copy our": ["ours"],
    "recipes copy debian-12-w": ["debian-12-web"],
    "notify test --to ": ["chat"],
    "schedule run ": ["nightly"],
}


@pytest.mark.parametrize("line", LINES)
def test_words(project: Path, line: str) -> None:
    assert words(project, line) == LINES[line]


@pytest.mark.parametrize("content", ["{{", "environments: 3", "environments: {sandbox: [}", "[]", "\x00", ""])
def test_a_broken_project_has_no_words_and_no_error(project: Path, content: str) -> None:
    (project / "goldenami.yaml").write_text(content)
    assert words(project, "build -e ") == []
    assert words(project, "build ") == ["base", "web"]
    assert words(project, "resolve web@") is not None


def test_outside_a_project_and_with_unknown_commands(tmp_path: Path) -> None:
    assert words(tmp_path, "build ") == []
    for line in ("nosuch ", "build --nosuch x ", "-C /nowhere build ", "images nosuch a b "):
        assert ask(tmp_path, line).stderr == ""


def test_no_library_is_loaded_that_takes_time(project: Path) -> None:
    """A shell asks at each press of a key. The modules decide how long that takes, on any machine."""
    script = (
        "import json, sys\n"
        "from goldenami.cli.main import main\n"
        "main()\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    line = {"_GOLDENAMI_COMPLETE": "bash_complete", "COMP_LINE": "goldenami build w"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, cwd=project, env={**os.environ, **line}, capture_output=True, text=True, timeout=60, check=True
    )
    modules = set(json.loads(done.stderr))
    assert done.stdout == "plain,web\n"
    assert not {"boto3", "botocore", "rich.console", "goldenami.recipe", "paramiko", "pydantic", "yaml"} & modules
    assert len(modules) < 200, "140: pydantic alone would bring 200 more"


def test_every_argument_that_names_something_is_completed() -> None:
    """Words that only the cloud or the user knows are not."""
    unknown = {"VOLUME", "INSTANCE", "SNAPSHOT", "AMI", "PATH", "FILE", "HOST"}
    missing = []
    for path, command in leaves():
        for param in command.params:
            shown = (
                param.make_metavar(click.Context(command)) if isinstance(param, click.Argument) else param.metavar
            ) or ""
            kinds = {"RECIPE", "NAME@CHANNEL", "NAME@VERSION", "BUILD_ID", "CHANNEL", "PROFILE", "RELEASE"}
            named = {word.strip("[].…") for word in shown.replace("[@", "@").split("|")}
            if named & kinds and not named & unknown and param._custom_shell_complete is None:
                missing.append(f"{path}: {shown}")
    assert missing == []
    assert all(name in COMMANDS for name in program.list_commands(click.Context(program)))


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_the_part_after_an_at_sign(project: Path) -> None:
    """For bash, @ ends a word: it replaces only what follows it."""
    here = project / "bin"
    here.mkdir()
    program = here / "goldenami"
    program.write_text(f"#!{sys.executable}\nimport sys\nfrom goldenami.cli.main import main\nsys.exit(main())\n")
    program.chmod(0o755)
    script = """
eval "$(_GOLDENAMI_COMPLETE=bash_source goldenami)"
for COMP_LINE in "goldenami resolve web@s" "goldenami build -e p" "goldenami -C . builds show "; do
    COMP_POINT=${#COMP_LINE} COMPREPLY=()
    _goldenami_completion goldenami
    printf '%s\\n' "${COMPREPLY[*]}"
done
"""
    environment = {**os.environ, "PATH": f"{here}:{os.environ['PATH']}", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        ["bash", "--norc", "-c", script], cwd=project, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout.splitlines(), done.stderr) == (["stable", "prod", BUILD], "")
