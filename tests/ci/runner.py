"""Runs pipelines of GitLab on this machine with gitlab-ci-local: the real YAML, in shells."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".venv-gitlab"
PROGRAM = TOOLS / "node_modules/.bin/gitlab-ci-local"
_IDENTITY = ("-c", "user.name=Author", "-c", "user.email=author@example.com")
TIMEOUT = 300.0  # seconds of one pipeline


@dataclass
class Runner:
    """A repository, and the runner of its pipelines.

    ``module``: the module of Python that a job starts as ``goldenami``. ``home``: of the jobs. ``inherited``: the
    environment variables that jobs get from the runner; None for those of this process.
    """

    repository: Path
    home: Path
    module: str
    inherited: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if not PROGRAM.exists():
            pytest.skip("GITLAB-CI-LOCAL IS NOT INSTALLED, so nothing runs the pipelines: make .venv-gitlab/.done")
        program = self.home / "bin/goldenami"
        program.parent.mkdir(parents=True)
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m {self.module} "$@"\n')
        program.chmod(0o755)

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.repository), *_IDENTITY, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, subject: str) -> str:
        """Commit all files. Returns the id of the commit before; zeros for the first one."""
        if not (self.repository / ".git").exists():
            self.git("init", "-q", "-b", "main")
            self.git("remote", "add", "origin", "https://gitlab.example.com/acme/images.git")
            before = "0" * 40
        else:
            before = self.git("rev-parse", "HEAD")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", subject)
        return before

    def start(self, variables: Mapping[str, str], manual: Sequence[str] = ()) -> subprocess.Popen[str]:
        """Start a pipeline. ``manual``: the manual jobs that somebody starts."""
        options = [f"--variable={name}={value}" for name, value in variables.items()]
        options.append(f"--ignore-predefined-vars={','.join(name for name in variables if name.startswith('CI_'))}")
        options += [f"--manual={job}" for job in manual]
        return subprocess.Popen(
            [str(PROGRAM), "--force-shell-executor", "--json-schema-validation=false", *options],
            cwd=self.repository,
            env={
                **(os.environ if self.inherited is None else self.inherited),
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

    def run(self, variables: Mapping[str, str], manual: Sequence[str] = (), code: int = 0) -> str:
        """Run a pipeline to its end. Returns what it printed."""
        process = self.start(variables, manual)
        try:
            output, _ = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            kill(process.pid)
            raise
        assert process.returncode == code, output
        return output


def kill(pid: int) -> None:
    """Kill a process and all below it, as the loss of its machine does."""
    found = [pid, *_below(pid)]
    for one in found:
        os.kill(one, signal.SIGSTOP)  # so that none starts another one
    for one in [*found, *_below(pid)]:
        os.kill(one, signal.SIGKILL)


def _below(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield int(child)
            yield from _below(int(child))
