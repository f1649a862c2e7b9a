"""Runs the jobs of a pipeline one after the other in shells of this machine: which jobs by their rules, in the order of
their needs, with the variables of GitLab and those of dotenv reports.

It knows what the pipelines of goldenami use, and refuses the rest. The program ``goldenami`` of a job is a client of
this process, which does its work (``Answering``): that is ten times as fast as to start Python for each command.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from goldenami.cli.main import main
from tests.ci.schema import jobs_of, parse

Job = dict[str, Any]

_CLIENT = """\
#!{python} -SE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as process:
    process.connect({address!r})
    question = {{"arguments": sys.argv[1:], "directory": os.getcwd(), "variables": dict(os.environ)}}
    socket.send_fds(process, [json.dumps(question).encode() + bytes([0])], [1, 2])
    sys.exit(int(process.recv(16)))
"""
_TIMEOUT = 60.0  # seconds of one command


class JobFailed(Exception):
    """A job failed. Its after_script does not run: this is how the loss of a runner looks."""


@dataclass
class Answering:
    """Answers the program ``goldenami`` of jobs. ``call``: takes its arguments, and returns its exit code."""

    program: Path
    call: Callable[[list[str]], int] = main
    commands: list[list[str]] = field(default_factory=list)
    _listener: socket.socket = field(default_factory=lambda: socket.socket(socket.AF_UNIX))

    @contextmanager
    def listening(self) -> Iterator[Answering]:
        address = f"{self.program}.socket"
        self.program.write_text(_CLIENT.format(python=sys.executable, address=address))
        self.program.chmod(0o755)
        with self._listener as listener:
            listener.bind(address)
            listener.listen()
            listener.settimeout(0.01)
            yield self

    def until_ended(self, process: subprocess.Popen[str]) -> None:
        """Answer until a process has ended. In this thread: goldenami handles signals, which only the main one may."""
        while process.poll() is None:
            try:
                asked, _ = self._listener.accept()
            except TimeoutError:
                continue
            with asked:
                asked.settimeout(_TIMEOUT)
                asked.sendall(str(self._answer(asked)).encode())

    def shell(self, arguments: list[str], directory: Path, variables: Mapping[str, str]) -> tuple[int, str]:
        """Run bash, and answer it. Returns its exit code and what it printed on both streams."""
        # A file, not a pipe: nobody reads a pipe while this process answers, and it would be full at 64 KiB.
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                ["bash", *arguments],
                cwd=directory,
                env={
                    **variables,
                    "PATH": f"{self.program.parent}:{os.environ['PATH']}",
                    "HOME": str(self.program.parent),
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
            try:
                self.until_ended(process)
            finally:
                process.kill()
                process.wait()
            output.seek(0)
            return process.returncode, output.read()

    def _answer(self, asked: socket.socket) -> int:
        text, descriptors, _, _ = socket.recv_fds(asked, 1 << 16, 2)
        while not text.endswith(b"\0"):
            text += asked.recv(1 << 16)
        question = json.loads(text[:-1])
        self.commands.append(question["arguments"])
        with ExitStack() as during:
            output, errors = (during.enter_context(open(one, "w")) for one in descriptors)  # noqa: PTH123
            during.enter_context(redirect_stdout(output))
            during.enter_context(redirect_stderr(errors))
            during.enter_context(chdir(question["directory"]))
            during.enter_context(mock.patch.dict(os.environ, question["variables"], clear=True))
            return self.call(question["arguments"])


@dataclass
class Shells:
    """A clone of a repository, and the shells for its jobs. ``inherited``: environment variables of the runner."""

    clone: Path
    answering: Answering
    inherited: Mapping[str, str]
    artifacts: dict[str, Path] = field(default_factory=dict)  # of jobs, in folders
    dotenv: dict[str, dict[str, str]] = field(default_factory=dict)
    shown: str = ""

    def pipeline(self, variables: Mapping[str, str]) -> list[str]:
        """Run the pipeline of the repository, and the child pipeline that it starts. Returns the jobs that ran."""
        return self._run(self._with_included(parse((self.clone / ".gitlab-ci.yml").read_text())), variables)

    def play(self, job: str, variables: Mapping[str, str]) -> None:
        """Run a manual job of the child pipeline that ran last."""
        child = self._with_included(parse((self.artifacts["generate"] / "goldenami-pipeline.yml").read_text()))
        self._job(child, job, jobs_of(child)[job], variables)

    def run_alone(self, job: str, variables: Mapping[str, str]) -> None:
        """Run one job of the pipeline of the repository."""
        pipeline = self._with_included(parse((self.clone / ".gitlab-ci.yml").read_text()))
        self._job(pipeline, job, jobs_of(pipeline)[job], variables)

    def _with_included(self, pipeline: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for one in pipeline.get("include", []):
            found |= parse((self.clone / one["local"]).read_text())
        return {**found, **pipeline}

    def _run(self, pipeline: dict[str, Any], variables: Mapping[str, str]) -> list[str]:
        ran: list[str] = []
        if "workflow" in pipeline:
            assert wanted(pipeline["workflow"]["rules"], variables), "there is no such pipeline"
        jobs = {
            name: job
            for name, job in jobs_of(pipeline).items()
            if "rules" not in job or wanted(job["rules"], variables)
        }
        for name in in_order(jobs, pipeline["stages"]):
            job = jobs[name]
            if "trigger" in job:
                (source,) = job["trigger"]["include"]
                child = parse((self.artifacts[source["job"]] / source["artifact"]).read_text())
                ran += [name, *self._run(self._with_included(child), {})]
            else:
                ran.append(name)
                self._job(pipeline, name, job, variables)
        return ran

    def _job(self, pipeline: dict[str, Any], name: str, job: Job, variables: Mapping[str, str]) -> None:
        received = {k: v for need in needs(job) for k, v in self.dotenv.get(need, {}).items()}
        given = {**pipeline.get("variables", {}), **job.get("variables", {}), **received, **variables}
        before = job.get("before_script", pipeline.get("default", {}).get("before_script", []))
        code = self._shell([*before, *job["script"]], given)
        if code != 0:
            raise JobFailed(f"{name} ended with {code}:\n{self.shown}")
        made = job.get("artifacts", {})
        folder = self.answering.program.parent / f"artifacts of {name}"
        for path in made.get("paths", []):
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.clone / path, target)
        self.artifacts[name] = folder
        for kind, path in made.get("reports", {}).items():
            text = (self.clone / path.replace("$GOLDENAMI_RECIPE", given.get("GOLDENAMI_RECIPE", ""))).read_text()
            if kind == "dotenv":
                self.dotenv[name] = dict(line.split("=", 1) for line in text.splitlines())
        assert self._shell(job.get("after_script", []), {**given, "CI_JOB_STATUS": "success"}) == 0, self.shown

    def _shell(self, lines: list[str], variables: Mapping[str, str]) -> int:
        # Fails as the shells of GitLab's runners do.
        code, output = self.answering.shell(
            ["-eo", "pipefail", "-c", "\n".join(lines)], self.clone, {**self.inherited, **variables}
        )
        self.shown += output
        return code


def in_order(jobs: Mapping[str, Job], stages: list[str]) -> Iterator[str]:
    """Yield the jobs in an order in which they can run, without those that somebody has to start."""
    waiting = {name: job for name, job in jobs.items() if job.get("when") != "manual"}
    while waiting:
        ready = [name for name, job in waiting.items() if not _before(job, waiting, stages)]
        assert ready, f"the needs have a cycle: {sorted(waiting)}"
        for name in ready:
            yield name
            del waiting[name]


def needs(job: Job) -> list[str]:
    """Return the names of the jobs that a job needs."""
    return [need if isinstance(need, str) else need["job"] for need in job.get("needs", [])]


def _before(job: Job, waiting: Mapping[str, Job], stages: list[str]) -> set[str]:
    """Return the jobs that have to end before a job: those of its needs, or all of the earlier stages."""
    if "needs" in job:
        return waiting.keys() & set(needs(job))
    return {name for name, other in waiting.items() if stages.index(other["stage"]) < stages.index(job["stage"])}


def wanted(rules: list[Job], variables: Mapping[str, str]) -> bool:
    """Return whether rules add a job to a pipeline with these variables."""
    for rule in rules:
        assert rule.keys() <= {"if", "when", "allow_failure"}
        if all(_holds(one, variables) for one in rule["if"].split(" && ")):
            return rule.get("when") != "never"
    return False


def _holds(comparison: str, variables: Mapping[str, str]) -> bool:
    match = re.fullmatch(r'\$(\w+) (==|!=) (?:"([^"]*)"|\$(\w+))', comparison)
    assert match is not None, comparison
    name, operator, text, other = match.groups()
    return (variables.get(name) == (variables.get(other) if other else text)) == (operator == "==")
