"""Runs pipelines of GitLab on this machine with gitlab-ci-local: the real YAML, in shells."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from goldenami.cli.main import main
from tests.worlds.builds import World
from tests.worlds.graph import write_graph

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".venv-gitlab"
PROGRAM = TOOLS / "node_modules/.bin/gitlab-ci-local"
_IDENTITY = ("-c", "user.name=Author", "-c", "user.email=author@example.com")
TIMEOUT = 300.0  # seconds of one pipeline


# Of an outer pipeline, in which the tests run: jobs of the inner one must not write its notes.
_OUTER = ("CI_", "GITLAB_", "GOLDENAMI_", "GCL_")


def own_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables of this process that jobs get: without those of a pipeline and of goldenami."""
    kept = {name: value for name, value in variables.items() if name != "CI" and not name.startswith(_OUTER)}
    return {**kept, **{k: v for k, v in variables.items() if k == "GOLDENAMI_SANDBOX_HOME"}}


@dataclass
class Repository:
    """A repository of Git, which the first commit makes."""

    path: Path

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.path), *_IDENTITY, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, subject: str) -> str:
        """Commit all files; later ones without new files. Returns the id of the commit before, zeros for the first."""
        if not (self.path / ".git").exists():
            self.git("init", "-q", "-b", "main")
            self.git("add", "-A")
            before = "0" * 40
        else:
            before = self.git("rev-parse", "HEAD")
        self.git("commit", "-q", "-a", "-m", subject)
        return before

    def clone(self, path: Path) -> Repository:
        """Return a clean clone, whose remote repository has the address of a GitLab."""
        self.git("clone", "-q", str(self.path), str(path))
        made = Repository(path)
        made.git("remote", "set-url", "origin", "https://gitlab.example.com/acme/images.git")
        return made

    def change(self, name: str, text: str) -> dict[str, str]:
        """Change a recipe and commit it. Returns the variables of the pipeline of the push."""
        file = self.path / f"recipes/{name}.yaml"
        file.write_text(re.sub("content: .*}", f"content: {text}}}", file.read_text()))
        return {"CI_COMMIT_BEFORE_SHA": self.commit(f"Change {name}")}


def write_images(world: World, graph: Mapping[str, str | None]) -> Repository:
    """Return a repository with recipes and the pipeline of `init`; their builds move the channel candidate."""
    write_graph(world, graph)
    for file in (world.path / "recipes").glob("*.yaml"):
        file.write_text(file.read_text().replace("channel: stable", "channel: candidate"))
    assert main(["init", "--ci", "gitlab", "-e", "test", str(world.path)]) == 0
    (world.path / ".gitignore").write_text(".goldenami/\n.gitlab-ci-local/\n")
    repository = Repository(world.path)
    repository.commit("First")
    return repository


@dataclass
class Runner:
    """The runner of the pipelines of a clone.

    ``module``: the module of Python that a job starts as ``goldenami``. ``home``: of the jobs.
    """

    clone: Path
    home: Path
    module: str

    def __post_init__(self) -> None:
        if not PROGRAM.exists():
            pytest.skip("GITLAB-CI-LOCAL IS NOT INSTALLED, so nothing runs the pipelines: make .venv-gitlab/.done")
        program = self.home / "bin/goldenami"
        program.parent.mkdir(parents=True)
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m {self.module} "$@"\n')
        program.chmod(0o755)

    def start(self, variables: Mapping[str, str], *arguments: str) -> subprocess.Popen[str]:
        """Start a pipeline. ``arguments``: more of gitlab-ci-local, such as a job that is to run alone."""
        options = [f"--variable={name}={value}" for name, value in variables.items()]
        options.append(f"--ignore-predefined-vars={','.join(name for name in variables if name.startswith('CI_'))}")
        return subprocess.Popen(
            [str(PROGRAM), "--force-shell-executor", "--json-schema-validation=false", *options, *arguments],
            cwd=self.clone,
            env={
                **own_variables(os.environ),
                "PATH": f"{self.home / 'bin'}:{TOOLS / 'bin'}:{os.environ['PATH']}",
                "HOME": str(self.home),
                "PYTHONPATH": str(ROOT),
                "NO_COLOR": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, variables: Mapping[str, str], *arguments: str) -> str:
        """Run a pipeline to its end. Returns what it printed."""
        process = self.start(variables, *arguments)
        try:
            output, _ = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            kill(process.pid)
            raise
        assert process.returncode == 0, output
        return output


def kill(pid: int) -> None:
    """Kill a process and all below it, as the loss of its machine does. Some of them may end meanwhile."""
    found = [pid, *_below(pid)]
    for one in found:
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGSTOP)  # so that none starts another one
    for one in [*found, *_below(pid)]:
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


def _below(pid: int) -> Iterator[int]:
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in task.read_text().split():
                yield int(child)
                yield from _below(int(child))
